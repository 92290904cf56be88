"""Tap: requests as they pass, for whoever looks on, and nothing for anybody else."""

from __future__ import annotations

import json
from typing import Any

import hypothesis
import pytest
import trio
import trio.lowlevel
from hypothesis import strategies as st
from trio.testing import MockClock

from meshcore.errors import FailFastError, LoadShedError, StreamReset
from meshcore.http.body import Chunks, Full, read_all
from meshcore.http.headers import Headers
from meshcore.http.message import Request, Response
from meshcore.layers.tap import Subscription, Tap, TapFilter, TapHub, TapQuery
from meshcore.layers.tap.secrets import LONGEST, MASK, masked, shown_field, shown_path
from meshcore.testing import MockNewService, memory_connection_pair, mock_service, request, response
from meshcore.transport.target import Accepted, Endpoint, TlsClient

CLOCK = 1_700_000_000.0


def tapped(inner: Any, direction: str = "inbound", **options: Any) -> tuple[Any, TapHub]:
    hub = TapHub(lambda: CLOCK, **options)
    new: Any = MockNewService(lambda target: inner)
    nursery: Any = None
    return Tap(hub, direction).layer(new).new_service(Accepted(), nursery), hub


def look(hub: TapHub, *, rate: float | None = None, limit: int | None = None, **wanted: Any) -> Subscription:
    return hub.subscribe(TapQuery(filter=TapFilter(**wanted), rate=rate, limit=limit))


def taken(events: Subscription) -> list[dict[str, Any]]:
    """What is there now."""
    found = []
    while True:
        try:
            found.append(events.receive_nowait())
        except (trio.WouldBlock, trio.EndOfChannel):
            return found


def told(events: Subscription) -> list[tuple[Any, ...]]:
    return [(each["event"], each.get("id"), each.get("status")) for each in taken(events)]


async def ask(service: Any, sent: Request | None = None) -> None:
    answer = await service(request() if sent is None else sent)
    await read_all(answer.body)


ONE = [("request_init", 1, None), ("response_init", 1, 200), ("response_end", 1, 200)]


# ----- what is told -----


@pytest.mark.parity("X-43", "M-19")
async def test_request_response_and_end_are_told_with_all_that_is_known(autojump_clock: MockClock) -> None:
    endpoint = Endpoint(
        ("10.0.0.7", 4143), tls=TlsClient("users.shop", identity="users.shop", mesh=True), labels=(("pod", "u-1"),)
    )

    async def inner(sent: Request) -> Response:
        await trio.sleep(0.25)
        sent.endpoint, sent.avoid, sent.route, sent.backend = endpoint, (endpoint,), "v1", "users"
        sent.path = b"/rewritten"
        return Response(200, Headers([(b"x-served-by", b"me")]), Full(b"12345678", [(b"x-checksum", b"abc")]))

    service, hub = tapped(inner, "outbound")
    events = look(hub)
    sent = request(b"POST", b"/a?b=c", b"hello", version=11)
    client, server = memory_connection_pair()
    server.peer, server.identity, server.secure = ("10.1.1.1", 5000), None, False
    sent.connection = server
    answer = await service(sent)
    await trio.sleep(0.5)
    await read_all(sent.body)
    await read_all(answer.body)
    client.close()
    server.close()

    common = {
        "id": 1,
        "direction": "outbound",
        "source": {"addr": "10.1.1.1:5000", "identity": None, "secured": False},
        "method": "POST",
        "scheme": "http",
        "authority": "a.test",
        "path": "/a?b=c",
        "version": "HTTP/1.1",
        "trace_id": None,
    }
    before = {
        "target": {"addr": None, "identity": None, "secured": False, "labels": {}},
        "secured": None,
        "route": None,
        "backend": None,
        "retries": 0,
    }
    after = {
        "target": {"addr": "10.0.0.7:4143", "identity": "users.shop", "secured": True, "labels": {"pod": "u-1"}},
        "secured": True,
        "route": "v1",
        "backend": "users",
        "retries": 1,
    }
    first, second, third = taken(events)
    assert {"event": "request_init", "time": CLOCK, "since_ms": 0.0, **common, **before} == first
    assert {
        "event": "response_init", "time": CLOCK + 0.25, "since_ms": 250.0, "status": 200, **common, **after
    } == second  # fmt: skip
    assert {
        "event": "response_end",
        "time": CLOCK + 0.75,
        "since_ms": 750.0,
        "status": 200,
        "response_ms": 500.0,
        "first_byte_ms": 750.0,
        "request_bytes": 5,
        "response_bytes": 8,
        "failed": False,
        "grpc_status": None,
        "error": None,
        "reset": None,
        "trailers": ["x-checksum"],
        **common,
        **after,
    } == third
    json.dumps([first, second, third])


