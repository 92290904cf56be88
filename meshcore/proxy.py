"""A proxy: a configuration in, running pipelines out.  What the binary runs, and an embedder may."""

from __future__ import annotations

import datetime
import logging
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING, Any

import attrs
import trio

from meshcore.accounting import Ledger
from meshcore.addresses import format_address
from meshcore.admin.stats.sampler import Sampler
from meshcore.codec import h2
from meshcore.codec.h1 import engines as h1
from meshcore.config import MeshConfig, ProxyConfig
from meshcore.errors import ConfigError
from meshcore.layers.tap import Subscription, TapFilter, TapHub, TapQuery
from meshcore.metrics import Registry, crashes_total, process_metrics
from meshcore.metrics.feed import Feed
from meshcore.metrics.happenings import tell_drain, tell_ready
from meshcore.pipeline.keep import Keeper
from meshcore.pipeline.plan import identity_of, pipelines
from meshcore.pipeline.runtime import Runtime
from meshcore.pipeline.tracing import TracedProcess
from meshcore.running import AddressError, Reloader
from meshcore.running.admin import admin_address, prepare_admin, serve_admin
from meshcore.running.clients import Clients
from meshcore.running.instruments import instruments as instruments_of
from meshcore.running.listeners import Listener, Listeners
from meshcore.running.live import Live
from meshcore.running.sampled import SampledProxy
from meshcore.server.serve import Server
from meshcore.tracing.tracer import Tracer
from meshcore.transport.drain import Drain
from meshcore.transport.tcp import connect_tcp, open_listeners

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from meshcore.abc import Connect, HttpService, Listen, NewAccept
    from meshcore.admin.events import Events
    from meshcore.admin.log_stream import LogStream
    from meshcore.admin.stats import Stats
    from meshcore.config import ConfigFile

    # OpenSSL stays unloaded where there is no TLS.
    from meshcore.identity.source import IdentitySource
    from meshcore.identity.store import Identity
    from meshcore.layers.authorize import Policies
    from meshcore.layers.split import Weights
    from meshcore.log_levels import LogLevels
    from meshcore.metrics.scheduler import Scheduler
    from meshcore.running import Reloaded
    from meshcore.stack import Stack
    from meshcore.transport.target import Accepted, Address

__all__ = ["AddressError", "Proxy", "run", "serve_config", "stacks"]

log = logging.getLogger(__name__)

_COMPLAINT = 15.0
"""Seconds between two warnings that there is no certificate yet (A-05)."""


