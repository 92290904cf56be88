"""Spans: what is recorded of one request, on one side of a proxy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from meshcore.tracing.propagation import Link

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meshcore.http.headers import Headers

__all__ = ["CLIENT", "ERROR", "INTERNAL", "SERVER", "UNSET", "Attribute", "Event", "Recorder", "Span", "shown"]

INTERNAL: Final = 1
SERVER: Final = 2
CLIENT: Final = 3

UNSET: Final = 0
ERROR: Final = 2

LONGEST: Final = 256
"""Bytes of a value from the network that are kept."""
MOST_EVENTS: Final = 32

Attribute: TypeAlias = "tuple[str, str | int | float | bool | Sequence[str]]"


class Event:
    """Something that happened within a span.

    Attributes:
        time: Trio's.
        name: what it was.
        attributes: what is known of it.
    """

    __slots__ = ("attributes", "name", "time")

    def __init__(self, time: float, name: str, attributes: list[Attribute]) -> None:
        self.time = time
        self.name = name
        self.attributes = attributes

    def __repr__(self) -> str:
        return f"<Event {self.name} at {self.time}>"


class Span(Link):
    """A span: it is a :class:`Link` as well, which those below continue.

    Attributes:
        parent: the span above it; ``b""``: there is none.
        kind: ``SERVER`` for what was accepted, ``CLIENT`` for a try at an endpoint, ``INTERNAL`` for a request that was
            made in this process.
        name: few different ones: the method and the route.
        remote: the span above it is another process's; None: there is none above it.
        started: Trio's time.
        ended: the same; 0.0 while it goes on.
        attributes: what is known of it.
        events: what happened within.
        dropped_events: those that were too many.
        status: ``UNSET`` or ``ERROR``.
        message: why, for ``ERROR``.
        tries: how often the request was sent to an endpoint, of a span that has tries below it.
        last: how the last of these ended: a status, or the name of an error; ``""``: it goes on.
        token: what a :class:`Recorder` notes; nothing else looks at it.
    """

    __slots__ = (
        "attributes",
        "dropped_events",
        "ended",
        "events",
        "kind",
        "last",
        "message",
        "name",
        "parent",
        "remote",
        "started",
        "state",
        "status",
        "token",
        "tries",
    )

    own = True

    def __init__(self, above: Link, span: bytes, kind: int, name: str, started: float, *, state: str = "") -> None:
        super().__init__(above.trace, span, True, above.formats, above.marks)
        self.parent = above.span
        self.kind = kind
        self.name = name
        self.remote: bool | None = not above.own if above.span else None
        self.state = state
        self.started = started
        self.ended = 0.0
        self.attributes: list[Attribute] = []
        self.events: list[Event] | None = None
        self.dropped_events = 0
        self.status = UNSET
        self.message = ""
        self.tries = 0
        self.last = ""
        self.token: Any = None

    def write(self, headers: Headers, parent: bytes = b"") -> None:
        """Puts it into a request's fields."""
        super().write(headers, parent or self.parent)

    def event(self, time: float, name: str, attributes: list[Attribute]) -> None:
        """Something happens; what would be too much is counted."""
        if self.events is None:
            self.events = []
        if len(self.events) < MOST_EVENTS:
            self.events.append(Event(time, name, attributes))
        else:
            self.dropped_events += 1

    def attribute(self, name: str) -> Any:
        """The value of an attribute; None without it."""
        return next((value for key, value in self.attributes if key == name), None)


class Recorder(Protocol):
    """Takes spans.  Synchronous, never raises."""

    def began(self, span: Span, above: Link, /) -> None:
        """A span begins below *above*, whose ``span`` is ``b""`` for a trace that begins here.  It may be given ids of
        the recorder's own, or ``sampled = False`` if it is not wanted."""

    def ended(self, span: Span, /) -> None:
        """A span is complete."""


def shown(value: bytes) -> str:
    """A value from the network: text, and cut."""
    return value[:LONGEST].decode("utf-8", "replace" if len(value) <= LONGEST else "ignore")
