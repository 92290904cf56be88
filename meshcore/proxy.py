"""A proxy: a configuration in, running pipelines out.  What the binary runs, and an embedder may."""

from __future__ import annotations

import datetime
import logging
from functools import partial
from importlib import metadata
from typing import Any

import attrs
import trio

from meshcore.abc import Connect, HttpService, NewAccept
from meshcore.addresses import format_address
from meshcore.admin import Admin
from meshcore.admin.live import Watch
from meshcore.codec import h2
from meshcore.codec.h1 import engines as h1
from meshcore.config import ProxyConfig
from meshcore.errors import ConfigError
from meshcore.metrics import Registry, crashes_total, process_metrics
from meshcore.pipeline import gateway
from meshcore.server.http import ServeHttp
from meshcore.server.serve import Server, drain_on_signal, serve
from meshcore.stack import Stack, accept
from meshcore.transport.drain import Drain
from meshcore.transport.target import Accepted, Address
from meshcore.transport.tcp import connect_tcp, open_listeners

__all__ = ["AddressError", "Proxy", "main", "run"]

log = logging.getLogger(__name__)

_ADMIN_GRACE = 1.0
"""Seconds that requests to the admin server may take once the proxy itself has drained."""


class AddressError(ConfigError):
    """Addresses cannot be listened on: the configuration is well-formed, and the machine says no."""


@attrs.define(eq=False)
class Proxy:
    """A running proxy.

    Attributes:
        config: what it runs.
        registry: its metrics.
        drain: starts its end.
        stacks: its pipelines by the name of their listener.
        servers: what accepts for them.
        admin: the admin server; None where the configuration has none.
        crashes: in what serves the endpoints; those of accepted connections are counted by their server.
    """

    config: ProxyConfig
    registry: Registry
    drain: Drain
    stacks: dict[str, Stack[Connect, NewAccept[Accepted]]] = attrs.Factory(dict)
    servers: list[Server] = attrs.Factory(list)
    admin: Server | None = None
    crashes: int = 0
    _watches: dict[str, Watch] = attrs.field(factory=dict, init=False)

    @property
    def addresses(self) -> list[Address]:
        """Where it accepts, in the configuration's order."""
        return list(dict.fromkeys(address for server in self.servers for address in server.addresses))

    def own_addresses(self) -> list[Address]:
        """Every address that this process accepts at, the admin server's too: none of them is an endpoint."""
        return [*self.addresses, *(self.admin.addresses if self.admin is not None else ())]

    def statistics(self) -> dict[str, Any]:
        """What its servers and their live services know of themselves, by the pipeline's name."""
        found: dict[str, Any] = {}
        for name, server in zip(self.stacks, self.servers, strict=False):
            found[name] = {
                "listen": [format_address(address) for address in server.addresses],
                "server": attrs.asdict(server.statistics()),
                "services": self._watches[name].trees(),
            }
        return found

    def crashed(self, error: BaseException, where: str, /) -> None:
        """Counts and logs a crash: see :class:`~meshcore.transport.connection.Owner`."""
        self.crashes += 1
        log.warning("crash in %s: %s: %s", where, type(error).__name__, error, exc_info=error)

    def pipeline(self, name: str) -> Stack[Connect, NewAccept[Accepted]]:
        """The pipeline as it runs: with a watch above its retries, for :meth:`statistics`."""
        watch = self._watches[name] = Watch()
        try:
            return self.stacks[name].insert_before("retry", watch)
        except LookupError:
            return self.stacks[name]


