"""Tap: shows the requests that pass to whoever asks to see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from meshcore.abc import HttpService, ServiceLayer
from meshcore.layers.tap.hub import TapHub
from meshcore.layers.tap.tapped import Tapped

if TYPE_CHECKING:
    from meshcore.layers.tap.tapped import Taps

__all__ = ["Tap"]


@attrs.frozen
class Tap(ServiceLayer):
    """Shows each request, its response and their end to the subscriptions of a hub whose filter they match (M-19).

    While nobody looks it costs one test and no frame.  Nobody who looks can hold anything up: what a subscription does
    not take in time is dropped and counted.  It stands above ``Rescue``, where the client's own view is; what is only
    decided below (route, backend, endpoint, tries) is read when the response comes back.

    Attributes:
        hub: who looks.
        direction: ``"inbound"`` or ``"outbound"``, for the events.
    """

    hub: TapHub = attrs.field(repr=False)
    direction: str = attrs.field(default="inbound", validator=attrs.validators.in_(("inbound", "outbound")))

    def wrap(self, inner: HttpService, target: Any, /) -> HttpService:
        """The tapped service; no frame of its own while nobody looks."""
        taps: Taps = self.hub
        return Tapped(inner, taps, self.direction)
