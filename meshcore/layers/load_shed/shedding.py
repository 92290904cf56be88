"""The service that is asked first whether it is ready."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from meshcore.abc import Status
from meshcore.errors import FailFastError, LoadShedError, caused
from meshcore.http.pass_through import PassThrough

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from meshcore.abc import HttpService
    from meshcore.http.message import Request, Response

__all__ = ["Shedding"]

_OPEN: Final = Status.OPEN


class Shedding(PassThrough):
    """The service that :class:`~meshcore.layers.LoadShed` makes: no frame of its own while it is open.

    Args:
        inner: what is shed.
        status: whether that is ready.
        at: from which status on requests are refused.
        text: what is said then.
    """

    __slots__ = ("__layer__", "__wrapped__", "_at", "_status", "_text")

    def __init__(self, inner: HttpService, status: Callable[[], Status], at: Status, text: str) -> None:
        super().__init__(inner)
        self.__layer__: object = None
        self.__wrapped__: object = inner
        self._status = status
        self._at = at
        self._text = text

    def take(self, request: Any, /) -> Awaitable[Any] | None:
        """What is refused."""
        now = self._status()
        if now is _OPEN:
            return None
        if now is Status.CLOSED:
            return self._closed(request)
        if self._at is Status.BUSY:
            raise LoadShedError(self._text)
        return None

    async def _closed(self, request: Request) -> Response:
        # It says best itself why it is.
        try:
            response: Response = await self._inner(request)
        except FailFastError as error:
            raise caused(LoadShedError(self._text), error) from error
        return response
