"""A running proxy as a reload sees it: everything is made ready first, and then exchanged at once."""

from __future__ import annotations

import attrs
import trio

from meshcore.config.changes import restart_needed
from meshcore.config.document import dotted
from meshcore.config.mesh import MeshConfig
from meshcore.errors import ConfigError
from meshcore.pipeline.keep import Keeper
from meshcore.pipeline.plan import pipelines
from meshcore.pipeline.policies import replace_policies
from meshcore.pipeline.runtime import Runtime
from meshcore.pipeline.tracing import TracedProcess
from meshcore.running.clients import Clients
from meshcore.running.listeners import Listeners, Prepared
from meshcore.running.rooms import open_rooms
from meshcore.transport.drain import Drain

__all__ = ["Live"]


@attrs.define(eq=False)
class Live:
    """What runs, and where more of it can be started.

    Attributes:
        config: what it runs now.
        runtime: what the process gives its pipelines.
        listeners: where it accepts.
        clients: what an embedder sends requests with.
        keeper: what outlives the pipelines.
        drain: ends the proxy.
        upstreams: the nursery of what outlives connections.
        servers: the nursery of what accepts.
        tracing: what records requests.
        instruments: the nursery of what outlives everything else.
    """

    config: MeshConfig
    runtime: Runtime
    listeners: Listeners
    clients: Clients
    keeper: Keeper
    drain: Drain
    upstreams: trio.Nursery
    servers: trio.Nursery
    tracing: TracedProcess
    instruments: trio.Nursery
    _turn: trio.Lock = attrs.field(factory=trio.Lock, init=False)

    async def apply(self, config: MeshConfig) -> bool:
        """Runs *config* from now on; False if that makes no difference.

        Pipelines are built, files are read and addresses bound before anything that runs is touched, so that a
        configuration which cannot be used changes nothing.

        Raises:
            ConfigError: it cannot be used; with everything that is wrong.
        """
        async with self._turn:
            problems = [f"{dotted(path)}: {text}" for path, text in restart_needed(self.config, config)]
            if problems:
                raise ConfigError(problems)
            draft = self.runtime.draft()
            collector = self.tracing.prepare(config)
            prepared = self.listeners.prepare(pipelines(config, draft))
            clients = self.clients.prepare(config, draft)
            await self.listeners.bind(prepared)
            try:
                for build in prepared.built():
                    await open_rooms(build, self.upstreams)
                if self.drain.started:
                    raise ConfigError([f"the proxy is ending: {self.drain.reason or 'drain'}"])
            except BaseException:
                prepared.discard()
                raise
            changed = config != self.config or bool(prepared.builds)
            self.config = config
            self.runtime.adopt(draft)
            # For connections that stay open, too.
            replace_policies(config, self.runtime)
            self.tracing.use(config, collector, self.instruments)
            self.listeners.grace = config.proxy.grace_period
            self.listeners.commit(prepared)
            self.clients.commit(config, clients)
            self.settle()
            await self.listeners.start(prepared, self.servers, self.upstreams)
            return changed

    async def begin(self, prepared: Prepared) -> None:
        """Makes ready what is to be served, before the first connection: *prepared* was committed already."""
        self.keeper.nursery = self.upstreams
        self.upstreams.start_soon(self.keeper.run, name="keeper")
        # While there is nothing to accept at, the proxy waits for a reload that has something.
        self.servers.start_soon(self.drain.wait_started)
        for build in prepared.built():
            await open_rooms(build, self.upstreams)
        self.settle()

    def settle(self) -> None:
        """What is kept for nobody any more is let go."""
        self.keeper.settle(self.listeners.places() | self.clients.places())
