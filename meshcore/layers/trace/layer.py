"""Requests traced: a span for each, and one for each of its tries."""

from __future__ import annotations

from typing import Any

import attrs

from meshcore.abc import HttpService, ServiceLayer
from meshcore.layers.trace.services import Endpointed, Served
from meshcore.tracing.tracer import Tracer
from meshcore.transport.target import Endpoint

__all__ = ["Trace"]


@attrs.frozen
class Trace(ServiceLayer):
    """Continues the trace that a request comes with, or begins one, and records a span of it (M-17, M-18).

    On the side that accepts (``scope="server"``) it decides whether the request is recorded, once, and tells that
    onwards in ``Request.trace`` and in the request's fields; the span ends with the last byte of the answer, and has
    an event for every further try.  On the side of an endpoint (``scope="client"``) each try is a span of its own
    below that.  A request that is not recorded costs what reading its fields costs.

    The one stands above ``Rescue``, the other below ``Retry`` and ``Balance``.

    Attributes:
        tracer: decides, and takes the spans; one for the whole process.
        scope: ``"server"`` or ``"client"``.
        direction: ``"inbound"`` or ``"outbound"``: an attribute of the spans.
        name: the role, where a stack has both.
    """

    tracer: Tracer = attrs.field(repr=False)
    scope: str = attrs.field(default="server", validator=attrs.validators.in_(("server", "client")))
    direction: str = attrs.field(default="inbound", validator=attrs.validators.in_(("inbound", "outbound")))
    name: str = attrs.field(default="trace", repr=False)

    def wrap(self, inner: HttpService, target: Any, /) -> HttpService:
        """The service with its spans; no frame of its own for what is not recorded."""
        if self.scope == "server":
            return Served(inner, self.tracer, self.direction)
        return Endpointed(inner, self.tracer, self.direction, target if isinstance(target, Endpoint) else None)
