"""Services without a frame of their own in the exchanges that they leave alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshcore.http.message import Request

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from meshcore.http.body import Body
    from meshcore.http.message import Response

__all__ = ["Framed", "HeadListener", "PassThrough", "listener_below"]


class PassThrough:
    """A service that takes some requests, or connections, and leaves the others to the service below.

    Several that stand on each other are asked in turn, from a loop and in no call of each other, so that what watches
    costs little where there is nothing to see.  Subclasses say by :meth:`take` what becomes of a request.

    Args:
        inner: the service below.
    """

    __slots__ = ("_below", "_inner", "_plain", "_plain_below")

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._below: PassThrough | None = inner if isinstance(inner, PassThrough) else None
        # The same for requests that nobody measures.
        plain = inner.unmeasured() if isinstance(inner, PassThrough) else inner
        self._plain = plain
        self._plain_below: PassThrough | None = plain if isinstance(plain, PassThrough) else None

    def unmeasured(self) -> Any:
        """What is to be asked in its place for a request that is not measured (``Request.account`` is None)."""
        return self

    def take(self, request: Any, /) -> Awaitable[Any] | None:
        """What becomes of a request that is taken, all that is below included; None: it is left to what is below."""
        return None

    def __call__(self, request: Any, /) -> Any:
        each: PassThrough = self
        plain = isinstance(request, Request) and request.account is None
        while True:
            taken = each.take(request)
            if taken is not None:
                return taken
            below = each._plain_below if plain else each._below
            if below is None:
                return each._plain(request) if plain else each._inner(request)
            each = below


class Framed(PassThrough):
    """One that takes every request, and has a frame for it: that is begun from the same loop."""

    __slots__ = ()

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        # It asks what is below by itself.
        self._below = self._plain_below = None


class HeadListener(PassThrough):
    """One that may have to know of the response to a request that it leaves alone, and nothing before.

    Whoever has a frame directly above calls :meth:`answered`, so that it needs none of its own; that one says so in
    ``Request.listener`` before, and who takes a request by itself takes that away.

    Attributes:
        listens: whether this is one of those at all.
        lowest: the lowest status that it may want to know of; of others it need not be told.
    """

    __slots__ = ("listens", "lowest")

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.listens = False
        self.lowest = 0

    def answered(
        self,
        request: Request,
        response: Response,
        method: bytes,
        authority: bytes,
        path: bytes,
        body: Body,
        started: float,
    ) -> None:
        """There is a response.  What else is given is how the request came, for a layer below may have changed it, and
        when: Trio's time."""


def listener_below(service: object) -> HeadListener | None:
    """The one among those that requests to *service* pass without a frame."""
    each = service if isinstance(service, PassThrough) else None
    while each is not None:
        if isinstance(each, HeadListener) and each.listens:
            return each
        each = each._below
    return None
