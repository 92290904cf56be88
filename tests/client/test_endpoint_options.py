"""HTTP/2 parameters of one endpoint that are not another's."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from meshcore import ClientOptions, Endpoint, Http, Request
from meshcore.codec.limits import H2Limits
from meshcore.testing import memory_connection_pair
from meshcore.transport.connection import Connection

NEAR, FAR = Endpoint(("10.0.0.1", 80), "h2"), Endpoint(("10.0.0.2", 80), "h2")
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def options(endpoint: Endpoint) -> ClientOptions:
    if endpoint == NEAR:
        return ClientOptions()
    limits = H2Limits(stream_window=1_000_000, connection_window=3_000_000, max_frame_size=32_768)
    return ClientOptions(http2=limits, keepalive_interval=5.0, keepalive_timeout=2.0)


def frames(data: bytes) -> list[tuple[int, int, bytes]]:
    """Type, flags and payload of each frame after the preface."""
    assert data.startswith(PREFACE)
    found = []
    rest = data[len(PREFACE) :]
    while rest:
        size = int.from_bytes(rest[:3], "big")
        found.append((rest[3], rest[4], rest[9 : 9 + size]))
        rest = rest[9 + size :]
    return found


def settings(payload: bytes) -> dict[int, int]:
    return {
        int.from_bytes(payload[at : at + 2], "big"): int.from_bytes(payload[at + 2 : at + 6], "big")
        for at in range(0, len(payload), 6)
    }


def all_of(peer: Connection) -> bytes:
    """Whatever has been sent."""
    data = b""
    while True:
        try:
            data += peer.receive_nowait()
        except trio.WouldBlock:
            return data


@pytest.mark.parity("D-37")
async def test_windows_frames_and_pings_are_those_of_the_endpoint(
    engine: str, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    peers: dict[Endpoint, Connection] = {}

    async def connect(endpoint: Endpoint) -> Connection:
        ours, peers[endpoint] = memory_connection_pair()
        return ours

    new: Any = Http(options).layer(connect)
    for endpoint in (NEAR, FAR):
        nursery.start_soon(new.new_service(endpoint, nursery), Request(b"GET", b"http", b"a.test", b"/", version=20))
    await trio.testing.wait_all_tasks_blocked()
    first = {endpoint: frames(await peer.receive_some()) for endpoint, peer in peers.items()}
    for peer in peers.values():
        await peer.send_all(b"\0\0\0\4\0\0\0\0\0")
    await trio.sleep(6.6)
    later = {endpoint: all_of(peer) for endpoint, peer in peers.items()}

    announced = {endpoint: settings(found[0][2]) for endpoint, found in first.items()}
    assert (65_535, 16_384) == (announced[NEAR].get(4, 65_535), announced[NEAR].get(5, 16_384))
    assert (1_000_000, 32_768) == (announced[FAR][4], announced[FAR][5])
    window = {endpoint: [payload for kind, _, payload in found if kind == 8] for endpoint, found in first.items()}
    assert [(3_000_000 - 65_535).to_bytes(4, "big")] == window[FAR]
    pings = {endpoint: b"\0\0\x08\6\0" in data for endpoint, data in later.items()}
    assert {NEAR: False, FAR: True} == pings
    nursery.cancel_scope.cancel()