async def test_who_the_client_is_comes_with_what_is_inbound(autojump_clock: MockClock) -> None:
    service, hub = tapped(mock_service(response(204)))
    events = look(hub)
    sent = request()
    client, server = memory_connection_pair()
    server.identity, server.secure = "web.shop", True
    sent.connection = server
    await ask(service, sent)
    client.close()
    server.close()

    assert [("web.shop", True, True)] * 3 == [
        (each["source"]["identity"], each["source"]["secured"], each["secured"]) for each in taken(events)
    ]


@pytest.mark.parity("X-44")
async def test_a_grpc_status_from_headers_is_told_at_the_end() -> None:
    fields = [(b"content-type", b"application/grpc"), (b"grpc-status", b"14")]
    service, hub = tapped(mock_service(response(200, headers=fields)))
    events = look(hub)
    await ask(service, request(b"POST", headers=[(b"content-type", b"application/grpc")], version=20))

    *_, end = taken(events)
    assert ("response_end", 200, 14, True) == (end["event"], end["status"], end["grpc_status"], end["failed"])


async def test_a_grpc_status_from_trailers_is_told_at_the_end() -> None:
    answer = Response(200, Headers([(b"content-type", b"application/grpc")]), Full(b"x", [(b"grpc-status", b"5")]))
    service, hub = tapped(mock_service(answer))
    events = look(hub)
    await ask(service, request(b"POST", headers=[(b"content-type", b"application/grpc")], version=20))

    *_, end = taken(events)
    assert (5, False, ["grpc-status"]) == (end["grpc_status"], end["failed"], end["trailers"])


async def test_what_broke_an_exchange_is_told_at_its_end(autojump_clock: MockClock) -> None:
    broken = Response(200, body=(body := Chunks()))
    rescued = response(504, headers=[(b"x-meshcore-error", b"fail-fast")])
    service, hub = tapped(mock_service(broken, FailFastError("x"), rescued, 30.0))
    events = look(hub, events="response_end")

    await service(request())
    body.push_error(StreamReset("x", h2_code=8))
    with pytest.raises(FailFastError):
        await service(request())
    await ask(service)
    with trio.move_on_after(1):
        await service(request())

    assert [
        (200, "h2(CANCEL)", "CANCEL", True),
        (None, "fail-fast", None, True),
        (504, "fail-fast", None, True),
        (None, "cancelled", None, False),
    ] == [(each["status"], each["error"], each["reset"], each["failed"]) for each in taken(events)]


async def test_bodies_without_a_declared_size_are_counted() -> None:
    async def inner(sent: Request) -> Response:
        body = Chunks()
        body.push(await read_all(sent.body))
        body.push(b"!")
        body.push_end()
        return Response(200, body=body)

    service, hub = tapped(inner)
    events = look(hub, events="response_end")
    sent = request(b"POST")
    sent.body = body = Chunks()
    body.push(b"1234567")
    body.push_end()
    await ask(service, sent)

    assert [(7, 8)] == [(each["request_bytes"], each["response_bytes"]) for each in taken(events)]


