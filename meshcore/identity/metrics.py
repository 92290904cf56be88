"""The metrics of an identity, under linkerd2-proxy's names (T-14)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshcore.metrics.registry import Registry

__all__ = ["IdentityMetrics"]


class IdentityMetrics:
    """When the certificate expires, when it was taken, and how often taking one went well or wrong.

    Attributes:
        refreshes: the family ``control_identity_cert_refreshes_total``.
        handshake_errors: the family ``tls_handshake_errors_total``.
    """

    __slots__ = ("_error", "_expiration", "_ok", "_refresh", "handshake_errors", "refreshes")

    def __init__(self, registry: Registry) -> None:
        self._expiration = registry.gauge(
            "control_identity_cert_expiration_timestamp_seconds",
            "When the proxy's own certificate expires, in seconds since the epoch; 0 without one.",
        ).labels()
        self._refresh = registry.gauge(
            "control_identity_cert_refresh_timestamp_seconds",
            "When the proxy's own certificate was taken, in seconds since the epoch; 0 without one.",
        ).labels()
        self.refreshes = registry.counter(
            "control_identity_cert_refreshes_total",
            "Certificates that a source had for the proxy: taken (ok) or refused (error).",
            "result",
        )
        self.handshake_errors = registry.counter(
            "tls_handshake_errors_total",
            "Handshakes of mutual TLS that failed, by this proxy's side in them and by what was wrong.",
            "side",
            "reason",
        )
        self._ok, self._error = self.refreshes.labels("ok"), self.refreshes.labels("error")

    def taken(self, now: float, not_after: float) -> None:
        """Counts new credentials that are in use from *now* (seconds since the epoch) on."""
        self._ok.value += 1
        self._refresh.value = now
        self._expiration.value = not_after

    def refused(self) -> None:
        """Counts credentials that were not taken."""
        self._error.value += 1

    def failed(self, side: str, reason: str) -> None:
        """Counts a failed handshake.

        Args:
            side: ``"server"`` or ``"client"``: this proxy's.
            reason: see :class:`~meshcore.errors.TlsError`.
        """
        self.handshake_errors.labels(side, reason).value += 1
