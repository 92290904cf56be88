"""Retry, where there was a response, or is to be one in time: statuses, gRPC, limits, pauses, hedges, wishes."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from meshcore.errors import (
    ConnectError,
    ConnectionLost,
    FailFastError,
    LoadShedError,
    MeshError,
    ResponseTimeout,
    StreamReset,
)
from meshcore.http.body import Chunks, Full, read_all
from meshcore.http.headers import Headers
from meshcore.http.message import Request, Response, Timeouts
from meshcore.http.overrides import Overrides, take_overrides
from meshcore.http.retry_on import RetryOn
from meshcore.layers import Balance, FailureAccrual, ReadOverrides
from meshcore.layers.retry import Budget, Hedge, Retry
from meshcore.layers.retry.peek import peek
from meshcore.layers.retry.policy import may_retry
from meshcore.metrics import Registry
from meshcore.stack import stack
from meshcore.testing import explore_schedules, mock_service, request, response
from meshcore.transport.accrual import Accrual
from meshcore.transport.backoff import Backoff
from meshcore.transport.target import Backend, Endpoint
from tests.layers.fakes import Network

GRPC = [(b"content-type", b"application/grpc")]


def retrying(inner: Any, on: str = "5xx", **options: Any) -> Any:
    return Retry(on=RetryOn.of(on.split()), **options).wrap(inner, None)


def grpc_request(**options: Any) -> Request:
    return request(b"POST", headers=[*GRPC, *options.pop("headers", [])], version=20, **options)


def grpc_response(code: int, *pieces: bytes, in_headers: bool = False) -> Response:
    field = (b"grpc-status", b"%d" % code)
    if in_headers:
        return Response(200, Headers([*GRPC, field]))
    body = Chunks()
    for piece in pieces:
        body.push(piece)
    body.push_end([field])
    return Response(200, Headers(GRPC), body)


async def ask(service: Any, sent: Request | None = None) -> tuple[int, bytes]:
    answer = await service(request() if sent is None else sent)
    return answer.status, await read_all(answer.body)


# ----- by status -----


@pytest.mark.parity("R-05", "X-28")
async def test_a_response_with_a_listed_status_is_tried_again_whatever_the_method(autojump_clock: MockClock) -> None:
    inner = mock_service(response(503, b"busy"), response(200, b"fine"))

    assert (200, b"fine") == await ask(retrying(inner), request(b"POST"))
    assert 2 == len(inner.requests)


@pytest.mark.parity("R-09", "X-31")
@pytest.mark.parametrize(
    ("on", "status", "tries"),
    [
        ("5xx", 500, 2),
        ("5xx", 404, 1),
        ("gateway-error", 500, 1),
        ("gateway-error", 503, 2),
        ("429", 429, 2),
        ("500-502", 503, 1),
        ("retriable-4xx", 409, 2),
        ("reset", 503, 1),
    ],
)
async def test_only_what_is_listed_is_tried_again(on: str, status: int, tries: int, autojump_clock: MockClock) -> None:
    inner = mock_service(status, 200)

    await ask(retrying(inner, on))

    assert tries == len(inner.requests)


@pytest.mark.parity("R-12", "U-09")
async def test_the_last_response_is_what_the_client_sees(autojump_clock: MockClock) -> None:
    inner = mock_service(response(503, b"1"), response(502, b"2"), response(500, b"3"), 200)
    service = retrying(inner, attempts=2)

    assert (500, b"3") == await ask(service)
    assert (2, 0, 1) == (
        service.statistics().retries,
        service.statistics().recovered,
        service.statistics().limit_exceeded,
    )


async def test_what_is_given_up_is_read_where_it_is_there_and_aborted_where_it_is_not(
    autojump_clock: MockClock,
) -> None:
    whole, endless = Chunks(), Chunks()
    whole.push(b"sorry")
    whole.push_end()
    endless.push(b"sorry")
    inner = mock_service(Response(503, body=whole), Response(503, body=endless), 200)

    await ask(retrying(inner, attempts=2))

    assert whole.end is not None
    assert whole.end.error is None
    assert endless.end is not None
    assert endless.end.error is not None


@pytest.mark.parity("R-06", "X-29")
async def test_without_a_budget_the_first_response_is_what_the_client_sees(autojump_clock: MockClock) -> None:
    registry = Registry()
    service = Retry(budget=Budget(0.0, 0.0), on=RetryOn.of(["5xx"]), registry=registry).wrap(
        mock_service(response(533, b"first"), 200), Backend("users")
    )

    assert (533, b"first") == await ask(service)
    assert 'route_retryable_total{skipped="no_budget",direction="outbound",backend="users"} 1' in registry.render()


@pytest.mark.parity("R-11")
async def test_a_response_that_came_before_the_request_had_ended_is_passed_on(autojump_clock: MockClock) -> None:
    sent = request(b"PUT")
    sent.body = Chunks()
    service = retrying(mock_service(503, 200))

    assert 503 == (await service(sent)).status
    assert 1 == service.statistics().not_replayable


@pytest.mark.parity("R-07", "X-30")
@pytest.mark.parametrize("method", [b"POST", b"PUT"])
@pytest.mark.parametrize("known", [True, False])
async def test_small_bodies_are_sent_again_with_and_without_a_length(
    method: bytes, known: bool, autojump_clock: MockClock
) -> None:
    seen = []

    async def inner(sent: Request) -> Response:
        seen.append(await read_all(sent.body))
        return response(503 if len(seen) == 1 else 200)

    sent = request(method)
    if known:
        sent.body = Full(b"payload")
    else:
        body = sent.body = Chunks()
        body.push(b"pay")
        body.push(b"load")
        body.push_end()

    assert (200, b"") == await ask(retrying(inner), sent)
    assert [b"payload"] * 2 == seen


@pytest.mark.parity("R-07", "X-32")
@pytest.mark.parametrize("known", [True, False])
async def test_long_bodies_are_not(known: bool, autojump_clock: MockClock) -> None:
    tries = 0

    async def inner(sent: Request) -> Response:
        nonlocal tries
        tries += 1
        await read_all(sent.body)
        return response(503)

    sent = request(b"POST")
    if known:
        sent.body = Full(b"x" * 65_537)
    else:
        body = sent.body = Chunks()
        for _ in range(3):
            body.push(b"x" * 32_768)
        body.push_end()

    assert (503, b"") == await ask(retrying(inner), sent)
    assert 1 == tries


async def test_metrics_have_linkerds_names(autojump_clock: MockClock) -> None:
    registry = Registry()
    layer = Retry(on=RetryOn.of(["5xx", "unavailable"]), registry=registry)
    await ask(layer.wrap(mock_service(500, 200), Backend("users")))
    await ask(layer.wrap(mock_service(500), Backend("users")))
    await ask(layer.wrap(mock_service(lambda _: grpc_response(14)), Backend("users")), grpc_request())

    text = registry.render()
    assert 'outbound_http_route_retry_requests_total{backend="users"} 2' in text
    assert 'outbound_http_route_retry_successes_total{backend="users"} 1' in text
    assert 'outbound_http_route_retry_limit_exceeded_total{backend="users"} 1' in text
    assert 'outbound_grpc_route_retry_requests_total{backend="users"} 1' in text


# ----- gRPC -----


@pytest.mark.parity("R-10", "X-36")
@pytest.mark.parametrize("in_headers", [True, False])
@pytest.mark.parametrize("pieces", [(), (b"one",)])
async def test_a_grpc_status_is_found_in_headers_and_in_trailers_after_one_piece_of_data(
    in_headers: bool, pieces: tuple[bytes, ...], autojump_clock: MockClock
) -> None:
    inner = mock_service(
        lambda _: grpc_response(14, *pieces, in_headers=in_headers), lambda _: grpc_response(0, b"fine")
    )

    answer = await retrying(inner, "unavailable")(grpc_request())

    assert b"fine" == await read_all(answer.body)
    assert [(b"grpc-status", b"0")] == answer.body.end.trailers
    assert 2 == len(inner.requests)


@pytest.mark.parity("R-10", "X-36")
@pytest.mark.parametrize("code", [0, 5, 13])
async def test_other_grpc_statuses_are_passed_on_whole(code: int, autojump_clock: MockClock) -> None:
    inner = mock_service(lambda _: grpc_response(code, b"one"))

    answer = await retrying(inner, "unavailable")(grpc_request())

    assert b"one" == await read_all(answer.body)
    assert [(b"grpc-status", b"%d" % code)] == answer.body.end.trailers
    assert 1 == len(inner.requests)


@pytest.mark.parity("R-10", "X-36")
async def test_more_than_one_piece_of_data_is_neither_tried_again_nor_eaten(autojump_clock: MockClock) -> None:
    inner = mock_service(lambda _: grpc_response(14, b"one", b"two", b"three"))

    answer = await retrying(inner, "unavailable")(grpc_request())

    assert b"onetwothree" == await read_all(answer.body)
    assert [(b"grpc-status", b"14")] == answer.body.end.trailers
    assert 1 == len(inner.requests)


@pytest.mark.parametrize("in_headers", [True, False])
async def test_a_server_that_says_never_is_not_asked_again(in_headers: bool, autojump_clock: MockClock) -> None:
    never = [(b"grpc-status", b"14"), (b"grpc-retry-pushback-ms", b"-1")]

    def answer(_: Request) -> Response:
        if in_headers:
            return Response(200, Headers([*GRPC, *never]))
        body = Chunks()
        body.push_end(list(never))
        return Response(200, Headers(GRPC), body)

    inner = mock_service(answer)
    await (await retrying(inner, "unavailable")(grpc_request())).body.receive_some()

    assert 1 == len(inner.requests)


@pytest.mark.parity("U-16")
async def test_trailers_that_come_later_are_not_waited_for(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    body = Chunks()
    body.push(b"one")
    inner = mock_service(Response(200, Headers(GRPC), body))

    answer = await retrying(inner, "unavailable")(grpc_request())
    assert b"one" == await answer.body.receive_some()
    body.push_end([(b"grpc-status", b"14")])

    assert b"" == await answer.body.receive_some()
    assert [(b"grpc-status", b"14")] == answer.body.end.trailers


@pytest.mark.parity("U-16")
@settings(deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=20), max_size=6), st.booleans(), st.random_module())
def test_a_body_that_was_peeked_into_is_the_same_body(pieces: list[bytes], breaks: bool, order: Any) -> None:
    async def main() -> None:
        body = Chunks()
        heard: list[Any] = []

        async def fill() -> None:
            for piece in pieces:
                body.push(piece)
                await trio.lowlevel.checkpoint()
            if breaks:
                body.push_error(StreamReset("broke"))
            else:
                body.push_end([(b"a", b"b")])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fill)
            seen = await peek(body)
            seen.observe(lambda: heard.append("first"), lambda end: heard.append(end))
            if breaks:
                with pytest.raises(StreamReset):
                    await read_all(seen)
            else:
                assert b"".join(pieces) == await read_all(seen)
                assert seen.end is not None
                assert [(b"a", b"b")] == seen.end.trailers
            assert ["first", seen.end] == heard

    trio.run(main)


async def test_who_goes_away_while_trailers_are_waited_for_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    body = Chunks()
    service = retrying(mock_service(Response(200, Headers(GRPC), body)), "unavailable")
    with trio.move_on_after(1):
        await service(grpc_request())

    assert body.end is not None


# ----- errors by the words -----


@pytest.mark.parametrize(
    ("on", "method", "error", "expected"),
    [
        ("connect-failure", b"POST", ConnectError("x"), True),
        ("reset", b"POST", ConnectError("x"), False),
        ("reset", b"GET", ConnectionLost("x"), True),
        ("reset", b"POST", ConnectionLost("x"), False),
        ("connect-failure", b"GET", ConnectionLost("x"), False),
        ("refused", b"POST", StreamReset("x", h2_code=7), True),
        ("refused", b"GET", StreamReset("x"), False),
        ("timeout", b"GET", ResponseTimeout("x"), True),
        ("reset", b"GET", ResponseTimeout("x"), False),
        # What would be answered with a listed status.
        ("5xx", b"GET", ConnectionLost("x"), True),
        ("5xx", b"POST", ConnectionLost("x"), False),
        ("gateway-error", b"GET", ResponseTimeout("x"), True),
        ("504", b"GET", ConnectionLost("x"), False),
        ("5xx", b"GET", LoadShedError("x"), False),
    ],
)
def test_errors_are_tried_again_by_their_words(on: str, method: bytes, error: MeshError, expected: bool) -> None:
    assert expected is may_retry(method, error, RetryOn.of(on.split()))


@pytest.mark.parity("R-10")
def test_a_grpc_request_is_a_post_that_may_be_repeated_if_statuses_are_listed() -> None:
    lost = ConnectionLost("x")
    assert may_retry(b"POST", lost, RetryOn.of(["unavailable"]), grpc=True)
    assert not may_retry(b"POST", lost, RetryOn.of(["internal"]), grpc=True)
    assert may_retry(b"POST", lost, RetryOn.of(["internal", "reset"]), grpc=True)
    assert not may_retry(b"POST", lost, RetryOn.of(["reset"]), grpc=True)


# ----- limits and pauses -----


@pytest.mark.parity("R-13", "U-09")
async def test_each_try_but_the_last_has_its_own_limit(autojump_clock: MockClock) -> None:
    inner = mock_service(10.0, 10.0, 10.0, 200)
    service = retrying(inner, attempts=2, try_timeout=1.0)

    start = trio.current_time()
    # The mock waits and takes its next step: the third try has no limit and gets it.
    assert (200, b"") == await ask(service)

    assert 12.0 == pytest.approx(trio.current_time() - start)
    assert inner.requests[-1].try_until is None
    assert 2 == inner.cancelled


@pytest.mark.parity("R-13")
async def test_a_try_that_took_too_long_is_not_repeated_where_that_may_do_harm(autojump_clock: MockClock) -> None:
    service = retrying(mock_service(10.0), try_timeout=1.0)

    with pytest.raises(ResponseTimeout, match="no response headers within 1 s"):
        await ask(service, request(b"POST"))


@pytest.mark.parity("R-09", "R-12")
async def test_pauses_grow_and_have_jitter(autojump_clock: MockClock) -> None:
    at = []

    async def inner(_: Request) -> Response:
        at.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        return response(503)

    service = retrying(inner, attempts=5, backoff=Backoff(0.025, 0.25, 1.0), rng=random.Random(2))
    await ask(service)

    pauses = [after - before for before, after in pairwise(at)]
    for pause, least in zip(pauses, (0.025, 0.05, 0.1, 0.2, 0.25), strict=True):
        assert least <= pause <= 2 * least + 1e-9
    assert pauses != [0.025, 0.05, 0.1, 0.2, 0.25]


async def test_a_pause_that_outlasts_the_requests_limit_is_not_begun(autojump_clock: MockClock) -> None:
    sent = request()
    sent.timeouts = Timeouts(request=1.0)
    sent.started = trio.current_time()
    service = retrying(mock_service(0.9, 503, 200), backoff=Backoff(0.25, 0.25, 0.0))

    start = trio.current_time()
    assert (503, b"") == await ask(service, sent)
    assert 0.9 == pytest.approx(trio.current_time() - start)


async def test_who_goes_away_in_a_pause_leaves_no_response_behind(autojump_clock: MockClock) -> None:
    body = Chunks()
    service = retrying(mock_service(Response(503, body=body), 200), backoff=Backoff(10.0, 10.0, 0.0))
    with trio.move_on_after(1):
        await ask(service)

    assert body.end is not None


# ----- with a balancer under it -----

A, B = Endpoint(("10.0.0.1", 8080)), Endpoint(("10.0.0.2", 8080))


@pytest.mark.parity("R-12")
async def test_where_no_endpoint_is_ready_the_failure_is_told_at_once(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    network[A.address].status = 503
    pipeline = (
        stack(Backend)
        .then(Retry(on=RetryOn.of(["5xx"])))
        .then(Balance())
        .then(FailureAccrual(Accrual(consecutive=1, penalty=Backoff(60.0, 60.0, 0.0))))
    )
    service: Any = pipeline.layer(network).new_service(Backend("one", (A,)), nursery)

    start = trio.current_time()
    assert (503, b"x") == await ask(service)
    assert pytest.approx(start, abs=0.1) == trio.current_time()
    assert 1 == service.statistics().overflow
    with pytest.raises(FailFastError):
        await ask(service)
    assert 0 == service.statistics().retries


async def test_another_endpoint_is_tried(network: Network, nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    network[A.address].status = 503
    pipeline = stack(Backend).then(Retry(on=RetryOn.of(["5xx"]))).then(Balance(rng=random.Random(3)))
    service: Any = pipeline.layer(network).new_service(Backend("two", (A, B)), nursery)

    assert [200] * 50 == [(await ask(service))[0] for _ in range(50)]
    assert 10 <= service.statistics().recovered


# ----- budgets -----


@pytest.mark.parity("R-06")
async def test_a_storm_of_errors_is_bounded_by_a_fifth_of_the_requests(autojump_clock: MockClock) -> None:
    inner = mock_service(503)
    service = retrying(inner, attempts=3, budget=Budget(0.2, 0.0))
    for _ in range(5_000):
        await ask(service)
        await trio.sleep(0.001)

    assert 6_000 >= len(inner.requests) >= 5_900


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.sampled_from([200, 503]), st.floats(0, 2)), min_size=1, max_size=60),
    st.floats(0, 1),
    st.integers(0, 4),
)
def test_retries_never_exceed_the_budget(steps: list[tuple[int, float]], ratio: float, attempts: int) -> None:
    async def main() -> None:
        sent = 0

        async def inner(_: Request) -> Response:
            nonlocal sent
            sent += 1
            await trio.lowlevel.checkpoint()
            return response(steps[sent % len(steps)][0])

        service = Retry(attempts, Budget(ratio, 1.0, 10.0), on=RetryOn.of(["5xx"])).wrap(inner, None)
        for count, (_, pause) in enumerate(steps, 1):
            await ask(service)
            await trio.sleep(pause)
            elapsed = trio.current_time()
            assert sent - count <= ratio * count + 1.0 * (elapsed + 10.0) + 1e-6
            assert sent - count <= attempts * count

    trio.run(main, clock=MockClock(autojump_threshold=0))


# ----- hedges -----


@pytest.mark.parity("R-09")
async def test_a_second_try_is_begun_beside_a_slow_one_and_the_first_answer_wins(autojump_clock: MockClock) -> None:
    inner = mock_service(10.0, 0.05, response(200, b"second"))
    service = Retry(0, hedge=Hedge(0.1)).wrap(inner, None)

    start = trio.current_time()
    answer = await service(request())

    assert 0.15 == pytest.approx(trio.current_time() - start)
    assert b"second" == await read_all(answer.body)
    assert (1, 1, 1) == (inner.cancelled, service.statistics().hedges, service.statistics().hedges_won)


async def test_quick_requests_have_no_second_try(autojump_clock: MockClock) -> None:
    inner = mock_service(0.05)
    service = Retry(0, hedge=Hedge(0.1)).wrap(inner, None)
    for _ in range(10):
        await ask(service)

    assert 10 == len(inner.requests)


@pytest.mark.parametrize("what", ["post", "body"])
async def test_what_may_not_be_repeated_is_not_hedged(what: str, autojump_clock: MockClock) -> None:
    inner = mock_service(1.0)
    service = Retry(0, hedge=Hedge(0.1)).wrap(inner, None)
    await ask(service, request(b"POST") if what == "post" else request(b"PUT", body=b"x"))

    assert 1 == len(inner.requests)


async def test_a_percentile_of_late_says_when(autojump_clock: MockClock) -> None:
    latency = iter([0.04 - 0.0001 * count for count in range(30)])

    async def inner(_: Request) -> Response:
        await trio.sleep(next(latency, 0.5))
        return response()

    service = Retry(0, hedge=Hedge(1.0, 0.95)).wrap(inner, None)
    for _ in range(30):
        await ask(service)
    before = service.statistics().hedges
    start = trio.current_time()
    await ask(service)

    assert before + 1 == service.statistics().hedges
    assert 0.5 == pytest.approx(trio.current_time() - start)


async def test_hedges_come_out_of_the_budget(autojump_clock: MockClock) -> None:
    inner = mock_service(1.0)
    service = Retry(0, Budget(0.1, 0.0, 10_000.0), hedge=Hedge(0.1)).wrap(inner, None)
    for _ in range(100):
        await ask(service)

    assert 100 + 9 <= len(inner.requests) <= 100 + 10


async def test_errors_of_both_tries_end_it_without_a_group(autojump_clock: MockClock) -> None:
    service = Retry(0, hedge=Hedge(0.1)).wrap(mock_service(1.0, ConnectionLost("first"), ConnectionLost("x")), None)
    with pytest.raises(ConnectionLost):
        await ask(service)


async def test_a_hedge_that_is_given_up_leaves_nothing_behind() -> None:
    async def main() -> None:
        bodies: list[Chunks] = []

        async def inner(_: Request) -> Response:
            await trio.sleep(0.1)
            bodies.append(Chunks())
            return Response(200, body=bodies[-1])

        service = Retry(0, hedge=Hedge(0.1)).wrap(inner, None)
        answer = None
        with trio.move_on_after(0.1):
            answer = await service(request())
        kept = [] if answer is None else [bodies.index(answer.body)]
        for index, body in enumerate(bodies):
            assert (body.end is None) == (index in kept)

    explore_schedules(main)


# ----- wishes of one request -----


@pytest.mark.parity("R-15")
async def test_a_request_may_ask_for_retries_of_its_own(autojump_clock: MockClock) -> None:
    inner = mock_service(418, 418, 200)
    service = ReadOverrides(True).wrap(Retry(0, overrides=True).wrap(inner, None), None)
    sent = request(headers=[(b"l5d-retry-http", b"418, nonsense"), (b"l5d-retry-limit", b"2"), (b"a", b"b")])

    start = trio.current_time()
    assert (200, b"") == await ask(service, sent)

    assert [(b"a", b"b")] == inner.requests[-1].headers.raw
    # 25 to 250 ms with jitter, where nothing else is said.
    assert 0.075 <= trio.current_time() - start <= 0.15


@pytest.mark.parity("R-15", "U-09")
@pytest.mark.parametrize("allowed", [True, False])
@pytest.mark.parametrize("kind", ["http", "grpc"])
async def test_such_fields_are_heeded_where_allowed_and_never_sent_on(
    allowed: bool, kind: str, autojump_clock: MockClock
) -> None:
    if kind == "grpc":
        inner = mock_service(lambda _: grpc_response(13), lambda _: grpc_response(0))
        sent = grpc_request(headers=[(b"l5d-retry-grpc", b"internal")])
    else:
        inner = mock_service(500, 200)
        sent = request(headers=[(b"l5d-retry-http", b"5xx")])
    service = ReadOverrides(allowed).wrap(Retry(0, overrides=allowed).wrap(inner, None), None)

    await ask(service, sent)

    assert (2 if allowed else 1) == len(inner.requests)
    for each in inner.requests:
        assert not [name for name, _ in each.headers.raw if name.startswith(b"l5d-")]


@pytest.mark.parity("R-15")
async def test_a_request_may_ask_for_limits_of_its_own(autojump_clock: MockClock) -> None:
    route = Timeouts(request=10.0, idle=3.0)
    inner = mock_service(200)
    service = ReadOverrides(True, lambda _: route).wrap(inner, None)
    fields = [(b"l5d-timeout", b"9s"), (b"l5d-request-timeout", b"2s"), (b"l5d-response-timeout", b"500ms")]

    await ask(service, request(headers=list(fields)))
    assert Timeouts(2.0, 0.5, 3.0) == inner.requests[0].timeouts
    await ask(service, request(headers=fields[:1]))
    assert Timeouts(9.0, None, 3.0) == inner.requests[1].timeouts
    await ask(service, request())
    assert inner.requests[2].timeouts is None


@pytest.mark.parity("R-15", "R-16")
@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("l5d-retry-limit", b"3", Overrides(limit=3)),
        ("l5d-retry-limit", b"9999999999999999999999", Overrides(limit=10)),
        ("l5d-retry-limit", b"-1", None),
        ("l5d-retry-timeout", b"250ms", Overrides(timeout=0.25)),
        ("l5d-retry-timeout", b"1", None),
        ("l5d-retry-grpc", b"UNAVAILABLE,x", Overrides(grpc=frozenset({14}))),
        ("l5d-retry-http", b"\xff", Overrides(statuses=frozenset())),
        ("l5d-timeout", b"0", None),
    ],
)
def test_values_that_mean_nothing_are_left_out(name: str, value: bytes, expected: Overrides | None) -> None:
    headers = Headers([(name.encode(), value)])

    assert expected == take_overrides(headers, allowed=True)
    assert [] == headers.raw


async def test_a_request_without_wishes_is_not_tried_again_where_the_route_says_so(autojump_clock: MockClock) -> None:
    inner = mock_service(ConnectionLost("x"))
    with pytest.raises(ConnectionLost):
        await ask(Retry(0, overrides=True).wrap(inner, None))
    await wait_all_tasks_blocked()

    assert 1 == len(inner.requests)