@pytest.mark.parametrize(
    ("trace", "shown"),
    [("4bf92f", "4bf92f"), (b"\x01\x02", "0102"), (255, f"{255:032x}"), (None, None), (object(), None)],
)
async def test_the_trace_of_a_request_comes_with_it_where_one_is_known(trace: Any, shown: str | None) -> None:
    class Traced(Request):
        __slots__ = ("trace",)

    service, hub = tapped(mock_service(response()))
    events = look(hub, events="request_init")
    sent = Traced(b"GET", b"http", b"a.test", b"/")
    sent.trace = trace
    await ask(service, sent)

    assert [shown] == [each["trace_id"] for each in taken(events)]


# ----- headers, and what nobody is to see -----


async def test_headers_are_told_only_when_they_are_asked_for() -> None:
    service, hub = tapped(mock_service(*[response(headers=[(b"x-b", b"2")]) for _ in range(3)]))
    without, everything, some = look(hub), look(hub, headers=True), look(hub, headers=["X-A"])
    await ask(service, request(headers=[(b"x-a", b"1"), (b"accept", b"*/*")]))

    assert all("headers" not in each and "response_headers" not in each for each in taken(without))
    first, second, third = taken(everything)
    assert [["x-a", "1"], ["accept", "*/*"]] == first["headers"]
    assert [["x-b", "2"]] == second["response_headers"]
    assert [] == third["trailer_fields"]
    first, second, _ = taken(some)
    assert ([["x-a", "1"]], []) == (first["headers"], second["response_headers"])


@pytest.mark.parametrize(
    "name",
    ["authorization", "Proxy-Authorization", "cookie", "set-cookie", "x-api-key", "apikey", "X-Auth-Token",
     "x-amz-security-token", "x-csrf-token", "x-goog-api-key", "ocp-apim-subscription-key", "client-secret",
     "x-password", "x-hub-signature-256", "x-auth", "Auth", "x-auth-user", "x-xsrf", "ssl-client-cert", "x-user-pwd"],
)  # fmt: skip
def test_fields_that_hold_secrets_show_that_they_are_there(name: str) -> None:
    assert MASK == shown_field(name.encode(), b"hunter2")


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (b"/a?token=abc&x=1", "/a?token=***&x=1"),
        (b"/a?x=1&access_token=abc", "/a?x=1&access_token=***"),
        (b"/a?ACCESS%5FTOKEN=abc", "/a?ACCESS%5FTOKEN=***"),
        (b"/a?key=abc#frag&sig=x", "/a?key=***#frag&sig=***"),
        (b"/cb?code=4/P7q&state=x", "/cb?code=***&state=x"),
        (b"/a?api_key=1;password=2", "/a?api_key=***;password=***"),
        (b"/j/eyJhbGciOiJI.eyJzdWIi.c2ln/x", "/j/***/x"),
        (b"/j/eyJhbGciOiJI.eyJz", "/j/***"),
        (b"/keys?monkey=1&tokenizer", "/keys?monkey=1&tokenizer"),
        (b"/a?token=abc,def&x=1", "/a?token=***&x=1"),
        (b"/a?token=abc;def;x=1", "/a?token=***;x=1"),
        (b"/a?x=1,token=abc,y=2", "/a?x=1,token=***,y=2"),
        (b"/a=b/c", "/a=b/c"),
        (b"http://user:pw@host/", "http://***@host/"),
    ],
)
def test_secrets_in_a_path_are_masked(path: bytes, shown: str) -> None:
    assert shown == shown_path(path)


def test_secrets_in_the_value_of_any_field_are_masked() -> None:
    assert "https://x.test/?token=***" == shown_field(b"location", b"https://x.test/?token=abc")
    assert "a=1; session=***" == shown_field(b"x-list", b"a=1; session=abc")


@hypothesis.given(st.binary(max_size=300), st.binary(max_size=5_000))
def test_whatever_a_peer_sends_is_shown_as_bounded_text(name: bytes, value: bytes) -> None:
    text = shown_field(name, value)
    assert len(json.dumps(text)) <= 6 * 4 * LONGEST + 2
    text.encode()


