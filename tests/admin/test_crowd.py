"""The clients of the admin server: who asks slowly, or never, keeps nobody else from asking."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from meshcore.admin.crowd import PIECE, Crowd, Pieces
from meshcore.http.body import Chunks, Full, read_all
from meshcore.http.headers import Headers
from meshcore.http.message import Request, Response
from meshcore.server.http import ServeHttp
from meshcore.server.options import ServerOptions
from meshcore.server.serve import serve
from meshcore.stack import accept
from meshcore.testing import MemoryNetwork, MemoryStream, MockNewService
from meshcore.transport.target import Accepted

ADDRESS = ("127.0.0.1", 4191)
LARGE = 20 * PIECE + 17


class World:
    """A server with a crowd before it."""

    def __init__(self, nursery: trio.Nursery, **options: Any) -> None:
        self.network = MemoryNetwork()
        self.crowd = Crowd(**options)
        self.nursery = nursery
        self.stream = Chunks()

    async def start(self) -> None:
        options = ServerOptions(write_timeout=10.0, header_timeout=10.0, idle_timeout=300.0)
        server = accept(Accepted).then(ServeHttp(options)).layer(
            MockNewService[Accepted](lambda _: self.crowd.answering(self.answer))
        )
        listeners = [self.network.listen(ADDRESS)]
        self.server = await self.nursery.start(
            partial(serve, self.crowd.guarding(server), listeners, upstreams=self.nursery)
        )

    async def answer(self, request: Request) -> Response:
        if request.path == b"/stream":
            return Response(200, Headers(), self.stream)
        data = b"x" * LARGE if request.path == b"/large" else b"live\n"
        return Response(200, Headers([(b"content-length", b"%d" % len(data))]), Full(data))

    async def client(self, path: bytes | None = None, *, read: bool = True) -> MemoryStream:
        stream = await self.network.open_stream(ADDRESS)
        if path is not None:
            await stream.send_all(b"GET %s HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n" % path)
            if read:
                assert b"200" in await stream.receive_some()
        await wait_all_tasks_blocked()
        return stream


@pytest.fixture
async def world(nursery: trio.Nursery, autojump_clock: MockClock) -> World:
    world = World(nursery, connections=4, answers=2)
    await world.start()
    return world


async def is_open(stream: MemoryStream) -> bool:
    with trio.move_on_after(0.01):
        try:
            return await stream.receive_some() != b""
        except trio.BrokenResourceError:
            return False
    return True


async def test_one_too_many_takes_the_place_of_the_one_that_was_idle_for_longest(
    world: World, autojump_clock: MockClock
) -> None:
    silent = [await world.client() for _ in range(3)]
    used = await world.client(b"/live")
    for _ in range(3):
        # Nobody who leaves connections open keeps a probe from its answer.
        await world.client(b"/live")
    assert [False, False, False] == [await is_open(each) for each in silent]
    assert await is_open(used)
    await world.client(b"/live")
    assert not await is_open(used)
    assert 4 == world.server.open_connections


async def test_who_is_being_answered_keeps_its_place(world: World, autojump_clock: MockClock) -> None:
    streams = [await world.client(b"/stream") for _ in range(1)]
    for _ in range(10):
        await world.client(b"/live")
    assert 4 == world.server.open_connections
    world.stream.push(b"still there")
    assert b"still there" in await streams[0].receive_some()


async def test_where_all_are_at_work_one_more_is_turned_away(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    world = World(nursery, connections=1, answers=2)
    await world.start()
    await world.client(b"/stream")
    late = await world.client()
    assert not await is_open(late)


async def test_large_answers_are_so_many_at_a_time_and_probes_go_on(world: World, autojump_clock: MockClock) -> None:
    network = world.network
    network.faults(ADDRESS).response.capacity = 1_000
    slow = [await world.client(b"/large", read=False) for _ in range(2)]
    network.heal()
    third = await world.network.open_stream(ADDRESS)
    await third.send_all(b"GET /large HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
    assert b"503" in (answer := await third.receive_some())
    assert b"retry-after: 1" in answer
    await world.client(b"/live")
    for each in slow:
        await each.aclose()
    await trio.sleep(1)
    assert "answers=0" in repr(world.crowd)
    await world.client(b"/large")


async def test_who_never_reads_is_cut_off_in_time(world: World, autojump_clock: MockClock) -> None:
    world.network.faults(ADDRESS).response.capacity = 1_000
    await world.client(b"/large", read=False)
    assert "answers=1" in repr(world.crowd)
    await trio.sleep(16)
    assert "connections=0 answers=0" in repr(world.crowd)
    assert 0 == world.server.open_connections


async def test_who_reads_a_few_bytes_now_and_then_is_cut_off_as_well(
    world: World, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    world.network.faults(ADDRESS).response.capacity = 1_000
    stream = await world.client(b"/large", read=False)

    async def drip() -> None:
        try:
            while await stream.receive_some(10):
                await trio.sleep(1)
        except trio.BrokenResourceError:
            pass

    nursery.start_soon(drip)
    assert "answers=1" in repr(world.crowd)
    await trio.sleep(39)
    assert "connections=0 answers=0" in repr(world.crowd)


async def test_who_says_nothing_leaves_in_time(world: World, autojump_clock: MockClock) -> None:
    await world.client()
    await trio.sleep(15)
    assert 0 == world.server.open_connections


async def test_pieces_are_the_whole_and_end_with_the_last() -> None:
    data = bytes(range(256)) * 1_000
    body = Pieces(data)
    assert (len(data), data) == (body.size_hint, await read_all(body))
    assert body.is_end_stream
    assert b"" == body.receive_nowait()
    given_up = Pieces(data)
    given_up.abort()
    with pytest.raises(Exception, match="abandoned"):
        given_up.receive_nowait()
    assert Pieces(b"").is_end_stream


async def test_a_service_that_fails_leaves_nobody_busy(world: World, autojump_clock: MockClock) -> None:
    crowd = Crowd()

    async def fails(request: Request) -> Response:
        raise ValueError("a bug")

    connection: Any = MemoryNetwork()
    connection.peer = ("10.0.0.1", 1)
    guest = crowd.enter(connection)
    assert guest is not None
    with pytest.raises(ValueError, match="a bug"):
        await crowd.answering(fails)(Request(b"GET", b"http", b"", b"/", connection=connection))
    assert 0 == guest.busy
