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

from typing import Any, ClassVar, Final, TypeAlias

import attrs

__all__ = [
    "NEED_DATA",
    "PAUSED",
    "ConnectionClosed",
    "ConnectionTerminated",
    "DataReceived",
    "Event",
    "Field",
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
Field: TypeAlias = Any
"""One of them, where it is kept as the object that it is: a compiler takes a ``tuple[bytes, bytes]`` apart when it
comes and makes a new one of it when it goes, which is slow, and forgets what else it may have been."""
Block: TypeAlias = tuple[tuple[bytes, bytes], ...]
"""The fields of a header block as an engine decoded it."""


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


class _Event:
    """What is equal if its type and its attributes are.  Classes of their own rather than attrs', for a compiler knows
    where their attributes are."""

    __slots__ = ()
    __match_args__: ClassVar[tuple[str, ...]] = ()

    def _values(self) -> list[object]:
        return [getattr(self, name) for name in self.__match_args__]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Event) and type(self) is type(other) and self._values() == other._values()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in zip(self.__match_args__, self._values(), strict=True))
        return f"{type(self).__name__}({values})"


class RequestReceived(_Event):
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

    __slots__ = (
        "absolute_form",
        "authority",
        "content_length",
        "end_stream",
        "expect_continue",
        "headers",
        "method",
        "path",
        "protocol",
        "scheme",
        "stream_id",
        "version",
    )
    __match_args__ = (
        "stream_id",
        "method",
        "scheme",
        "authority",
        "path",
        "headers",
        "end_stream",
        "version",
        "content_length",
        "protocol",
        "absolute_form",
        "expect_continue",
    )

    def __init__(
        self,
        stream_id: int,
        method: bytes,
        scheme: bytes,
        authority: bytes,
        path: bytes,
        headers: Fields,
        end_stream: bool,
        version: int,
        content_length: int | None = None,
        protocol: bytes | None = None,
        absolute_form: bool = False,
        expect_continue: bool = False,
    ) -> None:
        self.stream_id = stream_id
        self.method = method
        self.scheme = scheme
        self.authority = authority
        self.path = path
        self.headers = headers
        self.end_stream = end_stream
        self.version = version
        self.content_length = content_length
        self.protocol = protocol
        self.absolute_form = absolute_form
        self.expect_continue = expect_continue


class ResponseReceived(_Event):
    """A final response's head; ``end_stream`` where no body follows (HEAD, 204, 304 included).

    ``protocol`` is the lower-case ``upgrade`` value of a 101 (HTTP/1), else None.
    A 101, or a 2xx to CONNECT, makes a tunnel (``PAUSED`` follows on HTTP/1); it does not end the stream.
    """

    __slots__ = (
        "content_length",
        "end_stream",
        "headers",
        "protocol",
        "status",
        "stream_id",
        "version",
    )
    __match_args__ = ("stream_id", "status", "headers", "end_stream", "version", "content_length", "protocol")

    def __init__(
        self,
        stream_id: int,
        status: int,
        headers: Fields,
        end_stream: bool,
        version: int,
        content_length: int | None = None,
        protocol: bytes | None = None,
    ) -> None:
        self.stream_id = stream_id
        self.status = status
        self.headers = headers
        self.end_stream = end_stream
        self.version = version
        self.content_length = content_length
        self.protocol = protocol


class InformationalReceived(_Event):
    """A 1xx response other than 101: more will come for this stream."""

    __slots__ = (
        "headers",
        "status",
        "stream_id",
    )
    __match_args__ = ("stream_id", "status", "headers")

    def __init__(
        self,
        stream_id: int,
        status: int,
        headers: Fields,
    ) -> None:
        self.stream_id = stream_id
        self.status = status
        self.headers = headers


class DataReceived(_Event):
    """Bytes of a body, at least one of them unless ``end_stream``.

    Attributes:
        data: the bytes (an object of their own, never a view of a reused buffer).
        flow: bytes of flow-control window to give to ``acknowledge`` once they have been consumed.  Those of
            padding are not among them, for the codec returns them itself.  0 on HTTP/1.
        end_stream: the message is complete with them.
    """

    __slots__ = (
        "data",
        "end_stream",
        "flow",
        "stream_id",
    )
    __match_args__ = ("stream_id", "data", "flow", "end_stream")

    def __init__(
        self,
        stream_id: int,
        data: bytes,
        flow: int,
        end_stream: bool,
    ) -> None:
        self.stream_id = stream_id
        self.data = data
        self.flow = flow
        self.end_stream = end_stream


class TrailersReceived(_Event):
    """A message's trailer fields; they end it."""

    __slots__ = (
        "headers",
        "stream_id",
    )
    __match_args__ = ("stream_id", "headers")

    def __init__(
        self,
        stream_id: int,
        headers: Fields,
    ) -> None:
        self.stream_id = stream_id
        self.headers = headers


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


class WindowUpdated(_Event):
    """HTTP/2: more may be sent: on one stream, or on any of them where ``stream_id`` is 0."""

    __slots__ = ("stream_id",)
    __match_args__ = ("stream_id",)

    def __init__(
        self,
        stream_id: int,
    ) -> None:
        self.stream_id = stream_id


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