@hypothesis.given(st.text(alphabet="eyJ.ab=&?;#/@: \x00é", max_size=2_048))
@hypothesis.settings(deadline=200)
def test_masking_is_done_in_time_whatever_the_text(text: str) -> None:
    masked(text * (2_048 // max(len(text), 1)))


async def test_hostile_values_stay_text_on_one_line_of_json() -> None:
    service, hub = tapped(mock_service(response()))
    events = look(hub, headers=True)
    hostile = b'\x1b[31m"</script>\r\n\xff' + b"x" * 4_000
    await ask(service, request(b"GET", b"/" + hostile, headers=[(b"x-h", hostile)]))

    for each in taken(events):
        line = json.dumps(each)
        assert line.isascii()
        assert line.isprintable()
        assert len(line) < 16_000


async def test_an_event_has_room_for_so_many_fields() -> None:
    service, hub = tapped(mock_service(response()))
    events = look(hub, headers=True, events="request_init")
    await ask(service, request(headers=[(b"x-%d" % number, b"v" * 2_000) for number in range(200)]))

    (event,) = taken(events)
    assert sum(len(name) + len(value) for name, value in event["headers"]) <= 16_384


# ----- which -----


def of_a_peer(host: str, identity: str | None = None, **options: Any) -> Request:
    sent = request(**options)
    _, connection = memory_connection_pair()
    connection.peer = (host, 4_711)
    connection.secure = identity is not None
    connection.identity = identity
    sent.connection = connection
    return sent


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        ({"direction": "inbound"}, True),
        ({"direction": "outbound"}, False),
        ({"method": "GET"}, True),
        ({"method": ["POST", "PUT"]}, False),
        ({"scheme": "https"}, False),
        ({"authority": "a.test"}, True),
        ({"authority": "*.test"}, True),
        ({"authority": "a.test:80"}, True),
        ({"authority": "b.test"}, False),
        ({"path": "/v1"}, True),
        ({"path": "/v1/"}, True),
        ({"path": "/v"}, False),
        ({"path": ["/v2", "/"]}, True),
        ({"path_regex": "/v[0-9]+/.*"}, True),
        ({"path_regex": "/v1"}, False),
        ({"source": "10.1.0.0/16"}, True),
        ({"source": "10.1.2.3"}, True),
        ({"source": "10.1.2.3:4711"}, True),
        ({"source": ":4711"}, True),
        ({"source": "10.1.2.3:80"}, False),
        ({"source": "10.2.0.0/16"}, False),
        ({"source": ["10.2.0.0/16", "web.shop"]}, True),
        ({"source": "*.shop"}, True),
        ({"source": "shop"}, False),
        ({"identity": "WEB.shop"}, True),
        ({"identity": "api.shop"}, True),
        ({"identity": "other.shop"}, False),
        ({"target": "10.0.0.0/8"}, True),
        ({"target": "10.0.0.7:8080"}, True),
        ({"target": "10.0.0.8"}, False),
        ({"target": "a.test"}, True),
        ({"target": "users"}, True),
        ({"target": "api.shop"}, True),
        ({"target": "*.elsewhere"}, False),
        ({"route": "v1"}, True),
        ({"route": "v2"}, False),
        ({"backend": ["x", "users"]}, True),
        ({"backend": "x"}, False),
        ({"status": "2xx"}, True),
        ({"status": ["200-204", "5xx"]}, True),
        ({"status": "404"}, False),
        ({"failed": True}, False),
        ({"slower_than": 0.2}, True),
        ({"slower_than": 0.3}, False),
        ({"grpc_status": "unavailable"}, False),
        ({"path": "/v1", "status": "5xx"}, False),
        ({"path": "/v1", "method": "GET", "status": "200", "slower_than": 0.1}, True),
    ],
)
async def test_a_filter_takes_what_fits_whenever_that_is_known(
    wanted: dict[str, Any], fits: bool, autojump_clock: MockClock
) -> None:
    async def inner(sent: Request) -> Response:
        sent.route, sent.backend = "v1", "users"
        sent.endpoint = Endpoint(("10.0.0.7", 8080), tls=TlsClient("api.shop", identity="api.shop", mesh=True))
        await trio.sleep(0.25)
        return response(200)

    service, hub = tapped(inner)
    events = look(hub, **wanted)
    await ask(service, of_a_peer("10.1.2.3", "web.shop", path=b"/v1/users?x=1"))

    assert (ONE if fits else []) == told(events)
    assert 0 == events.followed


