"""The dashboard: four files, served from memory, that hold nothing but themselves; all data comes from other pages."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

from meshcore.admin.page import method_not_allowed, response_of
from meshcore.http.body import Empty
from meshcore.http.headers import Headers
from meshcore.http.message import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from meshcore.abc import HttpService
    from meshcore.http.message import Request

__all__ = ["POLICY", "dashboard_pages"]

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What a browser may load and run there: these files and this server's answers, nothing else and nothing inline."""

_FILES: Final = {
    b"/": ("index.html", b"text/html; charset=utf-8"),
    b"/dashboard.js": ("dashboard.js", b"text/javascript; charset=utf-8"),
    b"/dashboard.css": ("dashboard.css", b"text/css; charset=utf-8"),
    b"/dashboard.svg": ("dashboard.svg", b"image/svg+xml"),
}

_ALWAYS: Final = (
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)


def dashboard_pages() -> Mapping[bytes, HttpService]:
    """The files by their paths: open to everybody who may ask the admin server at all, since they tell nothing."""
    return {path: _File(name, kind) for path, (name, kind) in _FILES.items()}


class _File:
    """Answers ``GET`` and ``HEAD`` with one file, or 304 to whoever has it; read when it is first asked for."""

    __slots__ = ("_data", "_kind", "_name", "_tag")

    def __init__(self, name: str, kind: bytes) -> None:
        self._name = name
        self._kind = kind
        self._data: bytes | None = None
        self._tag = b""

    def __repr__(self) -> str:
        return f"<dashboard {self._name}>"

    async def __call__(self, request: Request, /) -> Response:
        if request.method not in (b"GET", b"HEAD"):
            return method_not_allowed(b"GET, HEAD")
        data = self._data
        if data is None:
            data = self._data = (Path(__file__).parent / self._name).read_bytes()
            self._tag = b'"%b"' % sha256(data).hexdigest()[:20].encode()
        if _has(request.headers, self._tag):
            response = Response(304, Headers([(b"etag", self._tag)]), Empty())
        else:
            response = response_of(200, self._kind, data)
            response.headers.add(b"etag", self._tag)
        # Asked for again each time, and not sent again: a new release's page must not run an old one's module.
        response.headers.set(b"cache-control", b"no-cache")
        for name, value in _ALWAYS:
            response.headers.add(name, value)
        return response


def _has(headers: Headers, tag: bytes) -> bool:
    """``if-none-match`` (RFC 9110 §13.1.2): weak comparison."""
    given = b",".join(headers.get_all(b"if-none-match")).split(b",")
    return any(item.strip().removeprefix(b"W/") in (tag, b"*") for item in given)
