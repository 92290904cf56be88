"""DevIdentity: certificates from an authority of our own in a folder, for development."""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import trio

from meshcore.identity.authority import Authority, write_file
from meshcore.identity.credentials import Credentials

if TYPE_CHECKING:
    from meshcore.identity.store import Identity

__all__ = ["DevIdentity", "dev_authority"]

log = logging.getLogger(__name__)

_DAY = 86_400.0
_REFRESH = 0.7
"""Part of its life after which a certificate is issued anew (T-12)."""


@attrs.frozen
class DevIdentity:
    """Issues the proxy's certificate itself.  The authority lives in a folder that the proxies of one machine share:
    whoever can read it is trusted by all of them, so it is nothing for production.

    Attributes:
        name: own name: a DNS name or a ``spiffe://`` URI.
        directory: of the authority: ``ca.crt`` and ``ca.key``, made on first use.
        days: how long a certificate is valid; it is issued anew after 70 % of that, at the latest after a day (T-12).
        interval: seconds between two looks at the clock.
    """

    name: str
    directory: Path = attrs.field(converter=Path)
    days: float = attrs.field(default=1.0, validator=attrs.validators.gt(0))
    interval: float = attrs.field(default=1.0, validator=attrs.validators.gt(0))

    async def run(self, identity: Identity) -> None:
        """See :class:`~meshcore.identity.source.IdentitySource`."""
        due = float("-inf")
        said: str | None = None
        while True:
            now = identity.clock()
            if now >= due:
                try:
                    credentials = self._issue(now)
                except (OSError, ValueError) as error:
                    # Said once, tried again at each look.
                    if said != str(error):
                        said = str(error)
                        identity.refuse(said)
                else:
                    said = None
                    if identity.publish(credentials):
                        due = now + min(_REFRESH * (credentials.not_after - now), _DAY)
                    else:
                        due = now + 10 * self.interval
            await trio.sleep(self.interval)

    def _issue(self, now: float) -> Credentials:
        authority = dev_authority(self.directory, now)
        cert, key = authority.issue(self.name, now=now, days=self.days)
        return Credentials.from_pem(cert, key, authority.cert_pem())


def dev_authority(directory: Path, now: float) -> Authority:
    """The authority in *directory*, made if there is none; processes that start at once get the same one.

    Raises:
        OSError: the folder or a file in it cannot be used.
        ValueError: what is there is no authority.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    cert, key = directory / "ca.crt", directory / "ca.key"
    with open(directory / ".lock", "a", opener=_private) as lock:
        # Held for the few milliseconds that making one takes.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not cert.exists() and not key.exists():
            authority = Authority.make("meshcore development CA", now=now)
            write_file(key, authority.key_pem(), mode=0o600, replace=False)
            write_file(cert, authority.cert_pem(), mode=0o644, replace=False)
            log.warning("made a development CA in %s: whoever can read its key is trusted", directory)
        try:
            return Authority.from_pem(cert.read_bytes(), key.read_bytes())
        except ValueError as error:
            raise ValueError(f"{cert} and {key}: {error}") from error


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
