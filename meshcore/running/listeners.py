"""The listeners of a running proxy: each with its pipeline, which a reload may exchange, and its server."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import trio

from meshcore.admin.live import Watch
from meshcore.pipeline.build import Build, applied, build, watched
from meshcore.pipeline.plan import Pipeline
from meshcore.pipeline.same import same
from meshcore.running.bind import Bound, bind, close_all
from meshcore.running.rooms import close_rooms, leave
from meshcore.server.serve import Server, Serving, serve
from meshcore.transport.drain import Drain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from meshcore.abc import Connect, Listen
    from meshcore.accounting.ledger import Ledger
    from meshcore.pipeline.keep import Keeper, Place
    from meshcore.transport.target import Address

__all__ = ["Listener", "Listeners", "Prepared"]

log = logging.getLogger(__name__)


@attrs.define(eq=False)
class Listener:
    """One listener.

    Attributes:
        name: of its pipeline.
        pipeline: the pipeline, and where it accepts.
        build: the pipeline as it was built.
        watch: sees its live services.
        server: what accepts for it; None before it does.
    """

    name: str
    pipeline: Pipeline
    build: Build
    watch: Watch = attrs.Factory(Watch)
    server: Server | None = None


@attrs.define(eq=False)
class Prepared:
    """What a configuration makes of the listeners: nothing of it is in use yet.

    Attributes:
        listeners: all that there are to be, in order.
        builds: for those that accept already: what they are to be served with from now on.
        added: those that are new.
        bound: what the new ones listen on, in their order.
        removed: those that are to end.
    """

    listeners: dict[str, Listener] = attrs.Factory(dict)
    builds: list[tuple[Listener, Pipeline, Build]] = attrs.Factory(list)
    added: list[Listener] = attrs.Factory(list)
    bound: Bound = attrs.Factory(list)
    removed: list[Listener] = attrs.Factory(list)

    def built(self) -> list[Build]:
        """Everything that was built."""
        return [*(made for _, _, made in self.builds), *(listener.build for listener in self.added)]

    def discard(self) -> None:
        """It will not be used."""
        close_all(self.bound)
        for each in self.built():
            close_rooms(each)


class Listeners:
    """The listeners of one proxy.

    Attributes:
        by_name: those that there are, in the configuration's order.
        draining: servers of listeners that were removed, which finish what they have.
        grace: seconds that this may take.
        crashes: connections that crashed in servers that are gone.
        ledger: accounts what their layers do; None: nobody does.
    """

    def __init__(
        self, connect: Connect, listen: Listen, keeper: Keeper | None, drain: Drain, ledger: Ledger | None = None
    ) -> None:
        self.by_name: dict[str, Listener] = {}
        self.draining: set[Server] = set()
        self.grace = 120.0
        self.crashes = 0
        self.ledger = ledger
        self._connect = connect
        self._listen = listen
        self._keeper = keeper
        self._drain = drain

    @property
    def servers(self) -> list[Server]:
        """What accepts, in the configuration's order."""
        return [each.server for each in self.by_name.values() if each.server is not None]

    def services(self) -> list[tuple[str, object]]:
        """The live services that requests and connections share, each with its pipeline's name."""
        if self._keeper is not None:
            return self._keeper.running()
        return [(name, service) for name, each in self.by_name.items() for service in each.watch.services()]

    def prepare(self, plan: Mapping[str, Pipeline]) -> Prepared:
        """Builds every pipeline that is not there yet as it is wanted.

        Raises:
            ConfigError: one cannot be built.
        """
        prepared = Prepared()
        known = dict(self.by_name)
        for name, pipeline in plan.items():
            old = known.get(name)
            if old is not None and old.pipeline.listen != pipeline.listen:
                old = None
            if old is None:
                # It may have had another name.
                old = next((each for each in known.values() if _takes_over(each, pipeline, plan)), None)
            if old is None:
                watch = Watch()
                listener = Listener(name, pipeline, self._build(name, pipeline, watch), watch)
                prepared.added.append(listener)
                prepared.listeners[name] = listener
                continue
            del known[old.name]
            prepared.listeners[name] = old
            if name != old.name or not same(old.pipeline.stack, pipeline.stack):
                prepared.builds.append((old, pipeline, self._build(name, pipeline, old.watch)))
        prepared.removed = list(known.values())
        return prepared

    def _build(self, name: str, pipeline: Pipeline, watch: Watch) -> Build:
        if self._keeper is None:
            new = applied(name, watched(pipeline.stack, watch), self._connect, self.ledger)
            return Build(pipeline.stack, new)
        return build(name, pipeline.stack, self._connect, self._keeper, watch, self.ledger)

    async def bind(self, prepared: Prepared, also: Sequence[tuple[str, Address]] = ()) -> Bound:
        """Listens on the addresses that are new, and on those in *also*, whose listeners it returns.

        Raises:
            AddressError: with all that cannot be had; then none is.
        """
        wanted = [(each.pipeline.where, each.pipeline.listen) for each in prepared.added]
        bound = await bind((*wanted, *also), self._listen)
        prepared.bound = bound[: len(wanted)]
        return bound[len(wanted) :]

    def commit(self, prepared: Prepared) -> None:
        """From now on it is as prepared.  Synchronous: there is no moment at which only a part of it holds."""
        for listener, pipeline, new in prepared.builds:
            old = listener.build
            name = next(name for name, each in prepared.listeners.items() if each is listener)
            listener.name, listener.pipeline, listener.build = name, pipeline, new
            assert listener.server is not None
            assert new.connections is not None
            serving = listener.server.swap(new.new, new.connections, name)
            old.move_to(new)
            leave(old, self._keeper, partial(_in_use, serving))
        for listener in prepared.removed:
            server = listener.server
            assert server is not None
            self.draining.add(server)
            server.drain.start("removed by a reload")
            leave(listener.build, self._keeper, partial(_has_connections, server), removed=True)
        self.by_name = prepared.listeners

    def places(self) -> dict[Place, tuple[Any, ...] | None]:
        """Where stacks are kept, and for which targets."""
        return {place: targets for each in self.by_name.values() for place, targets in each.build.places.items()}

    async def start(self, prepared: Prepared, servers: trio.Nursery, upstreams: trio.Nursery) -> None:
        """Begins to accept at the new listeners."""
        for listener, bound in zip(prepared.added, prepared.bound, strict=True):
            if self._drain.started:
                close_all([bound])
                continue
            room = listener.build.connections or upstreams
            listener.server = await servers.start(partial(self._serve, listener, bound, room))

    async def _serve(
        self,
        listener: Listener,
        bound: Any,
        upstreams: trio.Nursery,
        task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        # Of its own, since a reload may remove it; the proxy's drain is all of theirs.
        drain = Drain()
        forget = self._drain.on_start(lambda: drain.start(self._drain.reason))
        server: Server | None = None

        async with trio.open_nursery() as nursery:
            start = partial(serve, listener.build.new, bound, upstreams=upstreams, drain=drain, grace=self.grace)
            server = await nursery.start(partial(start, name=listener.name))
            assert server is not None
            task_status.started(server)
        forget()
        self.crashes += server.crashes_total
        server.crashes_total = 0
        self.draining.discard(server)


def _in_use(serving: Serving) -> bool:
    return serving.open > 0


def _has_connections(server: Server) -> bool:
    return server.open_connections > 0


def _takes_over(old: Listener, pipeline: Pipeline, plan: Mapping[str, Pipeline]) -> bool:
    """Whether the socket of *old* is to be that of *pipeline*, which has another name."""
    if old.pipeline.listen != pipeline.listen or pipeline.listen[1] == 0:
        return False
    return old.name not in plan or plan[old.name].listen != pipeline.listen
