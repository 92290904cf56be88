"""Who looks at requests: subscriptions, each with a filter, a rate and a queue, and what is told to them."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Self

import trio

from meshcore._wakeup import Wakeup
from meshcore.errors import LoadShedError
from meshcore.http.body import EndOfStream
from meshcore.layers.tap.events import Event, Exchange, weight
from meshcore.layers.tap.filter import KINDS
from meshcore.layers.tap.query import TapQuery
from meshcore.layers.tap.tapped import Taps

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from meshcore.http.message import Request, Response

__all__ = ["Subscription", "TapHub"]

log = logging.getLogger(__name__)

_now = trio.current_time

_MOST_EVENTS = 1_000
_MOST_BYTES = 4 << 20
"""Of what waits for one subscription."""
_MOST_FOLLOWED = 2_000
"""Exchanges that one subscription follows at a time."""
_DROPS_TOLD = 1.0
"""Seconds between two events that tell of what was dropped."""


class TapHub(Taps):
    """The subscriptions to the requests of one process.

    Args:
        clock: seconds since the epoch, for the events; None: Trio's, whose zero means nothing.
        most: subscriptions at a time.
    """

    def __init__(self, clock: Callable[[], float] | None = None, *, most: int = 16) -> None:
        super().__init__()
        self._clock = clock
        self._most = most
        self._number = 0
        self._subscriptions: list[Subscription] = []
        self._closed = False

    def __repr__(self) -> str:
        return f"<TapHub {len(self._subscriptions)} subscriptions>"

    def subscribe(self, query: TapQuery | None = None) -> Subscription:
        """Tells a new subscription from now on of what *query* asks for; everything by default.

        Raises:
            LoadShedError: there are as many as there may be, or the process is about to end.
        """
        if self._closed:
            raise LoadShedError("tap: the proxy is about to end")
        if len(self._subscriptions) >= self._most:
            raise LoadShedError(f"tap: {self._most} look on already")
        found = Subscription(self, TapQuery() if query is None else query)
        self._subscriptions.append(found)
        self.wanted = True
        return found

    def leave(self, subscription: Subscription) -> None:
        """Tells it nothing more."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)
        self.wanted = bool(self._subscriptions)

    def close(self) -> None:
        """Ends all subscriptions, and takes no more."""
        self._closed = True
        for subscription in list(self._subscriptions):
            subscription.end()

    def begin(self, request: Request, direction: str) -> _Watched | None:
        """See :class:`~meshcore.layers.tap.tapped.Taps`.  Whatever goes wrong here, the request goes on."""
        try:
            wanting = [each for each in self._subscriptions if each.wants(request, direction)]
            if not wanting:
                return None
            self._number += 1
            now = _now()
            time = now if self._clock is None else self._clock()
            return _Watched(Exchange(self._number, direction, request, now, time), wanting)
        except Exception:
            log.exception("tap failed at a request")
            return None


class _Watched:
    """An exchange that some subscriptions want to see."""

    __slots__ = ("_exchange", "_followed")

    def __init__(self, exchange: Exchange, wanting: list[Subscription]) -> None:
        self._exchange = exchange
        self._followed = [_Followed(each, exchange) for each in wanting]

    def failed(self, error: BaseException, /) -> None:
        """There will be no response."""
        self._ended(EndOfStream([], error))

    def answered(self, response: Response, /) -> None:
        """The response's head has come."""
        try:
            now = _now()
            body = self._exchange.answered(response, now)
            for each in self._followed:
                each.answered(now)
        except Exception:
            log.exception("tap failed at a response")
            return
        body.observe(self._first_data, self._ended)

    def _first_data(self) -> None:
        self._exchange.first_data(_now())

    def _ended(self, end: EndOfStream) -> None:
        # A callback of a body, like any other: nothing that goes wrong here is the exchange's concern.
        try:
            now = _now()
            self._exchange.ended(end)
            for each in self._followed:
                each.ended(now)
        except Exception:
            log.exception("tap failed at the end of a response")


class _Followed:
    """One exchange as one subscription sees it.

    What is not decided yet is held; once it is decided, one way or the other, nothing is.
    """

    __slots__ = ("_exchange", "_held", "_over", "_subscription", "_told")

    def __init__(self, subscription: Subscription, exchange: Exchange) -> None:
        self._subscription = subscription
        self._exchange = exchange
        self._held: list[Event] = []
        # Where the request decides, it was admitted before.
        self._told = subscription.decided == KINDS[0]
        self._over = False
        subscription.followed += 1
        self._put(exchange.request_init(subscription.filter))

    def answered(self, now: float) -> None:
        """The head of the response has come."""
        if self._over:
            return
        subscription, exchange = self._subscription, self._exchange
        if not self._told:
            assert exchange.response is not None
            status = exchange.response.status
            if not subscription.filter.wants_response(exchange.request, exchange.authority, status):
                self._forget()
                return
            if subscription.decided == KINDS[1]:
                self._begin()
        self._put(exchange.response_init(subscription.filter, now))

    def ended(self, now: float) -> None:
        """The exchange is over."""
        if self._over:
            return
        subscription, exchange = self._subscription, self._exchange
        verdict = exchange.verdict
        assert verdict is not None
        if not self._told:
            wanted = subscription.filter.wants_end(exchange.seconds(now), verdict.failure, verdict.grpc_status)
            if wanted and exchange.response is None:
                wanted = subscription.filter.wants_response(exchange.request, exchange.authority, 0)
            if wanted:
                self._begin()
        if self._told:
            self._put(exchange.response_end(subscription.filter, now))
        self._forget()

    def _begin(self) -> None:
        """It is wanted: what was held is told, if the rate allows for another one."""
        if not self._subscription.admit():
            self._forget()
            return
        self._told = True
        for event in self._held:
            self._subscription.put(event)
        self._held = []

    def _put(self, event: Event) -> None:
        if self._over:
            return
        if self._told:
            self._subscription.put(event)
        else:
            self._held.append(event)

    def _forget(self) -> None:
        if not self._over:
            self._over = True
            self._held = []
            self._subscription.over(self._told)


