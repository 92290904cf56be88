"""Who may see which page of the admin server."""

from __future__ import annotations

import hmac
import logging
from typing import TYPE_CHECKING

import trio

from meshcore.admin.page import from_loopback, response_of, text_page
from meshcore.config.admin import OPEN, AdminConfig, read_token
from meshcore.errors import ConfigError
from meshcore.transport.watch import Stamp, stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from pathlib import Path

    from meshcore.http.message import Request, Response

__all__ = ["Access"]

log = logging.getLogger(__name__)

TAP = "/tap"
"""The page with a rule of its own (M-19)."""

_LOOK_AGAIN = 1.0
"""Seconds between two looks at the file of the token."""


class Access:
    """Who may see which page, by ``[admin]``.

    Pages that are open are for everybody.  The others are for who shows the token, or a certificate with one of the
    names.  Where there is neither, or names alone, they are for clients on this host, too, as far as the connection
    says that: who can reach loopback is inside.

    Args:
        settings: the admin server's configuration as it is now.
        public: pages that say nothing about the proxy, such as the dashboard's own script.
    """

    def __init__(self, settings: Callable[[], AdminConfig] = AdminConfig, *, public: Iterable[str] = ()) -> None:
        self._settings = settings
        self._public = frozenset(public)
        self._token: _Token | None = None

    @property
    def hosts(self) -> Collection[str]:
        """Names that may stand in ``host``, beside addresses and ``localhost``."""
        return self._settings().hosts

    def refusal(self, request: Request, path: str) -> Response | None:
        """The answer to who may not see the page at *path*; None for who may."""
        settings = self._settings()
        if path in self._public or path in (OPEN if settings.open is None else settings.open):
            return None
        if path == TAP:
            return self._tap_refusal(request, settings)
        if self._shows_credentials(request, settings, settings.identities):
            return None
        if settings.token is None:
            if settings.local or from_loopback(request):
                return None
            if not settings.identities:
                return text_page(403, "this page is for loopback clients only\n")
        return self._unknown(settings)

    def _tap_refusal(self, request: Request, settings: AdminConfig) -> Response | None:
        if settings.tap == "off":
            return text_page(404, 'tap is off ([admin] tap = "loopback" or "authorized")\n')
        if settings.tap == "authorized":
            if self._shows_credentials(request, settings, settings.tap_identities):
                return None
            return self._unknown(settings)
        if not settings.local and not from_loopback(request):
            return text_page(403, "tap is for loopback clients only\n")
        if settings.token is None or self._shows_credentials(request, settings, settings.identities):
            return None
        return self._unknown(settings)

    def _unknown(self, settings: AdminConfig) -> Response:
        if settings.token is None:
            return text_page(403, "the admin server does not know this client\n")
        response = response_of(401, b"text/plain; charset=utf-8", b"a token is needed: Authorization: Bearer ...\n")
        response.headers.add(b"www-authenticate", b'Bearer realm="meshcore admin"')
        return response

    def _shows_credentials(self, request: Request, settings: AdminConfig, names: Iterable[str]) -> bool:
        connection = request.connection
        identity = connection.identity if connection is not None else None
        if identity is not None and any(_is(identity, name) for name in names):
            return True
        if settings.token is None:
            return False
        if self._token is None or self._token.path != settings.token:
            self._token = _Token(settings.token)
        return self._token.shown_by(request)


def _is(identity: str, name: str) -> bool:
    """Whether an identity is the one of that name: a URI exactly, a host name whatever its case, or by its end."""
    if "://" in identity or "://" in name:
        return identity == name
    identity = identity.lower()
    if name.startswith("*."):
        return identity.endswith(name[1:].lower()) and len(identity) >= len(name)
    return identity == name.lower()


class _Token:
    """The token in a file, as it is now."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._value: bytes | None = None
        self._stamp: Stamp | None = None
        self._looked = float("-inf")

    def shown_by(self, request: Request) -> bool:
        """Whether a request shows it, as RFC 6750 §2.1 has it; takes as long for any wrong one."""
        given = request.headers.get_all(b"authorization")
        if len(given) != 1:
            return False
        scheme, _, token = given[0].partition(b" ")
        expected = self._now()
        return scheme.lower() == b"bearer" and expected is not None and hmac.compare_digest(token.strip(), expected)

    def _now(self) -> bytes | None:
        now = trio.current_time()
        if now - self._looked >= _LOOK_AGAIN:
            self._looked = now
            found = stamp([self.path])
            if found != self._stamp:
                self._stamp = found
                try:
                    self._value = read_token(self.path)
                except ConfigError as error:
                    # What was there still holds; without one nobody is let in.
                    log.warning("admin token: %s", "; ".join(error.problems))
        return self._value
