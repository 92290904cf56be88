"""The accepted side of an HTTP/1 connection: requests in, responses out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meshcore.codec.events import Event, Fields, RequestReceived, Sentinel
from meshcore.codec.h1.connection import CHUNKED, DONE, HEAD, LENGTH, NO_BODY, RAW, UNTIL_EOF, Codec
from meshcore.codec.h1.control import Control, plain_control, strip
from meshcore.codec.h1.memory import LONGEST, remember, requests, written_responses
from meshcore.codec.h1.scan import REQUEST_LINE, request_head
from meshcore.codec.h1.target import read_target
from meshcore.codec.h1.write import status_line, write_fields
from meshcore.codec.validate import is_authority, is_protocol
from meshcore.errors import LocalProtocolError, RemoteProtocolError, caused

if TYPE_CHECKING:
    from meshcore.codec.h1.engines import Engine, Split
    from meshcore.codec.limits import H1Limits

__all__ = ["ServerCodec"]

_NOTHING: Final[frozenset[bytes]] = frozenset()
_HOST: Final = frozenset((b"host",))
_LENGTH: Final = frozenset((b"content-length",))


class ServerCodec(Codec):
    """See :class:`meshcore.codec.h1.interface.H1Server`."""

    __slots__ = (
        "_blank_line",
        "_connect",
        "_expects",
        "_head_request",
        "_heads",
        "_known_host",
        "_protocol",
        "_version",
    )

    def __init__(self, limits: H1Limits, engine: Engine) -> None:
        super().__init__(limits, engine)
        self._heads = requests(limits, engine)
        self._known_host = b""
        self._version = 0
        self._head_request = False
        self._connect = False
        self._protocol: bytes | None = None
        self._expects = False
        self._blank_line = False

    def _read_head(self) -> Event | Sentinel:
        buffer, start = self._buffer, self._start
        if start == len(buffer):
            return self._need_head()
        if self._lines is None and (end := buffer.find(b"\r\n\r\n", start) + 4) > 3:
            known = self._heads.get(buffer[start:end])
            if known is not None:
                self._start = end
                return self._read_again(*known)
        limits = self._limits
        match = request_head(buffer, start) if self._lines is None else None
        if match is None or match.end() - start > limits.head_size or match.end(3) - start > limits.request_line:
            # One empty line before a request is ignored (RFC 9112 §2.2).
            if self._lines is None and not self._blank_line:
                if buffer.startswith(b"\r\n", start):
                    self._blank_line = True
                    self._start = start + 2
                    return self._read_head()
                if buffer[start:] == b"\r":
                    return self._need_head()
            if self._scan_lines(REQUEST_LINE) < 0:
                return self._need_head()
            match = request_head(buffer, start)
            assert match is not None
        end = match.end()
        head = buffer[start:end]
        method, target, minor = match.groups()
        split, refusal = self._split(head, method)
        event = self._judge(method, target, minor == b"1", split)
        if refusal is not None:
            raise caused(RemoteProtocolError("request head malformed"), refusal) from refusal
        self._start = end
        if (
            event.path.startswith(b"/")
            and event.version == 11
            and self._keep_alive
            and self._reading != CHUNKED
            and len(head) <= LONGEST
            and not (event.scheme or event.protocol or event.expect_continue)
        ):
            remember(
                self._heads, head, (method, event.authority, event.path, event.headers.copy(), event.content_length)
            )
        return event

    def _read_again(
        self, method: bytes, authority: bytes, path: bytes, fields: Fields, length: int | None
    ) -> RequestReceived:
        """The event of a head that is remembered."""
        self._known_host = authority
        self._version = 11
        self._keep_alive = True
        self._head_request = method == b"HEAD"
        self._connect = False
        self._protocol = None
        self._expects = False
        if length:
            self._left = length
            self._reading = LENGTH
            return RequestReceived(1, method, b"", authority, path, fields.copy(), False, 11, length)
        self._reading = DONE
        return RequestReceived(1, method, b"", authority, path, fields.copy(), True, 11, length)

    def _split_engine(self, head: bytes, method: bytes) -> Split:
        return self._engine.split_request(head, method)

    def _judge(self, method: bytes, target: bytes, modern: bool, split: Split) -> RequestReceived:
        fields, special = split
        if modern and target[0] == 0x2F and method != b"CONNECT" and (plain := plain_control(special)) is not None:
            field, length, keep_alive = plain
            if field is not None and (field[1] == self._known_host or is_authority(field[1])):
                self._known_host = field[1]
                fields.remove(field)
                if keep_alive:
                    fields = [field for field in fields if field[0] != b"connection"]
                self._begin(method, 11, True, None, False)
                if length:
                    self._left = length
                    self._reading = LENGTH
                    return RequestReceived(1, method, b"", field[1], target, fields, False, 11, length)
                self._reading = DONE
                return RequestReceived(1, method, b"", field[1], target, fields, True, 11, length)
        return self._judge_fully(method, target, modern, fields, special)

    def _judge_fully(
        self, method: bytes, target: bytes, modern: bool, fields: Fields, special: Fields
    ) -> RequestReceived:
        control = Control(special, int(modern))
        control.check_named()
        host = control.check_host()
        if modern and control.host is None:
            raise RemoteProtocolError("no host field")
        form = read_target(method, target)
        if form is None or (method == b"CONNECT" and not modern):
            raise RemoteProtocolError("request-target not valid for the method")
        scheme, authority, path = form
        length, chunked = control.content_length, control.chunked
        protocol: bytes | None = None
        if method == b"CONNECT":
            if chunked or length:
                raise RemoteProtocolError("CONNECT with a body")
            length = None
            headers = strip(fields, control, _LENGTH | _HOST if host == authority or not host else _LENGTH)
        else:
            if modern and control.upgrade and control.protocols:
                protocol = b", ".join(control.protocols)
            if not scheme:
                authority = host
            headers = strip(fields, control, _HOST if host == authority or not host else _NOTHING)
        has_body = chunked or bool(length)
        expects = False
        if control.expect and modern:
            if control.expect != [b"100-continue"]:
                raise RemoteProtocolError("expectation not supported", status=417)
            expects = has_body
        keep_alive = not control.close and (modern or control.keep_alive)
        self._begin(method, 11 if modern else 10, keep_alive, protocol, expects)
        self._read_body(chunked, length or 0, len(fields))
        return RequestReceived(
            1,
            method,
            scheme,
            authority,
            path,
            headers,
            not has_body,
            self._version,
            length,
            protocol,
            bool(scheme),
            expects,
        )

    def _begin(self, method: bytes, version: int, keep_alive: bool, protocol: bytes | None, expects: bool) -> None:
        self._version = version
        self._keep_alive = keep_alive
        self._head_request = method == b"HEAD"
        self._connect = method == b"CONNECT"
        self._protocol = protocol
        self._expects = expects

    # -- sending ------------------------------------------------------------------------------

    def send_informational(self, status: int, headers: Fields, /) -> bytes:
        """A 1xx response other than 101; ``b""`` to an HTTP/1.0 client, which knows none."""
        if not 100 <= status <= 199 or status == 101 or self._sending != HEAD or not self._version:
            raise LocalProtocolError(f"status {status} cannot be sent here as informational")
        if self._version == 10:
            return b""
        fields, _ = write_fields(headers, keep_length=False)
        if status == 100:
            self._expects = False
        return b"%b%b\r\n" % (status_line(status, 11), fields)

    def send_response(
        self, status: int, headers: Fields, /, *, end_stream: bool, upgrade: bytes | None = None, close: bool = False
    ) -> bytes:
        """The head of the final response; raises :class:`LocalProtocolError`."""
        if self._sending != HEAD:
            raise LocalProtocolError("a response has been sent already")
        # Without a request there is only an error to be told, and nothing after it.
        version = self._version or 11
        if status == 101:
            return self._switch(headers, upgrade)
        if not 200 <= status <= 999 or upgrade is not None:
            raise LocalProtocolError(f"status {status} cannot be sent as a final response")
        if self._connect:
            if status < 300:
                fields, _ = write_fields(headers, keep_length=False)
                self._open_tunnel()
                return b"%b%b\r\n" % (status_line(status, version), fields)
            # A refused client may have sent its tunnel's first bytes: they are not a request.
            close = True
        no_body = self._head_request or status == 204 or status == 304
        key = (status, version, tuple(headers))
        known = written_responses.get(key)
        if known is None:
            fields, length = write_fields(headers, keep_length=status != 204)
            known = status_line(status, version) + fields, length
            if len(fields) <= LONGEST:
                remember(written_responses, key, known)
        head, length = known
        framing = b""
        if no_body:
            sending = NO_BODY
        elif length is not None:
            if end_stream and length:
                raise LocalProtocolError("no body, but a content-length")
            sending = LENGTH
            self._to_send = length
        elif end_stream:
            sending = LENGTH
            self._to_send = 0
            framing = b"content-length: 0\r\n"
        elif version == 11:
            sending = CHUNKED
            framing = b"transfer-encoding: chunked\r\n"
        else:
            sending = UNTIL_EOF
            close = True
        if close or not self._keep_alive or (self._expects and self._reading != DONE):
            self._keep_alive = False
            framing += b"connection: close\r\n"
        elif version == 10:
            framing += b"connection: keep-alive\r\n"
        self._sending = DONE if end_stream else sending
        return b"%b%b\r\n" % (head, framing)

    def _switch(self, headers: Fields, upgrade: bytes | None) -> bytes:
        protocol = self._protocol
        if protocol is None or upgrade is None or not is_protocol(upgrade):
            raise LocalProtocolError("101 without an upgrade that was asked for")
        if upgrade.lower() not in protocol.split(b", "):
            raise LocalProtocolError("101 to a protocol that was not asked for")
        fields, _ = write_fields(headers, keep_length=False)
        self._open_tunnel()
        return b"%b%bconnection: upgrade\r\nupgrade: %b\r\n\r\n" % (status_line(101, 11), fields, upgrade)

    def _open_tunnel(self) -> None:
        self._sending = RAW
        self._keep_alive = False

    def start_next_cycle(self) -> bool:
        """Ready for the next request; False where the connection must be closed instead."""
        if self._reading != DONE or self._sending != DONE or not self._keep_alive:
            return False
        self._reading = HEAD
        self._sending = HEAD
        self._keep_alive = False
        self._version = 0
        self._head_request = False
        self._connect = False
        self._protocol = None
        self._expects = False
        self._blank_line = False
        return True
