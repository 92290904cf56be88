"""A pipeline of a running proxy, built so that a reload can build it anew and lose nothing that did not change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from meshcore.accounting.places import accounted
from meshcore.admin.live import Watch
from meshcore.pipeline.keep import Keep, Keeper, Place
from meshcore.pipeline.reloadable import Reloadable
from meshcore.stack import Branching, Stack, role

if TYPE_CHECKING:
    import trio

    from meshcore.abc import Connect, Layer
    from meshcore.accounting.ledger import Ledger

__all__ = ["Build", "applied", "build", "watched"]


@attrs.define(eq=False)
class Build:
    """What one configuration made of one pipeline.

    Attributes:
        stack: the pipeline as the configuration has it.
        new: makes its services: the pipeline over what connects.
        places: where it keeps stacks, and the targets that they may be asked for; None: that is not known.
        requests: where it is asked request by request, by the place in the pipeline.
        connections: the nursery for what its connections start; ``nursery`` of the *requests* is another.
    """

    stack: Stack[Any, Any]
    new: Any = None
    places: dict[Place, tuple[Any, ...] | None] = attrs.Factory(dict)
    requests: dict[str, Reloadable] = attrs.Factory(dict)
    connections: trio.Nursery | None = None

    def move_to(self, newer: Build) -> None:
        """From now on, requests on connections that are open go to the newer build."""
        for place, old in self.requests.items():
            if place in newer.requests:
                old.move_to(newer.requests[place])


def build(
    name: str,
    stack: Stack[Any, Any],
    connect: Connect,
    keeper: Keeper,
    watch: Watch | None = None,
    ledger: Ledger | None = None,
) -> Build:
    """The pipeline, ready for reloads: :class:`Keep` stands above each balancer and under each layer that chooses a
    backend, :class:`Reloadable` under what serves HTTP.  None of them is to be seen in ``stack``.

    Args:
        name: the pipeline's; what is kept is found again under the same name.
        stack: the pipeline.
        connect: how endpoints are connected to.
        keeper: has what is kept.
        watch: goes above what requests share.
        ledger: accounts what its layers do; None: nobody does.

    Raises:
        ConfigError: a layer cannot be applied: its files cannot be used.
    """
    found = Build(stack)
    builder = _Builder(keeper, found)
    # Without a server's end there are nothing but requests.
    reach = _Reach(requests="serve_http" not in stack.roles())
    ready = builder.stack(stack if watch is None else watched(stack, watch), f"{name}/", reach)
    found.new = applied(name, ready, connect, ledger)
    return found


def applied(name: str, stack: Stack[Any, Any], connect: Connect, ledger: Ledger | None) -> Any:
    """The pipeline over what connects, its layers accounted if there is a *ledger*."""
    return (stack if ledger is None else accounted(stack, ledger, pipeline=name)).layer(connect)


def watched(stack: Stack[Any, Any], watch: Watch) -> Stack[Any, Any]:
    """The pipeline with a watch above what its requests share."""
    for place in ("rate_limit", "concurrency_limit", "mirror", "retry", "balance"):
        try:
            return stack.insert_before(place, watch)
        except LookupError:
            continue
    return stack


@attrs.frozen
class _Reach:
    """What comes to a place in a pipeline.

    Attributes:
        targets: all that may be asked for; None: that is not known.
        requests: it is asked request by request.
    """

    targets: tuple[Any, ...] | None = None
    requests: bool = False


class _Builder:
    def __init__(self, keeper: Keeper, found: Build) -> None:
        self._keeper = keeper
        self._found = found

    def stack(self, stack: Stack[Any, Any], path: str, reach: _Reach) -> Stack[Any, Any]:
        """The stack with what a reload needs; *reach* is what comes to it."""
        reached = []
        for layer in stack.layers:
            told = getattr(layer, "targets", None)
            if told is not None:
                reach = attrs.evolve(reach, targets=told(reach.targets))
            elif role(layer) == "serve_http":
                reach = attrs.evolve(reach, requests=True)
            reached.append((layer, reach))
        layers: tuple[Layer[Any, Any], ...] = ()
        for layer, reach in reversed(reached):
            layers = self._above(layer, layers, f"{path}{role(layer)}", reach)
        return Stack(layers)

    def _above(
        self, found: Any, below: tuple[Layer[Any, Any], ...], place: str, reach: _Reach
    ) -> tuple[Layer[Any, Any], ...]:
        layer: Any = found
        if isinstance(found, Branching):
            for name, branch in found.branches().items():
                layer = layer.with_branch(name, self.stack(branch, f"{place}.{name}/", reach))
        if getattr(layer, "per", None) == "endpoint":
            return self.keep(place, (layer, *below), reach, balancer=True)
        if getattr(layer, "targets", None) is not None:
            # Where the balancer comes next there is nothing more to keep.
            first = next((each for each in below if not isinstance(each, Watch)), None)
            if not isinstance(first, Keep):
                below = self.keep(place, below, reach)
        elif role(layer) == "serve_http":
            requests = self._found.requests[place] = Reloadable()
            below = (requests, *below)
        return (layer, *below)

    def keep(
        self,
        name: str,
        below: tuple[Layer[Any, Any], ...],
        reach: _Reach,
        *,
        balancer: bool = False,
    ) -> tuple[Layer[Any, Any], ...]:
        """The layers with what keeps their stacks above them."""
        stack: Stack[Any, Any] = Stack(below)
        place = next((each for each in self._found.places if each.is_at(name, stack)), None)
        if place is None:
            place = self._keeper.place(name, stack, balancer=balancer, requests=reach.requests)
            self._found.places[place] = reach.targets
        else:
            known, more = self._found.places[place], reach.targets
            self._found.places[place] = None if known is None or more is None else (*known, *more)
        return (Keep(place), *below)
