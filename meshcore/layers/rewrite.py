"""Requests that arrive under another host or path than they were sent for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from meshcore._repr import changes
from meshcore.abc import HttpService, ServiceLayer
from meshcore.codec.validate import is_authority
from meshcore.errors import ConfigError
from meshcore.http.path_edit import PathEdit, prefixes

if TYPE_CHECKING:
    from meshcore.http.message import Request, Response

__all__ = ["Rewrite"]


@attrs.frozen(repr=False)
class Rewrite(ServiceLayer):
    """Changes the authority and the path that a request is sent on with; its query is kept.

    Whoever stands above (an access log, ``Retry``) finds the request as it was, once it is answered.

    Attributes:
        host: the new authority, ``host`` or ``host:port``.
        path: the whole new path.
        prefix: what stands for the matched prefix.
        of: the prefixes that *prefix* stands for.

    Raises:
        ConfigError: something of it is wrong, or nothing is given.
    """

    host: str | None = None
    path: str | None = None
    prefix: str | None = None
    of: tuple[str, ...] = attrs.field(default=(), converter=prefixes)

    __repr__ = changes

    def __attrs_post_init__(self) -> None:
        if self.host is not None and not is_authority(self.host.encode()):
            raise ConfigError([f"{self.host!r} is not HOST or HOST:PORT"])
        if self.host is None and not self._edit():
            raise ConfigError(["nothing is said of what changes: host, path or prefix is wanted"])

    def _edit(self) -> PathEdit:
        return PathEdit(self.path, self.prefix, self.of)

    def wrap(self, inner: HttpService, target: Any, /) -> HttpService:
        """The rewriting service."""
        edit = self._edit()
        host = None if self.host is None else self.host.encode()

        async def rewrite(request: Request) -> Response:
            path, authority, headers = request.path, request.authority, request.headers
            # The other forms, of CONNECT and OPTIONS, are no paths.
            if edit and path.startswith(b"/"):
                old, mark, query = path.partition(b"?")
                request.path = edit.apply(old) + mark + query
            if host is not None:
                request.authority = host
                if b"host" in headers:
                    # It would say the old one (D-32).
                    request.headers = headers.copy()
                    request.headers.remove(b"host")
            try:
                return await inner(request)
            finally:
                request.path, request.authority, request.headers = path, authority, headers

        return rewrite
