"""The mesh of the demonstration: replicas with a sidecar each, the caller's sidecar, and what their metrics tell."""

from __future__ import annotations

import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

import meshcore
from meshcore.config import AdminConfig, Destination, IdentityConfig, Inbound, Limits, Outbound, Service
from meshcore.config.upstream import EndpointConfig, RetryConfig
from meshcore.transport.tcp import open_listeners
from meshcore_cli.demo_outcome import Security

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

__all__ = ["AUTHORITY", "Replica", "caller", "security"]

AUTHORITY = "orders:80"
"""What the load asks for."""
_SERVER = "orders.demo"
_CLIENT = "web.demo"
_WORK = 0.005
"""Seconds that any replica takes for an answer."""


def _identity(folder: Path) -> IdentityConfig:
    return IdentityConfig(mode="dev", directory=folder)


class Replica:
    """A small HTTP service and its sidecar, which can be made slow and killed.

    Attributes:
        name: which one it is.
        delay: seconds that each answer takes longer.
        sidecar: once it serves.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.delay = 0.0
        self.sidecar: meshcore.Proxy | None = None
        self._folder = folder
        self._scope = trio.CancelScope()

    @property
    def address(self) -> tuple[str, int]:
        """Where its sidecar accepts: the only way to it that others are told."""
        assert self.sidecar is not None
        return self.sidecar.addresses[0]

    async def serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Serves until killed."""
        name = self.name.encode()

        async def answer(request: meshcore.Request) -> meshcore.Response:
            await trio.sleep(_WORK + self.delay)
            body = b"replica " + name + b"\n"
            fields = [(b"x-replica", name), (b"content-length", b"%d" % len(body))]
            return meshcore.Response(200, meshcore.Headers(fields), meshcore.Full(body))

        new_accept = meshcore.accept(meshcore.Accepted).then(meshcore.ServeHttp()).layer(_Fixed(answer))
        listeners = await open_listeners("127.0.0.1", 0)
        port = listeners[0].socket.getsockname()[1]
        config = meshcore.MeshConfig(
            service=Service(name="orders", namespace="demo"),
            identity=_identity(self._folder),
            inbound=Inbound(listen=("127.0.0.1", 0), forward=("127.0.0.1", port), default_policy="all-authenticated"),
            admin=AdminConfig(listen=None),
        )
        with self._scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(partial(meshcore.serve, new_accept, listeners, upstreams=nursery))
                self.sidecar = await nursery.start(meshcore.serve_config, config)
                task_status.started()

    def kill(self) -> None:
        """Ends both as a crash would: listeners and connections are gone at once."""
        self._scope.cancel()


class _Fixed:
    """The same service for every target."""

    def __init__(self, service: Callable[[Any], Awaitable[Any]]) -> None:
        self._service = service

    def new_service(self, target: object, nursery: trio.Nursery, /) -> Callable[[Any], Awaitable[Any]]:
        return self._service


def caller(replicas: Iterable[Replica], folder: Path) -> meshcore.MeshConfig:
    """The sidecar of the one who calls; its application is the load."""
    return meshcore.MeshConfig(
        service=Service(name="web", namespace="demo"),
        identity=_identity(folder),
        outbound=Outbound(
            listen=("127.0.0.1", 0),
            to={
                AUTHORITY: Destination(
                    endpoints=tuple(EndpointConfig(address=replica.address) for replica in replicas),
                    identity=_SERVER,
                    retry=RetryConfig(limit=2),
                )
            },
        ),
        admin=AdminConfig(listen=("127.0.0.1", 0)),
        proxy=Limits(grace_period=2.0),
    )


def security(web: meshcore.Proxy, replicas: Iterable[Replica]) -> Security:
    """How the sidecars spoke with each other, from the metrics and identities of both sides.

    The replicas' count decides: what arrived there as the caller, verified, was secured; whatever else arrived was
    not.  The caller's is compared with what it was to be.
    """
    found = Security()
    for proxy in (web, *(replica.sidecar for replica in replicas)):
        if proxy is None:
            continue
        if proxy.identity is not None and proxy.identity.current is not None:
            current = proxy.identity.current
            until = datetime.datetime.fromtimestamp(current.not_after, datetime.UTC)
            found.certificates[current.name] = f"{until:%Y-%m-%dT%H:%M:%SZ}"
        for name, labels, value in _samples(proxy):
            if name == "tls_handshake_errors_total":
                found.handshakes_failed += value
            elif name == "tcp_open_total" and labels["direction"] == "outbound":
                # What the caller connected to: by whom it was to be answered is in the label, or TLS was not wanted.
                if labels["peer"] == "dst" and (labels["tls"], labels["server_id"]) != ("true", _SERVER):
                    found.plaintext += value
            elif name == "tcp_open_total" and labels["peer"] == "src":
                if (labels["tls"], labels["client_id"]) == ("true", _CLIENT):
                    found.connections += value
                else:
                    found.plaintext += value
    return found


def _samples(proxy: meshcore.Proxy) -> list[tuple[str, dict[str, str], int]]:
    wanted = ("tcp_open_total", "tls_handshake_errors_total")
    return [
        (family.name, dict(labels), int(cell.value))
        for family in proxy.registry.families()
        if family.name in wanted
        for labels, cell in family.series()
    ]
