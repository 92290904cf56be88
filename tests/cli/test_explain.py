from __future__ import annotations

import json

import pytest

from meshcore.explain import EXPLANATIONS, error_classes
from meshcore_cli.main import main


def test_every_error_code_is_explained_and_nothing_else() -> None:
    assert set(error_classes()) == set(EXPLANATIONS)


@pytest.mark.parametrize("code", EXPLANATIONS)
def test_each_explanation_has_a_meaning_causes_and_places_to_look_at(code: str) -> None:
    text = EXPLANATIONS[code]
    assert text.meaning.endswith(".")
    assert len(text.causes) >= 1
    assert len(text.look_at) >= 1


def test_one_code_is_explained_with_status_causes_and_places(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "connect-timeout"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("connect-timeout\n")
    assert "Answered with status 504 (gRPC 4)" in text
    assert "\nUsual causes\n" in text
    assert "\nLook at\n" in text


def test_without_a_code_all_of_them_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(EXPLANATIONS) == [line.split()[0] for line in lines[1:]]


def test_an_unknown_code_is_wrong_usage_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "failfast"]) == 2
    assert capsys.readouterr().err == "meshcore explain: no error code 'failfast'; did you mean 'fail-fast'?\n"


def test_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "no-route", "-o", "json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert ("no-route", 404, 5, False) == (
        value["code"],
        value["status"],
        value["grpc_status"],
        value["closes_connection"],
    )
    assert main(["explain", "-o", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(EXPLANATIONS)
