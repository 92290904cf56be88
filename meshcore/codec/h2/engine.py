"""What the codec asks of the library behind it: HPACK, framing of messages, and nothing else.

The scanner stands in front: an engine sees whole frames only, which it has no reason to refuse, and
it keeps no windows, limits or verdicts of its own that could become visible on the wire.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from meshcore.codec.events import Block, Fields

__all__ = ["Engine", "EngineFailure", "Sink"]


class EngineFailure(Exception):
    """The engine cannot go on with this connection: its header compression is lost.

    Attributes:
        code: for the GOAWAY.
        abuse: the limit that was passed, or "".
        queued: what is still to be sent before the GOAWAY.
    """

    def __init__(self, code: int, reason: str, abuse: str = "", queued: bytes = b"") -> None:
        super().__init__(reason)
        self.code = code
        self.abuse = abuse
        self.queued = queued


class Sink(Protocol):
    """Where an engine delivers what it decoded."""

    def on_headers(self, stream_id: int, fields: Block, end_stream: bool, /) -> None:
        """A header block."""

    def on_data(self, stream_id: int, data: bytes, end_stream: bool, /) -> None:
        """The bytes of one DATA frame without their padding."""

    def on_refused(self, stream_id: int, code: int, /) -> None:
        """The engine found a message malformed and has queued its RST_STREAM."""


class Engine(Protocol):
    """One connection of an HTTP/2 library.

    Attributes:
        wants_authority: it refuses requests without ``:authority`` and ``host``.
        headers_only: bodies may pass it by, in both directions: its windows are wide from the start, so it is
            neither shown the peer's WINDOW_UPDATE and SETTINGS_INITIAL_WINDOW_SIZE nor needs all DATA.
    """

    wants_authority: bool
    headers_only: bool

    def feed(self, data: bytes | memoryview, /) -> None:
        """Whole frames: HEADERS with their CONTINUATIONs, DATA, WINDOW_UPDATE, SETTINGS.

        Raises:
            EngineFailure: after having delivered what came before.
        """

    def take_refusals(self) -> bytes:
        """Like :meth:`take`, then delivers ``on_refused`` for what was found malformed."""
        ...

    def take(self) -> bytes:
        """Everything queued."""
        ...

    def acknowledge_settings(self) -> bytes:
        """The peer has acknowledged our SETTINGS; everything queued before."""
        ...

    def send_request(self, fields: Fields, /, *, end_stream: bool) -> int:
        """Opens a stream."""
        ...

    def send_headers(self, stream_id: int, fields: Fields, /, *, end_stream: bool) -> None:
        """A final response of a server."""

    def send_informational(self, stream_id: int, fields: Fields, /) -> None:
        """A 1xx response."""

    def send_data(self, stream_id: int, data: bytes, /, *, end_stream: bool) -> None:
        """Body bytes, at least one, within the windows."""

    def end_stream(self, stream_id: int, /) -> None:
        """END_STREAM alone."""

    def send_trailers(self, stream_id: int, fields: Fields, /) -> None:
        """Trailer fields."""

    def reset(self, stream_id: int, code: int, /) -> None:
        """RST_STREAM."""

    def remote_reset(self, stream_id: int, code: int, /) -> None:
        """The peer has reset the stream."""

    def widen(self, stream_id: int, amount: int, /) -> None:
        """Where it sees headers only: it may send so many bytes more on the stream, or on all of them (0)."""

    def remote_goaway(self, last_stream_id: int, /) -> None:
        """The peer did not process our streams above *last_stream_id*."""

    def forget(self, stream_id: int, /) -> None:
        """The stream is over on both sides."""

    def repay(self, stream_id: int, amount: int, /) -> bytes:
        """Body bytes seen by a stream that is over: as ``settle``, at once, so that nothing is remembered of it."""
        ...

    def settle(self, debts: list[tuple[int, int]], /) -> bytes:
        """Body bytes seen by each open stream: gives the engine's own window back
        without a frame on the wire; the other frames queued."""
        ...
