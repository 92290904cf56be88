"""The balancer as a whole: who gets requests, who does not, and what becomes of those that wait."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise
from typing import Any

import hypothesis
import pytest
import trio
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from meshcore.errors import ConnectError, ConnectionLost, FailFastError, LoadShedError, NoEndpoints, StreamReset, chain
from meshcore.http.body import Chunks, Empty, read_all
from meshcore.http.message import Request, Response
from meshcore.layers.balance import Balance, PeakEwma
from meshcore.metrics import Registry
from meshcore.resolve import Static
from meshcore.testing import FakeResolve, explore_schedules, request
from meshcore.transport.target import Backend, Endpoint
from tests.layers.fakes import Network

A, B, C = (Endpoint((host, 8080)) for host in ("10.0.0.1", "10.0.0.2", "10.0.0.3"))
BACKEND = Backend("users", (A, B, C))


def balance(resolve: Any = None, **options: Any) -> Balance:
    return Balance(resolve or Static(), rng=random.Random(7), **options)


async def ask(service: Any, count: int = 1, **options: Any) -> list[Endpoint | None]:
    """Asks one after the other; who was sent to."""
    seen = []
    for _ in range(count):
        sent = request(**options)
        response = await service(sent)
        await read_all(response.body)
        seen.append(sent.endpoint)
    return seen


# ----- who gets requests -----


@pytest.mark.parity("B-04")
async def test_each_request_is_balanced_by_itself_and_equal_endpoints_get_equal_shares(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    service = balance().layer(network).new_service(BACKEND, nursery)

    await ask(service, 300)

    assert [100, 100, 100] == [round(network[e.address].served, -1) for e in (A, B, C)]


async def test_noise_in_latency_does_not_unbalance_equal_endpoints(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    rng = random.Random(3)
    service = balance().layer(network).new_service(BACKEND, nursery)

    for _ in range(1_000):
        for endpoint in (A, B, C):
            spike = rng.uniform(0.003, 0.020) if rng.random() < 0.01 else 0.0
            network[endpoint.address].latency = rng.lognormvariate(-7.4, 0.25) + spike
        await ask(service)

    for endpoint in (A, B, C):
        assert abs(network[endpoint.address].served - 333) <= 17


async def run_load(service: Any, seconds: float, *, rate: float = 500.0) -> Counter[Any]:
    """An open loop: so many requests a second, whether they are answered or not; who got them."""
    seen: Counter[Any] = Counter()

    async def one() -> None:
        (endpoint,) = await ask(service)
        seen[endpoint] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(int(seconds * rate)):
            nursery.start_soon(one)
            await trio.sleep(1 / rate)
    return seen


async def test_an_endpoint_made_200_ms_slow_gets_less_than_2_percent(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    service = balance().layer(network).new_service(BACKEND, nursery)
    await run_load(service, 2)

    network[B.address].latency = 0.201
    seen = await run_load(service, 5)

    assert seen[B] / seen.total() < 0.02
    assert abs(seen[A] - seen[C]) / seen.total() < 0.05


async def test_an_endpoint_that_is_slow_from_the_start_gets_less_than_2_percent(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    network[B.address].latency = 0.201
    service = balance().layer(network).new_service(BACKEND, nursery)

    seen = await run_load(service, 5)

    assert seen[B] / seen.total() < 0.02


async def test_a_stalled_endpoint_is_avoided_before_it_has_answered_once(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    service = balance().layer(network).new_service(BACKEND, nursery)
    await run_load(service, 1)

    network[B.address].latency = 3600.0
    with trio.move_on_after(1.0):
        await run_load(service, 1)

    (stalled,) = [each for each in service.statistics().endpoints if each.address == B.address]
    assert stalled.in_flight <= 10
    assert stalled.load > 0.5


async def test_an_added_endpoint_has_its_share_within_two_seconds(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    resolve = FakeResolve(A, B)
    service = balance(resolve).layer(network).new_service(BACKEND, nursery)
    await run_load(service, 5)

    resolve.publish(A, B, C)
    await run_load(service, 2)
    seen = await run_load(service, 2)

    assert abs(seen[C] / seen.total() - 1 / 3) < 0.05


async def test_an_endpoint_added_to_quick_ones_has_its_share_within_two_seconds(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    for endpoint in (A, B, C):
        network[endpoint.address].latency = 0.001
    resolve = FakeResolve(A, B)
    service = balance(resolve).layer(network).new_service(BACKEND, nursery)
    await run_load(service, 5)

    resolve.publish(A, B, C)
    await run_load(service, 2)
    seen = await run_load(service, 2)

    assert abs(seen[C] / seen.total() - 1 / 3) < 0.05


async def test_an_endpoint_that_comes_back_is_not_held_to_how_slow_it_was(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    for endpoint in (A, B, C):
        network[endpoint.address].latency = 0.001
    service = balance().layer(network).new_service(BACKEND, nursery)
    network[B.address].latency = 0.200
    await run_load(service, 2)

    for endpoint in (A, B, C):
        network[endpoint.address].down = True
    async with trio.open_nursery() as waiting:
        waiting.start_soon(run_load, service, 0.5)
        await trio.sleep(0.5)
        network[B.address].latency = 0.001
        for endpoint in (A, B, C):
            network[endpoint.address].down = False
    await run_load(service, 2)
    seen = await run_load(service, 2)

    assert abs(seen[B] / seen.total() - 1 / 3) < 0.05


async def test_a_removed_endpoint_gets_no_further_request_and_finishes_those_it_has(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    resolve = FakeResolve(A, B)
    service = balance(resolve).layer(network).new_service(BACKEND, nursery)
    body = Chunks()
    network[A.address].body = lambda: body
    network[B.address].body = lambda: body
    sent = request()
    response = await service(sent)
    removed, kept = (A, B) if sent.endpoint == A else (B, A)
    body = Empty()

    resolve.publish(kept)
    seen = await ask(service, 50)

    assert {kept} == set(seen)
    assert "draining" in [each.state for each in service.statistics().endpoints]
    assert 0 == network[removed.address].stopped

    response.body.push(b"the end")
    response.body.push_end()
    assert b"the end" == await read_all(response.body)
    await wait_all_tasks_blocked()

    assert 1 == network[removed.address].stopped
    assert ["ready"] == [each.state for each in service.statistics().endpoints]


async def test_a_removed_endpoint_that_never_finishes_is_cut_off_after_the_drain_time(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    resolve = FakeResolve(A)
    service = balance(resolve, drain=5.0).layer(network).new_service(BACKEND, nursery)
    network[A.address].body = Chunks
    response = await service(request())

    resolve.publish(B)
    await trio.sleep(4.9)
    assert 0 == network[A.address].stopped
    await trio.sleep(0.2)

    assert 1 == network[A.address].stopped
    response.body.abort()
    assert [B.address] == [each.address for each in service.statistics().endpoints]


async def test_an_endpoint_that_did_not_change_keeps_everything_on_an_update(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    resolve = FakeResolve(A, B)
    service = balance(resolve).layer(network).new_service(BACKEND, nursery)
    await ask(service, 20)
    before = {each.address: each.successes for each in service.statistics().endpoints}

    resolve.publish(Endpoint(("10.0.0.1", 8080)), Endpoint(("10.0.0.2", 8080), weight=3.0), C)
    await wait_all_tasks_blocked()
    after = {each.address: each.successes for each in service.statistics().endpoints}

    assert {**before, C.address: 0} == after
    assert [1, 1, 1] == [network[e.address].made for e in (A, B, C)]
    assert [1.0, 3.0, 1.0] == [each.weight for each in service.statistics().endpoints]

    resolve.publish(Endpoint(("10.0.0.1", 8080), labels=(("zone", "b"),)))
    await wait_all_tasks_blocked()

    assert 2 == network[A.address].made
    assert 1 == network[A.address].stopped


@pytest.mark.parity("B-05")
@pytest.mark.parametrize("policy", ["p2c-ewma", "round-robin", "least-request"])
async def test_weights_are_honoured(
    policy: Any, network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    endpoints = [Endpoint((f"10.0.0.{n}", 80), weight=w) for n, w in enumerate((1.0, 2.0, 5.0, 0.0))]
    service = balance(Static(endpoints), policy=policy).layer(network).new_service(BACKEND, nursery)

    await ask(service, 800)

    shares = [network[e.address].served for e in endpoints]
    assert 0 == shares[3]
    for share, weight in zip(shares, (100, 200, 500), strict=False):
        assert abs(share - weight) <= 8


@hypothesis.given(
    weights=st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, 7.0]), min_size=2, max_size=8).filter(any),
    policy=st.sampled_from(["p2c-ewma", "round-robin", "least-request"]),
    seed=st.integers(0, 2**16),
)
@hypothesis.settings(max_examples=20)
def test_idle_endpoints_share_by_weight_whatever_the_weights(
    weights: list[float], policy: Any, seed: int
) -> None:
    async def main() -> Counter[Any]:
        endpoints = [Endpoint((f"10.0.0.{n}", 80), weight=weight) for n, weight in enumerate(weights)]
        network = Network()
        async with trio.open_nursery() as nursery:
            layer = Balance(Static(endpoints), policy=policy, rng=random.Random(seed))
            service = layer.layer(network).new_service(BACKEND, nursery)
            seen = Counter(await ask(service, 300))
            statistics = service.statistics().endpoints
            assert [0] * len(endpoints) == [each.pending for each in statistics]
            assert [0] * len(endpoints) == [each.in_flight for each in statistics]
            nursery.cancel_scope.cancel()
        return seen

    seen = trio.run(main, clock=MockClock(autojump_threshold=0))

    total = sum(weights)
    for endpoint, count in seen.items():
        assert endpoint.weight > 0
        assert abs(count / seen.total() - endpoint.weight / total) < 0.08


@pytest.mark.parity("B-03")
async def test_the_load_sample_ends_at_the_first_byte_of_the_body(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    service = balance(Static([A]), load=PeakEwma(default_rtt=0.0)).layer(network).new_service(BACKEND, nursery)
    body = Chunks()
    network[A.address].body = lambda: body
    network[A.address].latency = 0.5

    response = await service(request())
    await trio.sleep(0.5)
    assert 1 == service.statistics().endpoints[0].pending

    body.push(b"first")
    assert b"first" == await response.body.receive_some()
    endpoint = service.statistics().endpoints[0]
    assert (0, 1) == (endpoint.pending, endpoint.in_flight)
    assert pytest.approx(1.0) == endpoint.rtt

    await trio.sleep(100)
    body.push_end()
    assert pytest.approx(1.0) == service.statistics().endpoints[0].rtt
    assert 0 == service.statistics().endpoints[0].in_flight


async def test_endpoints_to_avoid_are_taken_only_where_there_is_no_other(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    service = balance().layer(network).new_service(BACKEND, nursery)
    await ask(service)

    for _ in range(30):
        sent = request()
        sent.avoid = (A, B)
        await service(sent)
        assert C == sent.endpoint

    sent.avoid = (A, B, C)
    assert 200 == (await service(sent)).status


# ----- endpoints that cannot be connected -----


@pytest.mark.parity("B-06")
async def test_a_new_endpoint_is_picked_only_once_it_is_connected(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    network[B.address].down = True
    service = balance(Static([A, B])).layer(network).new_service(BACKEND, nursery)
    await wait_all_tasks_blocked()

    assert ["ready", "out"] == [each.state for each in service.statistics().endpoints]
    assert {A} == set(await ask(service, 20))
    assert 0 == network[B.address].served

    network[B.address].down = False
    await trio.sleep(5)
    assert {A, B} == set(await ask(service, 20))


@pytest.mark.parity("B-21")
async def test_a_refused_request_goes_to_another_endpoint_at_once(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    service = balance().layer(network).new_service(BACKEND, nursery)
    await ask(service)
    network[A.address].down = network[B.address].down = True
    before = trio.current_time()

    seen = await ask(service, 10)

    assert {C} == set(seen)
    assert trio.current_time() - before < 0.1
    assert ["out", "out", "ready"] == sorted(each.state for each in service.statistics().endpoints)
    assert any("connection refused" in each.error for each in service.statistics().endpoints)


@pytest.mark.parity("B-21", "X-66")
async def test_a_request_waits_while_the_only_endpoint_comes_up(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    network[A.address].down = True
    service = balance(Static([A])).layer(network).new_service(BACKEND, nursery)
    before = trio.current_time()

    async def come_up() -> None:
        await trio.sleep(2.0)
        network[A.address].down = False

    nursery.start_soon(come_up)
    await ask(service)

    assert 2.0 <= trio.current_time() - before <= 2.0 + 1.7


@pytest.mark.parity("B-09", "U-13")
async def test_the_gate_shuts_when_no_endpoint_becomes_ready_in_time_and_opens_when_one_does(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    network[A.address].down = True
    service = balance(Static([A])).layer(network).new_service(BACKEND, nursery)
    failed: list[tuple[float, str]] = []

    async def one(delay: float) -> None:
        await trio.sleep(delay)
        with pytest.raises(FailFastError) as caught:
            await service(request())
        failed.append((round(trio.current_time(), 3), chain(caught.value)))

    before = round(trio.current_time(), 3)
    async with trio.open_nursery() as callers:
        for delay in (0.0, 1.0, 2.0):
            callers.start_soon(one, delay)

    # Everyone who waits fails with the first one; who comes later at once.
    assert [before + 3.0] * 3 == [at for at, _ in failed]
    text = "backend users: service in fail-fast: endpoint 10.0.0.1:8080: connection refused"
    assert {text} == {message for _, message in failed}
    await one(0.0)
    assert before + 3.0 == failed[-1][0]
    assert service.statistics().fail_fast

    network[A.address].down = False
    await trio.sleep(10)
    assert not service.statistics().fail_fast
    assert [A] == await ask(service)


@pytest.mark.parity("B-20")
async def test_probes_back_off_from_100_ms_to_60_s_with_jitter(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    network[A.address].down = True
    balance(Static([A, B])).layer(network).new_service(BACKEND, nursery)

    await trio.sleep(600)

    probes = network[A.address].probes
    gaps = [later - earlier for earlier, later in pairwise(probes)]
    assert len(gaps) >= 12
    for index, gap in enumerate(gaps):
        base = min(0.1 * 2**index, 60.0)
        assert base <= gap <= base * 1.1 + 1e-6
    assert len(set(gaps[-3:])) == 3


async def test_a_request_that_finds_nothing_ready_hastens_the_next_probe(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    network[A.address].down = True
    service = balance(Static([A])).layer(network).new_service(BACKEND, nursery)
    # By now there is one probe a minute.
    await trio.sleep(300)
    network[A.address].down = False
    before = trio.current_time()

    await ask(service)

    assert trio.current_time() - before < 0.1


async def test_an_endpoint_killed_and_restarted_every_second_fails_no_request(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    service = balance().layer(network).new_service(BACKEND, nursery)

    async def flap() -> None:
        while True:
            network[A.address].down = not network[A.address].down
            await trio.sleep(1.0)

    nursery.start_soon(flap)
    seen = await run_load(service, 10, rate=200)

    assert 2_000 == seen.total()
    assert seen[A] > 100


async def test_who_waits_leaves_when_cancelled_and_is_served_by_an_update(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    resolve = FakeResolve()
    service = balance(resolve).layer(network).new_service(BACKEND, nursery)
    order: list[int] = []

    async def one(number: int, patience: float) -> None:
        with trio.move_on_after(patience):
            await service(request())
            order.append(number)

    async with trio.open_nursery() as callers:
        for number in range(5):
            callers.start_soon(one, number, 0.5 if number == 2 else 10.0)
            await wait_all_tasks_blocked()
        await trio.sleep(1.0)
        assert 4 == service.statistics().waiting
        resolve.publish(A)

    assert [0, 1, 3, 4] == sorted(order)


async def test_more_than_may_wait_are_shed_and_the_defaults_are_ten_thousand_and_three_seconds(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    assert (10_000, 3.0) == (Balance().capacity, Balance().fail_fast)
    service = balance(FakeResolve(), capacity=2).layer(network).new_service(BACKEND, nursery)
    outcomes: Counter[type] = Counter()

    async def one() -> None:
        try:
            await service(request())
        except (FailFastError, LoadShedError) as error:
            outcomes[type(error)] += 1

    async with trio.open_nursery() as callers:
        for _ in range(5):
            callers.start_soon(one)

    assert {FailFastError: 2, LoadShedError: 3} == outcomes


async def test_a_fixed_empty_set_is_no_endpoints_at_once(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    service = balance().layer(network).new_service(Backend("none"), nursery)
    before = trio.current_time()

    with pytest.raises(NoEndpoints, match="backend none: no endpoints"):
        await service(request())

    assert before == trio.current_time()


async def test_an_empty_set_that_may_change_is_waited_for_and_then_no_endpoints(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    resolve = FakeResolve(A)
    service = balance(resolve).layer(network).new_service(BACKEND, nursery)
    await ask(service)
    resolve.publish()

    before = trio.current_time()
    with pytest.raises(NoEndpoints):
        await service(request())
    assert pytest.approx(3.0) == trio.current_time() - before

    resolve.publish(B)
    await wait_all_tasks_blocked()
    assert [B] == await ask(service)


async def test_endpoints_without_weight_are_no_endpoints(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    static = Static([Endpoint(("10.0.0.1", 80), weight=0.0)])
    service = balance(static).layer(network).new_service(BACKEND, nursery)

    with pytest.raises(NoEndpoints):
        await service(request())


# ----- what breaks -----


async def test_errors_and_cancellation_end_the_count_and_leave_the_endpoint_in(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    service = balance(Static([A])).layer(network).new_service(BACKEND, nursery)
    await ask(service)
    network[A.address].error = ConnectionLost("gone")
    with pytest.raises(ConnectionLost):
        await service(request())
    network[A.address].latency = 10.0
    with trio.move_on_after(1.0) as scope:
        await service(request())
    assert scope.cancelled_caught

    (endpoint,) = service.statistics().endpoints
    assert ("ready", 0, 0) == (endpoint.state, endpoint.pending, endpoint.in_flight)
    assert (1, 1) == (endpoint.successes, endpoint.failures)
    # One that failed is no quicker for it, one that was given up as slow as it was.
    assert pytest.approx(1.0) == endpoint.rtt


async def test_a_body_that_is_abandoned_ends_both_counts(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    service = balance(Static([A])).layer(network).new_service(BACKEND, nursery)
    network[A.address].body = Chunks

    for end in (lambda body: body.abort(), lambda body: body.push_error(StreamReset("x"))):
        response = await service(request())
        end(response.body)

    (endpoint,) = service.statistics().endpoints
    assert (0, 0) == (endpoint.pending, endpoint.in_flight)


async def test_a_crash_under_an_endpoint_ends_that_endpoint_alone_and_it_is_made_anew(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    crashes: list[tuple[str, str]] = []

    class Owner:
        def crashed(self, error: BaseException, where: str, /) -> None:
            crashes.append((str(error), where))

    service = balance(owner=Owner()).layer(network).new_service(BACKEND, nursery)
    await ask(service, 3)

    network[A.address].crash.set()
    await wait_all_tasks_blocked()
    assert [("a bug in a connection's task", "endpoint 10.0.0.1:8080")] == crashes
    assert {B, C} == set(await ask(service, 20))

    await trio.sleep(1.0)
    assert 2 == network[A.address].made
    assert {A, B, C} == set(await ask(service, 20))


async def test_a_crash_is_logged_where_nobody_is_told(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    balance().layer(network).new_service(BACKEND, nursery)
    await wait_all_tasks_blocked()
    network[A.address].crash.set()
    await wait_all_tasks_blocked()

    assert "crash in endpoint 10.0.0.1:8080: a bug in a connection's task" in caplog.text


async def test_discovery_that_raises_is_begun_again_and_the_last_good_set_stays(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Flaky:
        watched = 0

        async def watch(self, target: Any, publish: Any, /) -> None:
            self.watched += 1
            publish([A])
            await trio.sleep(1.0)
            raise OSError("no name server")

    resolve = Flaky()
    service = balance(resolve).layer(network).new_service(BACKEND, nursery)
    await trio.sleep(5.0)

    assert resolve.watched >= 3
    assert "crash in discovery of backend users: no name server" in caplog.text
    assert [A] == await ask(service)
    assert 1 == network[A.address].made


async def test_a_service_without_a_probe_is_ready_at_once_and_again_after_a_backoff(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    down = False

    async def inner(sent: Request) -> Response:
        await trio.lowlevel.checkpoint()
        if down:
            raise ConnectError("refused")
        return Response(200)

    class New:
        def new_service(self, target: Endpoint, under: trio.Nursery, /) -> Any:
            return inner

    service = balance(Static([A]), fail_fast=0.5).layer(New()).new_service(BACKEND, nursery)
    await ask(service)
    down = True
    with pytest.raises(FailFastError):
        await service(request())
    down = False
    await trio.sleep(1.0)
    assert [A] == await ask(service)


async def test_after_its_nursery_nothing_is_served_any_more(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    async def upstreams(task_status: trio.TaskStatus[trio.Nursery]) -> None:
        async with trio.open_nursery() as inside:
            task_status.started(inside)
            await trio.sleep_forever()

    upstream = await nursery.start(upstreams)
    service = balance().layer(network).new_service(BACKEND, upstream)
    await ask(service)
    for endpoint in (A, B, C):
        network[endpoint.address].down = True
    errors: list[str] = []

    async def one() -> None:
        with pytest.raises(LoadShedError) as caught:
            await service(request())
        errors.append(str(caught.value))

    async with trio.open_nursery() as callers:
        callers.start_soon(one)
        await trio.sleep(0.5)
        upstream.cancel_scope.cancel()
    await one()

    assert ["backend users: the proxy is shutting down"] * 2 == errors
    assert [1, 1, 1] == [network[e.address].stopped for e in (A, B, C)]


# ----- connections -----


async def test_connections_are_balanced_by_how_many_there_are(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    seen: Counter[Endpoint] = Counter()
    down = {B}

    class New:
        def new_service(self, endpoint: Endpoint, under: trio.Nursery, /) -> Any:
            async def forward(connection: object) -> None:
                await trio.lowlevel.checkpoint()
                if endpoint in down:
                    raise ConnectError("refused")
                seen[endpoint] += 1
                await trio.sleep(1000)

            return forward

    service: Any = balance().layer(New()).new_service(BACKEND, nursery)
    async with trio.open_nursery() as callers:
        for _ in range(30):
            callers.start_soon(service, object())
            await trio.sleep(1)
        assert {A, C} == set(seen)
        assert abs(seen[A] - seen[C]) <= 2
        assert 30 == sum(each.in_flight for each in service.statistics().endpoints)

    assert 0 == sum(each.pending for each in service.statistics().endpoints)


# ----- invariants -----


@explore_schedules(examples=15)
async def test_no_request_is_lost_and_no_count_is_left_under_any_schedule() -> None:
    rng = random.Random(11)
    network = Network()
    resolve = FakeResolve(A, B)
    outcomes: Counter[str] = Counter()
    async with trio.open_nursery() as nursery:
        service: Any = balance(resolve).layer(network).new_service(BACKEND, nursery)

        async def one() -> None:
            with trio.move_on_after(rng.choice([0.0005, 0.01, 5.0])) as scope:
                try:
                    response = await service(request())
                except FailFastError:
                    outcomes["failed"] += 1
                else:
                    outcomes["answered"] += 1
                    if rng.random() < 0.5:
                        await read_all(response.body)
                    else:
                        response.body.abort()
            outcomes["cancelled"] += scope.cancelled_caught

        async with trio.open_nursery() as callers:
            for step in range(120):
                callers.start_soon(one)
                if step % 10 == 0:
                    resolve.publish(*rng.sample([A, B, C], rng.randint(1, 3)))
                if step % 7 == 0:
                    peer = network[rng.choice([A, B, C]).address]
                    peer.down = not peer.down
                await trio.sleep(rng.choice([0.0, 0.001, 0.2]))

        for peer in network.peers.values():
            peer.down = False
        resolve.publish(A)
        await trio.sleep(130)
        statistics = service.statistics()
        assert 120 == outcomes.total()
        assert [(A.address, "ready", 0, 0)] == [
            (each.address, each.state, each.pending, each.in_flight) for each in statistics.endpoints
        ]
        assert 0 == statistics.waiting
        assert 3 >= len(network.peers)
        nursery.cancel_scope.cancel()


def test_a_balance_is_a_value_that_prints_well() -> None:
    assert (
        "Balance(resolve=Static(endpoints=None), load=PeakEwma(decay=10.0, default_rtt=0.03), "
        "policy='p2c-ewma', fail_fast=3.0, capacity=10000)"
    ) == repr(Balance())
    with pytest.raises(ValueError, match="unknown policy 'fastest'; the policies are: p2c-ewma, round-robin"):
        Balance(policy="fastest")  # type: ignore[arg-type]


@pytest.mark.parity("B-09")
async def test_a_balancer_counts_its_endpoints_and_those_who_wait_by_linkerds_names(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    registry = Registry()
    network[B.address].down = True
    resolve = FakeResolve(A, B)
    service: Any = balance(resolve, registry=registry).layer(network).new_service(BACKEND, nursery)
    await ask(service, 5)

    def value(name: str, **labels: str) -> float:
        more = "".join(f',{label}="{word}"' for label, word in labels.items())
        line = f'outbound_http_balancer_{name}{{backend_name="users"{more}}} '
        (found,) = [each for each in registry.render().splitlines() if each.startswith(line)]
        return float(found.removeprefix(line))

    assert (1, 1, 2) == (
        value("endpoints", endpoint_state="ready"),
        value("endpoints", endpoint_state="pending"),
        value("p2c_endpoints"),
    )
    assert 1 == value("queue_requests_total") == value("queue_latency_seconds_count")
    network[A.address].down = True
    # The first one's patience ends with the gate's, whichever is looked at first.
    for _ in range(2):
        with pytest.raises(FailFastError):
            await ask(service)
    assert (0, 1, 0) == (value("queue_length"), value("queue_gate_shut_total"), value("queue_gate_open_total"))
    resolve.publish(A, C)
    await wait_all_tasks_blocked()
    await ask(service)
    assert 1 == value("queue_gate_open_total")
    assert (2, 3, 1) == tuple(value("p2c_updates_total", op=op) for op in ("Reset", "Add", "Remove"))
