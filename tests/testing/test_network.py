"""The network in memory: addresses, faults, and the promises of a listener."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from meshcore.errors import ConnectError, ConnectionLost
from meshcore.testing import FaultScript, MemoryNetwork, Script, ScriptFailed, explore_schedules
from meshcore.transport.target import Endpoint

HERE = Endpoint(("10.0.0.1", 80))


@explore_schedules(examples=10)
async def test_what_is_sent_arrives_and_is_answered() -> None:
    network = MemoryNetwork()
    listener = network.listen(HERE.address)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Script().expect(b"ping").send(b"pong").close().serve, listener)
        for _ in range(3):
            connection = await network.connect(HERE)
            await connection.send_all(b"ping")
            assert await connection.receive_some() == b"pong"
            assert await connection.receive_some() == b""
        nursery.cancel_scope.cancel()
    assert network.connects == {HERE.address: 3}
    assert listener.accepted == 3


async def test_an_address_that_nobody_listens_on_refuses() -> None:
    with pytest.raises(ConnectError, match=r"^endpoint 10\.0\.0\.1:80: connection refused$"):
        await MemoryNetwork().connect(HERE)


async def test_a_closed_listener_frees_its_address_and_resets_what_it_had_not_accepted() -> None:
    network = MemoryNetwork()
    listener = network.listen(HERE.address)
    with pytest.raises(OSError, match="in use"):
        network.listen(HERE.address)
    connection = await network.connect(HERE)
    listener.close()
    with pytest.raises(ConnectionLost):
        await connection.receive_some()
    with pytest.raises(trio.ClosedResourceError):
        await listener.accept()
    network.listen(HERE.address)


async def test_a_black_hole_never_answers(autojump_clock: trio.testing.MockClock) -> None:
    network = MemoryNetwork()
    network.listen(HERE.address)
    network.faults(HERE.address).connect = "black-hole"
    with trio.move_on_after(3600) as scope:
        await network.connect(HERE)
    assert scope.cancelled_caught


async def test_faults_come_and_go_at_their_time(autojump_clock: trio.testing.MockClock) -> None:
    network = MemoryNetwork()
    network.listen(HERE.address)
    faults = FaultScript().at(5, network.heal)
    faults = faults.at(1, lambda: setattr(network.faults(HERE.address), "connect", "refuse"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(faults.run)
        await network.connect(HERE)
        await trio.sleep(2)
        with pytest.raises(ConnectError):
            await network.connect(HERE)
        await trio.sleep(4)
        await network.connect(HERE)


@pytest.mark.parametrize("kind", ["reset", "close"])
async def test_a_connection_can_break_as_soon_as_it_is_made(kind: str) -> None:
    network = MemoryNetwork()
    network.listen(HERE.address)
    network.faults(HERE.address).connect = kind  # type: ignore[assignment]
    connection = await network.connect(HERE)
    if kind == "close":
        assert await connection.receive_some() == b""
    else:
        with pytest.raises(ConnectionLost):
            await connection.receive_some()


async def test_all_connections_to_a_host_break_when_it_dies() -> None:
    network = MemoryNetwork()
    listener = network.listen(HERE.address)
    connections = [await network.connect(HERE) for _ in range(3)]
    server = await listener.accept()
    assert network.reset_all(HERE.address) == 3
    with pytest.raises(trio.BrokenResourceError):
        await server.receive_some()
    for connection in connections:
        with pytest.raises(ConnectionLost):
            await connection.receive_some()


async def test_a_script_says_what_it_expected_and_what_came() -> None:
    network = MemoryNetwork()
    listener = network.listen(HERE.address)
    connection = await network.connect(HERE)
    await connection.send_all(b"POST /")
    connection.close()
    with pytest.raises(ScriptFailed, match=r"expected b'GET'; the end came after b'POST /'"):
        await Script().expect(b"GET").play(await listener.accept())


async def test_a_script_can_send_piecemeal_and_see_the_end(autojump_clock: trio.testing.MockClock) -> None:
    network = MemoryNetwork()
    listener = network.listen(HERE.address)
    connection = await network.connect(HERE)
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            Script().send(b"abc", piece=1, pause=2.0).half_close().expect_bytes(2).expect_end().play,
            await listener.accept(),
        )
        got = [await connection.receive_some() for _ in range(4)]
        await connection.send_all(b"ok")
        connection.close()
    assert got == [b"a", b"b", b"c", b""]
    assert trio.current_time() - start == pytest.approx(6.0)
