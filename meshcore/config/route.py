"""Routes: which requests, what is done to them, and where they go."""

from __future__ import annotations

import attrs

from meshcore.config.filters import FilterConfig
from meshcore.config.kinds import Name
from meshcore.config.match import Match
from meshcore.config.rate_limit import RateLimitConfig
from meshcore.config.upstream import RetryConfig, TimeoutConfig, Weight

__all__ = ["BackendRef", "GatewayRoute", "InboundRoute"]


@attrs.frozen(kw_only=True)
class BackendRef:
    """One place to send requests to.

    Attributes:
        backend: the name of a ``[backend.…]``.
        weight: its share, relative to the others; 0: none.
        filters: what is done to the requests that it gets, in this order.
    """

    backend: Name
    weight: Weight = 1.0
    filters: tuple[FilterConfig, ...] = ()


@attrs.frozen(kw_only=True)
class GatewayRoute:
    """``[[listen.NAME.route]]``: some requests, what is done to them, and the backends that they go to.

    Attributes:
        name: in metrics and messages; absent: ``route-N``, where the first one is ``route-0``.
        match: one of these has to fit; none: every request does.
        filters: what is done to them, in this order, and once, whatever is tried again.
        timeout: limits of one exchange; absent: those of the listener.
        retry: further tries; absent: those of the listener.
        rate_limit: how many requests are let in (429), beside what the listener says; absent: all.
        failover: the first of *to* that is ready gets everything, and their weights mean nothing but 0.
        to: the backends, by their shares; none where a filter answers everything (``redirect``, or ``inject_failure``
            without a ratio).
    """

    name: Name | None = None
    match: tuple[Match, ...] = ()
    filters: tuple[FilterConfig, ...] = ()
    timeout: TimeoutConfig | None = None
    retry: RetryConfig | None = None
    rate_limit: RateLimitConfig | None = None
    failover: bool = False
    to: tuple[BackendRef, ...] = ()


@attrs.frozen(kw_only=True)
class InboundRoute:
    """``[[inbound.route]]``: some of the requests for the application.  What no route takes is answered 404.

    Attributes:
        name: in metrics and messages; absent: ``route-N``, where the first one is ``route-0``.
        match: one of these has to fit; none: every request does.
        filters: what is done to them, in this order.
        rate_limit: how many requests are let in (429), beside what ``[inbound]`` says; absent: all.
    """

    name: Name | None = None
    match: tuple[Match, ...] = ()
    filters: tuple[FilterConfig, ...] = ()
    rate_limit: RateLimitConfig | None = None
