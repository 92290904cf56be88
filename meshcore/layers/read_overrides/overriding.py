"""The service that takes an application's wishes out of its requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.http.overrides import FIELDS, take_overrides

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from meshcore.abc import HttpService
    from meshcore.http.message import Request, Response
    from meshcore.http.timeouts import Timeouts

__all__ = ["Overriding"]


class Overriding:
    """The service that :class:`~meshcore.layers.ReadOverrides` makes; the arguments are its fields for one target."""

    __slots__ = ("__layer__", "__wrapped__", "_allowed", "_inner", "_timeouts")

    def __init__(self, inner: HttpService, allowed: bool, timeouts: Timeouts | None) -> None:
        self.__layer__: object = None
        self.__wrapped__: object = inner
        self._inner = inner
        self._allowed = allowed
        self._timeouts = timeouts

    def __call__(self, request: Request, /) -> Awaitable[Response]:
        for name, _ in request.headers.raw:
            # All of them begin so: hardly any request has one.
            if name.startswith(b"l5d-") and name in FIELDS:
                self._take(request)
                break
        return self._inner(request)

    def _take(self, request: Request) -> None:
        overrides = take_overrides(request.headers, allowed=self._allowed)
        if overrides is not None:
            request.overrides = overrides
            if overrides.request is not None or overrides.response is not None:
                request.timeouts = overrides.limits(self._timeouts)