async def test_events_that_waited_for_the_end_have_their_own_times(autojump_clock: MockClock) -> None:
    async def inner(sent: Request) -> Response:
        await trio.sleep(0.25)
        return response(500)

    service, hub = tapped(inner)
    events = look(hub, failed=True)
    await ask(service)

    assert [("request_init", 0.0), ("response_init", 250.0), ("response_end", 250.0)] == [
        (each["event"], each["since_ms"]) for each in taken(events)
    ]


async def test_a_request_without_a_response_fits_what_it_can() -> None:
    service, hub = tapped(mock_service(*[FailFastError("x")] * 3))
    anything, failed, server_error = look(hub), look(hub, failed=True), look(hub, status="5xx")
    with pytest.raises(FailFastError):
        await service(request())

    assert [["request_init", "response_end"], ["request_init", "response_end"], []] == [
        [each[0] for each in told(events)] for events in (anything, failed, server_error)
    ]


# ----- how much -----


async def test_the_rate_tells_whole_exchanges_or_none_and_counts_what_it_drops(autojump_clock: MockClock) -> None:
    service, hub = tapped(mock_service(*[response() for _ in range(30)]))
    events = look(hub, rate=6)
    for _ in range(10):
        await ask(service)

    assert ["request_init", "response_init", "response_end"] * 2 + ["dropped"] == [each[0] for each in told(events)]
    assert 8 == events.dropped_requests
    await trio.sleep(0.5)
    await ask(service)
    await ask(service)
    await trio.sleep(0.5)
    *told_of, dropped = taken(events)
    assert [3, 3, 3] == [each["id"] for each in told_of]
    assert {"event": "dropped", "requests": 1, "events": 0} == dropped


async def test_a_rate_below_one_exchange_a_second_tells_one_now_and_then(autojump_clock: MockClock) -> None:
    service, hub = tapped(mock_service(*[response() for _ in range(3)]))
    events = look(hub, rate=1)
    await ask(service)
    await ask(service)
    await trio.sleep(3)
    await ask(service)
    assert [1, 1, 1, 2, 2, 2] == [each["id"] for each in taken(events) if "id" in each]


async def test_what_is_seldom_is_not_lost_to_the_rate_of_what_is_not_wanted(autojump_clock: MockClock) -> None:
    service, hub = tapped(mock_service(*[response(200) for _ in range(50)], response(503)))
    events = look(hub, rate=3, status="5xx")
    for _ in range(51):
        await ask(service)
    assert [51, 51, 51] == [each["id"] for each in taken(events)]


async def test_the_limit_ends_the_subscription_once_its_exchanges_are_over(autojump_clock: MockClock) -> None:
    body = Chunks()
    service, hub = tapped(mock_service(Response(200, body=body), response(), response()))
    events = look(hub, limit=2)
    streamed = await service(request())
    await ask(service)
    await ask(service)
    assert hub.wanted
    body.push_end()
    await read_all(streamed.body)

    assert not hub.wanted
    assert [1, 1, 2, 2, 2, 1] == [each["id"] for each in taken(events)]
    with pytest.raises(trio.EndOfChannel):
        events.receive_nowait()


async def test_the_limit_does_not_wait_for_what_is_not_wanted_yet(autojump_clock: MockClock) -> None:
    body = Chunks()
    service, hub = tapped(mock_service(Response(200, body=body), response(500), response(500)))
    events = look(hub, failed=True, limit=1)
    endless = await service(request())
    await ask(service)
    assert not hub.wanted
    assert [2, 2, 2] == [each["id"] for each in taken(events)]
    with pytest.raises(trio.EndOfChannel):
        events.receive_nowait()
    endless.body.abort()
    assert 0 == events.followed


