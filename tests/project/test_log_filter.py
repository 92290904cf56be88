"""Levels by logger in one line, and what they do to loggers."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import hypothesis
import pytest
from hypothesis import strategies as st

from meshcore.errors import ConfigError
from meshcore.log_filter import OFF, TRACE, LogFilter
from meshcore.log_levels import LogLevels
from meshcore.log_lines import JsonFormatter
from meshcore.testing import memory_connection_pair, request
from meshcore.transport.about import About
from meshcore.transport.target import Endpoint
from meshcore_cli.logs import TextFormatter


@pytest.fixture
def quiet() -> Iterator[None]:
    names = ["meshcore", "meshcore.layers", "meshcore.server", "acme"]
    loggers = [logging.getLogger(name) for name in names]
    before = [(each.level, each.handlers[:], each.propagate) for each in loggers]
    yield
    for each, (level, handlers, propagate) in zip(loggers, before, strict=True):
        each.setLevel(level)
        each.handlers[:] = handlers
        each.propagate = propagate


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("info", "info"),
        ("WARN", "warning"),
        ("off", "off"),
        ("trace", "trace"),
        ("info,meshcore.layers.balance=debug", "info,meshcore.layers.balance=debug"),
        (" debug , meshcore.server = error ,", "debug,meshcore.server=error"),
        ("meshcore.layers=debug", "info,meshcore.layers=debug"),
        ("meshcore.layers", "info,meshcore.layers=trace"),
        ("warn,linkerd=info,acme.x=off", "warning,acme.x=off,meshcore=info"),
        ("linkerd::app=debug", "info,meshcore.app=debug"),
        ("warn,linkerd=info,[{headers}]=off,[{request}]=off", "warning,meshcore=info"),
    ],
)
@pytest.mark.parity("M-14")
def test_directives_are_read_as_linkerds(text: str, shown: str) -> None:
    found = LogFilter.parse(text)
    assert str(found) == shown
    assert LogFilter.parse(shown) == found


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "a level is wanted, such as info, or LOGGER=LEVEL"),
        ("debgu", "'debgu' is no level (trace, debug, info, warning, warn, error, off); did you mean 'debug'?"),
        ("meshcore=lod", "'lod' is no level (trace, debug, info, warning, warn, error, off)"),
        ("a-b=info", "'a-b' is not the name of a logger, such as meshcore.layers.balance"),
        ("[{headers}]=info", "'[{headers}]=info': messages have no spans, and no header values"),
        (",".join(f"a{number}=info" for number in range(65)), "has more than 64 directives"),
        ("x" * 3_000, "is longer than 2048 characters"),
    ],
)
def test_what_is_none_is_told(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        LogFilter.parse(text)
    assert caught.value.problems == [problem]


@hypothesis.given(
    st.text(max_size=50) | st.from_regex(r"([a-z:.\[\]{}]{0,9}=?(info|off|debug)?,?){0,5}", fullmatch=True)
)
def test_any_text_is_a_filter_or_an_error(text: str) -> None:
    try:
        found = LogFilter.parse(text)
    except ConfigError as error:
        assert error.problems
    else:
        assert LogFilter.parse(str(found)) == found


def test_the_nearest_logger_that_is_named_decides() -> None:
    found = LogFilter.parse("warn,meshcore.layers=debug,meshcore.layers.balance=off")
    assert found.level_of("meshcore.layers.balance.member") == OFF
    assert found.level_of("meshcore.layers.retry") == logging.DEBUG
    assert found.level_of("meshcore.layersx") == found.level_of("trio") == logging.WARNING
    assert LogFilter.parse("trace").level_of("any") == TRACE


def test_levels_are_put_back_and_forgotten(quiet: None) -> None:
    levels = LogLevels(logging.NullHandler(), LogFilter.parse("info,meshcore.layers=debug,acme=debug"))
    assert logging.getLogger("acme.plugin").isEnabledFor(logging.DEBUG)
    assert len(logging.getLogger("acme").handlers) == 1
    levels.set(LogFilter.parse("info"))
    assert not logging.getLogger("meshcore.layers.retry").isEnabledFor(logging.DEBUG)
    assert logging.getLogger("meshcore.layers").level == logging.NOTSET
    assert (logging.getLogger("acme").level, logging.getLogger("acme").handlers) == (logging.NOTSET, [])
    assert logging.getLogger("acme").propagate
    levels.take(None)
    assert logging.getLogger("meshcore").handlers == []


def test_off_is_off(quiet: None) -> None:
    LogLevels(logging.NullHandler(), LogFilter.parse("off"))
    assert not logging.getLogger("meshcore.proxy").isEnabledFor(logging.CRITICAL)


# ----- what messages are about -----


def test_a_message_tells_its_connection_and_request_beside_its_text(quiet: None) -> None:
    client, server = memory_connection_pair()
    server.peer, server.local, server.identity = ("10.1.1.1", 5000), ("::1", 80), "web.shop"
    sent = request(headers=[(b"x-request-id", b"r1"), (b"authorization", b"Bearer xyzzy")])
    sent.connection = server
    sent.route, sent.backend, sent.endpoint = "orders", "stable", Endpoint(("10.0.0.7", 8080))
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    LogLevels(handler)
    logger = logging.getLogger("meshcore.layers.mirror")

    handler.setFormatter(JsonFormatter())
    logger.warning("endpoint %s failed", sent.endpoint, extra=About(request=sent))
    handler.setFormatter(TextFormatter(out))
    logger.warning("endpoint %s failed", sent.endpoint, extra=About(request=sent))

    as_json, as_text = out.getvalue().splitlines()
    value = json.loads(as_json)
    del value["timestamp"]
    assert value == {
        "level": "warning",
        "logger": "meshcore.layers.mirror",
        "message": "endpoint 10.0.0.7:8080 failed",
        "client": "10.1.1.1:5000",
        "server": "[::1]:80",
        "identity": "web.shop",
        "route": "orders",
        "trace_id": "r1",
        "backend": "stable",
        "endpoint": "10.0.0.7:8080",
    }
    # What the text says already is not said again.
    assert as_text.endswith(
        "endpoint 10.0.0.7:8080 failed client=10.1.1.1:5000 server=[::1]:80 identity=web.shop route=orders trace_id=r1 "
        "backend=stable"
    )
    client.close()
    server.close()


@pytest.mark.parity("M-15")
def test_no_header_values_are_in_it(quiet: None) -> None:
    sent = request(headers=[(b"authorization", b"Bearer xyzzy"), (b"x-tenant", b"acme")])
    assert dict(About(request=sent)) == {}


def test_nothing_is_made_of_a_message_that_nobody_hears(quiet: None) -> None:
    LogLevels(logging.NullHandler(), LogFilter.parse("info"))
    about = About(request=request())
    logging.getLogger("meshcore.server").debug("x", extra=about)
    assert about._fields is None


def test_fields_never_stand_in_for_the_messages_own() -> None:
    forged = {"level": "x", "logger": "y", "timestamp": "z"}
    record = logging.makeLogRecord({"msg": "m", "name": "meshcore", "levelname": "INFO", **forged})
    value = json.loads(JsonFormatter().format(record))
    assert (value["level"], value["logger"], value["message"]) == ("info", "meshcore", "m")
    assert value["timestamp"] != "z"
