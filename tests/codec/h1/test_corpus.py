"""The corpus of ambiguous messages: each row on each engine, whole and byte by byte."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from meshcore.codec.events import ResponseReceived
from meshcore.codec.h1 import ENGINES
from tests.codec.h1.script import Refused, Said, bytewise, fetch, serve

FIXTURES = Path(__file__).parents[2] / "fixtures"


def rows(kind: str) -> list[object]:
    lines = (FIXTURES / f"http1_{kind}s.jsonl").read_text().splitlines()
    return [pytest.param(row["expect"], base64.b64decode(row["b64"]), id=row["id"]) for row in map(json.loads, lines)]


def check(expect: str, verdicts: list[list[Said]]) -> None:
    assert all(verdict == verdicts[0] for verdict in verdicts[1:])
    refused = any(isinstance(said, Refused) for said in verdicts[0])
    assert expect == "any" or refused == (expect == "reject")


@pytest.mark.parametrize(("expect", "data"), rows("request"))
def test_request_is_judged_as_expected_by_every_engine_however_it_is_cut(expect: str, data: bytes) -> None:
    check(expect, [serve(pieces, engine) for engine in ENGINES for pieces in ([data], bytewise(data))])


@pytest.mark.parametrize(("expect", "data"), rows("response"))
def test_response_is_judged_as_expected_by_every_engine_however_it_is_cut(expect: str, data: bytes) -> None:
    data, _, _ = data.partition(b"<CLOSE>")
    check(expect, [fetch(pieces, engine) for engine in ENGINES for pieces in ([data], bytewise(data))])


def test_truncated_body_never_looks_complete(engine: str) -> None:
    said = fetch([b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok"], engine)
    assert isinstance(said[0], ResponseReceived)
    assert said[-1] == Refused(502)
