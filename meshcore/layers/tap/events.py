"""The events that a tap tells of an exchange, as JSON-able values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from meshcore.errors import StreamReset
from meshcore.http.classification import DEFAULT
from meshcore.http.classify import error_label
from meshcore.http.counted import CountedBody
from meshcore.http.grpc import is_grpc
from meshcore.layers.tap.filter import endpoint_identity
from meshcore.layers.tap.secrets import shown_field, shown_path, shown_text

if TYPE_CHECKING:
    from meshcore.codec.events import Fields
    from meshcore.http.body import Body, EndOfStream
    from meshcore.http.classification import Verdict
    from meshcore.http.message import Request, Response
    from meshcore.layers.tap.filter import TapFilter
    from meshcore.transport.target import Address

__all__ = ["Event", "Exchange", "weight"]

Event: TypeAlias = dict[str, Any]

_VERSIONS = {10: "HTTP/1.0", 11: "HTTP/1.1", 20: "HTTP/2.0"}
_MOST_FIELDS = 64
_MOST_TEXT = 16_384
"""Characters of header fields in one event."""


class Exchange:
    """What is known of an exchange; what layers below may rewrite is noted when it begins.

    Attributes:
        id: counts up in this process.
        direction: ``"inbound"`` or ``"outbound"``.
        request: its request.
        response: its response; None before, and without.
        verdict: what it counts as; None before its end.
    """

    __slots__ = (
        "_answered_at",
        "_authority",
        "_first_at",
        "_grpc",
        "_method",
        "_path",
        "_received",
        "_scheme",
        "_sent",
        "_started_at",
        "_time",
        "_trailers",
        "_version",
        "direction",
        "error",
        "id",
        "request",
        "response",
        "verdict",
    )

    def __init__(self, number: int, direction: str, request: Request, now: float, time: float) -> None:
        self.id = number
        self.direction = direction
        self.request = request
        self.response: Response | None = None
        self.verdict: Verdict | None = None
        self.error: BaseException | None = None
        self._started_at = now
        self._time = time
        self._answered_at: float | None = None
        self._first_at: float | None = None
        self._method = request.method
        self._scheme = request.scheme
        self._authority = request.authority
        self._path = request.path
        self._version = request.version
        self._grpc = request.version == 20 and request.method == b"POST" and is_grpc(request.headers.raw)
        self._trailers: Fields = []
        self._received = request.body = _counted(request.body)
        self._sent: Body | None = None

    @property
    def authority(self) -> bytes:
        """The authority as the client asked for it."""
        return self._authority

    def answered(self, response: Response, now: float) -> Body:
        """There is a response; its body, whose beginning and end are to be told."""
        self.response = response
        self._answered_at = now
        self._sent = response.body = _counted(response.body)
        return self._sent

    def first_data(self, now: float) -> None:
        """The first byte of the response has gone."""
        self._first_at = now

    def ended(self, end: EndOfStream) -> None:
        """It is over; now there is a verdict."""
        request, response = self.request, self.response
        classification = DEFAULT if request.classification is None else request.classification
        status = response.status if response is not None else 0
        headers = response.headers.raw if response is not None else []
        self.error = end.error
        self._trailers = end.trailers
        self.verdict = classification.verdict(status, headers, end.trailers, end.error, grpc=self._grpc)

    def seconds(self, now: float) -> float:
        """How long it takes, or took."""
        return now - self._started_at

    # ----- events -----

    def request_init(self, shown: TapFilter) -> Event:
        """The request has come."""
        found = self._event("request_init", self._started_at)
        if shown.headers:
            found["headers"] = _fields(shown.shows(self.request.headers.raw))
        return found

    def response_init(self, shown: TapFilter, now: float) -> Event:
        """The response's head has come."""
        response = self.response
        assert response is not None
        found = self._event("response_init", now)
        found["status"] = response.status
        if shown.headers:
            found["response_headers"] = _fields(shown.shows(response.headers.raw))
        return found

    def response_end(self, shown: TapFilter, now: float) -> Event:
        """The last byte of the response has gone, or there will be none."""
        response, verdict, error = self.response, self.verdict, self.error
        assert verdict is not None
        found = self._event("response_end", now)
        found["status"] = response.status if response is not None else None
        found["response_ms"] = None if self._answered_at is None else _ms(now - self._answered_at)
        found["first_byte_ms"] = None if self._first_at is None else _ms(self._first_at - self._started_at)
        found["request_bytes"] = _size(self._received)
        found["response_bytes"] = _size(self._sent) if self._sent is not None else 0
        found["failed"] = verdict.failure
        found["grpc_status"] = verdict.grpc_status if verdict.grpc_status >= 0 else None
        found["error"] = verdict.error or _told(response)
        found["reset"] = _reset(error)
        found["trailers"] = [shown_text(name) for name, _ in self._trailers[:_MOST_FIELDS]]
        if shown.headers:
            found["trailer_fields"] = _fields(shown.shows(self._trailers))
        return found

    def _event(self, kind: str, at: float) -> Event:
        request = self.request
        connection, endpoint = request.connection, request.endpoint
        secured: bool | None = None
        if self.direction == "inbound":
            secured = connection is not None and connection.secure
        elif endpoint is not None:
            secured = endpoint.tls is not None
        return {
            "event": kind,
            "id": self.id,
            "time": round(self._time + at - self._started_at, 6),
            "since_ms": _ms(at - self._started_at),
            "direction": self.direction,
            "source": {
                "addr": None if connection is None else _address(connection.peer),
                "identity": None if connection is None else _name(connection.identity),
                "secured": connection is not None and connection.secure,
            },
            "target": {
                "addr": None if endpoint is None else _address(endpoint.address),
                "identity": None if endpoint is None else _name(endpoint_identity(endpoint)),
                "secured": endpoint is not None and endpoint.tls is not None,
                "labels": {} if endpoint is None else dict(endpoint.labels),
            },
            "secured": secured,
            "route": _name(request.route) or None,
            "backend": _name(request.backend) or None,
            "method": shown_text(self._method),
            "scheme": shown_text(self._scheme),
            "authority": shown_path(self._authority),
            "path": shown_path(self._path),
            "version": _VERSIONS.get(self._version, str(self._version)),
            "retries": len(request.avoid),
            "trace_id": _trace(request),
        }


