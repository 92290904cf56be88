"""ReadOverrides: what an application asks of its proxy for one request alone."""

from __future__ import annotations

from typing import Any

import attrs

from meshcore.abc import HttpService, ServiceLayer
from meshcore.http.timeouts import Timeouts
from meshcore.layers.read_overrides.overriding import Overriding
from meshcore.stack import Param, resolve

__all__ = ["ReadOverrides"]


@attrs.frozen
class ReadOverrides(ServiceLayer):
    """Takes the fields ``l5d-retry-…`` and ``l5d-…-timeout`` out of each request, and heeds them where that is allowed
    (R-15).

    It sets ``request.overrides``, which ``Retry(overrides=True)`` heeds, and ``request.timeouts``; so it stands above
    ``StreamTimeouts`` and ``Retry``.  It is for an application's own proxy: what peers say of this kind is theirs to
    say to their own.

    Attributes:
        allowed: whether they are heeded, or a function of the target; they are never sent on.
        timeouts: the limits that the fields change, or a function of the target.
    """

    allowed: Param[bool] = False
    timeouts: Param[Timeouts | None] = attrs.field(default=None, repr=False)

    def wrap(self, inner: HttpService, target: Any, /) -> HttpService:
        """The service without those fields: no frame of its own."""
        return Overriding(inner, resolve(self.allowed, target), resolve(self.timeouts, target))
