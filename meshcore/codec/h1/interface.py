"""The one interface of HTTP/1 codecs, whichever engine parses (RFC 9112).

A codec serves one connection in one role.  It is pulled: ``receive_data`` only stores, ``next_event``
parses no further than one event, so that what nobody asked for stays unparsed (backpressure).
Framing is always written anew, never copied: what is sent is decided by the message, not by fields
somebody put into it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from meshcore.codec.events import Event, Fields, Sentinel

__all__ = ["H1Client", "H1Server"]


class H1Codec(Protocol):
    """What both roles share."""

    def receive_data(self, data: bytes, /) -> None:
        """Stores what was read; ``b""`` is the end of the peer's bytes."""

    def next_event(self) -> Event | Sentinel:
        """The next event, ``NEED_DATA`` or ``PAUSED``.

        Raises:
            RemoteProtocolError: the peer broke the protocol or a limit; its ``status`` is how to
                answer a client (502 where the peer is an upstream).  The codec is unusable for reading
                from then on, and says so again.
        """
        ...

    def send_data(self, data: bytes, /, *, end_stream: bool = False) -> bytes:
        """The bytes on the wire for a piece of the body (chunk framing included): none of them where the
        response may have no body (HEAD, 204, 304), all of them as they are once this is a tunnel.

        Raises:
            LocalProtocolError: more than the declared content-length, or an end before it.
        """
        ...

    def send_trailers(self, trailers: Fields, /) -> bytes:
        """Ends the body; the trailers are dropped where the framing has no place for them."""
        ...

    @property
    def cut_shows(self) -> bool:
        """Whether the peer sees by the framing that the body being sent is not complete (RFC 9112 §8), should the
        connection end here: not where it is delimited by that end, and not once all its declared bytes are out."""
        ...

    def trailing_data(self) -> bytes:
        """Takes the bytes received beyond the current message (a tunnel's first bytes)."""
        ...

    def start_next_cycle(self) -> bool:
        """Ready for the next message on this connection; False where it must be closed instead
        (``connection: close``, HTTP/1.0 without keep-alive, body delimited by EOF, an error, or a
        message that is not complete on both sides)."""
        ...

    @property
    def left_to_read(self) -> int:
        """Bytes still to come of a body with a content-length, where all that was received has been parsed; else 0."""
        ...

    def read_past(self, count: int, /) -> None:
        """So many of those, fewer than all, have been read past this codec."""

    @property
    def left_to_send(self) -> int:
        """Bytes still to be sent of a body with a content-length; else 0."""
        ...

    def sent_past(self, count: int, /) -> None:
        """So many of those have been sent past this codec."""

    @property
    def buffered(self) -> int:
        """Bytes received and not yet parsed (an idle upstream connection must have none)."""
        ...


class H1Server(H1Codec, Protocol):
    """The accepted side: requests in, responses out."""

    def send_informational(self, status: int, headers: Fields, /) -> bytes:
        """A 1xx response other than 101; ``b""`` to an HTTP/1.0 client, which knows none."""
        ...

    def send_response(
        self, status: int, headers: Fields, /, *, end_stream: bool, upgrade: bytes | None = None, close: bool = False
    ) -> bytes:
        """The head of the final response.

        ``content-length`` in *headers* (or ``end_stream``) fixes the length; without it the body is
        chunked to HTTP/1.1 and delimited by EOF to HTTP/1.0.  Adds ``content-length: 0`` where a
        response without a body needs it, ``connection: close`` where the connection will not be
        kept (``close`` asks for that), and for ``upgrade`` (status 101) ``connection: upgrade`` with it.  Answers an
        HTTP/1.0 client as HTTP/1.0 (D-34).

        Raises:
            LocalProtocolError: the fields could not be sent as they are (validated on the way out).
        """
        ...


class H1Client(H1Codec, Protocol):
    """The connecting side: requests out, responses in."""

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
        """The head of a request.  *target* is the request-target as it goes out (origin-, absolute-,
        authority- or asterisk-form); ``host`` is *authority* unless *headers* has a ``host``.

        ``content-length`` in *headers* fixes the length; without it and without ``end_stream`` the
        body is chunked (never on ``version=10``, which raises).
        """
        ...