def weight(event: Event) -> int:
    """About how many bytes an event takes."""
    found = 1_024 + len(event.get("path", "")) + len(event.get("authority", ""))
    for name in ("headers", "response_headers", "trailer_fields"):
        found += sum(len(key) + len(value) + 64 for key, value in event.get(name, ()))
    return found


def _counted(body: Body) -> Body:
    """The body, with its bytes counted where nobody has declared how many there are."""
    if body.end is None and body.size_hint is None and not isinstance(body, CountedBody):
        return CountedBody(body)
    return body


def _size(body: Body) -> int | None:
    """The bytes of a body: counted, or as declared if all of them came."""
    if isinstance(body, CountedBody):
        return body.counted
    if body.end is not None and body.end.error is None:
        return body.size_hint
    return None


def _fields(fields: Fields) -> list[list[str]]:
    """Header fields for people, secrets masked; no more than an event may hold."""
    found = []
    left = _MOST_TEXT
    for name, value in fields[:_MOST_FIELDS]:
        text = shown_field(name, value)
        left -= len(name) + len(text)
        if left < 0:
            break
        found.append([shown_text(name), text])
    return found


def _told(response: Response | None) -> str | None:
    """What a response says of its own that went wrong."""
    code = None if response is None else response.headers.get(b"x-meshcore-error")
    return None if code is None else shown_text(code)


def _reset(error: BaseException | None) -> str | None:
    """The HTTP/2 code of a stream that was reset."""
    return error_label(error)[3:-1] if isinstance(error, StreamReset) else None


def _ms(seconds: float) -> float:
    return round(seconds * 1_000, 3)


def _address(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _name(name: str | None) -> str | None:
    return None if name is None else name[:2_048]


def _trace(request: Request) -> str | None:
    """The trace that a request belongs to, where traces are known."""
    trace = getattr(request, "trace", None)
    found = getattr(trace, "trace_id", trace)
    if isinstance(found, bytes):
        return found.hex()[:64]
    if isinstance(found, int) and not isinstance(found, bool):
        return f"{found:032x}"
    return found[:64] if isinstance(found, str) and found else None
