"""The page that tells what the proxy shows to its peers, and whom it trusts; never a key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshcore.admin.page import json_page, method_not_allowed

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography import x509

    from meshcore.abc import HttpService
    from meshcore.http.message import Request, Response

    # OpenSSL stays unloaded where there is no TLS.
    from meshcore.identity.store import Identity

__all__ = ["identity_page", "identity_value"]

_MOST_ANCHORS = 100


def identity_page(identity: Callable[[], Identity | None], time: Callable[[], float]) -> HttpService:
    """``GET /identity``.

    Args:
        identity: the proxy's; None: it has none.
        time: seconds since the epoch.
    """

    async def page(request: Request) -> Response:
        if request.method not in (b"GET", b"HEAD"):
            return method_not_allowed(b"GET, HEAD")
        return json_page(identity_value(identity(), time()))

    return page


def identity_value(identity: Identity | None, now: float) -> dict[str, Any]:
    """What ``/identity`` tells."""
    if identity is None:
        return {"identity": None}
    current = identity.current
    counted = identity.metrics.refreshes.series()
    refreshes = {dict(labels).get("result", ""): int(cell.value) for labels, cell in counted}
    told: dict[str, Any] = {
        "identity": identity.name or None,
        "certified": identity.certified,
        "refused": identity.refused,
        "refreshes": {"ok": refreshes.get("ok", 0), "error": refreshes.get("error", 0)},
        "certificate": None,
        "chain": [],
        "anchors": [],
    }
    if current is not None:
        told["certificate"] = {
            "names": list(current.names),
            "not_before": current.not_before,
            "not_after": current.not_after,
            "remaining": round(current.not_after - now, 3),
            **_certificate(current.chain[0]),
        }
        told["chain"] = [_issued(each) for each in current.chain[1:]]
        told["anchors"] = [_issued(each) for each in current.anchors[:_MOST_ANCHORS]]
    return told


def _issued(certificate: x509.Certificate) -> dict[str, Any]:
    return {
        "not_before": certificate.not_valid_before_utc.timestamp(),
        "not_after": certificate.not_valid_after_utc.timestamp(),
        **_certificate(certificate),
    }


def _certificate(certificate: x509.Certificate) -> dict[str, Any]:
    from cryptography.hazmat.primitives import hashes

    return {
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "serial": f"{certificate.serial_number:x}",
        "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
    }