@attrs.define(eq=False)
class Proxy:
    """A running proxy.

    Attributes:
        config: what it runs.
        registry: its metrics.
        drain: starts its end.
        identity: what it shows to other proxies; None: it has no mutual TLS.
        policies: who may call, by the name of the side (``inbound``, or a listener's); replacing one holds at once.
        admin: the admin server; None where the configuration has none.
        weights: of the routes with several backends, as ``listen.NAME/ROUTE`` or ``outbound.to.NAME/ROUTE``; may be
            changed at any time.
        feed: what has happened to it; None before it runs.
        events: tells those who look with a browser; None where there is no admin server.
        levels: those of the process's loggers; None: they are not the proxy's to tell or to change.
        log_stream: tells those who read its log; None where there is no admin server, or no *levels*.
        taps: who looks at its requests; see :meth:`tap`.
        sampler: looks at its metrics while somebody asks; None before it runs.
        crashes: in what serves the endpoints; those of accepted connections are counted by their server.
        reloader: takes other configurations; None for a reverse proxy without a config file.
        serving: whether everything is up.
        ledger: accounts what the layers of its pipelines do; None: nobody does.
    """

    config: ProxyConfig | MeshConfig
    registry: Registry
    drain: Drain
    identity: Identity | None = None
    policies: dict[str, Policies] = attrs.Factory(dict)
    admin: Server | None = None
    weights: dict[str, Weights] = attrs.Factory(dict)
    feed: Feed | None = None
    events: Events | None = None
    levels: LogLevels | None = None
    log_stream: LogStream | None = None
    taps: TapHub = attrs.Factory(TapHub)
    sampler: Sampler | None = None
    crashes: int = 0
    reloader: Reloader | None = None
    ledger: Ledger | None = None
    serving: bool = attrs.field(default=False, init=False)
    _listeners: Listeners | None = attrs.field(default=None, init=False)
    _clients: Clients | None = attrs.field(default=None, init=False)

    @property
    def stacks(self) -> dict[str, Stack[Connect, NewAccept[Accepted]]]:
        """Its pipelines by the name of their listener."""
        return {name: each.pipeline.stack for name, each in self._by_name().items()}

    @property
    def servers(self) -> list[Server]:
        """What accepts for them."""
        return [each.server for each in self._by_name().values() if each.server is not None]

    def _by_name(self) -> dict[str, Listener]:
        return {} if self._listeners is None else self._listeners.by_name

    @property
    def addresses(self) -> list[Address]:
        """Where it accepts, in the configuration's order."""
        return list(dict.fromkeys(address for server in self.servers for address in server.addresses))

    @property
    def listeners(self) -> dict[str, tuple[Address, ...]]:
        """Where it accepts, by the listener's name."""
        return {name: each.server.addresses for name, each in self._by_name().items() if each.server is not None}

    async def stats(self, window: float = 10.0) -> Stats:
        """The golden metrics of the last seconds, by route, backend, endpoint and edge: what ``/stats`` tells.

        Who asks first waits for a second, while it is looked what comes; for 15 s after the last question it is looked
        once a second.

        Args:
            window: seconds, from 1 to 60; what they cover may be less at first.

        Raises:
            RuntimeError: the proxy does not run yet.
        """
        if self.sampler is None:
            raise RuntimeError("the proxy does not run yet")
        return await self.sampler.stats(window)

    def own_addresses(self) -> list[Address]:
        """Every address that this process accepts at, the admin server's too: none of them is an endpoint."""
        return [*self.addresses, *(self.admin.addresses if self.admin is not None else ())]

    def client(self, destination: str) -> HttpService:
        """The service for requests to a destination of ``[outbound.to]``, as an application's own requests are sent:
        balanced, tried again, secured.  It raises what goes wrong instead of answering it.  A reload changes what is
        behind it.

        Raises:
            LookupError: there is no such destination.
        """
        if self._clients is None:
            raise LookupError(f"no destination {destination!r}: there is no [outbound]")
        return self._clients.get(destination)

    async def reload(self, config: MeshConfig, cause: str = "the program") -> Reloaded:
        """Runs another configuration from now on: at once, and whole or not at all.  What it does not change keeps its
        connections, streams and statistics.

        Args:
            config: the other one.
            cause: who asks for it, for the log.

        Raises:
            ConfigError: it cannot be used, or only after a restart; nothing has changed.
        """
        if self.reloader is None:
            raise ConfigError(["this proxy has no configuration that could be reloaded"])
        return await self.reloader.take(config, cause)

    def tap(
        self, wanted: TapFilter | None = None, *, rate: float | None = None, limit: int | None = None
    ) -> Subscription:
        """Its requests as they pass: ``async with proxy.tap(TapFilter(path="/v1")) as events``, then ``async for``.
        The events are those of ``/tap``.

        Args:
            wanted: which; all by default.
            rate: events a second at the most; None: any number.
            limit: requests in all, after which the iteration ends; None: any number.

        Raises:
            LoadShedError: as many look on as may.
        """
        return self.taps.subscribe(TapQuery(filter=wanted or TapFilter(), rate=rate, limit=limit))

    def statistics(self) -> dict[str, Any]:
        """What its servers and their live services know of themselves, by the pipeline's name."""
        return {
            name: {
                "listen": [format_address(address) for address in each.server.addresses],
                "server": attrs.asdict(each.server.statistics()),
                "services": each.watch.trees(),
            }
            for name, each in self._by_name().items()
            if each.server is not None
        }

    def accounts(self, pipeline: str) -> dict[str, dict[str, Any]] | None:
        """What the layers of a pipeline have done, by their places; None: nobody accounts for it."""
        return None if self.ledger is None else self.ledger.value(pipeline)

    def crashed(self, error: BaseException, where: str, /) -> None:
        """Counts and logs a crash: see :class:`~meshcore.transport.connection.Owner`."""
        self.crashes += 1
        log.warning("crash in %s: %s: %s", where, type(error).__name__, error, exc_info=error)

    def all_crashes(self) -> int:
        """Those of accepted connections, too, and of servers that are gone."""
        found = self._listeners
        if found is None:
            return self.crashes
        servers = (*found.servers, *found.draining)
        return self.crashes + found.crashes + sum(server.crashes_total for server in servers)