class Subscription:
    """One who looks on: an iterator of events, which never holds up what they are about.

    What the rate does not allow, and what the queue cannot hold, is dropped and counted; an event ``dropped`` tells how
    much, once a second at most.

    Attributes:
        filter: what it wants to see.
        decided: with which event that is known.
        followed: exchanges under way, told of or not yet.
        dropped_requests: exchanges that were not told of, for the rate's sake.
        dropped_events: events that the queue could not hold.
    """

    def __init__(self, hub: TapHub, query: TapQuery) -> None:
        self._hub = hub
        self.filter = query.filter
        self.decided = query.filter.decided
        self.followed = 0
        self.dropped_requests = 0
        self.dropped_events = 0
        self._queue: deque[tuple[int, Event]] = deque()
        self._waiting = 0
        self._wakeup = Wakeup()
        self._ended = False
        self._left = query.limit
        # Exchanges that are told of, and not over.
        self._open = 0
        self._cost = float(len(query.filter.events))
        self._rate = query.rate
        # A second's worth at once, and one exchange in any case.
        self._burst = max(query.rate or 0.0, self._cost)
        self._tokens = self._burst
        self._counted_at = _now()
        self._told: tuple[int, int] = (0, 0)
        self._told_at = float("-inf")

    def __repr__(self) -> str:
        return f"<Subscription waiting={len(self._queue)} dropped={self.dropped_requests}+{self.dropped_events}>"

    # ----- what the hub tells -----

    def wants(self, request: Request, direction: str) -> bool:
        """Whether an exchange may be one for it; where the request alone decides, the rate has its say at once, so that
        what is not told of costs next to nothing."""
        if self._ended or self._left == 0 or not self.filter.wants_request(request, direction):
            return False
        if self.followed >= _MOST_FOLLOWED:
            self._drop_request()
            return False
        return self.decided != KINDS[0] or self.admit()

    def admit(self) -> bool:
        """Whether the rate, and the limit, allow for another exchange; its events are then accounted for."""
        if self._ended or self._left == 0:
            return False
        if self._rate is not None and not self._afford(self._rate):
            self._drop_request()
            return False
        if self._left is not None:
            self._left -= 1
        self._open += 1
        return True

    def _afford(self, rate: float) -> bool:
        now = _now()
        self._tokens = min(self._burst, self._tokens + (now - self._counted_at) * rate)
        self._counted_at = now
        if self._tokens < self._cost:
            return False
        self._tokens -= self._cost
        return True

    def put(self, event: Event) -> None:
        """Queues an event, or drops it."""
        if self._ended or event["event"] not in self.filter.events:
            return
        size = weight(event)
        if len(self._queue) >= _MOST_EVENTS or self._waiting + size > _MOST_BYTES:
            self.dropped_events += 1
            return
        self._queue.append((size, event))
        self._waiting += size
        self._wakeup.wake()

    def over(self, told: bool) -> None:
        """An exchange is over, or not wanted; what is not *told* of by now cannot be one of the last."""
        self.followed -= 1
        self._open -= told
        if self._left == 0 and not self._open:
            self.end()

    def _drop_request(self) -> None:
        self.dropped_requests += 1
        self._wakeup.wake()

    # ----- what the one who looks on does -----

    def end(self) -> None:
        """No more events; those that wait can still be taken."""
        if not self._ended:
            self._ended = True
            self._hub.leave(self)
            self._wakeup.wake()

    def close(self) -> None:
        """No more events, and none that wait: it looks away."""
        self.end()
        self._queue.clear()
        self._waiting = 0

    def receive_nowait(self) -> Event:
        """The next event.

        Raises:
            trio.WouldBlock: there is none yet.
            trio.EndOfChannel: there will be none.
        """
        if self._queue:
            size, event = self._queue.popleft()
            self._waiting -= size
            return event
        dropped = self.dropped_requests, self.dropped_events
        if dropped != self._told and (self._ended or _now() >= self._told_at + _DROPS_TOLD):
            event = {
                "event": "dropped",
                "requests": dropped[0] - self._told[0],
                "events": dropped[1] - self._told[1],
            }
            self._told, self._told_at = dropped, _now()
            return event
        if self._ended:
            raise trio.EndOfChannel
        raise trio.WouldBlock

    async def receive(self) -> Event:
        """The next event, once there is one; not a checkpoint where there is one already.

        Raises:
            trio.EndOfChannel: there will be none.
        """
        while True:
            try:
                event = self.receive_nowait()
            except trio.WouldBlock:
                await self.wait()
            else:
                return event

    async def wait(self) -> None:
        """Waits until there may be something to receive."""
        if (self.dropped_requests, self.dropped_events) == self._told:
            await self._wakeup.wait()
            return
        with trio.move_on_at(self._told_at + _DROPS_TOLD):
            await self._wakeup.wait()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> dict[str, Any]:
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
