"""A mesh in one Trio run: sidecars of configurations, a network in memory, certificates of an authority in memory."""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

import attrs
import trio

from meshcore.client.http import Http
from meshcore.config import MeshConfig, parse_config
from meshcore.proxy import Proxy, run
from meshcore.server.http import ServeHttp
from meshcore.server.serve import Server, serve
from meshcore.stack import accept, stack
from meshcore.testing.network import MemoryListener, MemoryNetwork
from meshcore.testing.services import MockNewService
from meshcore.transport.connection import Connection
from meshcore.transport.target import Accepted, Endpoint

if TYPE_CHECKING:
    from meshcore.abc import HttpService, NewAccept, Service

    # Nobody structures these classes from a table, and OpenSSL stays unloaded.
    from meshcore.identity import Authority, Credentials, Identity  # noqa: TC004
    from meshcore.transport.drain import Drain
    from meshcore.transport.target import Address

__all__ = ["MemoryMesh"]


@attrs.define(eq=False)
class _Issued:
    """The source of an identity whose certificates a test issues."""

    issue: Callable[[str], Credentials]
    name: str
    identity: Identity | None = None

    async def run(self, identity: Identity, /) -> None:
        """See :class:`~meshcore.identity.source.IdentitySource`."""
        self.identity = identity
        self.renew()
        await trio.sleep_forever()

    def renew(self) -> None:
        """New credentials, for every handshake from now on."""
        assert self.identity is not None
        if not self.identity.publish(self.issue(self.name)):
            raise RuntimeError(f"the certificate of {self.name} was refused; the log says why")


class MemoryMesh:
    """Proxies that run in a nursery, reach each other through memory, and trust one authority.

    Nothing opens a socket or reads a file, so it runs under a ``MockClock``.  Only OpenSSL judges the validity of
    certificates by the machine's clock, which no mock moves; they are valid for a year.

    Attributes:
        network: where the proxies listen and connect, with its faults.
        authority: issues the certificates; replace it, and the next ones are another's.
        anchors: the authorities that come with the next certificates as trusted.
        proxies: those that run, by the name in their certificate, or by their service's without an ``[identity]``.
    """

    def __init__(self, nursery: trio.Nursery, network: MemoryNetwork | None = None) -> None:
        """*nursery* is where everything runs: cancel it to end the mesh."""
        self.network = MemoryNetwork() if network is None else network
        self._began = datetime.datetime.now(datetime.UTC).timestamp()
        self._epoch = self._began - trio.current_time()
        self.authority = self.new_authority()
        self.anchors: list[Authority] = [self.authority]
        self.proxies: dict[str, Proxy] = {}
        self._sources: dict[str, _Issued] = {}
        self._nursery = nursery

    def __repr__(self) -> str:
        return f"<MemoryMesh {', '.join(self.proxies)}>"

    def now(self) -> float:
        """The time of day in the mesh, seconds since the epoch: Trio's clock, begun at the machine's."""
        return self._epoch + trio.current_time()

    def new_authority(self) -> Authority:
        """An authority that nobody trusts yet."""
        # OpenSSL takes 9 MiB, which is for those to pay who use it.
        from meshcore.identity import Authority

        return Authority.make("a mesh in memory", now=self._began)

    async def start(self, config: MeshConfig | str, *, drain: Drain | None = None) -> Proxy:
        """Starts a proxy and waits until it serves.

        Args:
            config: its configuration, or the text of a config file.  Its addresses, the admin server's too, are those
                of the network.  ``[identity]`` says its name alone: certificates come from :attr:`authority`.
            drain: ends it before the nursery does.

        Raises:
            ConfigError: the configuration cannot be used.
        """
        config = parse_config(config) if isinstance(config, str) else config
        name = _name(config)
        source = _Issued(self._issue, name)
        starting = partial(
            run,
            config,
            drain=drain,
            connect=self.network.connect,
            listen=self.network.open_listeners,
            source=source,
            clock=self.now,
        )
        proxy: Proxy = await self._nursery.start(starting)
        self.proxies[name] = proxy
        if config.identity is not None:
            self._sources[name] = source
        return proxy

    def renew(self, *names: str) -> None:
        """Gives the proxies of these names, or all, another certificate and the :attr:`anchors` as they are now."""
        for name in names or tuple(self._sources):
            self._sources[name].renew()

    async def serve(self, address: Address, service: HttpService) -> Server:
        """Starts an application: a server of HTTP/1 and HTTP/2 at an address of the network."""
        listeners = await self.network.open_listeners(*address)
        server = accept(Accepted).then(ServeHttp()).layer(MockNewService[Accepted](lambda _: service))
        return await self._serve(listeners, server)

    async def serve_bytes(self, address: Address, application: Callable[[Connection], Awaitable[None]]) -> Server:
        """Starts an application that speaks anything: *application* is called with each connection, which is closed
        when it returns."""
        listeners = await self.network.open_listeners(*address)
        return await self._serve(listeners, _Bytes(application))

    async def _serve(self, listeners: list[MemoryListener], server: NewAccept[Accepted]) -> Server:
        started: Server = await self._nursery.start(partial(serve, server, listeners, upstreams=self._nursery))
        return started

    def client(self, address: Address, protocol: str = "http") -> HttpService:
        """What an application sends its requests with: a client of whoever listens at *address*.

        Args:
            address: of a proxy, mostly its ``[outbound]``; the request's authority says for whom it is.
            protocol: ``"h2"``, ``"http/1"``, or ``"http"`` for each request's own version.
        """
        client = stack(Endpoint).then(Http()).layer(self.network.connect)
        return client.new_service(Endpoint(address, protocol), self._nursery)

    def _issue(self, name: str) -> Credentials:
        from meshcore.identity import Credentials

        # From the machine's own time on: for OpenSSL the virtual hours since then have not come yet.
        cert, key = self.authority.issue(name, now=self._began, days=365)
        return Credentials.from_pem(cert, key, b"".join(anchor.cert_pem() for anchor in self.anchors))


@attrs.frozen
class _Bytes:
    application: Callable[[Connection], Awaitable[None]]

    def new_service(self, target: Accepted, nursery: trio.Nursery, /) -> Service[Connection, None]:
        return self.application


def _name(config: MeshConfig) -> str:
    if config.own_name or config.service is None:
        return config.own_name or "proxy"
    return f"{config.service.name}.{config.service.namespace}"
