"""Mirror: copies that nobody waits for."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from meshcore.errors import ConnectError, StreamReset
from meshcore.http.body import Chunks, EndOfStream, Full, read_all
from meshcore.http.message import Request, Response
from meshcore.layers import Mirror, Retry
from meshcore.testing import MockNewService, MockService, mock_service, request
from meshcore.transport.target import Backend, BackendRef, HttpRoute, Mirrored

SHADOW = HttpRoute("shadow", (BackendRef(Backend("shadow")),))


class Reading(MockService):
    """Reads the bodies of requests before it answers."""

    def __init__(self, *script: Any) -> None:
        super().__init__(*script)
        self.bodies: list[bytes] = []

    async def __call__(self, sent: Request, /) -> Response:
        self.bodies.append(await read_all(sent.body))
        return await super().__call__(sent)


def mirrored(nursery: trio.Nursery, main: Any, shadow: Any, ratio: float = 1.0, **options: Any) -> Any:
    inner = MockNewService[HttpRoute](lambda route: shadow if route is SHADOW else main)
    route = HttpRoute("r", mirrors=(Mirrored(SHADOW, ratio),))
    return Mirror(lambda target: target.mirrors, **options).layer(inner).new_service(route, nursery)


@pytest.mark.parity("R-26")
async def test_the_mirror_gets_a_copy_of_the_whole_request(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    main, shadow = Reading(), Reading()
    service = mirrored(nursery, main, shadow)
    sent = request(b"POST", b"/a?b", headers=[(b"x", b"1")])
    sent.body = body = Chunks()
    body.push(b"one")
    body.push(b"two")
    body.push_end([(b"trailer", b"t")])
    answer = await service(sent)
    assert answer.status == 200
    await trio.testing.wait_all_tasks_blocked()
    assert (main.bodies, shadow.bodies) == ([b"onetwo"], [b"onetwo"])
    copy = shadow.requests[0]
    assert copy is not main.requests[0]
    assert (copy.method, copy.path, copy.authority, copy.headers.raw) == (b"POST", b"/a?b", b"a.test", [(b"x", b"1")])
    assert copy.body.end == EndOfStream([(b"trailer", b"t")])
    # What the first one does with its request is not the copy's concern.
    assert copy.headers is not main.requests[0].headers
    told = service.statistics()
    assert (told.target, told.sent, told.answered, told.failed) == ("shadow", 1, 1, 0)


@pytest.mark.parametrize(
    "trouble",
    [ConnectError("no"), StreamReset("no"), ValueError("a bug"), 60.0, 500],
    ids=["refused", "reset", "crash", "slow", "500"],
)
async def test_whatever_the_mirror_does_the_request_is_neither_slowed_nor_failed(
    trouble: Any, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    main, shadow = mock_service(), mock_service(trouble)
    service = mirrored(nursery, main, shadow, timeout=5.0)
    started = trio.current_time()
    for _ in range(3):
        assert (await service(request())).status == 200
    assert trio.current_time() == started
    await trio.sleep(10)
    told = service.statistics()
    assert told.sent == 3
    assert (told.answered, told.failed) == ((3, 0) if trouble == 500 else (0, 3))


async def test_copies_at_a_time_are_bounded(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    main, shadow = mock_service(), mock_service(60.0)
    service = mirrored(nursery, main, shadow, in_flight=5, timeout=5.0)
    for _ in range(20):
        await service(request())
    await trio.testing.wait_all_tasks_blocked()
    told = service.statistics()
    assert (told.sent, told.dropped, shadow.most) == (5, 15, 5)
    await trio.sleep(10)
    await service(request())
    assert service.statistics().sent == 6


async def test_a_body_that_is_too_long_passes_and_is_not_copied(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    main, shadow = Reading(), Reading()
    service = mirrored(nursery, main, shadow, body_limit=10)
    for body in (Full(b"x" * 11), chunked(b"x" * 6, b"y" * 5), chunked(b"x" * 6, b"y" * 4)):
        sent = request(b"POST")
        sent.body = body
        await service(sent)
    await trio.testing.wait_all_tasks_blocked()
    assert main.bodies == [b"x" * 11, b"x" * 6 + b"y" * 5, b"x" * 6 + b"y" * 4]
    assert shadow.bodies == [b"x" * 6 + b"y" * 4]
    assert service.statistics().too_large == 2


def chunked(*parts: bytes) -> Chunks:
    body = Chunks()
    for part in parts:
        body.push(part)
    body.push_end()
    return body


async def test_a_body_that_breaks_is_not_copied(nursery: trio.Nursery) -> None:
    main, shadow = Reading(), Reading()
    service = mirrored(nursery, main, shadow)
    sent = request(b"POST")
    sent.body = body = Chunks()
    body.push_error(StreamReset("gone"))
    with pytest.raises(StreamReset):
        await service(sent)
    sent = request(b"POST")
    sent.body = body = Chunks()
    async with trio.open_nursery() as clients:
        clients.start_soon(service, sent)
        await trio.testing.wait_all_tasks_blocked()
        clients.cancel_scope.cancel()
    sent.body.abort()
    assert body.end is not None
    await trio.testing.wait_all_tasks_blocked()
    assert shadow.bodies == []


async def test_tunnels_are_not_copied_and_the_ratio_is_kept(nursery: trio.Nursery) -> None:
    main, shadow = mock_service(), mock_service()
    service = mirrored(nursery, main, shadow, ratio=0.25, rng=random.Random(2), in_flight=10_000)
    tunnel = request()
    tunnel.protocol = b"websocket"
    await mirrored(nursery, main, shadow)(tunnel)
    for _ in range(2_000):
        await service(request())
    await trio.testing.wait_all_tasks_blocked()
    assert len(shadow.requests) / 2_000 == pytest.approx(0.25, abs=0.03)


async def test_tries_of_a_request_are_one_copy(nursery: trio.Nursery) -> None:
    main, shadow = mock_service(ConnectError("no"), 200), Reading()
    inner = MockNewService[HttpRoute](lambda route: shadow if route is SHADOW else main)
    route = HttpRoute("r", mirrors=(Mirrored(SHADOW),))
    service = Mirror((Mirrored(SHADOW),)).layer(Retry(1).layer(inner)).new_service(route, nursery)
    sent = request(b"POST")
    sent.body = chunked(b"abc")
    assert (await service(sent)).status == 200
    await read_all(sent.body)
    await trio.testing.wait_all_tasks_blocked()
    assert len(main.requests) == 2
    assert shadow.bodies == [b"abc"]


async def test_nothing_is_copied_when_the_proxy_shuts_down() -> None:
    main, shadow = mock_service(), mock_service()
    async with trio.open_nursery() as gone:
        service = mirrored(gone, main, shadow)
    assert (await service(request())).status == 200
    assert service.statistics().dropped == 1


async def test_a_copy_that_would_be_made_after_the_end_is_none(nursery: trio.Nursery) -> None:
    main, shadow = mock_service(), mock_service()
    async with trio.open_nursery() as ending:
        service = mirrored(ending, main, shadow)
    assert service.statistics().target == "shadow"
    del ending
    await service(request())
    assert service.statistics().dropped == 1
    assert "Mirror(" in repr(Mirror().layer(MockNewService()))


async def test_without_mirrors_the_layer_is_not_there(nursery: trio.Nursery) -> None:
    inner = MockNewService[HttpRoute]()
    service = Mirror(lambda route: route.mirrors).layer(inner).new_service(HttpRoute("r"), nursery)
    assert service is inner.made[0][1]


@given(st.lists(st.binary(min_size=1, max_size=5), max_size=5), st.integers(0, 12), st.booleans())
def test_what_passes_is_what_was_sent_whatever_is_kept(parts: list[bytes], limit: int, wait: bool) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            first, shadow = Reading(), Reading()
            service = mirrored(nursery, first, shadow, body_limit=limit)
            sent = request(b"POST")
            sent.body = body = Chunks()

            async def fill() -> None:
                for part in parts:
                    body.push(part)
                    if wait:
                        await trio.testing.wait_all_tasks_blocked()
                body.push_end()

            nursery.start_soon(fill)
            await service(sent)
            await trio.testing.wait_all_tasks_blocked()
            whole = b"".join(parts)
            assert first.bodies == [whole]
            assert shadow.bodies == ([whole] if len(whole) <= limit else [])

    trio.run(main)
