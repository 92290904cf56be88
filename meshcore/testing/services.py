"""Services, discovery and nurseries that a test makes up: what stands around the layer under test."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

import attrs
import trio

from meshcore.http.body import Empty, Full
from meshcore.http.headers import Headers
from meshcore.http.message import Request, Response

if TYPE_CHECKING:
    from meshcore.transport.target import Endpoint

__all__ = ["FakeResolve", "MockNewService", "MockService", "Step", "mock_service", "request", "response"]

T = TypeVar("T")

Step: TypeAlias = "Response | int | BaseException | float | Callable[[Request], Response | Awaitable[Response]]"
"""What a mock service does with one call: answer with a response, or with a status; raise an error; wait
so many seconds (a float) and then take the next step; or call a function of the request."""


def response(status: int = 200, body: bytes = b"", headers: Iterable[tuple[bytes, bytes]] = ()) -> Response:
    """A response with its whole body."""
    return Response(status, Headers(headers), Full(body) if body else Empty())


def request(
    method: bytes = b"GET",
    path: bytes = b"/",
    body: bytes = b"",
    *,
    authority: bytes = b"a.test",
    headers: Iterable[tuple[bytes, bytes]] = (),
    version: int = 11,
) -> Request:
    """A request with its whole body."""
    return Request(method, b"http", authority, path, Headers(headers), Full(body) if body else Empty(), version=version)


class MockService:
    """An HTTP service that records what it is asked and does what its script says.

    Each call takes the next step; the last one is repeated for ever.  Without a script it answers 200.

    Attributes:
        requests: every request, in order of arrival.
        in_flight: calls that have not returned yet; most: the highest it was.
        cancelled: calls that were cancelled while they waited.
    """

    def __init__(self, *script: Step) -> None:
        self.requests: list[Request] = []
        self.in_flight = 0
        self.most = 0
        self.cancelled = 0
        self._script: deque[Step] = deque(script or (200,))

    def __repr__(self) -> str:
        return f"<MockService {len(self.requests)} requests, {self.in_flight} in flight>"

    async def __call__(self, request: Request, /) -> Response:
        """Takes the next step of the script."""
        self.requests.append(request)
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            return await self._play(request)
        except trio.Cancelled:
            self.cancelled += 1
            raise
        finally:
            self.in_flight -= 1

    async def _play(self, request: Request) -> Response:
        while True:
            step = self._script.popleft() if len(self._script) > 1 else self._script[0]
            if isinstance(step, float):
                await trio.sleep(step)
                if self._script[0] is step:
                    return response()
            elif isinstance(step, int):
                return response(step)
            elif isinstance(step, Response):
                return step
            elif isinstance(step, BaseException):
                raise step
            else:
                answer = step(request)
                return answer if isinstance(answer, Response) else await answer


def mock_service(*script: Step) -> MockService:
    """A service that records its requests and follows a script (see :data:`Step`)."""
    return MockService(*script)


@attrs.define(eq=False)
class MockNewService(Generic[T]):
    """A NewService that hands out services and records for whom: the inner side of a layer under test.

    Attributes:
        make: makes the service for a target; default: a :class:`MockService` that answers 200.
        made: the targets asked for, in order, with what was made and the nursery that was given.
    """

    make: Callable[[T], Callable[[Request], Awaitable[Response]]] = attrs.field(default=lambda _: MockService())
    made: list[tuple[T, Any, trio.Nursery]] = attrs.Factory(list)

    def new_service(self, target: T, nursery: trio.Nursery, /) -> Callable[[Request], Awaitable[Response]]:
        """The service that ``make`` makes."""
        service = self.make(target)
        self.made.append((target, service, nursery))
        return service


class FakeResolve:
    """Discovery that a test drives: ``publish`` gives every watcher a new set of endpoints.

    Attributes:
        watching: the targets that are being watched now.
    """

    def __init__(self, *endpoints: Endpoint) -> None:
        """*endpoints* are published to each watcher at its start; none: it waits for the first ``publish``."""
        self.watching: list[Any] = []
        self._publish: list[Callable[[Sequence[Endpoint]], None]] = []
        self._current: tuple[Endpoint, ...] | None = endpoints or None

    def __repr__(self) -> str:
        return f"<FakeResolve {len(self.watching)} watching>"

    def publish(self, *endpoints: Endpoint) -> None:
        """Makes these the endpoints; an empty set is one too.  Synchronous."""
        self._current = endpoints
        for publish in list(self._publish):
            publish(endpoints)

    async def watch(self, target: Any, publish: Callable[[Sequence[Endpoint]], None], /) -> None:
        """See :class:`meshcore.abc.Resolve`."""
        self.watching.append(target)
        self._publish.append(publish)
        try:
            if self._current is not None:
                publish(self._current)
            await trio.sleep_forever()
        finally:
            self.watching.remove(target)
            self._publish.remove(publish)
