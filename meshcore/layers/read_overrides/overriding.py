"""The service that takes an application's wishes out of its requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshcore.http.overrides import FIELDS, take_overrides
from meshcore.http.pass_through import PassThrough

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from meshcore.abc import HttpService
    from meshcore.http.message import Request
    from meshcore.http.timeouts import Timeouts

__all__ = ["Overriding"]


class Overriding(PassThrough):
    """The service that :class:`~meshcore.layers.ReadOverrides` makes; the arguments are its fields for one target."""

    __slots__ = ("__layer__", "__wrapped__", "_allowed", "_timeouts")

    def __init__(self, inner: HttpService, allowed: bool, timeouts: Timeouts | None) -> None:
        super().__init__(inner)
        self.__layer__: object = None
        self.__wrapped__: object = inner
        self._allowed = allowed
        self._timeouts = timeouts

    def take(self, request: Any, /) -> Awaitable[Any] | None:
        """None: it takes from requests, but not them."""
        asked: Request = request
        for name, _ in asked.headers.raw:
            # All of them begin so: hardly any request has one.
            if name.startswith(b"l5d-") and name in FIELDS:
                self._read(asked)
                break
        return None

    def _read(self, request: Request) -> None:
        overrides = take_overrides(request.headers, allowed=self._allowed)
        if overrides is not None:
            request.overrides = overrides
            if overrides.request is not None or overrides.response is not None:
                request.timeouts = overrides.limits(self._timeouts)
