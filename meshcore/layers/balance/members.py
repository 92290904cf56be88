"""The endpoints of one balancer: who they are, by discovery, and which of them may be picked."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import trio

from meshcore._wakeup import clock
from meshcore.abc import Status
from meshcore.errors import MeshError, NotReady
from meshcore.layers.balance.member import EndpointStatistics, Member
from meshcore.metrics.happenings import tell_discovery, tell_endpoint, tell_endpoints, tell_panic
from meshcore.resolve.update import changes, identity
from meshcore.transport.about import About

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meshcore.abc import NewService
    from meshcore.layers.balance.balancer import Balancer
    from meshcore.layers.balance.balancing import Balancing
    from meshcore.layers.balance.layer import Balance
    from meshcore.layers.balance.load import Load
    from meshcore.layers.balance.metrics import BalanceMetrics
    from meshcore.layers.balance.ready import Picker
    from meshcore.transport.target import Backend, Endpoint

__all__ = ["Members"]

log = logging.getLogger(__name__)

_SOME = 8


class Members:
    """What discovery has named, each with a task of its own; those that may be picked are in the picker's list.

    Attributes:
        all: by what makes an endpoint the same one as before.
        discovered: whether discovery has ever named any.
        final: whether it has said that nothing will change.
        panicking: whether so few are open that busy ones may be picked.
        backoff, drain, rng, owner, inner, slow_start: as the layer has them, for the endpoints.
    """

    __slots__ = (
        "_balancer",
        "_draining",
        "_feed",
        "_load",
        "_metrics",
        "_now",
        "_nursery",
        "_open",
        "_panic",
        "_picker",
        "_ready",
        "_resolve",
        "_target",
        "_undecided",
        "_updating",
        "_watching",
        "_weighted",
        "all",
        "backoff",
        "discovered",
        "drain",
        "final",
        "inner",
        "owner",
        "panicking",
        "rng",
        "slow_start",
    )

    def __init__(
        self,
        balancer: Balancer[Any, Any],
        layer: Balance,
        balancing: Balancing,
        load: Load,
        picker: Picker,
        inner: NewService[Endpoint, Any, Any],
        target: Backend,
        metrics: BalanceMetrics,
    ) -> None:
        self._balancer = balancer
        self.backoff = layer.backoff
        self.drain = layer.drain
        self.rng = layer.rng
        self.owner = layer.owner
        self.inner = inner
        self.slow_start = balancing.slow_start
        self._panic = balancing.panic
        self._load = load
        self._picker = picker
        self._ready = picker.ready
        # Those with a weight, and those of them that are ready and open.
        self._weighted = 0
        self._open = 0
        self._undecided = 0
        self.panicking = False
        self._updating = False
        self._resolve = layer.resolve
        self._target = target
        self._metrics = metrics
        self._feed = layer.feed
        self._now = clock()
        self._nursery: trio.Nursery | None = None
        self._watching: trio.CancelScope | None = None
        self._draining: set[Member] = set()
        self.all: dict[Endpoint, Member] = {}
        self.discovered = False
        self.final = False

    def statistics(self, now: float) -> tuple[EndpointStatistics, ...]:
        """What is known of each now, those that drain included."""
        return tuple(member.statistics(now) for member in (*self.all.values(), *self._draining))

    def in_flight(self) -> bool:
        """Whether any has an exchange that has not ended."""
        return any(member.in_flight for member in (*self.all.values(), *self._draining))

    def discovery(self) -> object:
        """What the resolver tells of itself; None where it does not."""
        statistics = getattr(self._resolve, "statistics", None)
        return None if statistics is None else statistics(self._target)

    # ----- discovery -----

    async def run(self) -> None:
        """The balancer's task: discovery, and a task for each endpoint."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                while True:
                    with trio.CancelScope() as self._watching:
                        await self._watch()
                        self.final = True
                        if not self.all:
                            self._balancer.settled()
                        # Discovery may have handed its `publish` on.
                        await trio.sleep_forever()
        finally:
            self._nursery = None

    def retarget(self, target: Backend, /) -> None:
        """Discovery begins anew, for *target*; those who are known stay until it has named others."""
        self._target = target
        self.final = False
        if self._watching is not None:
            self._watching.cancel(reason="another target")

    async def _watch(self) -> None:
        failures = 0
        while True:
            try:
                await self._resolve.watch(self._target, self.publish)
            except Exception as error:
                # The last good set stays.
                failures += 1
                source = self._target.discover or "discovery"
                tell_discovery(self._feed, self._target.name, source, f"{type(error).__name__}: {error}")
                where = f"discovery of backend {self._target.name}"
                if self.owner is not None:
                    self.owner.crashed(error, where)
                else:
                    log.error("crash in %s: %s", where, error, exc_info=error)
                await trio.sleep(self.backoff.delay(failures, self.rng))
            else:
                return

    def publish(self, endpoints: Sequence[Endpoint], /) -> None:
        """The whole set of endpoints, from discovery; what did not change keeps all that it has (B-22)."""
        nursery = self._nursery
        if nursery is None:
            return
        first = not self.discovered
        self.discovered = True
        self._updating = True
        update = changes([member.endpoint for member in self.all.values()], endpoints)
        if not first or self._target.discover is not None:
            # Those that a backend is made with are no news: there is one for every name that is asked for.
            tell_endpoints(self._feed, self._target.name, update.added, update.removed, first=first)
        metrics = self._metrics
        metrics.reset_total.value += 1
        metrics.added_total.value += len(update.added)
        metrics.removed_total.value += len(update.removed)
        for endpoint in update.removed:
            member = self.all.pop(identity(endpoint))
            self._draining.add(member)
            member.remove()
            self.place(member)
        for endpoint in update.weighted:
            member = self.all[identity(endpoint)]
            was_ready = member.slot >= 0
            self._ready.remove(member)
            member.reweigh(endpoint, self._now())
            if was_ready:
                # Only its share is another: what is known of its load holds.
                self.place(member)
            elif member.state == "ready":
                self.readied(member)
            else:
                self.place(member)
        now = self._now()
        for endpoint in update.added:
            member = self.all[identity(endpoint)] = Member(self, endpoint, self._load.start(now), now)
            self.place(member)
            nursery.start_soon(member.run, name=f"endpoint {endpoint}")
        weighted = [member.endpoint for member in self.all.values() if member.endpoint.weight > 0]
        self._weighted = len(weighted)
        known = getattr(self._picker, "known", None)
        if known is not None:
            known(weighted)
        self._updating = False
        self._look()

    # ----- what an endpoint tells -----

    def wanted(self) -> bool:
        """Whether requests wait for an endpoint."""
        return self._balancer.wanted()

    def failed(self) -> None:
        """One could not be connected."""
        self._balancer.failed()

    def lost(self, member: Member, error: MeshError | None, /) -> None:
        """One is out because of *error*; None: it is connected again."""
        tell_endpoint(self._feed, self._target.name, member.endpoint, error)

    def readied(self, member: Member, /) -> None:
        """One can take requests: it is connected, or its gates have opened again."""
        if member.slot < 0:
            now = self._now()
            member.start_slowly(now)
            # A few are enough to tell what is usual here, however many there are.
            some = [other.load.estimate(now) for other in self._ready.some(_SOME)]
            member.load.anew(now, sum(some) / len(some) if some else None)
        # One that a panic has put on the list already counts as open again, which may end the panic.
        self.place(member)

    def place(self, member: Member, /) -> None:
        """Puts one where it belongs: among those that may be picked, or not."""
        usable = member.state == "ready" and member.weight > 0
        is_open = usable and member.status is Status.OPEN
        self._count(member, is_open, member.undecided)
        if not is_open and not (self.panicking and usable and member.status is Status.BUSY):
            self._ready.remove(member)
        elif member.slot < 0:
            self._ready.add(member)
            self._balancer.added()

    def _count(self, member: Member, is_open: bool, undecided: bool) -> None:
        if (is_open, undecided) != (member.open, member.hoped_for):
            self._open += is_open - member.open
            self._undecided += undecided - member.hoped_for
            member.open, member.hoped_for = is_open, undecided
            self._look()

    def _look(self) -> None:
        """Whether there is a panic, which changes who may be picked."""
        # There is hope of those of which nothing is known yet.
        panicking = self._open + self._undecided < self._weighted * self._panic
        if panicking == self.panicking or self._updating:
            return
        self.panicking = panicking
        tell_panic(self._feed, self._target.name, self._open, panicking=panicking)
        for member in self.all.values():
            if member.status is Status.BUSY:
                self.place(member)

    def reshare(self, member: Member, weight: float, /) -> None:
        """One has another share now, since it starts slowly."""
        ready = member.slot >= 0
        self._ready.remove(member)
        member.weight = weight
        if ready:
            self._ready.add(member)

    def ended(self, member: Member, /) -> None:
        """One's task is over, or has to begin anew."""
        self._ready.remove(member)
        self._draining.discard(member)
        self._count(member, False, False)

    # ----- what a request tells -----

    def give_up(self, member: Member, error: MeshError) -> None:
        """One did not take a request that it was given: it could not be connected, or its gate was shut."""
        self._ready.take_back(member)
        if isinstance(error, NotReady):
            # Those who wait are given endpoints before they call them, so this is nobody's failure.
            self._ready.remove(member)
            member.refused()
            return
        if member.state == "ready":
            log.info("endpoint %s is out: %s", member.endpoint, error, extra=About(endpoint=member.endpoint))
            self.lost(member, error)
        member.failures += 1
        member.take_out(error)
        self.place(member)
