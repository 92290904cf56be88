"""``/env.json``, ``/proxy-log-level`` and ``/logs.json``: who may ask, what they say, and what they cost nobody."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from meshcore.abc import HttpService
from meshcore.admin import log_stream
from meshcore.admin.environment import Environment, masked
from meshcore.admin.log_level import LogLevel
from meshcore.admin.log_stream import LogStream
from meshcore.errors import BodyAbandoned
from meshcore.http.body import Chunks, Full, read_all
from meshcore.http.headers import Headers
from meshcore.http.message import Request, Response
from meshcore.log_filter import LogFilter
from meshcore.log_levels import LogLevels
from meshcore.log_lines import JsonFormatter
from meshcore.metrics.registry import Registry

VARIABLES = {"HOME": "/root", "API_KEY": "k1", "DB": "postgres://u:p@db/x", "EMPTY": "", "PEM": "-----BEGIN X"}


class Peer:
    """A connection of which only its peer is asked."""

    def __init__(self, host: str) -> None:
        self.peer = (host, 4711)


async def ask(
    service: HttpService,
    path: bytes,
    method: bytes = b"GET",
    body: bytes = b"",
    *,
    peer: str = "127.0.0.1",
    **headers: str,
) -> Response:
    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    from_peer: Any = Peer(peer)
    sent = Request(method, b"http", b"127.0.0.1", path, Headers(fields), Full(body), connection=from_peer)
    return await service(sent)


async def text_of(response: Response) -> tuple[int, str]:
    return response.status, (await read_all(response.body)).decode()


@pytest.fixture
def levels() -> Iterator[LogLevels]:
    names = ["meshcore", "meshcore.layers", "meshcore.layers.balance", "acme"]
    loggers = [logging.getLogger(name) for name in names]
    before = [(each.level, each.handlers[:], each.propagate) for each in loggers]
    yield LogLevels(None, LogFilter.parse("info"))
    for each, (level, handlers, propagate) in zip(loggers, before, strict=True):
        each.setLevel(level)
        each.handlers[:] = handlers
        each.propagate = propagate


# ----- the environment -----


@pytest.mark.parity("X-54")
async def test_the_environment_is_told_as_json() -> None:
    status, text = await text_of(await ask(Environment(VARIABLES), b"/env.json"))
    assert status == 200
    assert json.loads(text) == {
        "HOME": "/root",
        "API_KEY": "***",
        "DB": "postgres://***@db/x",
        "EMPTY": "",
        "PEM": "***",
    }


@pytest.mark.parity("X-54")
async def test_the_environment_is_filtered_by_the_query() -> None:
    status, text = await text_of(await ask(Environment(VARIABLES), b"/env.json?HOME&NOPE"))
    assert (status, json.loads(text)) == (200, {"HOME": "/root", "NOPE": None})


async def test_a_query_with_values_is_none() -> None:
    response = await ask(Environment(VARIABLES), b"/env.json?HOME=1")
    assert response.headers.get(b"content-type") == b"application/json"
    status, text = await text_of(response)
    assert (status, list(json.loads(text))) == (400, ["error"])
    assert (await ask(Environment(VARIABLES), b"/env.json?" + b"&".join([b"A"] * 65))).status == 400


@pytest.mark.parametrize(
    ("accept", "status"),
    [("application/json", 200), ("text/html, */*;q=0.1", 200), ("text/html", 406), ("application/json;q=0", 406)],
)
async def test_whoever_does_not_take_json_gets_none(accept: str, status: int) -> None:
    assert (await ask(Environment(VARIABLES), b"/env.json", accept=accept)).status == status


async def test_the_environment_is_only_read_and_only_from_here() -> None:
    response = await ask(Environment(VARIABLES), b"/env.json", b"POST")
    assert (response.status, response.headers.get(b"allow")) == (405, b"GET")
    assert (await ask(Environment(VARIABLES), b"/env.json", peer="10.0.0.1")).status == 403
    assert (await ask(Environment(VARIABLES, allowed=lambda _: True), b"/env.json", peer="10.0.0.1")).status == 200


@pytest.mark.parametrize(
    "name",
    ["AWS_SECRET_KEY", "DB_PASSWORD", "PGPASSWORD", "GITHUB_TOKEN", "SENTRY_DSN", "DB_PASS", "MYSQL_PWD", "X_AUTH"],
)
def test_what_sounds_like_a_secret_is_masked(name: str) -> None:
    assert masked(name, "x") == "***"


@pytest.mark.parametrize("name", ["PATH", "HOME", "PWD", "LANG", "COMPASS", "HOSTNAME"])
def test_what_does_not_is_told(name: str) -> None:
    assert masked(name, "x") == "x"


# ----- levels -----


@pytest.mark.parity("M-16")
async def test_the_level_is_told_and_changed(levels: LogLevels) -> None:
    page = LogLevel(levels)
    assert await text_of(await ask(page, b"/proxy-log-level")) == (200, "info\n")
    logger = logging.getLogger("meshcore.layers.balance.member")
    assert not logger.isEnabledFor(logging.DEBUG)

    response = await ask(page, b"/proxy-log-level", b"PUT", b"warn,meshcore.layers=debug")

    assert (response.status, await read_all(response.body)) == (204, b"")
    assert await text_of(await ask(page, b"/proxy-log-level")) == (200, "warning,meshcore.layers=debug\n")
    assert logger.isEnabledFor(logging.DEBUG)
    assert not logging.getLogger("meshcore.proxy").isEnabledFor(logging.INFO)


@pytest.mark.parity("M-16")
async def test_who_may_change_the_level_and_how(levels: LogLevels) -> None:
    page = LogLevel(levels)
    response = await ask(page, b"/proxy-log-level", b"POST", b"debug")
    assert (response.status, response.headers.get(b"allow")) == (405, b"GET, PUT")
    for method in (b"GET", b"PUT", b"POST"):
        assert (await ask(page, b"/proxy-log-level", method, b"debug", peer="10.0.0.1")).status == 403
    assert (await ask(page, b"/proxy-log-level", b"PUT", b"debug", origin="http://evil.test")).status == 403
    assert str(levels.filter) == "info"


@pytest.mark.parametrize("body", [b"inof", b"", b"a" * 5_000, b"\xff", b"meshcore.x=loud", b"a b=info"])
async def test_a_level_that_is_none_changes_nothing(levels: LogLevels, body: bytes) -> None:
    status, text = await text_of(await ask(LogLevel(levels), b"/proxy-log-level", b"PUT", body))
    assert status == 400
    assert text.endswith("\n")
    assert str(levels.filter) == "info"


# ----- the stream -----


def stream(levels: LogLevels, registry: Registry | None = None) -> LogStream:
    return LogStream(levels, JsonFormatter(), Registry() if registry is None else registry)


async def next_of(response: Response) -> list[dict[str, Any]]:
    with trio.fail_after(5):
        chunk = await response.body.receive_some()
    return [json.loads(line) for line in chunk.decode().splitlines()]


@pytest.mark.parametrize(
    "query", [b"", b"?info", b"?linkerd=debug", b"?filter=warn,meshcore.layers%3Ddebug", b"?acme=info,meshcore"]
)
@pytest.mark.parity("X-55")
async def test_a_valid_get_is_a_stream_of_json(levels: LogLevels, query: bytes) -> None:
    response = await ask(stream(levels), b"/logs.json" + query)
    assert (response.status, response.headers.get(b"content-type")) == (200, b"application/x-ndjson")
    logging.getLogger("meshcore.layers.balance").warning('say "%s"\n', "hi", extra={"client": "10.0.0.1:1"})
    (message,) = await next_of(response)
    assert message.pop("timestamp").endswith("Z")
    assert message == {
        "level": "warning",
        "logger": "meshcore.layers.balance",
        "message": 'say "hi"\n',
        "client": "10.0.0.1:1",
    }
    response.body.abort()


@pytest.mark.parity("X-55")
async def test_the_filter_may_be_the_body_of_a_query(levels: LogLevels) -> None:
    response = await ask(stream(levels), b"/logs.json", b"QUERY", b"error,meshcore.layers=debug")
    logging.getLogger("meshcore.proxy").warning("not this")
    logging.getLogger("meshcore.layers.balance").debug("this")
    assert [message["message"] for message in await next_of(response)] == ["this"]
    response.body.abort()


@pytest.mark.parity("X-55")
async def test_a_filter_that_is_none_is_refused(levels: LogLevels) -> None:
    page = stream(levels)
    assert (await ask(page, b"/logs.json?inof")).status == 400
    assert (await ask(page, b"/logs.json", b"QUERY", b"a=loud")).status == 400
    assert (await ask(page, b"/logs.json?filter=inof&filter=info")).status == 400
    response = await ask(page, b"/logs.json", b"POST", b"info")
    assert (response.status, response.headers.get(b"allow")) == (405, b"GET, QUERY")
    assert (await ask(page, b"/logs.json", peer="10.0.0.1")).status == 403


@pytest.mark.parametrize("query", [b"?filter=", b"?filter", b"?a&filter=", b"?&", b"?%20"])
async def test_a_query_without_a_filter_hears_what_the_log_does_or_is_refused(levels: LogLevels, query: bytes) -> None:
    response = await ask(stream(levels), b"/logs.json" + query)
    assert response.status in (200, 400)
    response.body.abort()


async def test_what_is_only_heard_by_a_reader_goes_to_nobody_else(levels: LogLevels) -> None:
    heard: list[str] = []

    class Main(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    levels.take(Main())
    logger = logging.getLogger("meshcore.layers.balance")
    first = await ask(stream(levels), b"/logs.json?meshcore.layers=debug")
    second = await ask(stream(levels), b"/logs.json?warn")
    logger.debug("low")
    logger.warning("high")
    assert [message["message"] for message in await next_of(first)] == ["low", "high"]
    assert [message["message"] for message in await next_of(second)] == ["high"]
    assert heard == ["high"]

    first.body.abort()
    second.body.abort()

    # Nothing is made of it any more.
    assert not logger.isEnabledFor(logging.DEBUG)
    assert logging.getLogger("meshcore").level == logging.INFO
    logger.info("on")
    assert heard == ["high", "on"]
    levels.take(None)


async def test_a_slow_reader_misses_messages_and_is_told(levels: LogLevels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_stream, "_KEPT", 3)
    registry = Registry()
    response = await ask(stream(levels, registry), b"/logs.json")
    for number in range(5):
        logging.getLogger("meshcore").info("%d", number)
    *messages, last = await next_of(response)
    assert [message["message"] for message in messages] == ["0", "1", "2"]
    assert last == {"dropped": 2}
    assert "log_stream_dropped_total 2" in registry.render(False)
    response.body.abort()


async def test_readers_are_few_and_leave_their_place(levels: LogLevels) -> None:
    registry = Registry()
    page = stream(levels, registry)
    responses = [await ask(page, b"/logs.json") for _ in range(4)]
    assert (await ask(page, b"/logs.json")).status == 429
    assert "log_stream_readers 4" in registry.render(False)
    responses[0].body.abort()
    assert (await ask(page, b"/logs.json")).status == 200
    for response in responses:
        response.body.abort()


async def test_a_reader_waits_for_messages_also_of_other_threads(levels: LogLevels, nursery: trio.Nursery) -> None:
    response = await ask(stream(levels), b"/logs.json")
    with pytest.raises(trio.WouldBlock):
        response.body.receive_nowait()
    got: list[dict[str, Any]] = []

    async def read() -> None:
        got.extend(await next_of(response))

    async with trio.open_nursery() as reading:
        reading.start_soon(read)
        await wait_all_tasks_blocked()
        await trio.to_thread.run_sync(logging.getLogger("meshcore").info, "from elsewhere")
    assert [message["message"] for message in got] == ["from elsewhere"]
    response.body.abort()
    with pytest.raises(BodyAbandoned):
        await response.body.receive_some()


async def test_a_message_that_is_too_long_is_cut_and_stays_json(levels: LogLevels) -> None:
    response = await ask(stream(levels), b"/logs.json")
    logging.getLogger("meshcore").info("x", extra={"client": "y" * 20_000})
    assert await next_of(response) == [{"level": "info", "logger": "meshcore", "cut": True}]
    response.body.abort()


async def test_a_variable_that_is_no_text_is_told_all_the_same() -> None:
    # What the operating system has as a byte that is no UTF-8.
    status, text = await text_of(await ask(Environment({"A": "\udcff", "B": "b"}), b"/env.json"))

    assert (200, {"A": "\udcff", "B": "b"}) == (status, json.loads(text))


@pytest.mark.parametrize("query", [b"filter=", b"a=b&filter=", b""])
async def test_an_empty_filter_is_the_one_that_holds(levels: LogLevels, query: bytes) -> None:
    response = await ask(LogStream(levels, JsonFormatter(), Registry()), b"/logs.json?" + query)

    assert 200 == response.status
    response.body.abort()


def test_secrets_within_a_value_are_masked() -> None:
    assert "postgres://***@db/x" == masked("DB", "postgres://u:p@ss@db/x")
    assert "Server=db;Password=***;" == masked("CONNECTION", "Server=db;Password=hunter2;")


@pytest.mark.parametrize("method", [b"PUT", b"QUERY"])
async def test_a_body_that_does_not_come_is_not_waited_for(
    levels: LogLevels, autojump_clock: MockClock, method: bytes
) -> None:
    page = LogLevel(levels) if method == b"PUT" else LogStream(levels, JsonFormatter(), Registry())
    from_peer: Any = Peer("127.0.0.1")
    sent = Request(method, b"http", b"127.0.0.1", b"/", Headers(), Chunks(), connection=from_peer)

    with trio.fail_after(60):
        status, text = await text_of(await page(sent))

    assert (400, "the body did not come within 10 s\n") == (status, text)


async def test_a_web_page_from_elsewhere_uses_up_no_reader(levels: LogLevels) -> None:
    page = LogStream(levels, JsonFormatter(), Registry())

    for _ in range(10):
        assert 403 == (await ask(page, b"/logs.json", sec_fetch_site="cross-site")).status
    response = await ask(page, b"/logs.json", sec_fetch_site="same-origin")
    assert 200 == response.status
    response.body.abort()


async def test_readers_get_what_waits_for_them_before_the_end(levels: LogLevels) -> None:
    page, logger = LogStream(levels, JsonFormatter(), Registry()), logging.getLogger("meshcore.layers")
    reading, idle = (await ask(page, b"/logs.json?info"), await ask(page, b"/logs.json?info"))
    logger.warning("the last word")
    idle.body.receive_nowait()

    page.end()

    assert (b"the last word" in await read_all(reading.body), b"") == (True, await read_all(idle.body))
    assert 503 == (await ask(page, b"/logs.json")).status
