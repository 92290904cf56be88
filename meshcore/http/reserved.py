"""The header fields that proxies of a mesh say to each other, to themselves and to the application.

A peer that could forge one would borrow somebody's identity or steer the proxy (Envoy's CVE-2024-45806 and
CVE-2023-27487 were of that kind), so what a field may say depends on who sent it.  The rule fails closed: every
field under a reserved prefix goes, names that nobody has thought of yet too, except where a table here says
otherwise, and why.  So does every name that has underscores for hyphens: applications behind CGI and WSGI take one
for the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meshcore.codec.validate import is_reserved

if TYPE_CHECKING:
    from meshcore.codec.events import Field
    from meshcore.http.headers import Headers

__all__ = [
    "CLIENT_ID",
    "ERROR_CODE",
    "FROM_PROXIES",
    "NEVER_FROM_PEERS",
    "ORIG_PROTO",
    "PROXY_CONNECTION",
    "PROXY_ERROR",
    "REQUIRE_ID",
    "strip_reserved",
]

ORIG_PROTO: Final = b"l5d-orig-proto"
CLIENT_ID: Final = b"l5d-client-id"
REQUIRE_ID: Final = b"l5d-require-id"
PROXY_ERROR: Final = b"l5d-proxy-error"
PROXY_CONNECTION: Final = b"l5d-proxy-connection"
ERROR_CODE: Final = b"x-meshcore-error"

FROM_PROXIES: Final = {
    b"l5d-dst-canonical": "the name that the client's proxy routed by, for this side's routes and metrics (T-20)",
}
"""What is kept of a peer whose identity was verified, since only its proxy can have sent it, with the reason."""

NEVER_FROM_PEERS: Final = {
    CLIENT_ID: "says who the client is; set from the verified certificate and from nothing else (T-18)",
    REQUIRE_ID: "an application tells it its own proxy, which judges and removes it (T-19)",
    ORIG_PROTO: "read and removed by DowngradeOrigProto; what is left of it after that was not meant for it (D-26)",
    b"l5d-dst-override": "chooses the destination; for an application's own proxy alone (A-20)",
    b"l5d-timeout": "as all limits and retries, for an application's own proxy alone (R-15)",
    b"l5d-request-timeout": "the same",
    b"l5d-response-timeout": "the same",
    b"l5d-retry-http": "the same",
    b"l5d-retry-grpc": "the same",
    b"l5d-retry-limit": "the same",
    b"l5d-retry-timeout": "the same",
    PROXY_ERROR: "belongs to responses (E-03)",
    PROXY_CONNECTION: "belongs to responses (E-07)",
    ERROR_CODE: "belongs to responses",
    b"l5d-remote-ip": "of proxies of old; applications may still believe it",
    b"l5d-server-id": "the same",
}
"""What no peer may say in a request, verified or not, with the reason; so is every name that is in neither table."""


_L: Final = ord("l")
_X: Final = ord("x")


def strip_reserved(headers: Headers, *, meshed: bool) -> None:
    """Removes from a request's fields, in place, what its sender may not say.

    Args:
        headers: the fields as received.
        meshed: whether the sender's identity was verified.
    """
    raw: list[Field] = headers.raw
    for name, _ in headers.raw:
        # They all begin with one of two letters; most fields do not.
        first = name[0] if name else 0
        if first in (_L, _X) and is_reserved(name):
            break
    else:
        return
    raw[:] = [field for field in raw if not is_reserved(field[0]) or (meshed and field[0] in FROM_PROXIES)]
