from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from meshcore_cli.demo_outcome import PHASES, Outcome, Security
from meshcore_cli.main import main

ROOT = Path(__file__).parent.parent.parent


def outcome(slow_to_c: int = 1) -> Outcome:
    made = Outcome()
    for name, _ in PHASES:
        made.phases[name].latencies = [0.001] * 98 + [0.010, 0.200]
        made.phases[name].served = {"a": 50, "b": 50, "c": 0}
    made.phases["c slow"].served = {"a": 50, "b": 50 - slow_to_c, "c": slow_to_c}
    made.retries = 3
    made.security.connections = 3
    made.security.certificates = {"web.demo": "2026-11-27T00:00:00Z"}
    return made


def test_a_good_outcome_has_no_complaints_and_says_what_the_balancer_did() -> None:
    made = outcome()
    assert made.complaints() == []
    report = made.report()
    assert "requests 400, success rate 100.00%, p50 1.0 ms, p99 200.0 ms, retries 3" in report
    assert "1.0% while slow" in report
    assert report.endswith("no request failed")


def test_a_failed_request_is_a_complaint() -> None:
    made = outcome()
    made.phases["c killed"].failures["502 connect-failed"] = 2
    assert made.complaints() == ["2 requests failed: 502 connect-failed"]
    assert "problem: 2 requests failed: 502 connect-failed" in made.report()
    assert made.summary()["success_rate"] == 400 / 402


def test_a_slow_replica_that_keeps_its_share_is_a_complaint() -> None:
    assert outcome(slow_to_c=33).complaints() == ["the slow replica kept 33% of the requests"]


def test_a_connection_between_sidecars_that_was_not_secured_is_a_complaint() -> None:
    made = outcome()
    made.security.plaintext = 1
    assert made.complaints() == ["1 connections between sidecars were not secured"]
    assert made.summary()["security"]["unsecured_connections"] == 1


def test_requests_without_any_secured_connection_are_a_complaint() -> None:
    made = outcome()
    made.security = Security()
    assert made.complaints() == ["no connection between sidecars was secured"]


def test_the_report_tells_of_sidecars_and_identities() -> None:
    report = outcome().report()
    assert "mesh web calls 3 replicas of orders, 4 sidecars in one process" in report
    assert "3 connections between sidecars, each over TLS 1.3 with both identities verified; 0 without" in report
    assert "identities web.demo (valid until 2026-11-27T00:00:00Z)" in report


def test_no_answer_at_all_is_a_complaint() -> None:
    assert Outcome().complaints() == ["no request was answered"]


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("--seconds", "soon", "--seconds: 'soon' is not a whole number from 4 to 3600"),
        ("--seconds", "1", "--seconds: '1' is not a whole number from 4 to 3600"),
        ("--rate", "-5", "--rate: '-5' is not a whole number from 1 to 5000"),
    ],
)
def test_wrong_options_are_told(option: str, value: str, problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", f"{option}={value}"]) == 2
    assert capsys.readouterr().err == f"meshcore demo: {problem}\n"


def test_the_demonstration_ends_by_itself_without_a_failed_request() -> None:
    command = [sys.executable, "-m", "meshcore_cli", "demo", "--seconds", "4", "--rate", "100", "-o", "json"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.stderr == ""
    summary = json.loads(result.stdout)
    assert (summary["failures"], summary["success_rate"]) == ({}, 1.0)
    assert summary["requests"] > 0
    assert summary["phases"]["b killed"]["share"] == {"a": 1.0, "b": 0.0, "c": 0.0}
    assert summary["sidecars"] == 4
    assert summary["security"]["verified_connections"] >= 3
    assert summary["security"]["unsecured_connections"] == 0
    assert set(summary["security"]["certificates"]) == {"web.demo", "orders.demo"}