async def test_one_who_does_not_read_holds_nothing_and_costs_bounded_memory(autojump_clock: MockClock) -> None:
    service, hub = tapped(mock_service(*[response() for _ in range(1_000)]))
    slow = look(hub)
    for _ in range(500):
        await ask(service)
    assert 500 == slow.dropped_events

    events = taken(slow)
    assert 1_000 == len([each for each in events if each["event"] != "dropped"])
    assert [{"event": "dropped", "requests": 0, "events": 500}] == [e for e in events if e["event"] == "dropped"]
    await ask(service)
    assert 3 == len(taken(slow))


async def test_large_events_fill_the_queue_sooner(autojump_clock: MockClock) -> None:
    service, hub = tapped(mock_service(*[response() for _ in range(1_000)]))
    slow = look(hub, headers=True, events="request_init")
    for _ in range(1_000):
        await ask(service, request(headers=[(b"x", b"y" * 2_000)] * 10))
    assert 100 < len(taken(slow)) < 400


async def test_what_waits_for_its_end_is_bounded_too(autojump_clock: MockClock) -> None:
    async def inner(sent: Request) -> Response:
        return Response(200, body=Chunks())

    service, hub = tapped(inner)
    events = look(hub, failed=True)
    answers = [await service(request()) for _ in range(2_100)]
    assert (2_000, 100) == (events.followed, events.dropped_requests)
    for answer in answers:
        answer.body.abort()
    assert 0 == events.followed


async def test_so_many_look_on_and_no_more() -> None:
    _, hub = tapped(mock_service(), most=2)
    first, _ = look(hub), look(hub)
    with pytest.raises(LoadShedError, match="2 look on already"):
        look(hub)
    first.close()
    look(hub)


# ----- nobody -----


async def test_while_nobody_looks_a_call_is_the_inner_call() -> None:
    awaited: list[Request] = []

    def inner(sent: Request) -> str:
        awaited.append(sent)
        return "what the inner service returns, not awaited"

    service, hub = tapped(inner)
    assert "what the inner service returns, not awaited" == service(request())
    events = look(hub, direction="outbound")
    assert "what the inner service returns, not awaited" == service(request())
    events.close()
    assert "what the inner service returns, not awaited" == service(request())
    assert 3 == len(awaited)


async def test_one_who_leaves_hears_no_more_of_what_is_under_way() -> None:
    body = Chunks()
    service, hub = tapped(mock_service(Response(200, body=body)))
    async with look(hub) as events:
        await service(request())
    body.push_end()
    assert [] == taken(events)
    assert not hub.wanted


async def test_iterating_waits_for_events_and_ends_with_the_process(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    service, hub = tapped(mock_service(response()))
    found: list[str] = []

    async def watch() -> None:
        async with look(hub) as events:
            found.extend([event["event"] async for event in events])
        found.append("over")

    nursery.start_soon(watch)
    await trio.sleep(1)
    await ask(service)
    await trio.sleep(1)
    assert ["request_init", "response_init", "response_end"] != found
    hub.close()
    await trio.sleep(1)
    assert ["request_init", "response_init", "response_end", "over"] == found
    with pytest.raises(LoadShedError, match="about to end"):
        look(hub)


async def test_drops_are_told_of_although_nothing_else_happens(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    service, hub = tapped(mock_service(*[response() for _ in range(6)]))
    events = look(hub, rate=3)
    found: list[tuple[float, str]] = []

    async def watch() -> None:
        found.extend([(trio.current_time(), event["event"]) async for event in events])

    nursery.start_soon(watch)
    begun = trio.current_time()
    for _ in range(3):
        await ask(service)
        await trio.sleep(0.1)
    await trio.sleep(5)
    events.end()
    await trio.lowlevel.checkpoint()
    assert ["dropped", "dropped"] == [kind for _, kind in found if kind == "dropped"]
    assert found[-1][0] - begun < 1.5


async def test_a_tap_that_fails_leaves_the_request_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    service, hub = tapped(mock_service(response(), response(), response()))
    look(hub)

    def broken(*_: object) -> Any:
        raise ValueError("a bug")

    for place in ("request_init", "response_init", "response_end"):
        with monkeypatch.context() as patched:
            patched.setattr(f"meshcore.layers.tap.events.Exchange.{place}", broken)
            await ask(service)
    assert 3 == len(caplog.records)
