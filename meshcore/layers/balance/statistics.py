"""What a balancer tells of itself."""

from __future__ import annotations

import attrs

from meshcore.layers.balance.member import EndpointStatistics

__all__ = ["BalanceStatistics"]


@attrs.frozen
class BalanceStatistics:
    """What a balancer knows.

    Attributes:
        backend: its name.
        endpoints: one by one, those that drain included.
        waiting: requests that wait for an endpoint.
        fail_fast: whether requests fail at once, since no endpoint became ready in time.
        discovered: whether discovery has ever named the endpoints.
        discovery: what the resolver knows of the backend, the age of its answer for instance; None: nothing.
        panic: whether so few endpoints are open that busy ones get requests, too.
        policy: who gets a request, by name or as it prints.
    """

    backend: str
    endpoints: tuple[EndpointStatistics, ...]
    waiting: int
    fail_fast: bool
    discovered: bool
    discovery: object = None
    panic: bool = False
    policy: str = ""
