"""What every request asks and changes of an endpoint; the rest of it is :class:`~.member.Member`'s."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshcore._native import mypyc_attr

if TYPE_CHECKING:
    from meshcore.abc import Service
    from meshcore.layers.balance.load import EndpointLoad
    from meshcore.transport.target import Endpoint

__all__ = ["Standing", "finished"]


@mypyc_attr(allow_interpreted_subclasses=True)
class Standing:
    """An endpoint as its balancer's requests see it.

    Attributes:
        endpoint: who it is.
        load: how loaded it is.
        service: what takes its requests; None: it is not there.
        weight: its share.
        slot: its place in the list of the ready ones; -1: not among them.
        served: how much it was given, in requests by weight.
        in_flight: requests whose answers have not ended.
        successes, failures: answers.
        removed: it is not wanted any more, and hears of the last of its exchanges.
    """

    __slots__ = (
        "endpoint",
        "failures",
        "in_flight",
        "load",
        "removed",
        "served",
        "service",
        "slot",
        "successes",
        "weight",
    )

    def __init__(self, endpoint: Endpoint, load: EndpointLoad) -> None:
        self.endpoint = endpoint
        self.load = load
        self.service: Service[Any, Any] | None = None
        self.weight: float = endpoint.weight
        self.slot = -1
        self.served = 0.0
        self.in_flight = 0
        self.successes = 0
        self.failures = 0
        self.removed = False

    def drained(self) -> None:
        """Nothing is in flight any more of what was removed."""


def finished(standing: Standing) -> None:
    """One exchange has ended; called for each."""
    standing.in_flight -= 1
    if standing.removed and not standing.in_flight:
        standing.drained()
