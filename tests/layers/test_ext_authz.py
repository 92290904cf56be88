"""ExtAuthz: what is asked, what becomes of the verdict, and what where there is none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from meshcore._unwrap import statistics_sources
from meshcore.abc import HttpService
from meshcore.admin.live import live_tree
from meshcore.errors import AuthorizationError, AuthorizationUnavailable, ConnectError, StreamReset, chain
from meshcore.grpc.framing import MessageReader, frame
from meshcore.grpc.protobuf import fields, nested, number, strings, text
from meshcore.http.body import Chunks, Full, read_all
from meshcore.http.grpc import status_fields
from meshcore.http.headers import Headers
from meshcore.http.message import Request, Response
from meshcore.layers import ExtAuthz, Rescue
from meshcore.layers.ext_authz.verdict import Change, apply
from meshcore.metrics import Registry
from meshcore.testing import MockNewService, MockService, memory_connection_pair, request, response
from meshcore.transport.target import Backend

AUTHZ = Backend("authz")
GRPC = (b"content-type", b"application/grpc")


def option(name: str, value: str, append: bool | None = None, action: int = 0) -> bytes:
    flag = b"" if append is None else nested(2, number(1, int(append)))
    return nested(1, text(1, name) + text(2, value)) + flag + number(3, action)


def allow(*sets: bytes, remove: tuple[str, ...] = (), answer: tuple[bytes, ...] = ()) -> bytes:
    parts = [nested(2, each) for each in sets] + [text(5, name) for name in remove] + [nested(6, e) for e in answer]
    return nested(1, b"") + nested(3, b"".join(parts))


def deny(code: int = 7, message: str = "", denied: bytes | None = None) -> bytes:
    return nested(1, number(1, code) + text(2, message)) + (b"" if denied is None else nested(2, denied))


@attrs.define
class Authz:
    """An authorization service: gives *answer* over gRPC."""

    answer: bytes | Exception = attrs.Factory(lambda: allow())
    delay: float = 0.0
    asked: list[tuple[Request, bytes]] = attrs.Factory(list)

    async def __call__(self, asked: Request) -> Response:
        reader = MessageReader()
        reader.receive_data(await read_all(asked.body))
        message = reader.next_message()
        assert message is not None
        self.asked.append((asked, message))
        await trio.sleep(self.delay)
        if isinstance(self.answer, Exception):
            raise self.answer
        return Response(200, Headers([GRPC]), Full(frame(self.answer), status_fields(0)))

    def question(self) -> dict[str, Any]:
        """The last question, taken apart."""
        attributes = strings(strings(self.asked[-1][1])[1])
        sent = strings(attributes[4])
        http = sent[2]
        headers = {}
        plain: dict[int, Any] = {}
        for place, value in fields(http):
            if place == 3:
                entry = strings(value)  # type: ignore[arg-type]
                headers[entry[1].decode()] = entry.get(2, b"").decode()
            else:
                plain[place] = value
        return {"attributes": attributes, "http": plain, "headers": headers, "time": dict(fields(sent[1]))}


@asynccontextmanager
async def guarded(authz: Any, inner: HttpService | None = None, **options: Any) -> AsyncIterator[Any]:
    """The service behind the layer; ``.inner`` is what is guarded."""
    service = MockService() if inner is None else inner
    layer = ExtAuthz(MockNewService(lambda _: authz), AUTHZ, **options)
    async with trio.open_nursery() as nursery:
        yield layer.layer(MockNewService(lambda _: service)).new_service("target", nursery), service
        nursery.cancel_scope.cancel()


async def test_a_request_that_may_pass_passes_and_the_service_is_told_of_it() -> None:
    authz = Authz()
    here, there = memory_connection_pair()
    sent = request(
        b"POST", b"/a?b=c", b"body", authority=b"shop.test:80",
        headers=[(b"x-one", b"1"), (b"x-one", b"2"), (b"cookie", b"a=1"), (b"cookie", b"b=2"), (b"x-raw", b"\xff")],
    )  # fmt: skip
    sent.connection, sent.client_id = there, "web.shop"
    async with guarded(authz, clock=lambda: 1_700_000_000.5) as (service, inner):
        assert 200 == (await service(sent)).status

    assert [sent] == inner.requests
    assert b"body" == await read_all(sent.body)
    ((asked, _),) = authz.asked
    assert (b"/envoy.service.auth.v3.Authorization/Check", 20) == (asked.path, asked.version)
    assert b"200000u" == asked.headers.get(b"grpc-timeout")
    told = authz.question()
    assert {2: b"POST", 4: b"/a?b=c", 5: b"shop.test:80", 6: b"http", 9: 4, 10: b"HTTP/1.1"} == told["http"]
    assert {
        ":method": "POST", ":scheme": "http", ":authority": "shop.test:80", ":path": "/a?b=c",
        "x-one": "1,2", "cookie": "a=1; b=2", "x-raw": "�",
    } == told["headers"]  # fmt: skip
    assert {1: 1_700_000_000, 2: 500_000_000} == told["time"]
    source = strings(told["attributes"][1])
    assert b"web.shop" == source[4]
    address = dict(fields(strings(source[1])[1]))
    assert (there.peer[0].encode(), there.peer[1]) == (address[2], address[3])
    here.close()


async def test_the_service_is_told_of_some_fields_alone_if_that_is_asked_for() -> None:
    authz = Authz()
    sent = request(headers=[(b"authorization", b"x"), (b"x-a", b"1"), (b"x-b", b"2"), (b"l5d-client-id", b"web")])
    async with guarded(authz, headers=["X-A"], extensions=(("env", "prod"),)) as (service, _):
        await service(sent)
    told = authz.question()
    assert {"authorization": "x", "x-a": "1", "l5d-client-id": "web"} == {
        name: value for name, value in told["headers"].items() if not name.startswith(":")
    }
    assert {1: b"env", 2: b"prod"} == strings(told["attributes"][10])


async def test_it_sets_and_removes_fields_of_the_request_and_of_its_response() -> None:
    answer = allow(
        option("X-User", "alice"), option("x-group", "a", append=True), option("x-new", "1", action=1),
        option("x-old", "2", action=1), option("x-none", "3", action=3), option("x-old2", "4", action=3),
        remove=("Authorization", "host", ":path"),
        answer=(option("set-cookie", "a=1"), option("set-cookie", "b=2"), option("x-user", "alice")),
    )  # fmt: skip
    sent = request(headers=[
        (b"x-user", b"mallory"), (b"x-user", b"eve"), (b"x-group", b"b"), (b"authorization", b"secret"),
        (b"x-old", b"0"), (b"x-old2", b"0"),
    ])  # fmt: skip
    back = response(200, headers=[(b"set-cookie", b"old=1"), (b"x-other", b"1")])
    async with guarded(Authz(answer), MockService(back)) as (service, _):
        got = await service(sent)

    assert [
        (b"x-user", b"alice"), (b"x-group", b"b"), (b"x-old", b"0"), (b"x-old2", b"4"), (b"x-group", b"a"),
        (b"x-new", b"1"),
    ] == sent.headers.raw  # fmt: skip
    assert [
        (b"set-cookie", b"a=1"), (b"x-other", b"1"), (b"set-cookie", b"b=2"), (b"x-user", b"alice"),
    ] == got.headers.raw  # fmt: skip


async def test_a_refusal_without_an_answer_is_a_403_that_names_its_reason() -> None:
    async with guarded(Authz(deny(message="no such tenant"))) as (service, inner):
        with pytest.raises(AuthorizationError, match="external authorization authz: denied: no such tenant"):
            await service(request())
        answer = await Rescue().wrap(service, None)(request())
    assert (403, False) == (answer.status, answer.close)
    assert [] == inner.requests


async def test_a_refusal_is_the_services_own_answer() -> None:
    denied = nested(1, number(1, 302)) + nested(2, option("Location", "/login")) + text(3, "go there")
    denied += nested(2, option("content-length", "3")) + nested(2, option("x-a", "1\n2"))
    async with guarded(Authz(deny(denied=denied))) as (service, inner):
        answer = await service(request())
        grpc = await service(request(b"POST", headers=[GRPC], version=20))
    assert (302, [(b"location", b"/login"), (b"content-length", b"8")]) == (answer.status, answer.headers.raw)
    assert b"go there" == await read_all(answer.body)
    assert [] == inner.requests
    # To a client of gRPC it is a status.
    assert 200 == grpc.status
    assert [GRPC, (b"location", b"/login"), (b"grpc-status", b"2"), (b"grpc-message", b"go there")] == grpc.headers.raw


@pytest.mark.parametrize(("status", "grpc"), [(401, b"16"), (403, b"7"), (429, b"14"), (0, b"7")])
async def test_a_client_of_grpc_is_told_a_status(status: int, grpc: bytes) -> None:
    denied = nested(1, number(1, status)) + nested(2, option("x-why", "1"))
    async with guarded(Authz(deny(16, "who?", denied))) as (service, _):
        answer = await service(request(b"POST", headers=[GRPC], version=20))
    assert grpc == answer.headers.get(b"grpc-status")
    assert b"who?" == answer.headers.get(b"grpc-message")


FAILURES: list[tuple[str, Callable[[], Authz], str]] = [
    ("refused", lambda: Authz(ConnectError("endpoint 10.0.0.1:9: connection refused")), "connection refused"),
    ("slow", lambda: Authz(delay=0.3), "deadline exceeded: no answer came in time"),
    ("malformed", lambda: Authz(b"\x0a\x05"), "malformed message"),
    ("forbidden", lambda: Authz(allow(option("host", "x"))), "must not"),
]


@pytest.mark.parametrize(("make", "why"), [case[1:] for case in FAILURES], ids=[case[0] for case in FAILURES])
async def test_without_a_verdict_none_passes(make: Callable[[], Authz], why: str, autojump_clock: MockClock) -> None:
    async with guarded(make()) as (service, inner):
        with pytest.raises(AuthorizationUnavailable) as failed:
            await service(request())
        assert chain(failed.value).startswith("external authorization authz: unavailable: ")
        assert why in chain(failed.value)
        answer = await Rescue().wrap(service, None)(request())
        assert (503, False) == (answer.status, answer.close)
        assert b"authorization-unavailable" == answer.headers.get(b"x-meshcore-error")
    assert [] == inner.requests


@pytest.mark.parametrize("make", [case[1] for case in FAILURES], ids=[case[0] for case in FAILURES])
async def test_without_a_verdict_all_pass_where_that_is_asked_for(
    make: Callable[[], Authz], autojump_clock: MockClock
) -> None:
    async with guarded(make(), on_error="allow") as (service, inner):
        assert 200 == (await service(request())).status
    assert 1 == len(inner.requests)


async def test_the_timeout_is_the_verdicts_alone(autojump_clock: MockClock) -> None:
    began = trio.current_time()
    async with guarded(Authz(delay=0.4), MockService(5.0, 200), timeout=0.5) as (service, _):
        assert 200 == (await service(request())).status
    assert 5.4 == pytest.approx(trio.current_time() - began)


async def test_a_request_given_up_is_not_asked_about_any_longer(autojump_clock: MockClock) -> None:
    async with guarded(Authz(delay=10), timeout=20) as (service, inner):
        with trio.move_on_after(1) as scope:
            await service(request())
        assert scope.cancelled_caught
    assert [] == inner.requests


async def test_verdicts_are_counted_and_shown(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    registry, authz = Registry(), Authz()
    caplog.set_level("INFO")
    async with guarded(authz, registry=registry) as (service, _):
        for answer in (allow(), allow(), deny(), ConnectError("gone"), ConnectError("gone"), allow()):
            authz.answer = answer
            try:
                await service(request())
            except (AuthorizationError, AuthorizationUnavailable):
                pass
        ((_, statistics), *_) = statistics_sources(service)
        told: Any = statistics()
        assert (3, 1, 2, 0, "") == (told.allowed, told.denied, told.failed, told.failed_open, told.error)
        # As in /stack.
        (shown, *_) = live_tree(service)
        assert ("ext_authz", 3) == (shown["role"], shown["statistics"]["allowed"])
        assert ["authorization"] == list(shown["services"])
        text = registry.render()
    for line in ('{result="allowed"} 3', '{result="denied"} 1', '{result="failed"} 2', '{result="failed_open"} 0'):
        assert f"inbound_http_ext_authz_total{line}\n" in text
    # Said once, not for each request.
    assert [
        "external authorization authz is unavailable: unavailable: gone",
        "external authorization authz answers again",
    ] == [record.getMessage() for record in caplog.records]


async def test_all_targets_of_a_nursery_share_the_way_to_the_service() -> None:
    upstream: MockNewService[Any] = MockNewService(lambda _: Authz())
    new = ExtAuthz(upstream, AUTHZ).layer(MockNewService())
    async with trio.open_nursery() as nursery:
        for target in ("a", "b"):
            await new.new_service(target, nursery)(request())
        assert [AUTHZ] == [made[0] for made in upstream.made]
        nursery.cancel_scope.cancel()


# ----- the body -----


@pytest.mark.parametrize(
    ("body", "told", "partial"),
    [(b"", None, "false"), (b"abc", b"abc", "false"), (b"abcd", b"abcd", "false"), (b"abcdefg", b"abcd", "true")],
)
async def test_the_service_is_told_the_beginning_of_the_body_and_all_of_it_goes_on(
    body: bytes, told: bytes | None, partial: str
) -> None:
    authz = Authz()
    async with guarded(authz, max_body=4) as (service, inner):
        await service(request(b"POST", b"/", body))
    assert body == await read_all(inner.requests[0].body)
    question = authz.question()
    assert told == question["http"].get(11)
    assert partial == question["headers"]["x-envoy-auth-partial-body"]


async def test_a_body_that_does_not_come_is_not_waited_for_without_end(autojump_clock: MockClock) -> None:
    authz = Authz()
    body = Chunks()
    body.push(b"\xff\x00")
    sent = request(b"POST")
    sent.body = body
    async with guarded(authz, max_body=1_000, timeout=0.5) as (service, inner):
        await service(sent)
        assert 0.5 == pytest.approx(trio.current_time())
        question = authz.question()
        # What is no text is told in a field of its own.
        assert (None, b"\xff\x00") == (question["http"].get(11), question["http"].get(12))
        assert "true" == question["headers"]["x-envoy-auth-partial-body"]
        body.push(b"rest")
        body.push_end([(b"x", b"1")])
        assert b"\xff\x00rest" == await read_all(inner.requests[0].body)
        assert [(b"x", b"1")] == inner.requests[0].body.end.trailers


async def test_a_body_that_breaks_meanwhile_is_the_clients_error(autojump_clock: MockClock) -> None:
    body = Chunks()
    body.push_error(StreamReset("gone"))
    sent = request(b"POST")
    sent.body = body
    async with guarded(Authz(), max_body=10) as (service, _):
        with pytest.raises(StreamReset):
            await service(sent)


async def test_a_client_that_waits_to_be_asked_for_its_body_is_not_asked() -> None:
    sent = request(b"POST", b"/", b"abc")
    sent.expect_continue = True
    authz = Authz()
    async with guarded(authz, max_body=10) as (service, _):
        await service(sent)
    assert 11 not in authz.question()["http"]
    assert "true" == authz.question()["headers"]["x-envoy-auth-partial-body"]


async def test_over_http_the_beginning_of_the_body_is_its_body() -> None:
    authz = MockService()
    async with guarded(authz, protocol="http", max_body=4) as (service, inner):
        await service(request(b"POST", b"/", b"abcdefg", headers=[(b"content-length", b"7")]))
    (asked,) = authz.requests
    assert [(b"x-envoy-auth-partial-body", b"true"), (b"content-length", b"4")] == asked.headers.raw
    assert (b"abcd", b"abcdefg") == (await read_all(asked.body), await read_all(inner.requests[0].body))


# ----- over HTTP -----


async def test_over_http_the_head_of_the_request_is_the_question() -> None:
    authz = MockService(response(200, b"fine", headers=[(b"x-user", b"alice"), (b"x-other", b"1")]))
    sent = request(
        b"POST", b"/a?b", b"body", authority=b"shop.test",
        headers=[(b"authorization", b"t"), (b"x-a", b"1"), (b"cookie", b"c"), (b"content-length", b"4"),
                 (b"x-user", b"mallory"), (b"x-role", b"admin")],
    )  # fmt: skip
    options = {"headers": ["x-a", "content-length"], "copied": ["X-User", "x-role"], "prefix": "/check"}
    async with guarded(authz, protocol="http", **options) as (service, inner):
        await service(sent)

    (asked,) = authz.requests
    assert (b"POST", b"shop.test", b"/check/a?b", b"") == (
        asked.method, asked.authority, asked.path, await read_all(asked.body),
    )  # fmt: skip
    assert [(b"authorization", b"t"), (b"x-a", b"1")] == asked.headers.raw
    assert [sent] == inner.requests
    assert b"alice" == sent.headers.get(b"x-user")
    # What the service does not say, nobody says.
    assert b"x-role" not in sent.headers
    assert b"x-other" not in sent.headers
    assert b"t" == sent.headers.get(b"authorization")


async def test_over_http_any_other_status_is_the_answer() -> None:
    back = response(401, b"who are you?", headers=[(b"www-authenticate", b"Basic"), (b"set-cookie", b"a"),
                                                   (b"set-cookie", b"b"), (b"content-length", b"12"),
                                                   (b"l5d-proxy-error", b"x")])  # fmt: skip
    async with guarded(MockService(back), protocol="http") as (service, inner):
        answer = await service(request())
    assert [
        (b"www-authenticate", b"Basic"), (b"set-cookie", b"a"), (b"set-cookie", b"b"), (b"content-length", b"12"),
    ] == answer.headers.raw  # fmt: skip
    assert (401, b"who are you?") == (answer.status, await read_all(answer.body))
    assert [] == inner.requests


@pytest.mark.parametrize("step", [500, 503, ConnectError("refused"), 0.3, response(403, b"x" * 100_000)])
async def test_over_http_an_error_of_the_service_is_no_verdict(step: Any, autojump_clock: MockClock) -> None:
    async with guarded(MockService(step), protocol="http") as (service, _):
        with pytest.raises(AuthorizationUnavailable):
            await service(request())


async def test_over_http_nobody_says_what_only_the_service_may_say_where_it_is_not_there() -> None:
    sent = request(headers=[(b"x-user", b"mallory"), (b"x-a", b"1")])
    options: dict[str, Any] = {"copied": ["x-user"], "on_error": "allow"}
    async with guarded(MockService(503), protocol="http", **options) as (service, inner):
        await service(sent)
    assert [(b"x-a", b"1")] == inner.requests[0].headers.raw


async def test_over_http_connect_is_refused_since_it_would_be_a_tunnel() -> None:
    authz = MockService()
    async with guarded(authz, protocol="http") as (service, _):
        with pytest.raises(AuthorizationError, match="CONNECT"):
            await service(request(b"CONNECT", b""))
    assert [] == authz.requests


async def test_over_http_a_field_to_remove_is_removed() -> None:
    authz = MockService(response(200, headers=[(b"x-envoy-auth-headers-to-remove", b"Authorization, host,:x")]))
    sent = request(headers=[(b"authorization", b"t"), (b"x-a", b"1")])
    async with guarded(authz, protocol="http") as (service, _):
        await service(sent)
    assert [(b"x-a", b"1")] == sent.headers.raw


def test_fields_that_are_set_together_stay_together() -> None:
    headers = Headers([(b"a", b"0"), (b"a", b"1")])
    apply(headers, [Change(b"a", b"2"), Change(b"a", b"3"), Change(b"b", b"4", "append")])
    assert [(b"a", b"2"), (b"a", b"3"), (b"b", b"4")] == headers.raw


def test_it_prints_what_it_asks() -> None:
    layer = ExtAuthz(MockNewService(), AUTHZ, timeout=0.5)
    assert "ExtAuthz(backend='authz', protocol='grpc', timeout=0.5, on_error='deny')" == repr(layer)
    with pytest.raises(ValueError):
        ExtAuthz(MockNewService(), AUTHZ, timeout=0)
