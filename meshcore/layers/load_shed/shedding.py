"""The service that is asked first whether it is ready."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meshcore.abc import Status
from meshcore.errors import FailFastError, LoadShedError, caused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from meshcore.abc import HttpService
    from meshcore.http.message import Request, Response

__all__ = ["Shedding"]

_OPEN: Final = Status.OPEN


class Shedding:
    """The service that :class:`~meshcore.layers.LoadShed` makes: no frame of its own while it is open.

    Args:
        inner: what is shed.
        status: whether that is ready.
        at: from which status on requests are refused.
        text: what is said then.
    """

    __slots__ = ("__layer__", "__wrapped__", "_at", "_inner", "_status", "_text")

    def __init__(self, inner: HttpService, status: Callable[[], Status], at: Status, text: str) -> None:
        self.__layer__: object = None
        self.__wrapped__: object = inner
        self._inner = inner
        self._status = status
        self._at = at
        self._text = text

    def __call__(self, request: Request, /) -> Awaitable[Response]:
        now = self._status()
        if now is _OPEN:
            return self._inner(request)
        if now is Status.CLOSED:
            return self._closed(request)
        if self._at is Status.BUSY:
            raise LoadShedError(self._text)
        return self._inner(request)

    async def _closed(self, request: Request) -> Response:
        # It says best itself why it is.
        try:
            return await self._inner(request)
        except FailFastError as error:
            raise caused(LoadShedError(self._text), error) from error
