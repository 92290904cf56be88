"""A proxy: a configuration in, running pipelines out.  What the binary runs, and an embedder may."""

from __future__ import annotations

import datetime
import gc
import logging
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING, Any

import attrs
import trio

from meshcore.abc import Connect, HttpService, NewAccept
from meshcore.addresses import format_address
from meshcore.admin import Admin
from meshcore.admin.live import Watch
from meshcore.codec import h2
from meshcore.codec.h1 import engines as h1
from meshcore.config import MeshConfig, ProxyConfig
from meshcore.errors import ConfigError, leaves
from meshcore.metrics import Registry, crashes_total, process_metrics
from meshcore.pipeline.outbound import requests
from meshcore.pipeline.plan import Pipeline, identity_of, pipelines
from meshcore.pipeline.runtime import Runtime
from meshcore.server.http import ServeHttp
from meshcore.server.serve import Server, drain_on_signal, serve
from meshcore.stack import Stack, accept
from meshcore.transport.drain import Drain
from meshcore.transport.stream import close_at_once
from meshcore.transport.target import Accepted, Address
from meshcore.transport.tcp import connect_tcp, open_listeners
from meshcore.wrap import run_command

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from meshcore.abc import Listen

    # OpenSSL stays unloaded where there is no TLS.
    from meshcore.identity.source import IdentitySource
    from meshcore.identity.store import Identity
    from meshcore.layers.authorize import Policies
    from meshcore.layers.split import Weights

__all__ = ["AddressError", "Proxy", "main", "main_mesh", "run", "serve_config", "stacks"]

log = logging.getLogger(__name__)

