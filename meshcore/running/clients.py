"""Services for an embedder's own requests, by the destination's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshcore.errors import NoRoute
from meshcore.layers.tap import Tap
from meshcore.pipeline.build import Build, build
from meshcore.pipeline.outbound import requests
from meshcore.pipeline.reloadable import Reloadable
from meshcore.pipeline.same import same
from meshcore.pipeline.tracing import served, tracer_of
from meshcore.running.rooms import leave
from meshcore.stack import Stack
from meshcore.transport.target import Accepted

if TYPE_CHECKING:
    import trio

    from meshcore.abc import Connect, HttpService
    from meshcore.config import MeshConfig
    from meshcore.http.message import Request, Response
    from meshcore.pipeline.keep import Keeper, Place
    from meshcore.pipeline.runtime import Runtime

__all__ = ["Clients"]

_PLACE = "client"


class Clients:
    """One service for each destination of ``[outbound.to]``, made when it is first asked for; reloads change what is
    behind it.

    Attributes:
        config: whose destinations they are.
    """

    def __init__(self, config: MeshConfig, runtime: Runtime, connect: Connect, keeper: Keeper) -> None:
        self.config = config
        self._runtime = runtime
        self._connect = connect
        self._keeper = keeper
        self._made: dict[str, tuple[Build, HttpService]] = {}

    def get(self, destination: str) -> HttpService:
        """The service of a destination.

        Raises:
            LookupError: there is no such destination.
        """
        if self.config.outbound is None:
            raise LookupError(f"no destination {destination!r}: there is no [outbound]")
        known = _destinations(self.config)
        if destination not in known:
            raise LookupError(f"no destination {destination!r}; the destinations are: {', '.join(known)}")
        found = self._made.get(destination)
        if found is None:
            made = self._build(destination, _requests(self.config, self._runtime, destination))
            top = made.requests[_PLACE]
            assert top.nursery is not None
            found = self._made[destination] = (made, top.new_service(Accepted(), top.nursery))
            self._keeper.want(made.places)
        return found[1]

    def prepare(self, config: MeshConfig, runtime: Runtime) -> dict[str, Build]:
        """What the configuration makes of the services there are, where that is something else."""
        builds = {}
        known = _destinations(config)
        for name, (old, _) in self._made.items():
            wanted = _requests(config, runtime, name) if name in known else Stack[Any, Any]()
            if not same(old.stack, wanted):
                builds[name] = self._build(name, wanted)
        return builds

    def _build(self, name: str, wanted: Stack[Any, Any]) -> Build:
        if wanted.layers:
            made = build(
                f"{_PLACE} {name}", wanted, self._connect, self._keeper, ledger=self._runtime.ledger
            )
        else:
            made = Build(wanted, _Gone(name))
        top = made.requests[_PLACE] = Reloadable()
        top.layer(made.new)
        # Nobody accepts for it, so nothing but what is kept needs an end.
        top.nursery = self._keeper.nursery
        return made

    def commit(self, config: MeshConfig, builds: dict[str, Build]) -> None:
        """From now on it is as prepared."""
        self.config = config
        for name, new in builds.items():
            old, service = self._made[name]
            self._made[name] = (new, service)
            old.move_to(new)
            leave(old, self._keeper)

    def places(self) -> dict[Place, tuple[Any, ...] | None]:
        """Where stacks are kept, and for which targets."""
        return {place: targets for made, _ in self._made.values() for place, targets in made.places.items()}


def _destinations(config: MeshConfig) -> list[str]:
    """Those that take requests."""
    return [] if config.outbound is None else [name for name, each in config.outbound.to.items() if not each.opaque]


def _requests(config: MeshConfig, runtime: Runtime, name: str) -> Stack[Any, Any]:
    """From a request for the destination, whatever authority it names, to a connection to one of its endpoints."""
    assert config.outbound is not None
    # A request that is made here begins here, so: above everything.
    top: Stack[Any, Any] = served(Stack(), tracer_of(config, runtime), "outbound")
    if runtime.tap is not None:
        # Shows what the program gets, so: above all that decides.
        top = top.then(Tap(runtime.tap, "outbound"))
    return top.then(requests(config, runtime, {"*": config.outbound.to[name]}, name))


class _Gone:
    """The service of a destination that the configuration has no more."""

    def __init__(self, name: str) -> None:
        self._name = name

    def new_service(self, target: object, nursery: trio.Nursery, /) -> HttpService:
        """A service that says so."""

        async def gone(request: Request) -> Response:
            raise NoRoute(f"no destination {self._name!r}: the configuration has it no more")

        return gone
