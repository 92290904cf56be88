"""The only place where errors become responses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import attrs

from meshcore.abc import HttpService, ServiceLayer
from meshcore.http.message import Request
from meshcore.layers.rescue.rescued import Rescued, is_meshed
from meshcore.metrics.registry import Registry

__all__ = ["Rescue"]

def _informational(rescue: object, attribute: object, value: object) -> None:
    if not (isinstance(value, bool) or callable(value) or value == "meshed"):
        raise ValueError(f"informational is True, False, 'meshed' or a function, not {value!r}")


@attrs.frozen
class Rescue(ServiceLayer):
    """Answers expected errors by their hints: an HTTP status, or for gRPC a ``grpc-status`` (E-04).

    An answer says what happened in ``l5d-proxy-error`` (the chain of causes, E-03) and
    ``x-meshcore-error`` (the code that ``meshcore explain`` knows).  A reset HTTP/2 stream stays one where
    the client speaks HTTP/2 (E-02) and is a 502 where it does not (D-28).  gRPC responses that break later
    end in trailers with the mapped status (E-05).  Exceptions that are not ``MeshError`` pass: nobody
    expected them, and whoever owns the connection counts them.

    Attributes:
        informational: whether those fields, ``grpc-message`` and ``l5d-proxy-connection`` are shown; ``"meshed"``
            shows them to clients with a verified identity alone, which is for what faces other hosts (E-06); or a
            function of the request that says so.
        logical: whether the chain begins with the names of the service that was asked for, and of the route that took
            the request.
        registry: where errors are counted (E-08); None: nowhere.
        direction: ``"inbound"`` or ``"outbound"``, for that.
    """

    informational: bool | Literal["meshed"] | Callable[[Request], bool] = attrs.field(
        default=True, validator=_informational
    )
    logical: bool = attrs.field(default=False, repr=False, kw_only=True)
    registry: Registry | None = attrs.field(default=None, repr=False, kw_only=True)
    direction: str = attrs.field(
        default="inbound", repr=False, kw_only=True, validator=attrs.validators.in_(("inbound", "outbound"))
    )

    def wrap(self, inner: HttpService, target: Any, /) -> HttpService:
        """The rescued service: one frame a request."""
        informational = is_meshed if self.informational == "meshed" else self.informational
        return Rescued(inner, target, informational, self.logical, self.registry, self.direction)
