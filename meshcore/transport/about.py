"""What a message of the log is about: the connection or the request, as fields beside its text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from meshcore.addresses import format_address
from meshcore.http.trace_ids import ids_of

if TYPE_CHECKING:
    from meshcore.http.message import Request
    from meshcore.transport.connection import Connection
    from meshcore.transport.target import Endpoint

__all__ = ["About"]

_LONGEST = 256


class About(Mapping[str, str]):
    """The ``extra`` of a message; made of what it is about only if the message is.

    Its fields, as far as they are known: ``listener``, ``direction``, ``client``, ``server``, ``identity`` (the
    client's), ``route``, ``backend``, ``endpoint`` and ``trace_id``.  No values of header fields, but for the id.

    Args:
        connection: an accepted connection; None: that of *request*.
        request: a request.
        endpoint: an endpoint; None: that of *request*.
        backend: the name of what that is one of.
    """

    __slots__ = ("_backend", "_connection", "_endpoint", "_fields", "_request")

    def __init__(
        self,
        connection: Connection | None = None,
        request: Request | None = None,
        *,
        endpoint: Endpoint | None = None,
        backend: str = "",
    ) -> None:
        self._connection = connection
        self._request = request
        self._endpoint = endpoint
        self._backend = backend
        self._fields: dict[str, str] | None = None

    def _made(self) -> dict[str, str]:
        fields = self._fields
        if fields is None:
            fields = self._fields = {name: value[:_LONGEST] for name, value in self._found() if value}
        return fields

    def _found(self) -> Iterator[tuple[str, str]]:
        request = self._request
        connection = self._connection
        if connection is None and request is not None:
            connection = request.connection
        if connection is not None:
            listener = str(getattr(connection.owner, "listener", ""))
            yield "listener", listener
            if listener in ("inbound", "outbound"):
                yield "direction", listener
            yield "client", format_address(connection.peer)
            yield "server", format_address(connection.local)
            yield "identity", connection.identity or ""
        endpoint, backend = self._endpoint, self._backend
        if request is not None:
            yield "route", request.route
            endpoint = request.endpoint if endpoint is None else endpoint
            backend = backend or request.backend
            trace = request.trace
            trace_id = ids_of(request.headers.raw)[0].decode("latin-1") if trace is None else trace.trace_id
            yield "trace_id", trace_id
        yield "backend", backend
        yield "endpoint", "" if endpoint is None else str(endpoint)

    def __getitem__(self, name: str) -> str:
        return self._made()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made())

    def __len__(self) -> int:
        return len(self._made())
