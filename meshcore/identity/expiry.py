"""Tells in time that the proxy's own certificate is about to expire, because nobody renews it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

from meshcore.metrics.happenings import tell_certificate

if TYPE_CHECKING:
    from meshcore.identity.credentials import Credentials
    from meshcore.identity.store import Identity

__all__ = ["watch_expiry"]

log = logging.getLogger(__name__)

SHARE: Final = 0.1
"""Of a certificate's life: what is left of it when it is told.  Sources renew long before (T-12)."""

_LOOK: Final = 60.0
"""Seconds between two looks, at the most: the time of day may be set."""


async def watch_expiry(identity: Identity) -> None:
    """Warns, once for each certificate, when little of its life is left, and when nothing is; to be cancelled."""
    await identity.wait_certified()
    generation, told = 0, 0
    while True:
        current = identity.current
        assert current is not None
        if identity.generation != generation:
            generation, told = identity.generation, 0
        now = identity.clock()
        stage = _stage(current, now)
        if stage > told:
            told = stage
            _tell(identity, current, now)
        due = (_warned_at(current), current.not_after)
        wait = min((time - now for time in due if time > now), default=_LOOK)
        await trio.sleep(min(max(wait, 0.5), _LOOK))


def _warned_at(credentials: Credentials) -> float:
    return credentials.not_after - SHARE * (credentials.not_after - credentials.not_before)


def _stage(credentials: Credentials, now: float) -> int:
    return (now >= _warned_at(credentials)) + (now >= credentials.not_after)


def _tell(identity: Identity, credentials: Credentials, now: float) -> None:
    left = credentials.not_after - now
    kind = "certificate_expiring" if left > 0 else "certificate_expired"
    text = f"the certificate expires in {left / 60.0:.0f} min" if left > 0 else "the certificate has expired"
    log.warning("identity %s: %s", credentials.name, text)
    tell_certificate(identity.feed, kind, credentials.name, text)
