"""Identities for tests of what detects and terminates TLS, and clients of it."""

from __future__ import annotations

import time
from typing import Any

import attrs

from meshcore.identity.credentials import Credentials
from meshcore.identity.store import Identity
from meshcore.identity.tls import connect_mesh_tls
from meshcore.transport.connection import Connection

OWN = "web.default.serviceaccount.identity.test"
CLIENT = "client.default.serviceaccount.identity.test"


def identity(pki: Any, *names: str) -> Identity:
    """One that is certified for *names*, the first of which is its own."""
    names = names or (OWN,)
    cert, key = pki.issue(*names)
    made = Identity(names[0], clock=time.time)
    assert made.publish(Credentials.from_pem(cert.read_bytes(), key.read_bytes(), pki.ca_file.read_bytes()))
    return made


@attrs.define
class Renamed:
    """An identity that goes by other names than its certificate."""

    inner: Identity
    name: str
    names: tuple[str, ...] = ()
    generation: int = 1

    @property
    def current(self) -> Renamed:
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


async def secured(connection: Connection, pki: Any, name: str = OWN, alpn: tuple[str, ...] = ()) -> Connection:
    """The client's end after its handshake."""
    return await connect_mesh_tls(connection, identity(pki, CLIENT), server_name=name, expected=name, alpn=alpn)
