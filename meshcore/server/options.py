"""What the accepted side allows: limits, times and the engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import attrs

from meshcore._repr import changes
from meshcore.codec.limits import H1Limits, H2Limits

__all__ = ["ServerOptions"]


_HTTP1 = H1Limits()
_HTTP2 = H2Limits()


@attrs.frozen(repr=False)
class ServerOptions:
    """Options of ``ServeHttp``; times in seconds, None switches a limit off.  Defaults: hostile-world.md §1.

    Attributes:
        http1: bounds of an HTTP/1 connection.
        http2: bounds of an HTTP/2 connection.
        engine: ``"auto"`` takes the fastest installed, ``"pure"`` the reference in Python.
        header_timeout: for a whole request head, from the accept or from its first byte (408, or a
            silent close where not a byte came); on HTTP/2 for the preface.
        idle_timeout: of a connection without a request.
        body_idle_timeout: without a byte moving in either direction while a message is under way
            (a slow reader or sender); ``request.timeouts.idle`` overrides it.  None: only what layers ask for.
        write_timeout: without a byte taken by a client for which bytes are ready, on its connection or within the
            window of its stream (Envoy's stream idle timeout, for what is the client's doing); a stream on which
            neither side has anything to say is left alone.
        min_body_rate: bytes a second that a request body with a content-length has to make on average
            of 10 s while it is waited for (hostile-world.md: 1 KiB/10 s, on unauthenticated listeners); None: any.
        allow_connect: whether CONNECT makes tunnels (D-30); False answers 405.
        allow_upgrade: whether HTTP/1 upgrades and extended CONNECT are offered to the service.
        half_close: whether an HTTP/1 client that has ended its side is still answered; False: a hang-up and a
            half-close look the same, and abort what is being answered (trap 9).
        drain_body: of a request body that nobody wants, bytes read before the connection is closed instead.
        linger_timeout: how long a connection that is closed on an error waits for the client to have read it.
        keepalive_interval: HTTP/2: PING after so long without a frame (D-36: the chart sets 10 s); None: never.
        keepalive_timeout: HTTP/2: close if the PING is not answered in time (D-36: 3 s).
        on_abuse: called with the name of the limit when a connection is closed for abuse
            (``h2_abuse_closed_total{kind}``).
        max_age: HTTP/2 and HTTP/1: a connection is drained once it is so old (D-38: never).
    """

    http1: H1Limits = _HTTP1
    http2: H2Limits = _HTTP2
    engine: Literal["auto", "pure"] = "auto"
    header_timeout: float | None = 10.0
    idle_timeout: float | None = 3600.0
    body_idle_timeout: float | None = None
    write_timeout: float | None = 300.0
    min_body_rate: float | None = None
    allow_connect: bool = True
    allow_upgrade: bool = True
    half_close: bool = False
    drain_body: int = 65_536
    linger_timeout: float = 1.0
    keepalive_interval: float | None = None
    keepalive_timeout: float = 3.0
    max_age: float | None = None
    on_abuse: Callable[[str], None] | None = attrs.field(default=None, repr=False)

    __repr__ = changes
