from __future__ import annotations

import io
import json
import logging

import pytest

from meshcore_cli import logs, render


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


def test_columns_are_as_wide_as_what_they_hold() -> None:
    text = render.table(["NAME", "N"], [("a", 1), ("longer", 100)], right=[1])
    assert text.splitlines() == ["NAME      N", "a         1", "longer  100"]


def test_a_table_without_rows_is_its_header() -> None:
    assert render.table(["NAME", "N"], []) == "NAME  N"


def test_colour_is_for_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert render.colour("red", "x", io.StringIO()) == "x"
    assert render.colour("red", "x", Terminal()) == "\x1b[31mx\x1b[0m"
    monkeypatch.setenv("TERM", "dumb")
    assert render.colour("red", "x", Terminal()) == "x"


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert render.colour("red", "x", Terminal()) == "x"


def record(message: str, *args: object, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("meshcore.proxy", logging.INFO, __file__, 1, message, args, None)
    made.created = 1_700_000_000.25
    vars(made).update(extra)
    return made


def test_a_text_line_has_time_level_logger_message_and_fields() -> None:
    line = logs.TextFormatter(io.StringIO()).format(record("ready from=%s", "127.0.0.1:8080", engine="ngh2"))
    assert line == "2023-11-14T22:13:20.250Z INFO    meshcore.proxy: ready from=127.0.0.1:8080 engine=ngh2"


def test_a_peer_cannot_begin_a_line_of_the_log() -> None:
    line = logs.TextFormatter(io.StringIO()).format(record("path=%s", "/a\n2023 ERROR \x1b[31mforged"))
    assert line.endswith("path=/a\\n2023 ERROR \\x1b[31mforged")


def test_a_json_line_is_one_object_whatever_the_message_holds() -> None:
    line = logs.JsonFormatter().format(record('say "%s"\n', "hi", peer=("127.0.0.1", 1), error=ValueError("no")))
    assert "\n" not in line
    assert json.loads(line) == {
        "timestamp": "2023-11-14T22:13:20.250Z",
        "level": "info",
        "logger": "meshcore.proxy",
        "message": 'say "hi"\n',
        "peer": ["127.0.0.1", 1],
        "error": "no",
    }


def test_exceptions_come_with_their_traceback() -> None:
    try:
        raise ValueError("broken")
    except ValueError as error:
        made = record("crashed")
        made.exc_info = (type(error), error, error.__traceback__)
    assert logs.TextFormatter(io.StringIO()).format(made).endswith("ValueError: broken")
    assert json.loads(logs.JsonFormatter().format(made))["exception"].endswith("ValueError: broken")


def test_a_peer_cannot_begin_a_line_by_what_an_exception_says() -> None:
    try:
        raise ValueError("bad\n2023-11-14T22:13:20.250Z ERROR   meshcore.proxy: forged\r\x1b[31m")
    except ValueError as error:
        made = record("crashed")
        made.exc_info = (type(error), error, error.__traceback__)
    first, *rest = logs.TextFormatter(io.StringIO()).format(made).split("\n")
    assert first.endswith("crashed")
    assert all(line.startswith("  ") and line.isprintable() for line in rest)
    assert rest[-1].endswith("forged\\r\\x1b[31m")


def test_what_acts_on_a_terminal_is_escaped_in_json_and_what_is_no_unicode_is_no_loss() -> None:
    line = logs.JsonFormatter().format(record("%s", "\x1b[31m \x9b31m \u202e \udc80 é"))
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["message"] == "\x1b[31m \x9b31m \u202e \udc80 é"


def test_configuring_again_replaces_the_output_and_leaves_the_root_logger_alone() -> None:
    logger = logging.getLogger("meshcore")
    before = (logger.handlers[:], logger.level, logger.propagate, logging.getLogger().handlers[:])
    first, second = io.StringIO(), io.StringIO()
    try:
        logs.configure("info", "text", first)
        logs.configure("warning", "json", second)
        logging.getLogger("meshcore.x").info("quiet")
        logging.getLogger("meshcore.x").warning("loud")
        assert first.getvalue() == ""
        assert [json.loads(line)["message"] for line in second.getvalue().splitlines()] == ["loud"]
        assert logging.getLogger().handlers == before[3]
    finally:
        logger.handlers[:], logger.level, logger.propagate = before[0], before[1], before[2]
