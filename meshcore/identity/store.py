"""Identity: what the proxy shows and whom it trusts at this moment.

New credentials replace the old ones in one assignment: a handshake uses the one or the other, never a mixture;
connections that are open keep what they began with (T-06).
"""

from __future__ import annotations

import datetime
import logging
from typing import TYPE_CHECKING

import trio
from OpenSSL import SSL, crypto

from meshcore.errors import TlsError
from meshcore.identity.metrics import IdentityMetrics
from meshcore.metrics.happenings import tell_certificate
from meshcore.metrics.registry import Registry
from meshcore.transport.contexts import choose_alpn, new_context, present, trust, trust_store
from meshcore.transport.handshake import Verification, refusal, verify
from meshcore.transport.names import same_identity

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore.identity.credentials import Credentials
    from meshcore.metrics.feed import Feed

__all__ = ["Identity"]

log = logging.getLogger(__name__)


class Identity:
    """The proxy's own certificate, key and trust, as of now; it starts no task.

    Args:
        name: the name that its certificates must have; ``""``: any.
        clock: the time of day, seconds since the epoch.
        registry: for the metrics of T-14.
        feed: is told of certificates that are taken and refused; None: nobody is.

    Attributes:
        current: what is in use; None before the first certificate.
        generation: how many were taken; it changes whenever *current* does.
        refused: why what a source had last was refused; ``""`` if it was taken.
        metrics: what is counted of it.
    """

    __slots__ = (
        "_certified",
        "_client",
        "_server",
        "clock",
        "current",
        "expected",
        "feed",
        "generation",
        "metrics",
        "refused",
    )

    def __init__(
        self, name: str, *, clock: Callable[[], float], registry: Registry | None = None, feed: Feed | None = None
    ) -> None:
        self.expected = name
        self.clock = clock
        self.feed = feed
        self.current: Credentials | None = None
        self.generation = 0
        self.refused = ""
        self.metrics = IdentityMetrics(Registry() if registry is None else registry)
        self._certified = trio.Event()
        self._server: SSL.Context | None = None
        self._client: SSL.Context | None = None

    def __repr__(self) -> str:
        return f"<Identity {self.name or 'any'} generation={self.generation} {self.current or 'not certified'}>"

    @property
    def name(self) -> str:
        """Own name: the expected one, else that of the current certificate."""
        return self.expected or (self.current.name if self.current is not None else "")

    @property
    def certified(self) -> bool:
        """Whether there is a certificate (L-01: readiness)."""
        return self.current is not None

    async def wait_certified(self) -> None:
        """Waits for the first certificate (T-13)."""
        await self._certified.wait()

    def publish(self, credentials: Credentials) -> bool:
        """Takes *credentials* for every handshake from now on, or refuses them as :meth:`refuse` does: expired or
        not valid yet by this clock, without the own name, or not trusted by their own anchors.

        Returns:
            Whether they were taken.
        """
        try:
            self._judge(credentials)
            server, client = _server(credentials), _client(credentials)
        except (ValueError, TlsError, SSL.Error, crypto.Error) as error:
            self.refuse(str(error) or type(error).__name__)
            return False
        # Made before anything changes: a context that cannot be made leaves the old ones in use.
        self._server, self._client = server, client
        self.current = credentials
        self.generation += 1
        self.refused = ""
        self.metrics.taken(self.clock(), credentials.not_after)
        until = _time(credentials.not_after)
        log.info("identity %s certified until %s", credentials.name, until)
        kind = "identity_certified" if self.generation == 1 else "certificate_renewed"
        tell_certificate(self.feed, kind, credentials.name, f"certified until {until}")
        self._certified.set()
        return True

    def refuse(self, reason: str) -> None:
        """Notes that a source had nothing that can be used; what was in use stays so, and a warning says why."""
        self.metrics.refused()
        self.refused = reason
        tell_certificate(self.feed, "certificate_refused", self.name, f"refused: {reason}")
        if self.current is None:
            log.warning("identity %s refused: %s; there is none yet", self.name or "any", reason)
        else:
            log.warning(
                "identity %s refused: %s; the old one stays, it is valid until %s",
                self.name,
                reason,
                _time(self.current.not_after),
            )

    def server_context(self) -> SSL.Context:
        """OpenSSL's settings for accepting: TLS 1.3, asks for a certificate but does not require one (T-01, T-03).

        Raises:
            TlsError: there is no certificate yet.
        """
        if self._server is None:
            raise TlsError("identity is not certified yet", reason="not certified")
        return self._server

    def client_context(self) -> SSL.Context:
        """OpenSSL's settings for connecting: TLS 1.3, shows the own certificate.

        Raises:
            TlsError: there is no certificate yet.
        """
        if self._client is None:
            raise TlsError("identity is not certified yet", reason="not certified")
        return self._client

    def _judge(self, credentials: Credentials) -> None:
        """Raises ValueError where this proxy must not use *credentials* now."""
        now = self.clock()
        times = f"it is valid from {_time(credentials.not_before)} to {_time(credentials.not_after)}"
        if now > credentials.not_after:
            raise ValueError(f"certificate has expired: {times}")
        if now < credentials.not_before:
            raise ValueError(f"certificate is not valid yet: {times}")
        if self.expected and not any(same_identity(name, self.expected) for name in credentials.names):
            found = ", ".join(credentials.names[:5])
            raise ValueError(f"certificate does not match TLS identity: expected {self.expected}, found {found}")
        store = trust_store(credentials.anchors)
        store.set_time(datetime.datetime.fromtimestamp(now, datetime.UTC).replace(tzinfo=None))
        leaf, *rest = map(crypto.X509.from_cryptography, credentials.chain)
        try:
            crypto.X509StoreContext(store, leaf, rest).verify_certificate()
        except crypto.X509StoreContextError as error:
            number, depth, _ = error.errors
            raise ValueError(refusal(error.certificate.to_cryptography(), number, depth)) from error


def _server(credentials: Credentials) -> SSL.Context:
    context = _context(SSL.TLS_SERVER_METHOD, credentials)
    context.set_alpn_select_callback(_select)
    return context


def _client(credentials: Credentials) -> SSL.Context:
    return _context(SSL.TLS_CLIENT_METHOD, credentials)


def _context(method: int, credentials: Credentials) -> SSL.Context:
    context = new_context(method, "1.3")
    present(context, credentials.chain, credentials.key)
    trust(context, credentials.anchors)
    context.set_verify(SSL.VERIFY_PEER, verify)
    return context


def _select(ssl: SSL.Connection, offered: list[bytes]) -> bytes:
    """ALPN by what the connection accepts; with nothing to choose from, it is not looked at (T-07)."""
    found = ssl.get_app_data()
    if not isinstance(found, Verification):
        raise TlsError("TLS handshake failed: it is not known which application protocols are accepted")
    if not found.alpn:
        return SSL.NO_OVERLAPPING_PROTOCOLS  # type: ignore[return-value]
    return choose_alpn(found.alpn, offered)


def _time(seconds: float) -> str:
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"
