"""How the connecting side speaks and keeps connections."""

from __future__ import annotations

from typing import Literal

import attrs

from meshcore._repr import changes
from meshcore.codec.limits import H1Limits, H2Limits

__all__ = ["ClientOptions"]


_HTTP1 = H1Limits()
_HTTP2 = H2Limits()


@attrs.frozen(repr=False)
class ClientOptions:
    """Options of ``Http``; times in seconds, None switches a limit off.

    Attributes:
        http1: bounds on an HTTP/1 upstream's answers.
        http2: bounds on an HTTP/2 upstream.
        engine: ``"auto"`` takes the fastest installed, ``"pure"`` the reference in Python.
        max_idle: idle HTTP/1 connections kept for each endpoint (D-33: 10,000).
        idle_timeout: how long they are kept (D-33: 3 s); to be below the upstream's own keep-alive timeout.
        continue_timeout: how long a body waits for ``100 (Continue)`` before it is sent all the same.
        h2_idle_timeout: an HTTP/2 connection without streams is closed after it (D-38: never; None does so).
        h2_max_connections: HTTP/2 connections to one endpoint, opened as the peer's stream limit fills them.
        max_age: HTTP/2: a connection takes no new streams once it is so old (D-38: never).
        keepalive_interval: HTTP/2: PING after so long without a frame (D-36); None: never.
        keepalive_timeout: HTTP/2: the connection is given up if the PING is not answered in time.
        connect_attempts: tries at a connection before the waiting requests fail; more than one waits
            between them with jittered backoff (B-20, B-21).
        settings_timeout: HTTP/2: for the peer's first SETTINGS.
    """

    http1: H1Limits = _HTTP1
    http2: H2Limits = _HTTP2
    engine: Literal["auto", "pure"] = "auto"
    max_idle: int = 10_000
    idle_timeout: float | None = 3.0
    continue_timeout: float = 1.0
    h2_idle_timeout: float | None = 60.0
    h2_max_connections: int = 8
    max_age: float | None = None
    keepalive_interval: float | None = None
    keepalive_timeout: float = 3.0
    connect_attempts: int = 1
    settings_timeout: float = 10.0

    __repr__ = changes
