"""A tapped service: what every request passes, whether somebody looks or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from meshcore._native import mypyc_attr
from meshcore.http.pass_through import PassThrough

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from meshcore.abc import HttpService
    from meshcore.http.message import Request, Response

__all__ = ["Tapped", "Taps"]


class Watcher(Protocol):
    """What is told of one exchange."""

    def failed(self, error: BaseException, /) -> None: ...

    def answered(self, response: Response, /) -> None: ...


@mypyc_attr(allow_interpreted_subclasses=True)
class Taps:
    """Who looks at requests.

    Attributes:
        wanted: whether anybody does.
    """

    __slots__ = ("wanted",)

    def __init__(self) -> None:
        self.wanted = False

    def begin(self, request: Request, direction: str) -> Watcher | None:
        """What is to be told of the exchange that *request* begins; None: nobody wants to know."""
        return None


class Tapped(PassThrough):
    """The service: while nobody looks, no more than a look at that."""

    __slots__ = ("__layer__", "__wrapped__", "_direction", "_taps")

    def __init__(self, inner: HttpService, taps: Taps, direction: str) -> None:
        super().__init__(inner)
        self.__layer__: object = None
        self.__wrapped__: object = inner
        self._taps = taps
        self._direction = direction

    def take(self, request: Any, /) -> Awaitable[Any] | None:
        """The exchange, while it is watched."""
        taps = self._taps
        if taps.wanted:
            watched: Request = request
            watcher = taps.begin(watched, self._direction)
            if watcher is not None:
                return self._watched(watched, watcher)
        return None

    async def _watched(self, request: Request, watcher: Watcher) -> Response:
        try:
            response: Response = await self._inner(request)
        except BaseException as error:
            watcher.failed(error)
            raise
        watcher.answered(response)
        return response