async def run(
    config: ProxyConfig | MeshConfig,
    *,
    drain: Drain | None = None,
    registry: Registry | None = None,
    connect: Connect = connect_tcp,
    listen: Listen = open_listeners,
    source: IdentitySource | None = None,
    file: ConfigFile | None = None,
    reloaded: Callable[[MeshConfig], object] | None = None,
    clock: Callable[[], float] | None = None,
    levels: LogLevels | None = None,
    tracer: Tracer | None = None,
    resource: Mapping[str, str] | None = None,
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
        file: where *config* was read from: it is read again when it changes, and at ``POST /reload``.
        reloaded: called with each configuration that a reload has brought.
        clock: seconds since the epoch, for certificates and logs; None: the machine's.
        levels: those of the process's loggers, for the admin server to tell and to change; None: it does neither.
        tracer: decides which requests are recorded, and by whom; None: what ``[tracing]`` says.
        resource: attributes of the process for spans, beside those that ``[tracing]`` names.
        task_status: started with the :class:`Proxy`, once it accepts.

    Raises:
        AddressError: an address cannot be listened on.
        ConfigError: something else of the configuration cannot be used, such as a certificate.  Either way
            nothing was started.
    """
    mesh = config if isinstance(config, MeshConfig) else None
    if registry is None:
        registry = Registry() if mesh is None else Registry(max_series=mesh.metrics.max_series)
    proxy = Proxy(config, registry, Drain() if drain is None else drain, levels=levels)
    clock = _wall_clock if clock is None else clock
    proxy.taps = TapHub(clock)
    feed = proxy.feed = Feed(clock)
    proxy.drain.on_start(lambda: tell_drain(feed, proxy.drain.reason))
    if isinstance(config, MeshConfig) and config.identity is not None:
        proxy.identity, told = identity_of(config, clock, proxy.registry, proxy.feed)
        source = told if source is None else source
    if (config.proxy if isinstance(config, MeshConfig) else config).layer_accounting:
        proxy.ledger = Ledger()
    runtime = Runtime(
        registry=proxy.registry,
        ledger=proxy.ledger,
        identity=proxy.identity,
        clock=clock,
        feed=proxy.feed,
        tap=proxy.taps,
        owner=proxy,
        policies=proxy.policies,
        connect=connect,
        own=proxy.own_addresses,
        authority_labels=mesh is not None and mesh.metrics.authority,
        tracer=Tracer() if tracer is None else tracer,
    )
    tracing = TracedProcess(runtime, resource)
    collector = tracing.prepare(config) if isinstance(config, MeshConfig) else None
    proxy.weights = runtime.splits
    keeper = Keeper(proxy) if mesh is not None else None
    listeners = proxy._listeners = Listeners(connect, listen, keeper, proxy.drain, proxy.ledger)
    listeners.grace = config.proxy.grace_period if isinstance(config, MeshConfig) else config.grace_period
    sampler = proxy.sampler = Sampler(SampledProxy(proxy, listeners.services, clock))
    # Built before anything is bound: here certificates are read.
    pages = prepare_admin(proxy)
    prepared = listeners.prepare(pipelines(config, runtime))
    bound_admin = await listeners.bind(prepared, admin_address(config))
    listeners.commit(prepared)
    # Somebody may look while the proxy waits for its certificate.
    scheduler = _measure(proxy)
    async with trio.open_nursery() as instruments:
        stop_admin = Drain()
        stop_admin.on_start(sampler.stop)
        instruments.start_soon(sampler.run, name="sampler")
        for bound in bound_admin:
            proxy.admin = await instruments.start(serve_admin, proxy, pages, bound, instruments, stop_admin)
        async with trio.open_nursery() as upstreams:
            upstreams.start_soon(scheduler.run, name="scheduler metrics")
            if source is not None and proxy.identity is not None:
                from meshcore.identity.expiry import watch_expiry

                upstreams.start_soon(source.run, proxy.identity, name="identity")
                upstreams.start_soon(watch_expiry, proxy.identity, name="expiry")
                if not await _certified(proxy.identity, proxy.drain):
                    prepared.discard()
                    upstreams.cancel_scope.cancel(reason="drained before it was certified")
            async with trio.open_nursery() as servers:
                if mesh is not None and keeper is not None:
                    clients = proxy._clients = Clients(mesh, runtime, connect, keeper)
                    live = Live(
                        mesh, runtime, listeners, clients, keeper, proxy.drain, upstreams, servers, tracing, instruments
                    )
                    tracing.use(mesh, collector, instruments)
                    await live.begin(prepared)
                    taken = partial(_taken, proxy, reloaded)
                    proxy.reloader = Reloader(live, proxy.registry, clock, source=file, applied=taken, feed=feed)
                    if file is not None:
                        upstreams.start_soon(proxy.reloader.watch, name="config file")
                await listeners.start(prepared, servers, upstreams)
                proxy.serving = True
                log.info("%s", _ready_line(proxy))
                tell_ready(feed, ",".join(map(format_address, proxy.addresses)))
                task_status.started(proxy)
            upstreams.cancel_scope.cancel()
        # Every span has ended by now.
        tracing.end()
        tell_drain(feed, None)
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


def _taken(proxy: Proxy, tell: Callable[[MeshConfig], object] | None, config: MeshConfig) -> None:
    proxy.config = config
    if tell is not None:
        tell(config)


def _measure(proxy: Proxy) -> Scheduler:
    """Counts what no layer sees: the process, connections that crashed, and the scheduler, which is to be run."""
    start = _wall_clock()
    version = metadata.version("meshcore-sidecar")
    process_metrics(proxy.registry, start_time=start, version=version, engines=engines(proxy.config))
    cell = crashes_total(proxy.registry)
    draining = proxy.registry.gauge("proxy_draining", "Whether the drain has begun").labels()
    seen = [0]

    def collect() -> None:
        draining.value = int(proxy.drain.started)
        crashes = proxy.all_crashes()
        cell.value += crashes - seen[0]
        seen[0] = crashes

    proxy.registry.collect(collect)
    return instruments_of(proxy.registry, proxy.ledger)


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
