"""An identity for tests of what detects and terminates TLS, and clients of it."""

from __future__ import annotations

import sys
import types
from typing import Any

import attrs

from meshcore.transport.connection import Connection
from meshcore.transport.identity import ClientContexts, client_tls, server_context, server_tls
from meshcore.transport.target import TlsClient

OWN = "web.default.serviceaccount.identity.test"


@attrs.define
class StandIn:
    """What detection asks of an identity."""

    name: str
    context: Any
    generation: int = 1
    current: Any = None


def identity(pki: Any, monkeypatch: Any, *names: str) -> Any:
    cert, key = pki.issue(*(names or (OWN,)))

    async def accept_mesh_tls(
        connection: Connection,
        identity: Any,
        *,
        alpn: Any = (),
        timeout: float = 10.0,  # noqa: ASYNC109
    ) -> Any:
        context = server_context(cert.read_bytes(), key.read_bytes(), alpn=alpn)
        return await server_tls(connection, context, timeout)

    module = types.ModuleType("meshcore.identity.tls")
    module.accept_mesh_tls = accept_mesh_tls  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "meshcore.identity", types.ModuleType("meshcore.identity"))
    monkeypatch.setitem(sys.modules, "meshcore.identity.tls", module)
    return StandIn((names or (OWN,))[0], None)


async def secured(connection: Connection, pki: Any, name: str = OWN, alpn: tuple[str, ...] = ()) -> Connection:
    """The client's end after its handshake."""
    settings = TlsClient(name, alpn=alpn, trust_anchors=pki.ca_file.read_bytes())
    return await client_tls(connection, settings, ClientContexts())
