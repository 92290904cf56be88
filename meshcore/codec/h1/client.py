"""The connecting side of an HTTP/1 connection: requests out, responses in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meshcore.codec.events import Event, Field, Fields, InformationalReceived, ResponseReceived, Sentinel
from meshcore.codec.h1.connection import CHUNKED, DONE, HEAD, LENGTH, RAW, UNTIL_EOF, Codec
from meshcore.codec.h1.control import Control, plain_control, strip
from meshcore.codec.h1.memory import LONGEST, remember, responses, written_requests
from meshcore.codec.h1.scan import STATUS_LINE, response_head
from meshcore.codec.h1.target import is_target
from meshcore.codec.h1.write import write_fields
from meshcore.codec.validate import VOLATILE, VOUCHED, is_authority, is_method, is_protocol, is_volatile_value, tokens
from meshcore.errors import LocalProtocolError, RemoteProtocolError, caused

if TYPE_CHECKING:
    from meshcore.codec.h1.engines import Engine, Split
    from meshcore.codec.limits import H1Limits

__all__ = ["ClientCodec"]

_UNLIKE: Final[object] = object()
"""Stands where the field does that is never the same, and is like no field."""
_VOLATILE: Final = VOLATILE + b": "
_END: Final = b"\r\n\r\n"
_NOTHING: Final[frozenset[bytes]] = frozenset()
_LENGTH: Final = frozenset((b"content-length",))


class ClientCodec(Codec):
    """See :class:`meshcore.codec.h1.interface.H1Client`."""

    __slots__ = ("_heads", "_informational", "_known_host", "_method", "_plain", "_protocol")

    def __init__(self, limits: H1Limits, engine: Engine) -> None:
        super().__init__(limits, engine)
        self._heads = responses(limits, engine)
        # Whether the method leaves framing to the response's fields alone.
        self._plain = False
        self._known_host = b""
        self._method = b""
        self._protocol: bytes | None = None
        self._informational = 0

    def _fail(self, error: RemoteProtocolError) -> None:
        error.status = 502
        super()._fail(error)

    def _read_head(self) -> Event | Sentinel:
        buffer, start = self._buffer, self._start
        if start == len(buffer):
            if self._eof and self._method:
                raise RemoteProtocolError("connection closed before the response")
            return self._need_head()
        if not self._method:
            raise RemoteProtocolError("bytes that answer no request")
        if self._plain and self._lines is None and (end := buffer.find(b"\r\n\r\n", start) + 4) > 3:
            known = self._heads.get(buffer[start:end])
            if known is not None:
                self._start = end
                code, fields, length = known
                if length:
                    self._left = length
                    self._reading = LENGTH
                    return ResponseReceived(1, code, fields.copy(), False, 11, length)
                self._reading = DONE
                return ResponseReceived(1, code, fields.copy(), True, 11, length)
        limits = self._limits
        match = response_head(buffer, start) if self._lines is None else None
        if (
            match is None
            or match.end() - start > limits.head_size
            or buffer.find(b"\r", match.end(2)) - start > limits.request_line
        ):
            if self._scan_lines(STATUS_LINE) < 0:
                return self._need_head()
            match = response_head(buffer, start)
            assert match is not None
        end = match.end()
        head = buffer[start:end]
        modern = match[1] == b"1"
        status = int(match[2])
        split, refusal = self._split(head, self._method)
        event = self._judge(status, modern, split)
        if refusal is not None:
            raise caused(RemoteProtocolError("response head malformed"), refusal) from refusal
        self._start = end
        if (
            self._plain
            and type(event) is ResponseReceived
            and event.content_length is not None
            and event.version == 11
            and self._keep_alive
            and status != 304
            and len(head) <= LONGEST
        ):
            remember(self._heads, head, (status, event.headers.copy(), event.content_length))
        return event

    def _split_engine(self, head: bytes, method: bytes) -> Split:
        return self._engine.split_response(head)

    def _judge(self, status: int, modern: bool, split: Split) -> Event:
        fields, special = split
        if status < 200:
            return self._judge_informational(status, modern, fields, special)
        version = 11 if modern else 10
        headers = fields
        chunked = False
        length = None
        plain = plain_control(special) if special else None
        if plain is not None and modern and plain[0] is None:
            length = plain[1]
            if plain[2]:
                headers = [field for field in fields if field[0] != b"connection"]
        elif special:
            control = Control(special, int(modern))
            headers = strip(fields, control)
            chunked, length = control.chunked, control.content_length
            if control.close or not (modern or control.keep_alive):
                self._keep_alive = False
        elif not modern:
            self._keep_alive = False
        method = self._method
        if method == b"CONNECT" and status < 300:
            self._open_tunnel()
            if length is not None:
                headers = [field for field in headers if field[0] != b"content-length"]
            return ResponseReceived(1, status, headers, False, version)
        if status == 204 or status == 304 or method == b"HEAD":
            if status == 204:
                # It may not have a length (RFC 9110 §8.6): what it means by one is anybody's guess.
                if length or chunked:
                    self._keep_alive = False
                if length is not None:
                    headers = [field for field in headers if field[0] != b"content-length"]
                    length = None
            self._reading = DONE
            return ResponseReceived(1, status, headers, True, version, length)
        if length is None and not chunked:
            self._reading = UNTIL_EOF
            self._keep_alive = False
            return ResponseReceived(1, status, headers, False, version)
        self._read_body(chunked, length or 0, len(fields))
        return ResponseReceived(1, status, headers, length == 0, version, length)

    def _judge_informational(self, status: int, modern: bool, fields: Fields, special: Fields) -> Event:
        control = Control(special, int(modern))
        headers = [field for field in strip(fields, control) if field[0] != b"content-length"]
        if status == 101:
            asked = self._protocol
            if asked is None or not modern or not control.protocols:
                raise RemoteProtocolError("101 to a request that asked for no upgrade")
            wanted = asked.split(b", ")
            if not all(protocol in wanted for protocol in control.protocols):
                raise RemoteProtocolError("101 to a protocol that was not asked for")
            self._open_tunnel()
            return ResponseReceived(1, 101, headers, False, 11, None, b", ".join(control.protocols))
        self._informational += 1
        if self._informational > self._limits.informational:
            raise RemoteProtocolError("too many informational responses")
        return InformationalReceived(1, status, headers)

    def _open_tunnel(self) -> None:
        self._reading = DONE
        self._sending = RAW
        self._keep_alive = False

    # -- sending ------------------------------------------------------------------------------

    def send_request(
        self,
        method: bytes,
        target: bytes,
        authority: bytes,
        headers: Fields,
        /,
        *,
        end_stream: bool,
        upgrade: bytes | None = None,
        expect_continue: bool = False,
        version: int = 11,
        close: bool = False,
    ) -> bytes:
        """The head of a request; raises :class:`LocalProtocolError`."""
        if self._sending != HEAD or self._reading != HEAD or self._eof or self._start < len(self._buffer):
            raise LocalProtocolError("the connection is not ready for a request")
        simple = version == 11 and upgrade is None and not (expect_continue or close or method == b"CONNECT")
        last = b""
        fields: list[Field] = headers
        if simple and fields:
            unlike: Field = fields[-1]
            if VOUCHED.has(unlike):
                last = VOUCHED.value
            elif unlike[0] == VOLATILE and is_volatile_value(unlike[1]):
                last = unlike[1]
        if last:
            # It is another one each time: what repeats is the rest.
            fields[-1] = _UNLIKE
            key = (method, target, authority, tuple(fields))
            fields[-1] = unlike
        else:
            key = (method, target, authority, tuple(fields))
        if simple and (known := written_requests.get(key)) is not None:
            head, length = known
            if length is not None:
                if end_stream and length:
                    raise LocalProtocolError("no body, but a content-length")
                self._to_send = length
            if length is not None or end_stream:
                self._sending = DONE if end_stream else LENGTH
                self._began(method, None, True)
                return head + last + _END if last else head
        if last:
            headers = headers[:-1]
        if version not in (10, 11) or not is_method(method) or not is_target(method, target):
            raise LocalProtocolError(f"no such request: {method[:64]!r} {target[:64]!r}")
        options: list[bytes] = []
        host: bytes | None = None
        for name, value in headers:
            if name == b"host":
                if host is not None:
                    raise LocalProtocolError("more than one host field")
                host = value
            elif name == b"te":
                if value != b"trailers":
                    raise LocalProtocolError("te may only be trailers")
                options = [b"te"]
        first = b"%b %b HTTP/1.%d\r\n" % (method, target, version - 10)
        if host is None:
            host = authority
            if host or version == 11:
                first = b"%bhost: %b\r\n" % (first, host)
        if host and host != self._known_host:
            if not is_authority(host):
                raise LocalProtocolError(f"host not valid: {host[:64]!r}")
            self._known_host = host
        lines, length = write_fields(headers, keep_length=method != b"CONNECT")
        framing = b""
        if method == b"CONNECT":
            sending = DONE
            end_stream = True
        elif length is not None:
            if end_stream and length:
                raise LocalProtocolError("no body, but a content-length")
            sending = LENGTH
            self._to_send = length
        elif end_stream:
            sending = DONE
        elif version == 11:
            sending = CHUNKED
            framing = b"transfer-encoding: chunked\r\n"
        else:
            raise LocalProtocolError("a body on HTTP/1.0 needs a content-length")
        if expect_continue and not end_stream and version == 11:
            framing += b"expect: 100-continue\r\n"
        if upgrade is not None:
            protocols = tokens(upgrade)
            if version != 11 or not protocols or not all(map(is_protocol, protocols)) or b"h2c" in protocols:
                raise LocalProtocolError("upgrade not valid")
            options.append(b"upgrade")
            framing += b"upgrade: %b\r\n" % upgrade
            upgrade = b", ".join(protocols)
        if close:
            options.append(b"close")
        if options:
            framing += b"connection: %b\r\n" % b", ".join(options)
        self._sending = DONE if end_stream else sending
        self._began(method, upgrade, not close and version == 11)
        head = b"%b%b%b%b" % (first, lines, framing, _VOLATILE if last else b"\r\n")
        if simple and not framing and len(head) <= LONGEST:
            remember(written_requests, key, (head, length))
        return head + last + _END if last else head

    def _began(self, method: bytes, protocol: bytes | None, keep_alive: bool) -> None:
        self._method = method
        self._protocol = protocol
        self._plain = method != b"HEAD" and method != b"CONNECT"
        self._informational = 0
        self._keep_alive = keep_alive

    def start_next_cycle(self) -> bool:
        """Ready for the next request; False where the connection must be closed instead.

        Bytes beyond the response, or the peer's end, make it unusable too.
        """
        if self._eof or self._start < len(self._buffer) or not super().start_next_cycle():
            return False
        self._method = b""
        return True
