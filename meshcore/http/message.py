"""Requests and responses as layers see them: bytes on the wire are bytes in the stack."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from meshcore._native import mypyc_attr
from meshcore.http.body import Body, Empty
from meshcore.http.headers import Headers
from meshcore.http.timeouts import Timeouts
from meshcore.tracing.propagation import UNRECORDED, read

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore.codec.events import Fields
    from meshcore.http.classification import Classification
    from meshcore.http.overrides import Overrides
    from meshcore.tracing.propagation import Link
    from meshcore.transport.connection import Connection
    from meshcore.transport.target import Endpoint

__all__ = ["Request", "Response", "Timeouts"]


@mypyc_attr(allow_interpreted_subclasses=True)
class Request:
    """A request.

    Attributes:
        method: the method token, case kept.
        scheme: ``b"http"`` or ``b"https"``.
        authority: where it is meant to go, ``host[:port]``; ``b""`` if the client did not say.  There
            is no ``host`` in *headers*, unless the client sent one that differs (D-32).
        path: path and query, ``b"*"``, or ``b""`` for CONNECT.
        headers: the fields, hop-by-hop ones removed.
        body: the body; ``Empty`` for none.
        version: 10, 11 or 20: how it came in.
        protocol: what the exchange wants to become (``b"websocket"`` …), by an HTTP/1 upgrade or an
            extended CONNECT; None mostly.
        absolute_form: it came in absolute-form and goes out so (D-32).
        expect_continue: the client waits for a 100 before it sends the body.
        timeouts: limits for the exchange, set by layers.
        informational: called with the status and fields of each 1xx on its way back, if the server
            side can pass them on.
        connection: the accepted connection it came from, None for a request made here.
        endpoint: who it was sent to last, set by ``Balance``.
        avoid: endpoints that a retry would rather not try again, set by ``Retry``.
        started: when its first try began (``trio.current_time()``), set by whoever enforces *timeouts*,
            so that retries share one limit; None without limits.
        client_id: the verified identity of who sent it (T-18), set by ``SetClientId``; None without one.
        route: the name of the route that took it, for messages; ``""`` without.
        elsewhere: whether another backend may have it, set by ``Split``: one without a ready endpoint says so at
            once instead of making it wait.
        classification: what counts as a failure of its server, set by ``Classify``; None: as by default.
        try_until: when the present try is given up for taking too long, set by ``Retry`` or ``Timeout``, so that
            whoever is cancelled then knows whose fault it is; None without such a limit.
        overrides: what the application wishes for this request alone (R-15), set by ``ReadOverrides``; None: nothing.
        backend: the name of the backend that it was sent to last, set by ``Balance``, for messages; ``""`` before.
        lease: what keeps the build of a pipeline that serves it, set where a reload may exchange that; None elsewhere.
        trace_mark: what ``Trace`` has left of its place in a trace: that is in *trace*, which is made of its fields
            when it is asked for.
        account: the visit at the nearest layer above, while it is measured (``meshcore.accounting``); None: it is not.
        listener: the service (an access log's) that hears of the response from a frame above it, set by ``Metrics`` for
            as long as it waits for that; None: there is none.
    """

    __slots__ = (
        "absolute_form",
        "account",
        "authority",
        "avoid",
        "backend",
        "body",
        "classification",
        "client_id",
        "connection",
        "elsewhere",
        "endpoint",
        "expect_continue",
        "headers",
        "informational",
        "lease",
        "listener",
        "method",
        "overrides",
        "path",
        "protocol",
        "route",
        "scheme",
        "started",
        "timeouts",
        "trace_mark",
        "try_until",
        "version",
    )

    def __init__(
        self,
        method: bytes,
        scheme: bytes,
        authority: bytes,
        path: bytes,
        headers: Headers | None = None,
        body: Body | None = None,
        version: int = 11,
        protocol: bytes | None = None,
        absolute_form: bool = False,
        expect_continue: bool = False,
        timeouts: Timeouts | None = None,
        informational: Callable[[int, Fields], None] | None = None,
        connection: Connection | None = None,
        endpoint: Endpoint | None = None,
        avoid: tuple[Endpoint, ...] = (),
        started: float | None = None,
        client_id: str | None = None,
        route: str = "",
        elsewhere: bool = False,
        classification: Classification | None = None,
        try_until: float | None = None,
        overrides: Overrides | None = None,
    ) -> None:
        self.method = method
        self.scheme = scheme
        self.authority = authority
        self.path = path
        self.headers = Headers() if headers is None else headers
        self.body = Empty() if body is None else body
        self.version = version
        self.protocol = protocol
        self.absolute_form = absolute_form
        self.expect_continue = expect_continue
        self.timeouts = timeouts
        self.informational = informational
        self.connection = connection
        self.endpoint = endpoint
        self.avoid = avoid
        self.started = started
        self.client_id = client_id
        self.route = route
        self.elsewhere = elsewhere
        self.classification = classification
        self.try_until = try_until
        self.overrides = overrides
        self.backend = ""
        self.lease: object = None
        self.trace_mark: Link | None = None
        self.account: object = None
        self.listener: object = None

    def __repr__(self) -> str:
        where = b"%s://%s%s" % (self.scheme, self.authority, self.path)
        return f"<Request {self.method.decode('latin-1')} {where.decode('latin-1')} version={self.version}>"

    def variant(self, headers: Headers, version: int) -> Request:
        """The same exchange with other fields and another version, for a layer below ``Retry`` that may not change
        what another try would send; the body, the limits and their clock are shared."""
        if self.timeouts is not None and self.started is None:
            self.started = trio.current_time()
        made = Request(
            self.method,
            self.scheme,
            self.authority,
            self.path,
            headers,
            self.body,
            version,
            self.protocol,
            self.absolute_form,
            self.expect_continue,
            self.timeouts,
            self.informational,
            self.connection,
            self.endpoint,
            self.avoid,
            self.started,
            self.client_id,
            self.route,
            self.elsewhere,
            self.classification,
            self.try_until,
            self.overrides,
        )
        made.trace_mark = self.trace_mark
        made.account = self.account
        return made

    @property
    def trace(self) -> Link | None:
        """Its place in a trace, set by ``Trace``; None where there is none."""
        mark = self.trace_mark
        if mark is UNRECORDED:
            mark = read(self.headers.raw)
            if mark is not None:
                self.trace_mark = mark
        return mark

    @trace.setter
    def trace(self, link: Link | None) -> None:
        self.trace_mark = link

    @property
    def is_tunnel(self) -> bool:
        """CONNECT or an upgrade: its two bodies may become raw bytes."""
        return self.protocol is not None or self.method == b"CONNECT"


@mypyc_attr(allow_interpreted_subclasses=True)
class Response:
    """A response.

    A tunnel is a response with status 101, or 2xx to CONNECT: its body is then the raw bytes that
    come back, and the request's body those that go out.

    Attributes:
        status: 101 or 200 to 599.
        headers: the fields, hop-by-hop ones removed.
        body: the body; ended from the start where there is none.
        version: 10, 11 or 20: how it came in.
        protocol: of a 101: what the connection became.
        close: the accepted HTTP/1 connection should be closed after it (E-07).
        error_trailers: what to end an HTTP/2 response with if its body breaks (E-05: a gRPC status);
            None resets the stream.
    """

    __slots__ = (
        "body",
        "close",
        "error_trailers",
        "headers",
        "protocol",
        "status",
        "version",
    )

    def __init__(
        self,
        status: int,
        headers: Headers | None = None,
        body: Body | None = None,
        version: int = 11,
        protocol: bytes | None = None,
        close: bool = False,
        error_trailers: Callable[[BaseException], Fields] | None = None,
    ) -> None:
        self.status = status
        self.headers = Headers() if headers is None else headers
        self.body = Empty() if body is None else body
        self.version = version
        self.protocol = protocol
        self.close = close
        self.error_trailers = error_trailers

    def __repr__(self) -> str:
        return f"<Response {self.status} version={self.version} {self.body!r}>"
