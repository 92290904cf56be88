"""Filters: what a route does to its requests and their answers."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from meshcore.errors import ConfigError, ConnectionLost, InjectedFailure, Redirected, RemoteProtocolError
from meshcore.http.message import Request, Response
from meshcore.layers import (
    Filters,
    InjectDelay,
    InjectFailure,
    Redirect,
    RequestHeaders,
    Rescue,
    ResponseHeaders,
    Retry,
    Rewrite,
)
from meshcore.testing import mock_service, request, response
from meshcore.transport.target import HttpRoute

ROUTE = HttpRoute("r")


def wrapped(layer: Any, *script: Any) -> tuple[Any, Any]:
    inner = mock_service(*script)
    return layer.wrap(inner, ROUTE), inner


# ----- header fields -----


@pytest.mark.parity("R-25", "U-09", "U-05")
async def test_request_fields_are_added_then_set_then_removed() -> None:
    layer = RequestHeaders(
        add={"X-Added": "2", "x-set": "lost", "x-removed": "lost"},
        set={"x-set": "new", "x-fresh": "1"},
        drop=["x-removed"],
    )
    service, inner = wrapped(layer)
    await service(request(headers=[(b"x-added", b"1"), (b"x-set", b"old"), (b"x-removed", b"1"), (b"x-kept", b"1")]))
    assert inner.requests[0].headers.raw == [
        (b"x-added", b"1"),
        (b"x-set", b"new"),
        (b"x-kept", b"1"),
        (b"x-added", b"2"),
        (b"x-fresh", b"1"),
    ]


@pytest.mark.parity("R-25")
async def test_response_fields_are_added_then_set_then_removed() -> None:
    layer = ResponseHeaders(add={"a": "1"}, set={"b": "2"}, drop=["server", "a"])
    service, _ = wrapped(layer, response(200, b"x", [(b"server", b"s"), (b"b", b"1"), (b"b", b"1")]))
    answer = await service(request())
    assert answer.headers.raw == [(b"b", b"2")]


@pytest.mark.parametrize(
    "name", ["host", "Connection", "transfer-encoding", "content-length", "te", "l5d-client-id", "a b", ""]
)
@pytest.mark.parametrize("cls", [RequestHeaders, ResponseHeaders])
def test_fields_that_are_not_for_routes_are_refused(cls: Any, name: str) -> None:
    for fields in ({"set": {name: "x"}}, {"add": {name: "x"}}, {"drop": [name]}):
        with pytest.raises(ConfigError):
            cls(**fields)


@pytest.mark.parametrize("value", ["a\r\nb: c", " a", "a\0"])
def test_values_that_are_none_are_refused(value: str) -> None:
    with pytest.raises(ConfigError, match="is not a field's value"):
        RequestHeaders(set={"x": value})


def test_a_layer_that_changes_nothing_is_not_there() -> None:
    inner = mock_service()
    for layer in (RequestHeaders(), ResponseHeaders(), InjectFailure(503, ratio=0), InjectDelay(1, ratio=0), Filters()):
        assert layer.wrap(inner, ROUTE) is inner
    assert repr(RequestHeaders(set={"a": "b"})) == "RequestHeaders(set=(('a', 'b'),))"
    assert hash(RequestHeaders(set={"a": "b"})) == hash(RequestHeaders(set={"a": "b"}))


# ----- redirects -----


@pytest.mark.parametrize(
    ("fields", "asked", "location"),
    [
        ({"host": "b.test"}, "http://a.test/x?q", "http://b.test/x?q"),
        ({"host": "b.test"}, "http://a.test:8080/x", "http://b.test:8080/x"),
        ({"host": "::1"}, "http://a.test/x", "http://[::1]/x"),
        ({"port": 8080}, "http://a.test/x", "http://a.test:8080/x"),
        ({"port": 8080}, "http://[::1]:81/x", "http://[::1]:8080/x"),
        ({"port": 80}, "http://a.test:8080/x", "http://a.test/x"),
        ({"scheme": "https", "port": 443}, "http://a.test/x", "https://a.test/x"),
        ({"scheme": "https", "port": 80}, "http://a.test/x", "https://a.test:80/x"),
        ({"scheme": "https"}, "http://a.test:8080/x?q=1", "https://a.test/x?q=1"),
        ({"path": "/new"}, "http://a.test/old?q=1", "http://a.test/new"),
        ({"path": "/new"}, "http://a.test/old", "http://a.test/new"),
        ({"prefix": "/new", "of": ["/old"]}, "http://a.test/old/x?q=1", "http://a.test/new/x?q=1"),
        ({"prefix": "/new", "of": ["/old"]}, "http://a.test/old", "http://a.test/new"),
        ({"prefix": "/new", "of": ["/old"]}, "http://a.test/old/", "http://a.test/new/"),
        ({"prefix": "/new/", "of": ["/old/"]}, "http://a.test/old/x", "http://a.test/new/x"),
        ({"prefix": "/", "of": ["/old"]}, "http://a.test/old/x", "http://a.test/x"),
        ({"prefix": "/", "of": ["/old"]}, "http://a.test/old", "http://a.test/"),
        ({"prefix": "/", "of": ["/old"]}, "http://a.test/old/?q", "http://a.test/?q"),
        ({"prefix": "/new", "of": ["/"]}, "http://a.test/x", "http://a.test/new/x"),
        ({"prefix": "/new", "of": ["/a", "/a/b"]}, "http://a.test/a/b/c", "http://a.test/new/c"),
        ({"prefix": "/new", "of": ["/a"], "host": "b.test"}, "http://a.test/ab", "http://b.test/ab"),
        # Nothing would change.
        ({"host": "a.test"}, "http://a.test/x", None),
        ({"port": 8080}, "http://a.test:8080/x", None),
        ({"path": "/x"}, "http://a.test/x", None),
        ({"scheme": "http"}, "http://a.test/x", None),
        ({"prefix": "/new", "of": ["/old"]}, "http://a.test/older", None),
    ],
)
@pytest.mark.parity("R-25", "U-17")
async def test_a_redirect_keeps_what_is_not_replaced(fields: Any, asked: str, location: str | None) -> None:
    scheme, _, rest = asked.partition("://")
    authority, _, path = rest.partition("/")
    sent = request(path=f"/{path}".encode(), authority=authority.encode())
    sent.scheme = scheme.encode()
    service, inner = wrapped(Redirect(**fields))
    if location is None:
        await service(sent)
        assert len(inner.requests) == 1
        return
    with pytest.raises(Redirected) as caught:
        await service(sent)
    assert (caught.value.location.decode(), caught.value.status) == (location, 301)
    assert inner.requests == []


@pytest.mark.parametrize("version", [11, 20])
@pytest.mark.parity("R-25", "U-17")
async def test_a_redirect_is_answered_with_its_status_and_place(version: int) -> None:
    service = Rescue().wrap(Redirect(scheme="https", status=308).wrap(mock_service(), ROUTE), ROUTE)
    answer = await service(request(version=version))
    assert (answer.status, answer.headers.get(b"location"), answer.close) == (308, b"https://a.test/", False)
    assert answer.headers.get(b"content-length") == b"0"
    grpc = await service(request(b"POST", b"/a.B/C", version=20, headers=[(b"content-type", b"application/grpc")]))
    assert (grpc.status, grpc.headers.get(b"grpc-status")) == (200, b"5")


async def test_a_request_that_names_no_host_is_redirected_by_its_path_alone() -> None:
    with pytest.raises(Redirected) as caught:
        await wrapped(Redirect(path="/new"))[0](request(authority=b""))
    assert caught.value.location == b"/new"
    with pytest.raises(RemoteProtocolError):
        await wrapped(Redirect(scheme="https"))[0](request(authority=b""))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"status": 302},
        {"path": "/", "status": 304},
        {"path": "x"},
        {"path": "/a", "prefix": "/b", "of": ["/c"]},
        {"prefix": "/b"},
        {"scheme": "ftp"},
        {"port": 0},
        {"path": "/a?b"},
    ],
)
def test_a_redirect_that_goes_nowhere_is_refused(fields: Any) -> None:
    with pytest.raises(ConfigError):
        Redirect(**fields)


# ----- rewriting -----


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"host": "b.test:81"}, ("b.test:81", "/old/x?q=/old")),
        ({"path": "/new"}, ("a.test", "/new?q=/old")),
        ({"prefix": "/new", "of": ["/old"]}, ("a.test", "/new/x?q=/old")),
        ({"prefix": "", "of": ["/old"], "host": "b.test"}, ("b.test", "/x?q=/old")),
    ],
)
@pytest.mark.parity("R-26")
async def test_a_request_is_sent_on_rewritten_and_found_as_it_was(fields: Any, expected: tuple[str, str]) -> None:
    seen: list[tuple[str, str]] = []

    async def inner(sent: Request) -> Response:
        seen.append((sent.authority.decode(), sent.path.decode()))
        assert b"host" not in sent.headers or "host" not in fields
        return Response(200)

    sent = request(path=b"/old/x?q=/old", headers=[(b"host", b"other.test")])
    await Rewrite(**fields).wrap(inner, ROUTE)(sent)
    assert seen == [expected]
    assert (sent.authority, sent.path, sent.headers.raw) == (b"a.test", b"/old/x?q=/old", [(b"host", b"other.test")])


@pytest.mark.parametrize(("method", "path"), [(b"OPTIONS", b"*"), (b"CONNECT", b"")])
async def test_what_is_no_path_is_not_rewritten(method: bytes, path: bytes) -> None:
    paths: list[bytes] = []

    async def inner(sent: Request) -> Response:
        paths.append(sent.path)
        return Response(200)

    await Rewrite(path="/new").wrap(inner, ROUTE)(request(method, path))
    assert paths == [path]


async def test_below_retry_each_try_is_rewritten_once() -> None:
    paths: list[bytes] = []

    async def inner(sent: Request) -> Response:
        paths.append(sent.path)
        if len(paths) < 3:
            raise ConnectionLost("lost")
        return Response(200)

    layer = Filters((RequestHeaders(add={"x": "1"}), Rewrite(prefix="/a/a", of=["/a"])))
    sent = request(path=b"/a")
    await Retry(2).wrap(layer.wrap(inner, ROUTE), ROUTE)(sent)
    assert paths == [b"/a/a"] * 3
    assert sent.headers.get_all(b"x") == [b"1"]


@pytest.mark.parametrize(
    "fields", [{}, {"host": "a b"}, {"path": "x"}, {"prefix": "/x"}, {"prefix": "/x", "of": ["y"]}]
)
def test_a_rewrite_that_is_none_is_refused(fields: Any) -> None:
    with pytest.raises(ConfigError):
        Rewrite(**fields)


# ----- failures and delays -----


@pytest.mark.parity("R-25", "U-05", "E-10")
async def test_an_injected_failure_is_answered_as_it_says_and_keeps_the_connection() -> None:
    service = Rescue().wrap(InjectFailure(503, message="on purpose").wrap(mock_service(), ROUTE), ROUTE)
    answer = await service(request())
    assert (answer.status, answer.close) == (503, False)
    assert answer.headers.get(b"l5d-proxy-error") == b"on purpose"
    assert answer.headers.get(b"x-meshcore-error") == b"injected-failure"
    grpc = request(b"POST", version=20, headers=[(b"content-type", b"application/grpc")])
    answer = await service(grpc)
    assert (answer.status, answer.headers.get(b"grpc-status")) == (200, b"9")


@pytest.mark.parametrize("version", [11, 20])
@pytest.mark.parity("R-25", "U-05")
async def test_an_injected_grpc_failure_is_a_200_with_its_status(version: int) -> None:
    service = Rescue().wrap(InjectFailure(grpc_status=8, message="enough").wrap(mock_service(), ROUTE), ROUTE)
    headers = [(b"content-type", b"application/grpc")] if version == 20 else []
    answer = await service(request(b"POST", version=version, headers=headers))
    assert (answer.status, answer.headers.get(b"grpc-status")) == (200, b"8")
    assert answer.headers.get(b"grpc-message") == b"enough"


async def test_the_share_that_fails_is_the_ratio() -> None:
    service, inner = wrapped(InjectFailure(500, ratio=0.2, rng=random.Random(5)))
    failed = 0
    for _ in range(5_000):
        try:
            await service(request())
        except InjectedFailure:
            failed += 1
    assert failed / 5_000 == pytest.approx(0.2, abs=0.02)
    assert len(inner.requests) == 5_000 - failed


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"status": 500, "grpc_status": 2},
        {"status": 200},
        {"grpc_status": 0},
        {"grpc_status": 17},
        {"status": 500, "ratio": 2},
    ],
)
def test_a_failure_that_is_none_is_refused(fields: Any) -> None:
    with pytest.raises(ConfigError):
        InjectFailure(**fields)


@pytest.mark.parity("R-26")
async def test_the_share_that_is_held_up_is_the_ratio(autojump_clock: MockClock) -> None:
    service, _ = wrapped(InjectDelay(0.5, ratio=0.3, rng=random.Random(5)))
    held = 0
    for _ in range(1_000):
        started = trio.current_time()
        await service(request())
        waited = trio.current_time() - started
        assert waited in (0, pytest.approx(0.5))
        held += waited > 0
    assert held / 1_000 == pytest.approx(0.3, abs=0.04)


async def test_whoever_leaves_while_held_up_leaves_at_once(autojump_clock: MockClock) -> None:
    service, inner = wrapped(InjectDelay(60))
    with trio.move_on_after(1) as scope:
        await service(request())
    assert scope.cancelled_caught
    assert inner.requests == []


# ----- several of them -----


async def test_filters_are_met_in_their_order() -> None:
    order: list[str] = []

    class Noted(RequestHeaders):
        def wrap(self, inner: Any, target: Any, /) -> Any:
            def noted(sent: Request) -> Any:
                order.append(dict(self.set)["x"])
                return inner(sent)

            return noted

    route = HttpRoute("r", filters=(Noted(set={"x": "1"}), Noted(set={"x": "2"}), RequestHeaders(set={"x": "3"})))
    service, inner = wrapped(Filters(lambda target: target.filters))
    assert Filters(lambda target: target.filters).wrap(inner, ROUTE) is inner
    service = Filters(lambda target: target.filters).wrap(inner, route)
    await service(request())
    assert order == ["1", "2"]
    assert inner.requests[0].headers.get(b"x") == b"3"
