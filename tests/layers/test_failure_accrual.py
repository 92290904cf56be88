"""FailureAccrual: when an endpoint is left alone, for how long, and who tries whether it is well again."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from trio.testing import MockClock, wait_all_tasks_blocked

from meshcore.abc import Status
from meshcore.errors import CircuitOpen, ConnectError, ConnectionLost, FailFastError, StreamReset, chain
from meshcore.http.body import Chunks, read_all
from meshcore.http.classification import Classification
from meshcore.http.headers import Headers
from meshcore.http.message import Request, Response
from meshcore.layers import Balance, Classify, FailureAccrual, Retry, Timeout
from meshcore.layers.failure_accrual import Accrual, Breaker, State
from meshcore.layers.failure_accrual.breaker import Outcome
from meshcore.layers.failure_accrual.window import Window
from meshcore.metrics.registry import Registry
from meshcore.stack import stack
from meshcore.testing import MockNewService, mock_service, request, response
from meshcore.transport.backoff import Backoff
from meshcore.transport.target import Backend, Endpoint
from tests.layers.fakes import Network

A, B, C = (Endpoint((host, 8080)) for host in ("10.0.0.1", "10.0.0.2", "10.0.0.3"))
PLAIN = Backoff(1.0, 60.0, 0.0)
GRPC = [(b"content-type", b"application/grpc")]


def gated(inner: Any, nursery: trio.Nursery | None = None, **options: Any) -> Any:
    accrual = Accrual(**{"consecutive": 3, "penalty": PLAIN, **options})
    new = FailureAccrual(accrual, rng=random.Random(1)).layer(MockNewService(lambda _: inner))
    return new.new_service(A, nursery or Nobody())  # type: ignore[arg-type]


class Nobody:
    """A nursery that starts nothing: without a balancer, nobody has to be told that a penalty is over."""

    def start_soon(self, *args: object, name: str) -> None: ...


async def ask(service: Any, count: int = 1, **options: Any) -> list[int]:
    seen = []
    for _ in range(count):
        answer = await service(request(**options))
        await read_all(answer.body)
        seen.append(answer.status)
    return seen


def grpc_request() -> Request:
    return request(b"POST", headers=GRPC, version=20)


def grpc_response(code: int, *, trailers: bool = True) -> Response:
    field = (b"grpc-status", b"%d" % code)
    if not trailers:
        return Response(200, Headers([*GRPC, field]))
    body = Chunks()
    body.push(b"message")
    body.push_end([field])
    return Response(200, Headers(GRPC), body)


# ----- consecutive failures -----


@pytest.mark.parity("B-14", "U-12")
async def test_so_many_failures_in_a_row_open_it_and_then_nothing_gets_through(autojump_clock: MockClock) -> None:
    inner = mock_service(500)
    service = gated(inner)

    assert [500] * 3 == await ask(service, 3)
    with pytest.raises(CircuitOpen, match="circuit open after consecutive failures"):
        await ask(service)

    assert 3 == len(inner.requests)
    assert ("open", 1) == (service.statistics().state, service.statistics().trips)


@pytest.mark.parity("B-14", "U-12")
async def test_a_success_begins_the_count_anew(autojump_clock: MockClock) -> None:
    service = gated(mock_service(500, 500, 200, 500, 500, 200))

    await ask(service, 10)

    assert "closed" == service.statistics().state


@pytest.mark.parity("B-14", "U-12")
async def test_after_the_penalty_exactly_one_request_is_admitted(autojump_clock: MockClock) -> None:
    inner = mock_service(500, 500, 500, 5.0, 200)
    service = gated(inner)
    await ask(service, 3)
    await trio.sleep(1.0)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, service)
        await wait_all_tasks_blocked()
        assert "probation" == service.statistics().state
        for _ in range(3):
            with pytest.raises(CircuitOpen):
                await ask(service)
            await trio.sleep(1.0)

    assert 4 == len(inner.requests)
    assert ("closed", 0) == (service.statistics().state, service.statistics().failures)


@pytest.mark.parity("B-14", "U-12")
async def test_penalties_grow_while_probations_fail_and_begin_anew_after_a_success(autojump_clock: MockClock) -> None:
    inner = mock_service(*[500] * 6, 200, 500)
    service = gated(inner, penalty=Backoff(1.0, 4.0, 0.0))
    await ask(service, 3)

    for penalty in (1.0, 2.0, 4.0):
        assert penalty == pytest.approx(service.statistics().remaining)
        await trio.sleep(penalty - 0.01)
        with pytest.raises(CircuitOpen):
            await ask(service)
        await trio.sleep(0.01)
        await ask(service)
    assert "failed probation" == service.statistics().reason
    await trio.sleep(4.0)
    assert [200] == await ask(service)
    await ask(service, 3)

    assert 1.0 == pytest.approx(service.statistics().remaining)


@pytest.mark.parity("B-16")
def test_penalties_have_jitter_and_defaults_are_linkerds() -> None:
    accrual = Accrual()
    assert (7, 1.0, 60.0, 0.5) == (
        accrual.consecutive,
        accrual.penalty.minimum,
        accrual.penalty.maximum,
        accrual.penalty.jitter,
    )
    penalties = {Breaker(accrual, random.Random(seed)).trip(0.0, "x") for seed in range(50)}
    assert len(penalties) == 50
    assert 1.0 <= min(penalties) <= max(penalties) <= 1.5


async def test_a_probation_that_is_given_up_admits_another_request(autojump_clock: MockClock) -> None:
    inner = mock_service(500, 500, 500, 100.0, 200)
    service = gated(inner)
    await ask(service, 3)
    await trio.sleep(1.0)
    with trio.move_on_after(2.0):
        await ask(service)

    assert [200] == await ask(service)
    assert 5 == len(inner.requests)


async def test_what_ended_after_it_opened_says_nothing_of_how_it_is_now(autojump_clock: MockClock) -> None:
    async def by_path(sent: Request) -> Response:
        if sent.path == b"/slow":
            await trio.sleep(0.5)
            return response(200)
        await trio.lowlevel.checkpoint()
        return response(500)

    service = gated(by_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: ask(service, path=b"/slow"))
        await wait_all_tasks_blocked()
        await ask(service, 3)

    assert "open" == service.statistics().state


@pytest.mark.parity("B-16")
async def test_without_a_policy_it_is_not_there(nursery: trio.Nursery) -> None:
    inner = mock_service(500)
    for accrual in (None, Accrual(consecutive=0)):
        new = FailureAccrual(accrual).layer(MockNewService(lambda _: inner))
        assert new.new_service(A, nursery) is inner


# ----- what counts -----

COUNTED = [ConnectionLost("x"), StreamReset("x")]
NOT_COUNTED = [ConnectError("x"), ConnectionLost("x", retryable=True)]


@pytest.mark.parametrize("error", [*COUNTED, *NOT_COUNTED], ids=repr)
async def test_errors_of_the_endpoint_count_and_connects_that_failed_do_not(
    error: Exception, autojump_clock: MockClock
) -> None:
    service = gated(mock_service(error))

    for _ in range(3):
        with pytest.raises(type(error)):
            await ask(service)

    assert ("open" if error in COUNTED else "closed") == service.statistics().state


async def test_who_goes_away_is_no_failure_of_the_endpoint(autojump_clock: MockClock) -> None:
    service = gated(mock_service(10.0))
    for _ in range(5):
        with trio.move_on_after(1.0):
            await ask(service)
    body = Chunks()
    for _ in range(5):
        answer = await gated(mock_service(Response(200, body=body)))(request())
        answer.body.abort()

    assert "closed" == service.statistics().state


async def test_a_try_that_took_too_long_is_one(autojump_clock: MockClock) -> None:
    service = gated(mock_service(10.0))
    limited = Timeout(1.0).wrap(service, None)

    for _ in range(3):
        with pytest.raises(Exception, match="no response headers within 1 s"):
            await ask(limited)

    assert "open" == service.statistics().state


async def test_a_body_that_breaks_is_a_failure(autojump_clock: MockClock) -> None:
    def breaking(_: Request) -> Response:
        body = Chunks()
        body.push(b"half")
        body.push_error(ConnectionLost("gone"))
        return Response(200, body=body)

    service = gated(mock_service(breaking))
    for _ in range(3):
        with pytest.raises(ConnectionLost):
            await ask(service)

    assert "open" == service.statistics().state


@pytest.mark.parity("R-20")
@pytest.mark.parametrize("trailers", [True, False])
@pytest.mark.parametrize(("code", "failure"), [(0, False), (5, False), (13, True), (14, True), (7, True)])
async def test_grpc_is_judged_by_its_status_in_headers_or_trailers(
    code: int, failure: bool, trailers: bool, autojump_clock: MockClock
) -> None:
    service = gated(mock_service(lambda _: grpc_response(code, trailers=trailers)))

    for _ in range(3):
        answer = await service(grpc_request())
        await read_all(answer.body)

    assert ("open" if failure else "closed") == service.statistics().state


@pytest.mark.parity("R-20")
async def test_what_a_failure_is_can_be_said_for_each_route(autojump_clock: MockClock) -> None:
    service = gated(mock_service(404))
    strict = Classify(Classification.of(["404"], [])).wrap(service, None)

    await ask(service, 5)
    assert "closed" == service.statistics().state
    await ask(strict, 3)
    assert "open" == service.statistics().state


# ----- the success rate -----


def unified(**options: Any) -> Any:
    return {"consecutive": 0, "success_rate": 0.8, "window": 10.0, "min_requests": 5, **options}


@pytest.mark.parity("B-15", "U-12")
async def test_a_success_rate_below_the_threshold_opens_it(autojump_clock: MockClock) -> None:
    service = gated(mock_service(200, 500), **unified())
    await ask(service, 1)
    await ask(service, 4)

    assert ("open", "success rate") == (service.statistics().state, service.statistics().reason)


@pytest.mark.parity("B-15", "U-12")
async def test_a_few_requests_say_nothing(autojump_clock: MockClock) -> None:
    service = gated(mock_service(500), **unified())
    await ask(service, 4)
    await trio.sleep(10.0)
    # Nobody asked for long: the start is cold again.
    await ask(service, 4)

    assert "closed" == service.statistics().state
    await ask(service)
    assert "open" == service.statistics().state


@pytest.mark.parity("B-15", "U-12")
@pytest.mark.parametrize("what", ["429", "RESOURCE_EXHAUSTED"])
async def test_too_much_to_do_counts_for_the_rate_and_not_in_a_row(what: str, autojump_clock: MockClock) -> None:
    def answer(_: Request) -> Response:
        return response(429) if what == "429" else grpc_response(8)

    async def burden(service: Any, count: int) -> None:
        for _ in range(count):
            await read_all((await service(grpc_request())).body)

    in_a_row = gated(mock_service(answer))
    by_rate = gated(mock_service(answer), **unified())
    await burden(in_a_row, 20)
    await burden(by_rate, 5)

    assert ("closed", "open") == (in_a_row.statistics().state, by_rate.statistics().state)


@pytest.mark.parity("B-15", "U-12")
async def test_a_429_fails_a_probation(autojump_clock: MockClock) -> None:
    service = gated(mock_service(500, 500, 500, 429))
    await ask(service, 3)
    await trio.sleep(1.0)
    await ask(service)

    assert ("open", 2) == (service.statistics().state, service.statistics().trips)


@pytest.mark.parity("U-12")
async def test_with_no_minimum_the_first_failure_is_enough(autojump_clock: MockClock) -> None:
    service = gated(mock_service(500), **unified(min_requests=0))
    assert "closed" == service.statistics().state
    await ask(service)

    assert "open" == service.statistics().state


@pytest.mark.parity("U-12")
async def test_old_failures_are_forgotten_with_the_window(autojump_clock: MockClock) -> None:
    service = gated(mock_service(*[500] * 4, 200), **unified())
    await ask(service, 4)
    await trio.sleep(11.0)
    await ask(service, 20)

    assert ("closed", 1.0) == (service.statistics().state, service.statistics().success_rate)


@pytest.mark.parity("U-12")
async def test_both_at_once_are_told_as_failures_in_a_row(autojump_clock: MockClock) -> None:
    service = gated(mock_service(500), **unified(consecutive=5))
    await ask(service, 5)

    assert "consecutive failures" == service.statistics().reason


@pytest.mark.parity("U-12")
def test_the_window_forgets_piece_by_piece() -> None:
    window = Window(10.0)
    for second in range(10):
        window.add(second + 0.5, failure=second < 5)
    assert (10, 5) == (window.total, window.failed)
    window.advance(12.9)
    assert (7, 2) == (window.total, window.failed)
    # A clock that goes back ages nothing.
    window.add(3.0, failure=False)
    assert 8 == window.total
    window.advance(1e9)
    assert (0, 0, 1.0) == (window.total, window.failed, window.success_rate)


# ----- Retry-After -----


@pytest.mark.parity("B-17")
async def test_an_endpoint_that_says_how_long_is_left_alone_for_so_long(autojump_clock: MockClock) -> None:
    asking = response(503, headers=[(b"retry-after", b"30")])
    service = gated(mock_service(asking))
    other = gated(mock_service(asking), retry_after=False)
    await ask(service, 3)
    await ask(other, 3)

    assert 30.0 == pytest.approx(service.statistics().remaining)
    assert 1.0 == pytest.approx(other.statistics().remaining)


# ----- under a balancer -----


def balanced(network: Network, nursery: trio.Nursery, *, accrual: Accrual | None = None, **options: Any) -> Any:
    accrual = Accrual(consecutive=3, penalty=PLAIN) if accrual is None else accrual
    pipeline = (
        stack(Backend)
        .then(Balance(rng=random.Random(7), **options))
        .then(FailureAccrual(accrual, rng=random.Random(1)))
    )
    return pipeline.layer(network).new_service(Backend("users", (A, B, C)), nursery)


@pytest.mark.parity("B-14", "U-09")
async def test_a_balancer_gives_nothing_to_an_endpoint_whose_breaker_is_open(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    network[B.address].status = 500
    service = balanced(network, nursery)

    statuses = []
    for _ in range(200):
        statuses += await ask(service)
        await trio.sleep(0.001)

    # Three until it opened; the penalty of a second is not over yet.
    assert 3 == statuses.count(500)
    causes = {each.address: each.error for each in service.statistics().endpoints if each.error}
    assert {B.address: "endpoint 10.0.0.2:8080: circuit open after consecutive failures"} == causes


async def test_it_gets_one_request_a_penalty_and_all_its_share_when_it_is_well(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    network[B.address].status = 500
    service = balanced(network, nursery)

    async def run(seconds: float) -> int:
        before = network[B.address].served
        for _ in range(int(seconds * 100)):
            await ask(service)
            await trio.sleep(0.009)
        return network[B.address].served - before

    # Three, and one each after 1, 2 and 4 seconds.
    assert 3 + 3 == await run(9.0)
    network[B.address].status = 200
    await run(8.0)
    served = await run(3.0)
    assert 70 <= served <= 130


@pytest.mark.parity("B-17")
async def test_with_every_breaker_open_requests_wait_and_fail_fast(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    for each in (A, B, C):
        network[each.address].status = 500
    service = balanced(network, nursery, accrual=Accrual(consecutive=1, penalty=Backoff(30.0, 60.0, 0.0)))
    await ask(service, 3)

    start = trio.current_time()
    with pytest.raises(FailFastError) as caught:
        await ask(service)
    assert 3.0 == pytest.approx(trio.current_time() - start)
    assert "circuit open after consecutive failures" in chain(caught.value)
    with pytest.raises(FailFastError):
        await ask(service)
    assert 3.0 == pytest.approx(trio.current_time() - start)

    # And until one is well again.
    network[A.address].status = 200
    await trio.sleep(28.0)
    assert [200] == await ask(service)


async def test_so_many_endpoints_are_kept_whatever_their_failures(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    for each in (A, B, C):
        network[each.address].status = 500
    accrual = Accrual(consecutive=3, penalty=Backoff(30.0, 60.0, 0.0), min_ready_endpoints=2)
    service = balanced(network, nursery, accrual=accrual)

    await ask(service, 60)

    assert 2 == sum(not each.error for each in service.statistics().endpoints)


async def test_another_try_avoids_what_has_just_failed_and_nothing_is_lost(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    network[B.address].error = ConnectionLost("gone")
    service = Retry().wrap(balanced(network, nursery), None)

    assert [200] * 100 == await ask(service, 100)


@pytest.mark.parity("U-12")
async def test_a_removed_endpoint_whose_breaker_is_open_does_not_stay(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    from meshcore.testing import FakeResolve

    network[B.address].status = 500
    resolve = FakeResolve(A, B)
    service = balanced(network, nursery, resolve=resolve)
    await ask(service, 30)
    resolve.publish(A)
    await wait_all_tasks_blocked()

    assert [A.address] == [each.address for each in service.statistics().endpoints]
    assert 1 == network[B.address].stopped


async def test_metrics_count_what_opened_and_show_what_is_open(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    registry = Registry()
    new = FailureAccrual(Accrual(consecutive=1, penalty=PLAIN), registry).layer(
        MockNewService(lambda _: mock_service(500))
    )
    service: Any = new.new_service(A, Nobody())  # type: ignore[arg-type]
    await ask(service)
    text = registry.render()
    assert 'circuit_breaker_trips_total{direction="outbound",target_addr="10.0.0.1:8080"' in text
    assert 'reason="consecutive failures"} 1' in text
    assert any(line.startswith("circuit_breaker_open{") and line.endswith(" 1") for line in text.splitlines())

    del service
    assert any(
        line.startswith("circuit_breaker_open{") and line.endswith(" 0") for line in registry.render().splitlines()
    )


async def test_a_grpc_stream_that_goes_on_is_believed_after_a_while(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    endless = Chunks()
    endless.push(b"first")
    bad = [grpc_response(14), grpc_response(14), grpc_response(14)]
    inner = mock_service(*bad, Response(200, Headers(GRPC), endless), lambda _: grpc_response(0))
    service = gated(inner, nursery)
    told: list[Status] = []
    service.on_status(lambda: told.append(service.status()))
    for _ in range(3):
        await read_all((await service(grpc_request())).body)
    await trio.sleep(1.0)
    answer = await service(grpc_request())
    await answer.body.receive_some()
    with pytest.raises(CircuitOpen):
        await service(grpc_request())

    await trio.sleep(1.0)

    assert "closed" == service.statistics().state
    assert [Status.CLOSED, Status.OPEN, Status.CLOSED, Status.OPEN] == told
    # What comes of the stream later counts as any other.
    endless.push_error(ConnectionLost("gone"))
    assert 1 == service.statistics().failures


# ----- the state machine, against a slow and obvious model -----


class BreakerMachine(RuleBasedStateMachine):
    """Events in any order, at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.accrual = Accrual(
            consecutive=3, penalty=Backoff(1.0, 8.0, 0.5), success_rate=0.5, window=10.0, min_requests=6
        )
        self.breaker = Breaker(self.accrual, random.Random(3))
        self.now = 0.0
        self.row = 0
        self.results: list[tuple[float, bool]] = []
        self.trips = 0

    @rule(seconds=st.floats(0, 15))
    def time_goes_on(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.breaker.state is State.CLOSED)
    @rule(outcome=st.sampled_from(Outcome))
    def an_exchange_ends(self, outcome: Outcome) -> None:
        reason = self.breaker.result(self.now, outcome)
        self.results.append((self.now, outcome is Outcome.SUCCESS))
        self.row = {Outcome.SUCCESS: 0, Outcome.FAILURE: self.row + 1, Outcome.LIMITED: self.row}[outcome]
        piece = int(self.now)
        window = [good for at, good in self.results if int(at) > piece - 10]
        poor = len(window) >= 6 and sum(window) / len(window) < 0.5
        if outcome is Outcome.FAILURE and self.row >= 3:
            assert reason == "consecutive failures"
        else:
            assert reason == ("success rate" if poor else "")
        if reason:
            penalty = self.breaker.trip(self.now, reason)
            self.trips += 1
            self.penalised(penalty)

    @precondition(lambda self: self.breaker.state is not State.CLOSED)
    @rule(outcome=st.sampled_from(Outcome))
    def an_older_exchange_ends(self, outcome: Outcome) -> None:
        state = self.breaker.state
        assert self.breaker.result(self.now, outcome) == ""
        assert self.breaker.state is state

    @precondition(lambda self: self.breaker.state is State.OPEN)
    @rule()
    def a_request_comes(self) -> None:
        due = self.now >= self.breaker.until
        assert self.breaker.admit(self.now) is due
        assert not self.breaker.admit(self.now)

    @precondition(lambda self: self.breaker.state is State.PROBATION)
    @rule(outcome=st.sampled_from(Outcome))
    def the_probation_ends(self, outcome: Outcome) -> None:
        closed = self.breaker.probed(self.now, outcome)
        assert closed is (outcome is Outcome.SUCCESS)
        if closed:
            self.row = self.trips = 0
            self.results.clear()
        else:
            self.trips += 1
            self.penalised(self.breaker.until - self.now)

    @precondition(lambda self: self.breaker.state is State.PROBATION)
    @rule()
    def the_probation_is_given_up(self) -> None:
        self.breaker.released()
        assert self.breaker.admit(self.now)

    def penalised(self, penalty: float) -> None:
        base = min(2.0 ** (self.trips - 1), 8.0)
        assert base - 1e-6 <= penalty <= base * 1.5 + 1e-6

    @invariant()
    def never_closed_before_a_success(self) -> None:
        assert (self.breaker.state is State.CLOSED) == (self.breaker.trips == 0)


BreakerMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
TestBreaker = BreakerMachine.TestCase
