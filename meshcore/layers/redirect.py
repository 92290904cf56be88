"""Requests sent elsewhere by their client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from meshcore._repr import changes
from meshcore.abc import HttpService, ServiceLayer
from meshcore.errors import ConfigError, Redirected, RemoteProtocolError
from meshcore.http.path_edit import PathEdit, prefixes
from meshcore.transport.target import HttpRoute

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from meshcore.http.message import Request, Response

__all__ = ["Redirect"]

_STATUSES = (301, 302, 303, 307, 308)
_PORTS = {b"http": b"80", b"https": b"443"}


@attrs.frozen(repr=False)
class Redirect(ServiceLayer):
    """Tells clients to ask elsewhere (R-25): raises ``Redirected``, which ``Rescue`` answers.

    What is not given stays as it was asked for; a port that is the scheme's own is left out, and so is the old one
    where the scheme is another.  The query is kept unless *path* is given.  A request that would be sent to where it
    is passes.

    Attributes:
        scheme: ``"http"`` or ``"https"``.
        host: a name, or an IP address.
        port: 1 to 65535.
        path: the whole new path.
        prefix: what stands for the matched prefix.
        of: the prefixes that *prefix* stands for.
        status: 301, 302, 303, 307 or 308.

    Raises:
        ConfigError: something of it is wrong, or nothing is given.
    """

    scheme: str | None = None
    host: str | None = None
    port: int | None = None
    path: str | None = None
    prefix: str | None = None
    of: tuple[str, ...] = attrs.field(default=(), converter=prefixes)
    status: int = 301

    __repr__ = changes

    def __attrs_post_init__(self) -> None:
        edit = self._edit()
        if self.scheme not in (None, "http", "https"):
            raise ConfigError([f"scheme {self.scheme!r} is not http or https"])
        if self.status not in _STATUSES:
            raise ConfigError([f"status {self.status} is not one of {', '.join(map(str, _STATUSES))}"])
        if self.port is not None and not 0 < self.port < 65_536:
            raise ConfigError([f"port {self.port} is not one from 1 to 65535"])
        if not edit and self.scheme is None and self.host is None and self.port is None:
            raise ConfigError(["nothing is said of where to: scheme, host, port, path or prefix is wanted"])

    def _edit(self) -> PathEdit:
        return PathEdit(self.path, self.prefix, self.of)

    def wrap(self, inner: HttpService, target: Any, /) -> HttpService:
        """The redirecting service."""
        edit = self._edit()
        scheme = None if self.scheme is None else self.scheme.encode()
        host = None if self.host is None else _bracketed(self.host)
        port = None if self.port is None else b"%d" % self.port
        status = self.status
        where = f"route {target.name}: " if isinstance(target, HttpRoute) else ""

        def redirect(request: Request) -> Awaitable[Response]:
            authority = _authority(request, scheme, host, port)
            old, mark, query = request.path.partition(b"?")
            path = edit.apply(old)
            if not edit.whole:
                path += mark + query
            new_scheme = scheme or request.scheme
            if (new_scheme, authority, path) == (request.scheme, request.authority, request.path):
                return inner(request)
            location = new_scheme + b"://" + authority + path if authority else path
            raise Redirected(f"{where}redirected", status=status, location=location)

        return redirect


def _authority(request: Request, scheme: bytes | None, host: bytes | None, port: bytes | None) -> bytes:
    old_host, colon, old_port = request.authority.rpartition(b":")
    if not colon or request.authority.endswith(b"]"):
        old_host, old_port = request.authority, b""
    if scheme is None and port is None:
        port = old_port
    new_host = host or old_host
    if not new_host and (scheme or port):
        raise RemoteProtocolError("a request that names no host cannot be redirected")
    if not port or port == _PORTS.get(scheme or request.scheme):
        return new_host
    return new_host + b":" + port


def _bracketed(host: str) -> bytes:
    return f"[{host}]".encode() if ":" in host and not host.startswith("[") else host.encode()
