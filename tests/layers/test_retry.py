"""Retry: what is tried again, how often, and with which body."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
import trio
from hypothesis import strategies as st
from trio.testing import MockClock

from meshcore.errors import (
    ConnectionLost,
    FailFastError,
    GoAway,
    LoadShedError,
    MeshError,
    NoRoute,
    RequestBodyError,
    ResponseTimeout,
    StreamReset,
    StreamTimeout,
    TlsError,
)
from meshcore.http.body import Body, Chunks, Full, read_all
from meshcore.http.message import Request, Response
from meshcore.layers.retry import Budget, Retry
from meshcore.layers.retry.policy import may_retry
from meshcore.testing import mock_service, request, response
from meshcore.transport.target import Endpoint

REFUSED = 7


def retrying(inner: Any, **options: Any) -> Any:
    return Retry(**options).wrap(inner, None)


async def test_a_request_that_was_not_processed_is_tried_again_once(autojump_clock: MockClock) -> None:
    inner = mock_service(StreamReset("refused", h2_code=REFUSED), response(200, b"fine"))
    service = retrying(inner)

    answer = await service(request(b"POST"))

    assert b"fine" == await read_all(answer.body)
    assert (1, 1, 1) == (
        service.statistics().requests,
        service.statistics().retries,
        service.statistics().recovered,
    )


async def test_the_last_error_is_raised_when_the_attempts_are_used_up(autojump_clock: MockClock) -> None:
    inner = mock_service(GoAway("first"), GoAway("second"), GoAway("third"), 200)

    with pytest.raises(GoAway, match="third"):
        await retrying(inner, attempts=2)(request())

    assert 3 == len(inner.requests)
    assert Retry(attempts=0).wrap(inner, None) is inner


TRANSPORT = [ConnectionLost("x"), StreamReset("x"), ResponseTimeout("x"), GoAway("x"), TlsError("x")]
NEVER = [NoRoute("x"), LoadShedError("x"), RequestBodyError("x"), StreamTimeout("x"), MeshError("x")]


@pytest.mark.parametrize("error", [*TRANSPORT, *NEVER], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE", b"POST", b"PATCH"])
def test_what_may_be_tried_again_depends_on_method_and_error(method: bytes, error: MeshError) -> None:
    idempotent = method not in (b"POST", b"PATCH")
    expected = error in TRANSPORT and (idempotent or error.retryable)

    assert expected == may_retry(method, error)


def test_what_was_shed_or_failed_fast_is_not_tried_again() -> None:
    assert not may_retry(b"GET", LoadShedError())
    assert not may_retry(b"GET", FailFastError())


async def test_a_post_that_may_have_been_processed_is_not_repeated(autojump_clock: MockClock) -> None:
    inner = mock_service(ConnectionLost("gone"), 200)

    with pytest.raises(ConnectionLost):
        await retrying(inner)(request(b"POST", body=b"pay"))

    assert 1 == len(inner.requests)


async def test_the_endpoint_that_failed_is_to_be_avoided(autojump_clock: MockClock) -> None:
    endpoints = [Endpoint(("10.0.0.1", 1)), Endpoint(("10.0.0.2", 1))]
    avoided: list[tuple[Endpoint, ...]] = []

    async def inner(sent: Request) -> Response:
        await trio.lowlevel.checkpoint()
        avoided.append(sent.avoid)
        sent.endpoint = endpoints[len(avoided) - 1]
        if len(avoided) == 1:
            raise ConnectionLost("gone")
        return response()

    await retrying(inner)(request())

    assert [(), (endpoints[0],)] == avoided


async def test_fields_that_a_layer_below_added_are_not_there_twice(autojump_clock: MockClock) -> None:
    seen: list[list[tuple[bytes, bytes]]] = []

    async def inner(sent: Request) -> Response:
        await trio.lowlevel.checkpoint()
        sent.headers.add(b"via", b"1.1 mesh")
        seen.append(sent.headers.raw)
        if len(seen) < 3:
            raise ConnectionLost("gone")
        return response()

    await retrying(inner, attempts=5)(request(headers=[(b"a", b"b")]))

    assert [[(b"a", b"b"), (b"via", b"1.1 mesh")]] * 3 == seen


@pytest.mark.parametrize("what", ["tunnel", "connect", "expect"])
async def test_tunnels_and_expectations_are_passed_on_as_they_are(what: str, autojump_clock: MockClock) -> None:
    inner = mock_service(GoAway("not processed"), 200)
    sent = request(b"CONNECT" if what == "connect" else b"GET")
    body = sent.body = Chunks()
    sent.protocol = b"websocket" if what == "tunnel" else None
    sent.expect_continue = what == "expect"

    with pytest.raises(GoAway):
        await retrying(inner)(sent)

    assert 1 == len(inner.requests)
    assert sent.body is body


# ----- bodies -----


def reads(count: int, failures: int, error: MeshError) -> tuple[Any, list[bytes]]:
    """A service that reads *count* chunks of each of its first bodies and fails; then it reads all."""
    seen: list[bytes] = []

    async def inner(sent: Request) -> Response:
        if len(seen) < failures:
            parts = [await sent.body.receive_some() for _ in range(count)]
            seen.append(b"".join(parts))
            raise error
        seen.append(await read_all(sent.body, 1 << 20))
        assert sent.body.end is not None
        return Response(200, body=Full(b"".join(value for _, value in sent.body.end.trailers)))

    return inner, seen


@pytest.mark.parity("R-07", "U-16")
@pytest.mark.parametrize("size_hint", [None, 65_536])
async def test_a_body_of_up_to_64_kib_is_sent_again_from_its_first_byte(
    size_hint: int | None, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    body = Chunks(size_hint)
    inner, seen = reads(2, 1, GoAway("not processed"))

    async def upload() -> None:
        for chunk in (b"a" * 1_000, b"b" * 32_000, b"c" * 32_536):
            await trio.sleep(1)
            body.push(chunk)
        await trio.sleep(1)
        body.push_end([(b"checksum", b"ok")])

    nursery.start_soon(upload)
    sent = request(b"POST")
    sent.body = body
    answer = await retrying(inner)(sent)

    assert b"ok" == await read_all(answer.body)
    assert [33_000, 65_536] == [len(each) for each in seen]
    assert body.end is not None
    assert body.end.error is None


@pytest.mark.parity("R-07", "U-16", "X-32")
@pytest.mark.parametrize("size_hint", [None, 65_537])
async def test_a_longer_body_is_not(size_hint: int | None, nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    body = Chunks(size_hint)
    for _ in range(2):
        body.push(b"a" * 32_768)
    body.push(b"b")
    body.push_end()
    inner, seen = reads(3, 1, GoAway("not processed"))
    service = retrying(inner)
    sent = request(b"POST")
    sent.body = body

    with pytest.raises(GoAway):
        await service(sent)

    assert [65_537] == [len(each) for each in seen]
    assert 1 == service.statistics().not_replayable


async def test_a_long_body_flows_through_without_being_kept(autojump_clock: MockClock) -> None:
    class Endless(Chunks):
        def receive_nowait(self) -> bytes:
            if not self._chunks:
                self.push(b"x" * 8_192)
            return super().receive_nowait()

    sent = request(b"PUT")
    sent.body = Endless()
    kept: list[int] = []

    async def inner(request: Request) -> Response:
        for _ in range(1_000):
            await request.body.receive_some()
            kept.append(sum(map(len, request.body._replay._chunks)))  # type: ignore[attr-defined]
        return response()

    await retrying(inner)(sent)

    assert max(kept) <= 65_536
    assert 0 == kept[-1]


async def test_nothing_is_kept_once_there_is_a_response(autojump_clock: MockClock) -> None:
    body = Chunks()
    body.push(b"begin")
    views: list[Body] = []

    async def inner(sent: Request) -> Response:
        assert b"begin" == await sent.body.receive_some()
        views.append(sent.body)
        return response()

    sent = request(b"PUT")
    sent.body = body
    await retrying(inner)(sent)
    body.push(b"rest")
    body.push_end()

    assert b"rest" == await read_all(views[0])
    assert [] == views[0]._replay._chunks  # type: ignore[attr-defined]


async def test_a_body_that_has_come_whole_is_sent_again_without_anybody_that_keeps_it(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    body = Chunks()
    body.push(b"all of it")
    body.push_end()
    bodies: list[Body] = []
    inner = mock_service(GoAway("not processed"), GoAway("not processed"), 200)

    async def reads(sent: Request) -> Response:
        bodies.append(sent.body)
        assert b"all of it" == await read_all(sent.body)
        return await inner(sent)

    sent = request(b"POST")
    sent.body = body
    answer = await retrying(reads, attempts=2)(sent)

    assert 200 == answer.status
    assert [Full, Full, Full] == [type(each) for each in bodies]
    assert body.end is not None
    assert body.end.error is None


@pytest.mark.parametrize("case", ["two chunks", "trailers", "not ended", "longer", "nothing"])
def test_a_body_that_has_not_come_whole_is_not_touched(case: str) -> None:
    body = Chunks()
    if case != "nothing":
        body.push(b"12345")
    if case == "two chunks":
        body.push(b"6")
    if case != "not ended":
        body.push_end([(b"a", b"b")] if case == "trailers" else None)

    assert body.take_whole(4 if case == "longer" else 5) is None
    assert (b"" if case == "nothing" else b"12345") == body.receive_nowait()


@pytest.mark.parity("U-16")
async def test_a_try_that_gives_its_body_up_does_not_give_up_that_of_the_next(autojump_clock: MockClock) -> None:
    seen: list[bytes] = []

    async def inner(sent: Request) -> Response:
        if not seen:
            seen.append(await sent.body.receive_some())
            sent.body.abort(ConnectionLost("upstream broke"))
            raise ConnectionLost("upstream broke")
        seen.append(await read_all(sent.body))
        return response()

    body = Chunks()
    body.push(b"one")
    body.push(b"two")
    body.push_end()
    sent = request(b"PUT")
    sent.body = body
    await retrying(inner)(sent)

    assert [b"one", b"onetwo"] == seen


@pytest.mark.parity("U-16")
@pytest.mark.parametrize("ends", ["answered", "failed", "cancelled"])
async def test_a_body_that_the_last_try_gave_up_is_given_up(ends: str, autojump_clock: MockClock) -> None:
    async def inner(sent: Request) -> Response:
        sent.body.abort(ConnectionLost("enough"))
        if ends == "failed":
            raise NoRoute("nowhere")
        if ends == "cancelled":
            await trio.sleep_forever()
        return response(413)

    sent = request(b"PUT")
    body = sent.body = Chunks()
    with trio.move_on_after(1):
        if ends == "failed":
            with pytest.raises(NoRoute):
                await retrying(inner)(sent)
        else:
            await retrying(inner)(sent)

    assert body.end is not None
    assert "enough" == str(body.end.error)


@pytest.mark.parity("U-16")
async def test_a_body_that_breaks_breaks_every_try(autojump_clock: MockClock) -> None:
    inner, seen = reads(1, 1, ConnectionLost("gone"))
    sent = request(b"PUT")
    body = sent.body = Chunks()
    body.push(b"one")

    async def hang_up() -> None:
        await trio.sleep(1)
        body.push_error(RequestBodyError("client went away"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hang_up)
        with pytest.raises(RequestBodyError, match="client went away"):
            await retrying(inner)(sent)

    assert [b"one"] == seen


async def test_a_pump_left_over_from_the_first_try_loses_nothing(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    pumped: list[bytes | str] = []

    async def pump(body: Body) -> None:
        try:
            while chunk := await body.receive_some():
                pumped.append(chunk)
        except StreamReset as error:
            pumped.append(str(error))

    tries = 0

    async def inner(sent: Request) -> Response:
        nonlocal tries
        tries += 1
        if tries == 1:
            nursery.start_soon(pump, sent.body)
            await trio.sleep(1)
            raise ConnectionLost("gone")
        return Response(200, body=Full(await read_all(sent.body)))

    sent = request(b"PUT")
    body = sent.body = Chunks()

    async def upload() -> None:
        for chunk in (b"1", b"2", b"3"):
            body.push(chunk)
            await trio.sleep(0.7)
        body.push_end()

    nursery.start_soon(upload)
    answer = await retrying(inner)(sent)

    assert b"123" == await read_all(answer.body)
    assert [b"1", b"2", "another try has taken over the request body"] == pumped


# ----- the budget -----


@pytest.mark.parity("R-06", "X-33")
async def test_without_a_budget_nothing_is_tried_again(autojump_clock: MockClock) -> None:
    service = retrying(mock_service(GoAway("x")), budget=Budget(ratio=0.0, minimum=0.0))

    with pytest.raises(GoAway):
        await service(request())

    assert (0, 1) == (service.statistics().retries, service.statistics().no_budget)


@pytest.mark.parity("R-06")
async def test_a_storm_is_bounded_by_a_fifth_of_the_requests(autojump_clock: MockClock) -> None:
    inner = mock_service(GoAway("x"))
    service = retrying(inner)

    for _ in range(10_000):
        with pytest.raises(GoAway):
            await service(request())
        await trio.sleep(0.001)

    # Ten seconds: a fifth of the requests, ten a second, and what was saved up at first.
    assert service.statistics().retries <= 2_000 + 100 + 100
    assert service.statistics().retries >= 2_000


@pytest.mark.parity("R-06")
@hypothesis.given(
    st.lists(st.tuples(st.integers(0, 500), st.floats(0, 30), st.integers(0, 50)), max_size=40),
    st.floats(0, 1),
    st.floats(0, 50),
)
def test_withdrawals_never_exceed_what_was_earned(
    steps: list[tuple[int, float, int]], ratio: float, minimum: float
) -> None:
    budget = Budget(ratio, minimum, 10.0)
    tokens = budget.start(0.0)
    now, granted = 0.0, 0
    for requests, pause, wanted in steps:
        tokens.requests += requests
        now += pause
        granted += sum(tokens.withdraw(now) for _ in range(wanted))
        assert granted <= ratio * tokens.requests + minimum * (now + budget.ttl) + 1e-6
        assert tokens.balance >= 0


@pytest.mark.parity("R-06")
def test_what_was_not_used_expires() -> None:
    tokens = Budget(ratio=0.2, minimum=0.0).start(0.0)
    tokens.requests += 1_000
    assert tokens.withdraw(1.0)
    assert pytest.approx(199) == tokens.balance
    assert not tokens.withdraw(100.0)


async def test_budget_and_replay_may_be_functions_of_the_target(autojump_clock: MockClock) -> None:
    layer = Retry(1, lambda target: Budget(ratio=0.0, minimum=target), lambda target: 4)
    refused = ConnectionLost("closed", retryable=True)

    allowed = layer.wrap(mock_service(refused, response()), 10.0)
    assert 200 == (await allowed(request())).status
    for target, body in ((0.0, b""), (10.0, b"too long")):
        service = layer.wrap(mock_service(refused, response()), target)
        sent = request(body=body) if body else request()
        with pytest.raises(ConnectionLost):
            await service(sent)
