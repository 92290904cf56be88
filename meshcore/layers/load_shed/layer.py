"""LoadShed: who would wait for nothing is told so at once."""

from __future__ import annotations

from typing import Any

import attrs

from meshcore._unwrap import status_source
from meshcore.abc import HttpService, ServiceLayer, Status
from meshcore.layers.load_shed.shedding import Shedding

__all__ = ["LoadShed"]


def _not_open(layer: object, attribute: object, value: object) -> None:
    if value not in (Status.BUSY, Status.CLOSED):
        raise ValueError(f"at is Status.BUSY or Status.CLOSED, not {value!r}")


@attrs.frozen
class LoadShed(ServiceLayer):
    """Refuses requests with 503 while what stands below is not ready (B-10).

    Above a balancer that fails fast: those who waited are told 504 when the time was up, and whoever comes after them
    503, until an endpoint is ready.  It asks ``status()`` of the nearest service below that has one, and is not there
    where none has.

    Attributes:
        at: ``Status.CLOSED`` refuses what would fail at once anyway; ``Status.BUSY`` what would have to wait, too.

    Raises:
        LoadShedError: when called.
    """

    at: Status = attrs.field(default=Status.CLOSED, validator=_not_open, repr=lambda status: status.name.lower())

    def wrap(self, inner: HttpService, target: Any, /) -> HttpService:
        """The service that is asked first whether it is ready: no frame of its own."""
        status = status_source(inner)
        if status is None:
            return inner
        name = getattr(target, "name", "")
        text = f"{name}: service unavailable" if name else "service unavailable"
        return Shedding(inner, status, self.at, text)
