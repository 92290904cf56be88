"""What the codecs of both protocols say: one small class for each thing a peer can do.

The events are plain slotted objects, made once a frame at the most.  Header fields are lists of
``(name, value)`` byte pairs in the order sent, names in lower case, values stripped of outer white
space, everything validated (``codec.validate``).  Message events have had their control data taken
out of the fields: pseudo-header fields (RFC 9113 §8.3), ``host`` where it equals the authority,
``connection`` and what it names, ``transfer-encoding``, ``upgrade``, ``keep-alive``,
``proxy-connection``, ``http2-settings`` and ``expect: 100-continue`` never appear in ``headers``;
``content-length`` stays, once.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import attrs

__all__ = [
    "NEED_DATA",
    "PAUSED",
    "ConnectionClosed",
    "ConnectionTerminated",
    "DataReceived",
    "Event",
    "Fields",
    "GoAwayReceived",
    "InformationalReceived",
    "PingAcknowledged",
    "RequestReceived",
    "ResponseReceived",
    "SettingsChanged",
    "StreamReset",
    "TrailersReceived",
    "WindowUpdated",
]

Fields: TypeAlias = list[tuple[bytes, bytes]]


class Sentinel:
    """A value that is only ever compared by identity; its repr is its name."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


NEED_DATA: Final = Sentinel("NEED_DATA")
"""HTTP/1: nothing more can be said before more bytes are received."""

PAUSED: Final = Sentinel("PAUSED")
"""HTTP/1: the message is complete, and the next one waits for ``start_next_cycle``, or the
connection has become a tunnel and its further bytes are in ``trailing_data``."""


@attrs.define(eq=True)
class RequestReceived:
    """A request's head.

    Attributes:
        stream_id: the HTTP/2 stream; 1 on HTTP/1.
        method: the method token, as sent.
        scheme: ``http`` or ``https`` as the request itself says it; on HTTP/1 in origin-form
            ``b""``, which the server fills in from its connection.
        authority: ``:authority``; on HTTP/1 of the target in absolute- or authority-form, else of
            ``host``; ``b""`` where there is none (HTTP/1.0, some HTTP/2 requests: X-67).
        path: path and query; ``b"*"`` for OPTIONS in asterisk-form; ``b""`` for a plain CONNECT.
        headers: the fields.  ``host`` is left in them only where it differs from the authority
            (absolute-form: D-32).
        end_stream: no body follows.  On HTTP/1 also of a CONNECT: what follows is the tunnel's.
        version: 10, 11 or 20.
        content_length: as declared, or None.
        protocol: what the exchange wants to become: ``:protocol`` of an extended CONNECT
            (RFC 8441) or the HTTP/1 ``upgrade`` value in lower case; None for anything else.
        absolute_form: HTTP/1 target in absolute-form.
        expect_continue: the client waits for a 100 (RFC 9110 §10.1.1).
    """

    stream_id: int
    method: bytes
    scheme: bytes
    authority: bytes
    path: bytes
    headers: Fields
    end_stream: bool
    version: int
    content_length: int | None = None
    protocol: bytes | None = None
    absolute_form: bool = False
    expect_continue: bool = False


@attrs.define(eq=True)
class ResponseReceived:
    """A final response's head; ``end_stream`` where no body follows (HEAD, 204, 304 included).

    ``protocol`` is the lower-case ``upgrade`` value of a 101 (HTTP/1), else None.
    A 101, or a 2xx to CONNECT, makes a tunnel (``PAUSED`` follows on HTTP/1); it does not end the stream.
    """

    stream_id: int
    status: int
    headers: Fields
    end_stream: bool
    version: int
    content_length: int | None = None
    protocol: bytes | None = None


@attrs.define(eq=True)
class InformationalReceived:
    """A 1xx response other than 101: more will come for this stream."""

    stream_id: int
    status: int
    headers: Fields


@attrs.define(eq=True)
class DataReceived:
    """Bytes of a body, at least one of them unless ``end_stream``.

    Attributes:
        data: the bytes (an object of their own, never a view of a reused buffer).
        flow: bytes of flow-control window to give to ``acknowledge`` once they have been consumed.  Those of
            padding are not among them, for the codec returns them itself.  0 on HTTP/1.
        end_stream: the message is complete with them.
    """

    stream_id: int
    data: bytes
    flow: int
    end_stream: bool


@attrs.define(eq=True)
class TrailersReceived:
    """A message's trailer fields; they end it."""

    stream_id: int
    headers: Fields


@attrs.define(eq=True)
class StreamReset:
    """HTTP/2: a stream is over before its end.

    Attributes:
        remote: True: the peer sent RST_STREAM.  False: the codec refused what came on the stream
            and has queued the RST_STREAM itself (RFC 9113 §8.1.1), or the stream was above the
            peer's GOAWAY.
        reason: for a log line.
        processed: False where the peer says that it has not acted on the request (REFUSED_STREAM,
            above the last id of a GOAWAY).
    """

    stream_id: int
    code: int
    remote: bool
    reason: str = ""
    processed: bool = True


@attrs.define(eq=True)
class WindowUpdated:
    """HTTP/2: more may be sent: on one stream, or on any of them where ``stream_id`` is 0."""

    stream_id: int


@attrs.define(eq=True)
class SettingsChanged:
    """HTTP/2: the peer's SETTINGS took effect: windows and stream limits may differ now."""


@attrs.define(eq=True)
class PingAcknowledged:
    """HTTP/2: the peer answered our PING."""

    data: bytes


@attrs.define(eq=True)
class GoAwayReceived:
    """HTTP/2: the peer opens no further streams and did not process ours above ``last_stream_id``.

    The codec follows it with a :class:`StreamReset` (``processed=False``) for each such stream.
    """

    last_stream_id: int
    code: int
    debug: bytes


@attrs.define(eq=True)
class ConnectionTerminated:
    """HTTP/2: the codec found a connection error, or a limit was passed, and has queued GOAWAY.

    Flush what is to be sent, then close.  ``abuse`` names the limit (``rapid_reset``, ``ping``,
    ``settings``, ``empty_data``, ``continuation``, …) for ``h2_abuse_closed_total{kind}``;
    it is empty for an ordinary protocol error.
    """

    code: int
    reason: str
    abuse: str = ""


@attrs.define(eq=True)
class ConnectionClosed:
    """HTTP/1: the peer has closed its side between two messages."""


Event: TypeAlias = (
    RequestReceived
    | ResponseReceived
    | InformationalReceived
    | DataReceived
    | TrailersReceived
    | StreamReset
    | WindowUpdated
    | SettingsChanged
    | PingAcknowledged
    | GoAwayReceived
    | ConnectionTerminated
    | ConnectionClosed
)
