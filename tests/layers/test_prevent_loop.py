"""A proxy does not connect to itself."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from meshcore.config import proxy_config
from meshcore.errors import LoopDetected
from meshcore.layers.prevent_loop import PreventLoop
from meshcore.proxy import run
from meshcore.transport.target import Address, Endpoint
from meshcore.transport.tcp import connect_tcp


async def listening() -> tuple[trio.SocketListener, Address]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    host, port = listener.socket.getsockname()
    return listener, (host, port)


@pytest.mark.parity("D-40")
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::", ""])
async def test_a_connection_that_leads_back_is_closed(host: str) -> None:
    listener, address = await listening()
    connect = PreventLoop(lambda: [(host, address[1])]).layer(connect_tcp)
    async with listener:
        with pytest.raises(LoopDetected, match="it is this proxy itself"):
            await connect(Endpoint(address))
        accepted = await listener.accept()
        assert await accepted.receive_some(1) == b""
        await accepted.aclose()


@pytest.mark.parametrize("own", [[], [("127.0.0.1", 1)], [("192.0.2.1", 0)]])
async def test_any_other_connection_passes(own: list[Address]) -> None:
    listener, address = await listening()
    same_port_elsewhere = [(host, port or address[1]) for host, port in own]
    connect = PreventLoop(lambda: same_port_elsewhere).layer(connect_tcp)
    async with listener:
        connection = await connect(Endpoint(address))
        assert connection.peer == address
        connection.close()


@pytest.mark.parity("X-59", "D-40")
async def test_a_gateway_whose_endpoint_is_itself_refuses_the_request_and_opens_no_spiral(
    nursery: trio.Nursery,
) -> None:
    listener, (host, port) = await listening()
    await listener.aclose()
    connects = 0

    async def counted(endpoint: Endpoint) -> Any:
        nonlocal connects
        connects += 1
        return await connect_tcp(endpoint)

    address = f"{host}:{port}"
    await nursery.start(lambda task_status: run(
        proxy_config([address], [address], admin="off"), connect=counted, task_status=task_status
    ))
    with trio.fail_after(20):
        stream = await trio.open_tcp_stream(host, port)
        async with stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n")
            answer = b""
            async for chunk in stream:
                answer += chunk
    assert answer.startswith(b"HTTP/1.1 50")
    assert b"it is this proxy itself" in answer
    assert connects < 20
    nursery.cancel_scope.cancel()
