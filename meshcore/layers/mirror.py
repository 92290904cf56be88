"""Copies of requests, for somebody whose answers do not matter."""

from __future__ import annotations

import logging
import random
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs
import trio

from meshcore.errors import MeshError
from meshcore.http.body import Empty, EndOfStream, Full
from meshcore.http.message import Request, Response
from meshcore.http.overheard import OverheardBody
from meshcore.stack import Param, resolve
from meshcore.transport.about import About
from meshcore.transport.target import Mirrored

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from meshcore.abc import HttpService, NewHttp

__all__ = ["Mirror", "MirrorStatistics"]

log = logging.getLogger(__name__)

T = TypeVar("T")


@attrs.frozen
class Mirror:
    """Sends copies of requests to somebody else, and forgets the answers; the requests themselves are neither slowed
    nor failed by it.

    A copy is sent once the request's body has passed, with all of it; a longer one than *body_limit* is not copied, nor
    are tunnels.  Copies beyond *in_flight* are dropped.  What a copy's answer, or its failure, was shows in statistics
    alone.  Its place is above ``Retry``: tries are not copied.

    Attributes:
        mirrors: where to, each with its share; or a function of the target that gives them.
        body_limit: bytes of a request's body that are kept for its copy.
        in_flight: copies at a time.
        timeout: seconds for a copy's whole exchange.
        rng: randomness, for tests.
        name: the role, where a stack has more than one.
    """

    mirrors: Param[Sequence[Mirrored]] = ()
    body_limit: int = attrs.field(default=65_536, validator=attrs.validators.ge(0))
    in_flight: int = attrs.field(default=100, validator=attrs.validators.ge(1))
    timeout: float = attrs.field(default=30.0, validator=attrs.validators.gt(0))
    rng: random.Random = attrs.field(factory=random.Random, repr=False, eq=False)
    name: str = attrs.field(default="", repr=False, kw_only=True)

    def targets(self, above: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        """What it may ask for: *above*, which it may be asked for, and where copies go; None: that is not known."""
        if above is None:
            return None
        copies = (each.target for target in above for each in resolve(self.mirrors, target))
        return tuple(dict.fromkeys((*above, *copies)))

    def layer(self, inner: NewHttp[T], /) -> NewHttp[T]:
        """Mirrors to further services that *inner* makes."""
        return _NewMirroring(self, inner)


class _NewMirroring(Generic[T]):
    """Makes mirroring services."""

    __slots__ = ("_inner", "_layer")

    def __init__(self, layer: Mirror, inner: NewHttp[T]) -> None:
        self._layer = layer
        self._inner = inner

    def __repr__(self) -> str:
        return f"{self._layer!r} over {self._inner!r}"

    def new_service(self, target: T, nursery: trio.Nursery, /) -> HttpService:
        """The service of *target*; itself where nothing is copied."""
        service = self._inner.new_service(target, nursery)
        for mirrored in resolve(self._layer.mirrors, target):
            if mirrored.ratio:
                other: Any = mirrored.target
                copies = self._inner.new_service(other, nursery)
                service = _Mirroring(self._layer, service, copies, mirrored, nursery)
        return service


@attrs.frozen
class MirrorStatistics:
    """What was copied.

    Attributes:
        target: the name of where to.
        sent: copies that were sent.
        answered: those that were answered, with whatever status.
        failed: those that were not, in time or at all.
        too_large: requests whose bodies were too large to be copied, or broke.
        dropped: copies that would have been too many at a time.
    """

    target: str
    sent: int
    answered: int
    failed: int
    too_large: int
    dropped: int


class _Mirroring:
    """A service whose requests are copied to another."""

    __slots__ = (
        "__layer__",
        "__weakref__",
        "__wrapped__",
        "_answered",
        "_copies",
        "_draw",
        "_dropped",
        "_failed",
        "_in_flight",
        "_inner",
        "_mirrored",
        "_nursery",
        "_sent",
        "_too_large",
    )

    def __init__(
        self, layer: Mirror, inner: HttpService, copies: HttpService, mirrored: Mirrored, nursery: trio.Nursery
    ) -> None:
        self.__layer__ = layer
        self.__wrapped__ = self._inner = inner
        self._copies = copies
        self._mirrored = mirrored
        # Weakly: the nursery's end is the end of all this.
        self._nursery = weakref.ref(nursery)
        self._draw = layer.rng.random
        self._in_flight = 0
        self._sent = 0
        self._answered = 0
        self._failed = 0
        self._too_large = 0
        self._dropped = 0

    def statistics(self) -> MirrorStatistics:
        """What was copied until now."""
        target: Any = self._mirrored.target
        name = getattr(target, "name", None) or target.backend.name
        return MirrorStatistics(name, self._sent, self._answered, self._failed, self._too_large, self._dropped)

    def __call__(self, request: Request, /) -> Awaitable[Response]:
        if self._draw() < self._mirrored.ratio and not request.is_tunnel and not request.expect_continue:
            self._copy(request)
        return self._inner(request)

    def _copy(self, request: Request) -> None:
        if self._in_flight >= self.__layer__.in_flight:
            self._dropped += 1
            return
        body = request.body
        copy = Request(
            request.method,
            request.scheme,
            request.authority,
            request.path,
            request.headers.copy(),
            version=request.version,
            client_id=request.client_id,
        )
        end = body.end
        if end is not None and end.error is None:
            self._send(copy, b"", end)
            return
        limit = self.__layer__.body_limit
        if end is not None or (body.size_hint is not None and body.size_hint > limit):
            self._too_large += 1
            return

        def heard(data: bytes | None, end: EndOfStream) -> None:
            if data is None or end.error is not None:
                self._too_large += 1
            else:
                self._send(copy, data, end)

        request.body = OverheardBody(body, limit, heard)

    def _send(self, copy: Request, data: bytes, end: EndOfStream) -> None:
        nursery = self._nursery()
        if nursery is None or self._in_flight >= self.__layer__.in_flight:
            self._dropped += 1
            return
        copy.body = Full(data, end.trailers) if data or end.trailers else Empty()
        try:
            nursery.start_soon(self._exchange, copy, name="mirrored request")
        except RuntimeError:
            # The proxy is shutting down.
            self._dropped += 1
            return
        self._in_flight += 1
        self._sent += 1

    async def _exchange(self, copy: Request) -> None:
        """Sends a copy and throws its answer away."""
        answered = False
        try:
            with trio.move_on_after(self.__layer__.timeout):
                response = await self._copies(copy)
                try:
                    while await response.body.receive_some():
                        pass
                finally:
                    response.body.abort()
                answered = True
        except MeshError as error:
            log.debug("a mirrored request failed: %s", error, extra=About(request=copy))
        except Exception as error:
            # Nobody waits for it: it must not end the nursery that everybody else lives in.
            log.warning("crash in a mirrored request: %s", error, exc_info=error, extra=About(request=copy))
        finally:
            self._in_flight -= 1
            if answered:
                self._answered += 1
            else:
                self._failed += 1
