"""What an account says that a layer has done, exactly, while each request is measured."""

from __future__ import annotations

import gc
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

import meshcore
from meshcore import layers
from meshcore._unwrap import find, services
from meshcore.abc import HttpService, ServiceLayer, Status
from meshcore.accounting import Ledger, accounted
from meshcore.accounting.places import places
from meshcore.accounting.series import count_layers
from meshcore.errors import GoAway, NoRoute
from meshcore.http.body import Chunks
from meshcore.http.hedge import Hedge
from meshcore.http.message import Request, Response
from meshcore.metrics import Registry
from meshcore.stack import Stack, middleware, stack
from meshcore.testing import MockNewService, explore_schedules, mock_service, request, response
from meshcore.transport.target import Backend, Endpoint

HERE = Endpoint(("10.0.0.1", 80))


@middleware
async def slow(request: Request, inner: HttpService) -> Response:
    await trio.sleep(0.25)
    return await inner(request)


@middleware
async def refuse(request: Request, inner: HttpService) -> Response:
    if request.path == b"/refused":
        return Response(403)
    return await inner(request)


@middleware
async def translate(request: Request, inner: HttpService) -> Response:
    try:
        return await inner(request)
    except meshcore.MeshError as error:
        raise NoRoute("something else") from error


@attrs.frozen
class Absent(ServiceLayer):
    """Is not there for any target."""

    def wrap(self, inner: HttpService, target: Any, /) -> HttpService:
        return inner


class Mesh:
    """A stack over a mock service, and what its accounts say."""

    def __init__(self, nursery: trio.Nursery, found: Stack[Any, Any], *script: Any, every: float = 0.005) -> None:
        self.inner = mock_service(*script)
        self.stack = accounted(found, Ledger(every=every))
        self.new = self.stack.layer(MockNewService(lambda _: self.inner))
        self.service = self.new.new_service(Backend("b"), nursery)

    def told(self, place: str) -> dict[str, Any]:
        return self.stack.value()[place]

    def figures(self, place: str) -> tuple[int, int, dict[str, int]]:
        told = self.told(place)
        return told["calls"], told["in_flight"], told["outcomes"]


TWO = stack(Backend).then(slow).then(refuse)