_COMPLAINT = 15.0
"""Seconds between two warnings that there is no certificate yet (A-05)."""

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
        identity: what it shows to other proxies; None: it has no mutual TLS.
        stacks: its pipelines by the name of their listener.
        servers: what accepts for them.
        policies: who may call, by the name of the side (``inbound``, or a listener's); replacing one holds at once.
        admin: the admin server; None where the configuration has none.
        weights: of the routes with several backends, as ``listen.NAME/ROUTE`` or ``outbound.to.NAME/ROUTE``; may be
            changed at any time.
        crashes: in what serves the endpoints; those of accepted connections are counted by their server.
    """

    config: ProxyConfig | MeshConfig
    registry: Registry
    drain: Drain
    identity: Identity | None = None
    stacks: dict[str, Stack[Connect, NewAccept[Accepted]]] = attrs.Factory(dict)
    servers: list[Server] = attrs.Factory(list)
    policies: dict[str, Policies] = attrs.Factory(dict)
    admin: Server | None = None
    weights: dict[str, Weights] = attrs.Factory(dict)
    crashes: int = 0
    _watches: dict[str, Watch] = attrs.field(factory=dict, init=False)
    _clients: _Clients | None = attrs.field(default=None, init=False)

    @property
    def addresses(self) -> list[Address]:
        """Where it accepts, in the configuration's order."""
        return list(dict.fromkeys(address for server in self.servers for address in server.addresses))

    @property
    def listeners(self) -> dict[str, tuple[Address, ...]]:
        """Where it accepts, by the listener's name."""
        return {name: server.addresses for name, server in zip(self.stacks, self.servers, strict=False)}

    def own_addresses(self) -> list[Address]:
        """Every address that this process accepts at, the admin server's too: none of them is an endpoint."""
        return [*self.addresses, *(self.admin.addresses if self.admin is not None else ())]

    def client(self, destination: str) -> HttpService:
        """The service for requests to a destination of ``[outbound.to]``, as an application's own requests are sent:
        balanced, tried again, secured.  It raises what goes wrong instead of answering it.

        Raises:
            LookupError: there is no such destination.
        """
        if self._clients is None:
            raise LookupError(f"no destination {destination!r}: there is no [outbound]")
        return self._clients.get(destination)

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
        """The pipeline as it runs: with a watch above what its requests share, for :meth:`statistics`."""
        watch = self._watches[name] = Watch()
        for role in ("rate_limit", "concurrency_limit", "mirror", "retry", "balance"):
            try:
                return self.stacks[name].insert_before(role, watch)
            except LookupError:
                continue
        return self.stacks[name]


async def run(
    config: ProxyConfig | MeshConfig,
    *,
    drain: Drain | None = None,
    registry: Registry | None = None,
    connect: Connect = connect_tcp,
    listen: Listen = open_listeners,
    source: IdentitySource | None = None,
    clock: Callable[[], float] | None = None,
    task_status: trio.TaskStatus[Proxy] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Runs a proxy until *drain* has ended, or until it is cancelled.

    First everything is bound, then the pipelines are built; nothing is served before the identity is certified
    (A-05), while the admin server answers already.  The order of the end: the servers drain within the grace period,
    then the upstream connections are closed, then the admin server (better than L-05).

    Args:
        config: what to run: a reverse proxy's options, or a config file.
        drain: ends it; None: only cancellation does.
        registry: where its metrics are kept; None: one of its own.
        connect: how endpoints are connected to.
        listen: how addresses are listened on, the admin server's too.
        source: certifies the identity, in place of what ``[identity]`` says about files.
        clock: seconds since the epoch, for certificates and logs; None: the machine's.
        task_status: started with the :class:`Proxy`, once it accepts.

    Raises:
        AddressError: an address cannot be listened on.
        ConfigError: something else of the configuration cannot be used, such as a certificate.  Either way
            nothing was started.
    """
    proxy = Proxy(config, Registry() if registry is None else registry, Drain() if drain is None else drain)
    clock = _wall_clock if clock is None else clock
    if isinstance(config, MeshConfig) and config.identity is not None:
        proxy.identity, told = identity_of(config, clock, proxy.registry)
        source = told if source is None else source
    runtime = Runtime(
        registry=proxy.registry,
        identity=proxy.identity,
        clock=clock,
        owner=proxy,
        policies=proxy.policies,
        connect=connect,
        own=proxy.own_addresses,
    )
    proxy.weights = runtime.splits
    plan = pipelines(config, runtime)
    proxy.stacks = {name: each.stack for name, each in plan.items()}
    # Applied before anything is bound: here certificates are read.
    accepts = {name: proxy.pipeline(name).layer(connect) for name in proxy.stacks}
    grace = config.proxy.grace_period if isinstance(config, MeshConfig) else config.grace_period
    bound = await _bind(config, plan, listen)
    async with trio.open_nursery() as instruments:
        stop_admin = Drain()
        if bound.admin:
            service = _admin(proxy)
            admin = accept(Accepted).then(ServeHttp()).layer(_Single(service))
            start = partial(serve, admin, bound.admin, upstreams=instruments, drain=stop_admin, grace=_ADMIN_GRACE)
            proxy.admin = await instruments.start(partial(start, name="admin"))
        async with trio.open_nursery() as upstreams:
            if source is not None and proxy.identity is not None:
                upstreams.start_soon(source.run, proxy.identity, name="identity")
                if not await _certified(proxy.identity, proxy.drain):
                    bound.close()
                    upstreams.cancel_scope.cancel(reason="drained before it was certified")
            if isinstance(config, MeshConfig) and config.outbound is not None:
                proxy._clients = _Clients(config, runtime, connect, upstreams)
            async with trio.open_nursery() as servers:
                for (name, new_accept), listeners in zip(accepts.items(), bound.listen, strict=True):
                    start = partial(
                        serve,
                        new_accept,
                        listeners,
                        upstreams=upstreams,
                        drain=proxy.drain,
                        grace=grace,
                        name=name,
                    )
                    proxy.servers.append(await servers.start(start))
                _measure(proxy)
                log.info("%s", _ready_line(proxy))
                task_status.started(proxy)
            upstreams.cancel_scope.cancel()
        stop_admin.start("the proxy has drained")
    log.info("stopped")


serve_config = run
"""What an embedder calls: ``mesh = await nursery.start(meshcore.serve_config, config)``."""


async def _certified(identity: Identity, drain: Drain) -> bool:
    """Waits for the first certificate; False if the drain began before it came.  Says that it waits (A-05)."""
    async with trio.open_nursery() as nursery:

        async def stop() -> None:
            await drain.wait_started()
            nursery.cancel_scope.cancel(reason="drain")

        async def complain() -> None:
            while True:
                await trio.sleep(_COMPLAINT)
                log.warning("waiting for identity to be initialized: nothing is served before")

        nursery.start_soon(stop)
        nursery.start_soon(complain)
        await identity.wait_certified()
        nursery.cancel_scope.cancel(reason="certified")
    return identity.certified


class _Clients:
    """Services for an embedder's own requests, one for each destination, made when they are first asked for."""

    def __init__(self, config: MeshConfig, runtime: Runtime, connect: Connect, upstreams: trio.Nursery) -> None:
        assert config.outbound is not None
        self._config = config
        self._runtime = runtime
        self._connect = connect
        self._destinations = config.outbound.to
        self._upstreams = upstreams
        self._made: dict[str, HttpService] = {}

    def get(self, destination: str) -> HttpService:
        service = self._made.get(destination)
        if service is None:
            found = self._destinations.get(destination)
            if found is None:
                known = ", ".join(self._destinations)
                raise LookupError(f"no destination {destination!r}; the destinations are: {known}")
            # Whatever authority a request names, it is for this destination.
            stack = requests(self._config, self._runtime, {"*": found}, destination)
            service = stack.layer(self._connect).new_service(Accepted(), self._upstreams)
            self._made[destination] = service
        return service


@attrs.define
class _Bound:
    """Listeners for each address of the configuration, in its order, and the admin server's."""

    listen: list[Sequence[trio.abc.Listener[Any]]] = attrs.Factory(list)
    admin: Sequence[trio.abc.Listener[Any]] = ()

    def close(self) -> None:
        for listeners in (*self.listen, self.admin):
            for listener in listeners:
                close_at_once(listener)


async def _bind(config: ProxyConfig | MeshConfig, plan: dict[str, Pipeline], listen: Listen) -> _Bound:
    """Binds everything or nothing, and tells every address that cannot be had."""
    bound = _Bound()
    problems: list[str] = []

    async def bind(option: str, address: Address) -> Sequence[trio.abc.Listener[Any]]:
        try:
            return await listen(*address)
        except OSError as error:
            problems.append(f"{option}: {str(error.strerror or error).lower()}")
            return ()

    try:
        for pipeline in plan.values():
            bound.listen.append(await bind(pipeline.where, pipeline.listen))
        if isinstance(config, MeshConfig):
            option, admin = "admin.listen", config.admin.listen
        else:
            option, admin = "--admin", config.admin
        if admin is not None:
            bound.admin = await bind(option, admin)
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
    def ready() -> list[str] | str | None:
        if proxy.identity is not None and not proxy.identity.certified:
            refused = proxy.identity.refused
            return f"waiting for the identity{f': {refused}' if refused else ''}"
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
        shutdown=proxy.config.admin.shutdown if isinstance(proxy.config, MeshConfig) else proxy.config.admin_shutdown,
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


def engines(config: ProxyConfig | MeshConfig) -> str:
    """The engines that will speak HTTP/1 and HTTP/2, ``"httptools,ngh2"`` for instance."""
    if (config.proxy.engine if isinstance(config, MeshConfig) else config.server.engine) == "pure":
        return "h11,h2"
    http2 = h2.default_engine()
    return f"{h1.default_engine()},{'h2' if http2 == 'pure' else http2}"


def _ready_line(proxy: Proxy) -> str:
    if isinstance(proxy.config, MeshConfig):
        # Several listeners that are not alike, each by its name.
        where = " ".join(f"{name}={','.join(map(format_address, found))}" for name, found in proxy.listeners.items())
    else:
        where = f"from={','.join(map(format_address, proxy.addresses))}"
    line = f"ready {where}"
    if proxy.admin is not None:
        line += f" admin={','.join(map(format_address, proxy.admin.addresses))}"
    if proxy.identity is not None:
        line += f" identity={proxy.identity.name}"
    return f"{line} engines={engines(proxy.config)}"


def stacks(config: ProxyConfig | MeshConfig) -> dict[str, Stack[Connect, NewAccept[Accepted]]]:
    """The pipelines that :func:`run` would run, by the name of their listener; nothing is bound or started.

    Raises:
        ConfigError: they cannot be built.
    """
    return {name: each.stack for name, each in pipelines(config, Runtime()).items()}


_THRESHOLDS = (10_000, 20, 50)
"""New objects after which the youngest are looked through, and how often that is done before older ones are."""


def main(config: ProxyConfig) -> int:
    """Runs a proxy in a Trio of its own until a signal has drained it; the exit code.

    Raises:
        ConfigError: see :func:`run`.
    """
    return _main(config, None, config.grace_period)


def main_mesh(config: MeshConfig, command: Sequence[str] | None = None) -> int:
    """Runs a config file in a Trio of its own, until a signal has drained it or *command*, started once it is ready,
    has ended; the exit code.

    Raises:
        ConfigError: see :func:`run`.
    """
    return _main(config, command, config.proxy.grace_period)


def _main(config: ProxyConfig | MeshConfig, command: Sequence[str] | None, grace: float) -> int:
    refused: list[ConfigError] = []
    codes: list[int] = []

    async def until_signal() -> None:
        drain, ready = Drain(), trio.Event()

        async def wrap() -> None:
            if command:
                codes.append(await run_command(command, ready=ready, drain=drain, grace=grace))

        async def serving() -> None:
            try:
                async with trio.open_nursery() as serving_nursery:
                    await serving_nursery.start(partial(run, config, drain=drain))
                    ready.set()
                    _collect_less()
            except* ConfigError as group:
                refused.extend(error for error in leaves(group) if isinstance(error, ConfigError))
                drain.start("refused")

        async with trio.open_nursery() as nursery:
            await nursery.start(partial(drain_on_signal, drain))
            async with trio.open_nursery() as work:
                work.start_soon(wrap)
                work.start_soon(serving)
            nursery.cancel_scope.cancel()

    trio.run(until_signal)
    if refused:
        raise refused[0]
    return codes[0] if codes else 0


def _collect_less() -> None:
    """For a process that does nothing but proxy: what exists once it is ready stays, and is not looked at again by the
    garbage collector; what a request leaves is freed by its reference counts, so that looking for cycles among a few
    hundred new objects, again and again, is mostly in vain (it was 8 % of a small request)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
