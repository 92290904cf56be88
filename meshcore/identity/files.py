"""FilesIdentity: a certificate, a key and trust anchors in files that somebody else renews."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import trio

from meshcore.identity.credentials import Credentials
from meshcore.transport.watch import Stamp, stamp

if TYPE_CHECKING:
    from meshcore.identity.store import Identity

__all__ = ["FilesIdentity"]


@attrs.frozen
class FilesIdentity:
    """Takes what the files have, and again whenever one of them changes.

    Files are seldom renewed all at once.  Between a new certificate and its new key the pair does not fit: it is
    refused with a warning, once for each change, and the old one stays until the rest has come.

    Attributes:
        cert: PEM: the leaf, then its chain.
        key: PEM: its private key, not encrypted.
        trust_anchors: PEM: the authorities trusted.
        interval: seconds between two looks.
    """

    cert: Path = attrs.field(converter=Path)
    key: Path = attrs.field(converter=Path)
    trust_anchors: Path = attrs.field(converter=Path)
    interval: float = attrs.field(default=1.0, validator=attrs.validators.gt(0))

    async def run(self, identity: Identity) -> None:
        """See :class:`~meshcore.identity.source.IdentitySource`."""
        seen: Stamp | None = None
        waiting = False
        while True:
            now = self._stamp()
            # What is not valid yet becomes so without its file changing.
            if now != seen or waiting:
                waiting = self._take(identity, again=now == seen)
                # Changed while it was read: the next look reads it once more.
                seen = now
            await trio.sleep(self.interval)

    def _stamp(self) -> Stamp:
        return stamp((self.cert, self.key, self.trust_anchors))

    def _take(self, identity: Identity, *, again: bool) -> bool:
        """Publishes or refuses what the files have; whether it has only to wait for its time."""
        try:
            credentials = self._read()
        except ValueError as error:
            identity.refuse(str(error))
            return False
        early = identity.clock() < credentials.not_before
        if not (early and again):
            identity.publish(credentials)
        return early

    def _read(self) -> Credentials:
        """Raises ValueError where the files cannot be used."""
        parts, problems = [], []
        for path in (self.cert, self.key, self.trust_anchors):
            try:
                parts.append(path.read_bytes())
            except OSError as error:
                problems.append(f"{path}: {(error.strerror or str(error)).lower()}")
        if problems:
            raise ValueError("; ".join(problems))
        try:
            return Credentials.from_pem(*parts)
        except ValueError as error:
            raise ValueError(f"{self.cert}, {self.key}, {self.trust_anchors}: {error}") from error