async def test_time_is_told_in_all_and_without_what_is_below(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    mesh = Mesh(nursery, TWO, lambda _: later(0.5))
    for _ in range(4):
        await mesh.service(request())
    assert (4, 0, {"2xx": 4}) == mesh.figures("slow") == mesh.figures("refuse")
    assert (750_000.0, 250_000.0) == (mesh.told("slow")["mean_us"], mesh.told("slow")["self_us"])
    # What is below the lowest layer is no part of it either.
    assert (500_000.0, 0.0) == (mesh.told("refuse")["mean_us"], mesh.told("refuse")["self_us"])


async def later(seconds: float) -> Response:
    await trio.sleep(seconds)
    return response(200)


async def test_what_is_in_flight_is_counted_until_the_head_has_come(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    mesh = Mesh(nursery, TWO, lambda _: later(0.5))
    async with trio.open_nursery() as asking:
        for _ in range(3):
            asking.start_soon(mesh.service, request())
        await trio.sleep(0.1)
        assert (3, 0) == (mesh.told("slow")["in_flight"], mesh.told("refuse")["in_flight"])
        await trio.sleep(0.25)
        assert (3, 3) == (mesh.told("slow")["in_flight"], mesh.told("refuse")["in_flight"])
    assert (0, 0) == (mesh.told("slow")["in_flight"], mesh.told("refuse")["in_flight"])


async def test_a_layer_that_answers_itself_is_told_from_one_that_passes_answers_on(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    mesh = Mesh(nursery, TWO, 200, 503)
    for path in (b"/", b"/refused", b"/"):
        await mesh.service(request(path=path))
    assert (3, 0, {"2xx": 1, "4xx": 1, "5xx": 1}) == mesh.figures("refuse")
    assert (0, 1) == (mesh.told("slow")["answered"], mesh.told("refuse")["answered"])


async def test_tries_again_are_counted_where_they_are_made(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    found = stack(Backend).then(slow).then(layers.Retry(attempts=2)).then(refuse)
    mesh = Mesh(nursery, found, GoAway("once"), GoAway("twice"), 200)
    await mesh.service(request())
    assert (0, 2, 0) == tuple(mesh.told(place)["repeated"] for place in ("slow", "retry", "refuse"))
    assert (1, 0, {"2xx": 1}) == mesh.figures("retry")
    assert (3, 0, {"error": 2, "2xx": 1}) == mesh.figures("refuse")
    # What it passed on in the end came from below.
    assert (0, 0) == (mesh.told("retry")["answered"], mesh.told("retry")["raised"])


async def test_an_error_counts_for_the_layer_that_raised_it_and_for_one_that_makes_another_of_it(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    mesh = Mesh(nursery, stack(Backend).then(slow).then(translate).then(layers.InjectFailure(503)))
    with pytest.raises(NoRoute):
        await mesh.service(request())
    assert {"slow": {}, "translate": {"no-route": 1}, "inject_failure": {"injected-failure": 1}} == {
        place: told["errors"] for place, told in mesh.stack.value().items()
    }
    assert {"slow": 0, "translate": 1, "inject_failure": 1} == {
        place: told["raised"] for place, told in mesh.stack.value().items()
    }
    assert {(1, 0)} == {(mesh.told(place)["calls"], mesh.told(place)["in_flight"]) for place in mesh.stack.value()}


async def test_a_rescued_error_is_an_answer_of_the_layer_that_rescues(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    mesh = Mesh(nursery, stack(Backend).then(layers.Rescue()).then(refuse), GoAway("gone"), 200)
    for _ in range(2):
        await mesh.service(request())
    assert (2, 0, {"2xx": 1, "5xx": 1}) == mesh.figures("rescue")
    assert (1, 0) == (mesh.told("rescue")["answered"], mesh.told("rescue")["raised"])
    assert (2, 0, {"2xx": 1, "error": 1}) == mesh.figures("refuse")


async def test_what_a_limit_sheds_is_told_by_its_code(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    from meshcore.http.concurrency import Concurrency

    mesh = Mesh(nursery, stack(Backend).then(layers.ConcurrencyLimit(Concurrency(1))), lambda _: later(1.0))
    refused = 0

    async def ask() -> None:
        nonlocal refused
        try:
            await mesh.service(request())
        except meshcore.MeshError as error:
            refused += 1
            assert mesh.told("concurrency_limit")["errors"] == {error.code: refused}

    async with trio.open_nursery() as asking:
        for _ in range(5):
            asking.start_soon(ask)
    assert 4 == refused
    assert (5, 0, {"2xx": 1, "error": 4}) == mesh.figures("concurrency_limit")


async def test_a_cancelled_request_is_counted_and_leaves_nothing_in_flight(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    mesh = Mesh(nursery, TWO, lambda _: later(5.0))
    with trio.move_on_after(1.0):
        await mesh.service(request())
    assert (1, 0, {"cancelled": 1}) == mesh.figures("slow") == mesh.figures("refuse")
    assert (0, 1_000_000.0) == (mesh.told("slow")["raised"], mesh.told("slow")["mean_us"])


async def test_the_time_to_the_end_of_the_body_is_told_at_the_top(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    body = Chunks()
    mesh = Mesh(nursery, TWO, lambda _: Response(200, body=body))
    answer = await mesh.service(request())
    await trio.sleep(2.0)
    assert (250_000.0, None) == (mesh.told("slow")["mean_us"], mesh.told("slow")["whole_us"])
    answer.body.abort()
    assert 2_250_000.0 == mesh.told("slow")["whole_us"]
    assert "whole_us" not in mesh.told("refuse")


async def test_a_hedge_is_a_second_try_of_the_layer_that_makes_it(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    found = stack(Backend).then(layers.Retry(hedge=Hedge(delay=0.1))).then(slow).then(refuse)
    mesh = Mesh(nursery, found, lambda _: later(3.0), lambda _: later(0.0))
    await mesh.service(request())
    assert (1, 0, {"2xx": 1}) == mesh.figures("retry")
    assert 1 == mesh.told("retry")["repeated"]
    assert (2, 0, {"2xx": 1, "cancelled": 1}) == mesh.figures("slow") == mesh.figures("refuse")
    assert (0, 0) == (mesh.told("retry")["answered"], mesh.told("slow")["answered"])


@explore_schedules(examples=30)
async def test_nothing_stays_in_flight_whatever_ends_the_requests() -> None:
    async with trio.open_nursery() as nursery:
        found = stack(Backend).then(layers.Retry(attempts=1)).then(slow).then(layers.Timeout(0.2)).then(refuse)
        script = [lambda _: later(0.1), GoAway("gone"), ValueError("a bug"), lambda _: later(9.0), 404]
        mesh = Mesh(nursery, found, *script * 6, 200, every=0.5)

        async def ask(patience: float) -> None:
            with trio.move_on_after(patience):
                try:
                    answer = await mesh.service(request())
                except (meshcore.MeshError, ValueError):
                    return
                answer.body.abort()

        async with trio.open_nursery() as asking:
            for number in range(60):
                asking.start_soon(ask, 0.05 * (number % 12 + 1))
                await trio.sleep(0.005 * (number % 3))
        for place, told in mesh.stack.value().items():
            assert 0 == told["in_flight"], place
            assert told["calls"] == sum(told["outcomes"].values()), place
        assert 60 == mesh.told("retry")["calls"] + mesh.told("retry")["waiting"]


async def test_many_requests_are_estimated_and_their_number_is_exact(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    mesh = Mesh(nursery, TWO, *[200, 200, 200, 404] * 2_500, 200)

    async def ask() -> None:
        await mesh.service(request())

    async with trio.open_nursery() as asking:
        for _ in range(10_000):
            asking.start_soon(ask)
            await trio.sleep(0.0002)
    told = mesh.told("slow")
    assert 10_000 == told["calls"] + told["waiting"]
    assert (10_000 - told["waiting"], 0) == (mesh.told("refuse")["calls"], mesh.told("refuse")["in_flight"])
    assert 0.15 < told["outcomes"]["4xx"] / told["calls"] < 0.35
    assert 10 < told["one_in"] < 60
    assert 250_000.0 == told["mean_us"]


async def test_a_request_that_is_passed_over_meets_the_same_service_without_a_frame_more(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    mesh = Mesh(nursery, stack(Backend).then(refuse))
    for _ in range(200):
        await mesh.service(request())
    while not mesh.stack.ledger.accounts()[0].sampler.left:  # type: ignore[union-attr]
        await mesh.service(request())
    passed = mesh.service(request())
    assert passed.cr_code.co_name == "refuse"
    await passed


async def test_a_layer_that_is_not_there_for_a_target_has_no_probe_either(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    mesh = Mesh(nursery, stack(Backend).then(refuse).then(Absent()).then(slow))
    assert 6 == len(list(services(mesh.service)))
    await mesh.service(request())
    assert [1, 0, 1] == [mesh.told(place)["calls"] for place in ("refuse", "absent", "slow")]


async def test_an_accounted_stack_looks_as_before_and_a_live_one_is_walked_as_before(nursery: trio.Nursery) -> None:
    class Ready:
        def status(self) -> Status:
            return Status.BUSY

        async def __call__(self, request: Request) -> Response:
            return Response(200)

    found = accounted(TWO)
    assert (repr(TWO), TWO.roles()) == (repr(found), found.roles())
    service = found.layer(MockNewService(lambda _: Ready())).new_service(Backend("b"), nursery)
    assert Status.BUSY == find(service, "status")()
    assert [slow, refuse] == [each.__layer__ for each in services(service) if hasattr(each, "__layer__")]
    assert ["slow", "slow-2"] == [place for _, place in places(stack(Backend).then(slow).then(slow))]


async def test_a_thousand_endpoints_share_the_accounts_of_their_layers(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    found = accounted(stack(Endpoint).then(slow).then(refuse))
    new = found.layer(MockNewService(lambda _: mock_service()))
    made = [new.new_service(Endpoint(("10.0.0.1", port)), nursery) for port in range(1, 1_001)]
    async with trio.open_nursery() as asking:
        for service in made[:40]:
            asking.start_soon(service, request())
    assert {"slow", "refuse"} == set(found.value())
    assert [40, 40] == [told["calls"] for told in found.value().values()]
    assert [1_000, 1_000] == [each.created for each in found.ledger.accounts()]


async def test_a_stack_inside_of_another_accounts_for_itself(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    inner = Mesh(nursery, stack(Backend).then(refuse))
    outer = Mesh(nursery, TWO)
    outer.inner._script.clear()
    outer.inner._script.append(lambda seen: inner.service(seen))
    for _ in range(300):
        await outer.service(request())
    for mesh, place in ((outer, "slow"), (inner, "refuse")):
        told = mesh.told(place)
        assert (300, 0) == (told["calls"] + told["waiting"], told["in_flight"])
        assert 0 == told["repeated"]


async def test_an_account_goes_with_the_last_stack_that_has_its_layer(nursery: trio.Nursery) -> None:
    ledger = Ledger()
    one = accounted(TWO, ledger, pipeline="p").layer(MockNewService())
    account = ledger.find("p", "slow")
    again = accounted(TWO, ledger, pipeline="p").layer(MockNewService())
    assert account is ledger.find("p", "slow")
    del one
    assert account is ledger.find("p", "slow")
    del again, account
    assert [] == ledger.accounts()


async def test_what_measured_errors_leave_behind_has_no_cycles(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    def gone(request: Request) -> Response:
        raise GoAway("gone")

    mesh = Mesh(nursery, stack(Backend).then(layers.Rescue()).then(slow).then(refuse), gone)
    await mesh.service(request())
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            await mesh.service(request())
        assert 0 == gc.collect()
    finally:
        gc.enable()


def test_what_came_since_the_last_scrape_is_told_of_a_pipeline_that_is_gone() -> None:
    ledger, registry = Ledger(), Registry()
    count_layers(ledger, registry)
    account = ledger.account("public", "retry", "inbound")
    account.created = 2
    account.came(3)
    registry.render()
    account.outcomes[0] += 1

    del account
    gc.collect()

    text = registry.render()
    assert 'stack_layer_in_flight{pipeline="public",layer="retry"} 0\n' in text
    assert 'stack_layer_requests_total{pipeline="public",layer="retry",outcome="done"} 1\n' in text
    assert 'stack_drop_total{direction="inbound",protocol="http",name="retry"} 2\n' in text
