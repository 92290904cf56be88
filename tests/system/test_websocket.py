"""WebSocket clients through the proxy."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import pytest

from tests.peers.process import Running

client = pytest.importorskip("websockets.sync.client")
exceptions = pytest.importorskip("websockets.exceptions")
Proxy = Callable[..., Running]


@pytest.mark.parametrize("engine", ["auto", "pure"])
def test_messages_of_all_sizes_are_echoed(proxy: Proxy, websocket_origin: Running, engine: str) -> None:
    through = proxy([websocket_origin.port], engine=engine)
    with client.connect(f"ws://{through.address}/", max_size=1 << 26, proxy=None) as socket:
        for message in ("hello", b"\x00" * 70_000, "ü" * 1_000, b"x" * (4 << 20), ""):
            socket.send(message)
            assert socket.recv(timeout=10) == message
        assert socket.ping().wait(5)


def test_the_servers_close_code_reaches_the_client(proxy: Proxy, websocket_origin: Running) -> None:
    through = proxy([websocket_origin.port])
    with client.connect(f"ws://{through.address}/bye", proxy=None) as socket:
        socket.send("x")
        assert socket.recv(timeout=5) == "x"
        with pytest.raises(exceptions.ConnectionClosed) as closed:
            socket.recv(timeout=5)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "bye")


def test_fifty_tunnels_at_once_do_not_mix(proxy: Proxy, websocket_origin: Running) -> None:
    through = proxy([websocket_origin.port])
    with ExitStack() as stack:
        sockets = [stack.enter_context(client.connect(f"ws://{through.address}/", proxy=None)) for _ in range(50)]
        for index, socket in enumerate(sockets):
            socket.send(f"mine {index}")
        assert [socket.recv(timeout=5) for socket in sockets] == [f"mine {index}" for index in range(50)]


def test_a_refused_upgrade_is_an_ordinary_answer(proxy: Proxy, nginx: Running) -> None:
    through = proxy([nginx.port])
    with pytest.raises(exceptions.InvalidStatus) as refused:
        with client.connect(f"ws://{through.address}/", proxy=None, open_timeout=5):
            pass
    assert refused.value.response.status_code == 200