async def run(
    config: ProxyConfig,
    *,
    drain: Drain | None = None,
    registry: Registry | None = None,
    connect: Connect = connect_tcp,
    task_status: trio.TaskStatus[Proxy] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Runs a proxy until *drain* has ended, or until it is cancelled.

    First everything is bound, then the pipelines are built, then all of it is served.  The order of the end:
    the servers drain within the grace period, then the upstream connections are closed, then the admin
    server, which has answered until now (better than L-05).

    Args:
        config: what to run.
        drain: ends it; None: only cancellation does.
        registry: where its metrics are kept; None: one of its own.
        connect: how endpoints are connected to.
        task_status: started with the :class:`Proxy`, once it accepts.

    Raises:
        AddressError: an address cannot be listened on.
        ConfigError: something else of the configuration cannot be used, such as a certificate.  Either way
            nothing was started.
    """
    proxy = Proxy(config, Registry() if registry is None else registry, Drain() if drain is None else drain)
    for index, listen in enumerate(config.listen):
        name = "gateway" if index == 0 else f"gateway-{index}"
        proxy.stacks[name] = gateway(
            config, listen, registry=proxy.registry, clock=_wall_clock, owner=proxy, own=proxy.own_addresses
        )
    # Applied before anything is bound: here certificates are read.
    accepts = {name: proxy.pipeline(name).layer(connect) for name in proxy.stacks}
    bound = await _bind(config)
    async with trio.open_nursery() as instruments:
        stop_admin = Drain()
        if config.admin is not None:
            service = _admin(proxy)
            admin = accept(Accepted).then(ServeHttp()).layer(_Single(service))
            start = partial(serve, admin, bound.admin, upstreams=instruments, drain=stop_admin, grace=_ADMIN_GRACE)
            proxy.admin = await instruments.start(partial(start, name="admin"))
        async with trio.open_nursery() as upstreams:
            async with trio.open_nursery() as servers:
                for (name, new_accept), listeners in zip(accepts.items(), bound.listen, strict=True):
                    start = partial(
                        serve,
                        new_accept,
                        listeners,
                        upstreams=upstreams,
                        drain=proxy.drain,
                        grace=config.grace_period,
                        name=name,
                    )
                    proxy.servers.append(await servers.start(start))
                _measure(proxy)
                log.info("%s", _ready_line(proxy))
                task_status.started(proxy)
            upstreams.cancel_scope.cancel()
        stop_admin.start("the proxy has drained")
    log.info("stopped")


@attrs.define
class _Bound:
    """Listeners for each address of the configuration, in its order, and the admin server's."""

    listen: list[list[trio.SocketListener]] = attrs.Factory(list)
    admin: list[trio.SocketListener] = attrs.Factory(list)

    def close(self) -> None:
        for listeners in (*self.listen, self.admin):
            for listener in listeners:
                listener.socket.close()


async def _bind(config: ProxyConfig) -> _Bound:
    """Binds everything or nothing, and tells every address that cannot be had."""
    bound = _Bound()
    problems: list[str] = []

    async def bind(option: str, address: Address) -> list[trio.SocketListener]:
        try:
            return await open_listeners(*address)
        except OSError as error:
            problems.append(f"{option}: {str(error.strerror or error).lower()}")
            return []

    try:
        for listen in config.listen:
            bound.listen.append(await bind("--from", listen.address))
        if config.admin is not None:
            bound.admin = await bind("--admin", config.admin)
        if problems:
            raise AddressError(problems)
    except BaseException:
        bound.close()
        raise
    return bound


class _Single:
    """The same service for every target."""

    __slots__ = ("_service",)

    def __init__(self, service: HttpService) -> None:
        self._service = service

    def __repr__(self) -> str:
        return repr(self._service)

    def new_service(self, target: object, nursery: trio.Nursery, /) -> HttpService:
        """The service."""
        return self._service


def _admin(proxy: Proxy) -> Admin:
    def ready() -> list[str] | None:
        if len(proxy.servers) < len(proxy.stacks):
            return None
        return [format_address(address) for address in proxy.addresses]

    return Admin(
        proxy.drain,
        metrics=lambda openmetrics: proxy.registry.render(openmetrics, now=trio.current_time()),
        ready=ready,
        config=proxy.config,
        stacks=proxy.stacks,
        live=proxy.statistics,
        shutdown=proxy.config.admin_shutdown,
    )


def _measure(proxy: Proxy) -> None:
    """Counts what no layer sees: the process, and connections that crashed."""
    start = _wall_clock()
    version = metadata.version("meshcore-sidecar")
    process_metrics(proxy.registry, start_time=start, version=version, engines=engines(proxy.config))
    cell = crashes_total(proxy.registry)
    seen = [0]

    def collect() -> None:
        crashes = proxy.crashes + sum(server.crashes_total for server in proxy.servers)
        cell.value += crashes - seen[0]
        seen[0] = crashes

    proxy.registry.collect(collect)


def _wall_clock() -> float:
    return datetime.datetime.now(datetime.UTC).timestamp()


def engines(config: ProxyConfig) -> str:
    """The engines that will speak HTTP/1 and HTTP/2, ``"httptools,ngh2"`` for instance."""
    if config.server.engine == "pure":
        return "h11,h2"
    http2 = h2.default_engine()
    return f"{h1.default_engine()},{'h2' if http2 == 'pure' else http2}"


def _ready_line(proxy: Proxy) -> str:
    line = f"ready from={','.join(map(format_address, proxy.addresses))}"
    if proxy.admin is not None:
        line += f" admin={','.join(map(format_address, proxy.admin.addresses))}"
    return f"{line} engines={engines(proxy.config)}"


def main(config: ProxyConfig) -> int:
    """Runs a proxy in a Trio of its own until a signal has drained it; the exit code.

    Raises:
        ConfigError: see :func:`run`.
    """

    refused: list[ConfigError] = []

    async def until_signal() -> None:
        drain = Drain()
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(drain_on_signal, drain))
            try:
                await run(config, drain=drain)
            except ConfigError as error:
                refused.append(error)
            nursery.cancel_scope.cancel()

    trio.run(until_signal)
    if refused:
        raise refused[0]
    return 0
