"""What the tests of identities share: an authority, credentials of any name and time, and both ends of a handshake."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from meshcore.errors import ConnectionLost, MeshError, TlsError
from meshcore.identity import Authority, Credentials, Identity, accept_mesh_tls, connect_mesh_tls
from meshcore.transport.connection import Connection
from meshcore.transport.tls import TlsConnection

DAY = 86_400.0
NOW = time.time()

Pair = Callable[[], tuple[Connection, Connection]]


def authority(name: str = "test CA", **more: Any) -> Authority:
    return Authority.make(name, **{"now": NOW - 30 * DAY, **more})


def credentials(
    issuer: Authority, name: str, *, trusting: list[Authority] | None = None, now: float = NOW, days: float = 1
) -> Credentials:
    cert, key = issuer.issue(name, now=now, days=days)
    anchors = b"".join(each.cert_pem() for each in (trusting or [issuer]))
    return Credentials.from_pem(cert, key, anchors)


def identity(issuer: Authority, name: str, **more: Any) -> Identity:
    """A certified identity; *more* as for :func:`credentials`.  Its clock accepts whatever was issued."""
    issued = credentials(issuer, name, **more)
    made = Identity("", clock=lambda: (issued.not_before + issued.not_after) / 2)
    assert made.publish(issued)
    made.clock = time.time
    return made


def failures(of: Identity) -> dict[tuple[str, str], float]:
    """``tls_handshake_errors_total`` by side and reason."""
    return {
        (labels[0][1], labels[1][1]): cell.value for labels, cell in of.metrics.handshake_errors.series() if cell.value
    }


async def both(*tasks: Callable[[], Awaitable[object]]) -> None:
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for task in tasks:
                nursery.start_soon(task)


async def shake(
    pair: Pair, client: Identity, server: Identity, expected: str, *, alpn: tuple[str, ...] = (), accepted: Any = None
) -> tuple[TlsConnection, TlsConnection]:
    """Both ends after their handshakes: client, server."""
    a, b = pair()
    ends: dict[str, TlsConnection] = {}

    async def accept() -> None:
        ends["server"] = await accept_mesh_tls(b, server, alpn=alpn if accepted is None else accepted)

    async def connect() -> None:
        ends["client"] = await connect_mesh_tls(a, client, server_name=expected, expected=expected, alpn=alpn)

    await both(accept, connect)
    return ends["client"], ends["server"]


async def refused(pair: Pair, client: Identity, server: Identity, expected: str) -> tuple[MeshError, MeshError]:
    """What each end says where the handshake, or the first read after it, fails; both are closed then."""
    a, b = pair()
    said: dict[str, MeshError] = {}

    async def accept() -> None:
        try:
            secured = await accept_mesh_tls(b, server)
            await secured.receive_some()
        except (TlsError, ConnectionLost) as error:
            said["server"] = error
        b.close()

    async def connect() -> None:
        try:
            secured = await connect_mesh_tls(a, client, server_name=expected, expected=expected)
            await secured.receive_some()
        except (TlsError, ConnectionLost) as error:
            said["client"] = error
        a.close()

    await both(accept, connect)
    return said["client"], said["server"]


@asynccontextmanager
async def running(source: Any, of: Identity) -> Any:
    """A source at work."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.run, of)
        yield
        nursery.cancel_scope.cancel()
