"""The one interface of HTTP/2 codecs, whichever engine runs (RFC 9113).

A codec serves one connection in one role: bytes go in by ``receive_data``, which returns the events
in the order of the frames; whatever it has to say, answers to PING and SETTINGS included, collects
until ``data_to_send``.  It never queues a body beyond the windows: callers ask ``window`` and pass no
more than that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from meshcore.codec.events import Event, Fields

__all__ = ["H2Codec", "TakeFrame"]

TakeFrame: TypeAlias = "Callable[[memoryview], bool]"
"""Takes a whole DATA frame, header included, and may write over it; False if it does not."""


class H2Codec(Protocol):
    """One HTTP/2 connection, client or server."""

    def start(self) -> None:
        """Queues the preface (client) and the first SETTINGS with the limits in force, and the WINDOW_UPDATE
        that opens the connection's window (hostile-world.md §1)."""

    def receive_data(self, data: bytes, now: float, /) -> list[Event]:
        """Events of what was read.  *now* (seconds, any origin) only feeds the rate limits.

        Never raises for what the peer does: a connection error is a last event,
        ``ConnectionTerminated``, with its GOAWAY queued; the events of frames before it stand.
        Everything after that is ignored.

        What one call does is bounded, however much it is given: where ``costly`` says so after it, others are to
        have their turn; where ``unfinished`` does, it is to be called again then, with ``b""``.
        """
        ...

    def take_partial(self) -> bytes:
        """Takes the bytes received of a frame that has not come whole; they go in front of what ``receive_bulk``
        is given next."""
        ...

    def receive_bulk(self, view: memoryview, now: float, takers: MutableMapping[int, TakeFrame], /) -> list[Event]:
        """``receive_data`` for a large writable buffer that the caller uses again.

        DATA frames of a stream that has a taker go to that, whole, as parts of *view*; what one takes makes no
        event and counts as consumed.  Everything else, and what a taker has not taken, makes events, which hold
        copies; a stream with such an event has its taker removed, so that nothing overtakes it.
        """
        ...

    @property
    def unfinished(self) -> bool:
        """Whether whole frames are left of what was read, since they cost more than one call may."""
        ...

    @property
    def costly(self) -> bool:
        """Whether the last call did as much as one call may, or more; so it is wherever it is ``unfinished``."""
        ...

    def data_to_send(self) -> bytes:
        """Takes everything queued."""
        ...

    def take_parts(self) -> list[bytes | memoryview]:
        """``data_to_send`` in the pieces that were queued."""
        ...

    def drain_events(self) -> list[Event]:
        """Events that appeared by sending rather than by receiving (an engine that refuses late); mostly []."""
        ...

    def send_request(
        self,
        method: bytes,
        scheme: bytes,
        authority: bytes,
        path: bytes,
        headers: Fields,
        /,
        *,
        end_stream: bool,
        protocol: bytes | None = None,
    ) -> int:
        """Opens a stream; its id.

        Raises:
            LocalProtocolError: the message could not be sent as it is, or no stream can be opened.
        """
        ...

    def send_response(self, stream_id: int, status: int, headers: Fields, /, *, end_stream: bool) -> None:
        """The final response's head.

        Raises:
            StreamReset: the stream is not open for sending any more (trap 3): for every ``send_*``.
            LocalProtocolError: the message could not be sent as it is.
        """

    def send_informational(self, stream_id: int, status: int, headers: Fields, /) -> None:
        """A 1xx response other than 101."""

    def send_data(self, stream_id: int, data: bytes, /, *, end_stream: bool) -> None:
        """At most ``window(stream_id)`` bytes, split into frames as the peer's SETTINGS say."""

    def try_send(self, stream_id: int, data: bytes, end_stream: bool, /) -> bool:
        """``send_data`` where the windows allow all of *data*; False, and nothing done, where they do not."""
        ...

    def forward(self, stream_id: int, frame: memoryview, /) -> bool:
        """``try_send`` for the payload of a whole DATA frame, not the last of its stream; its header is written
        over.  The buffer must stay as it is until what is queued has been taken and sent.  False where it
        cannot be sent, whatever the reason."""
        ...

    def send_trailers(self, stream_id: int, headers: Fields, /) -> None:
        """Trailer fields; they end the stream."""

    def reset_stream(self, stream_id: int, code: int, /) -> None:
        """RST_STREAM; does nothing for a stream that is already over."""

    def acknowledge(self, stream_id: int, amount: int, /) -> bool:
        """Returns window credit for consumed bytes (``DataReceived.flow``), also after the stream is
        over, when only the connection's window gets it (trap 2).  Whether that queued a WINDOW_UPDATE:
        small credit is saved up, so mostly there is nothing to flush."""
        ...

    def window(self, stream_id: int, /) -> int:
        """Bytes that may be sent on the stream now: the smaller of its window and the connection's;
        0 for a stream that is over."""
        ...

    def close(self) -> None:
        """The connection is over: everything that is still called does nothing, or says that the stream is closed."""

    def ping(self, data: bytes, /) -> None:
        """Queues a PING with 8 bytes."""

    def goaway(self, code: int = 0, /, *, last_stream_id: int | None = None, debug: bytes = b"") -> None:
        """Queues GOAWAY; by default with the last stream processed."""

    def shutdown_notice(self) -> None:
        """Queues the first GOAWAY of a graceful drain (last stream id 2³¹-1, RFC 9113 §6.8)."""

    @property
    def open_streams(self) -> int:
        """Streams that are open for either side."""
        ...

    @property
    def peer_max_streams(self) -> int:
        """The peer's SETTINGS_MAX_CONCURRENT_STREAMS (2³¹-1 while unset)."""
        ...

    @property
    def can_open(self) -> bool:
        """Client: whether a stream may be opened now (limit, GOAWAY, ids left)."""
        ...

    @property
    def extended_connect(self) -> bool:
        """Whether the peer announced SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441)."""
        ...
