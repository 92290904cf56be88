"""Mock services follow their script and remember; FakeResolve publishes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from meshcore.errors import ConnectError
from meshcore.http.body import read_all
from meshcore.testing import FakeResolve, MockNewService, mock_service, request, response
from meshcore.transport.target import Endpoint

if TYPE_CHECKING:
    from collections.abc import Sequence


async def test_a_mock_answers_what_its_script_says_and_repeats_the_last_step() -> None:
    service = mock_service(503, ConnectError("no"), response(200, b"hello"))
    assert (await service(request())).status == 503
    with pytest.raises(ConnectError):
        await service(request())
    assert await read_all((await service(request(path=b"/last"))).body) == b"hello"
    assert (await service(request())).status == 200
    assert [each.path for each in service.requests] == [b"/", b"/", b"/last", b"/"]


async def test_a_mock_can_be_slow_and_counts_who_gave_up(autojump_clock: trio.testing.MockClock) -> None:
    service = mock_service(5.0, 204)
    with trio.move_on_after(1):
        await service(request())
    assert (service.cancelled, service.in_flight, service.most) == (1, 0, 1)
    assert (await service(request())).status == 204


async def test_a_mock_can_answer_by_request() -> None:
    service = mock_service(lambda asked: response(200, asked.path))
    assert await read_all((await service(request(path=b"/echo"))).body) == b"/echo"


async def test_a_mock_new_service_records_targets_and_nurseries() -> None:
    new_service: MockNewService[str] = MockNewService()
    async with trio.open_nursery() as nursery:
        service = new_service.new_service("a", nursery)
        assert (await service(request())).status == 200
    assert [(target, given) for target, _, given in new_service.made] == [("a", nursery)]


async def test_endpoints_are_published_to_every_watcher() -> None:
    first, second = Endpoint(("10.0.0.1", 80)), Endpoint(("10.0.0.2", 80))
    resolve = FakeResolve(first)
    seen: list[Sequence[Endpoint]] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(resolve.watch, "users", seen.append)
        await trio.testing.wait_all_tasks_blocked()
        assert resolve.watching == ["users"]
        resolve.publish(first, second)
        resolve.publish()
        nursery.cancel_scope.cancel()
    assert seen == [(first,), (first, second), ()]
    assert resolve.watching == []
