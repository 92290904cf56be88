"""What a rate limit is told, and the state that it keeps of it.  Pure: time is handed in."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

import attrs

from meshcore.layers.rate_limit.gcra import MAX_KEYS, Bucket, Buckets, Rate, nanoseconds

if TYPE_CHECKING:
    from meshcore.http.headers import Headers

__all__ = ["Exceeded", "HeaderRate", "Limiter", "Override", "RateLimits"]

_LONGEST_KEY = 64


def _comparable(identities: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    return tuple(name if "://" in name else name.lower() for name in identities)


@attrs.frozen
class Override:
    """A rate of their own for some clients, shared among them.

    Attributes:
        identities: the clients' verified names.
        rate: what they may do together.
    """

    identities: tuple[str, ...] = attrs.field(converter=_comparable)
    rate: Rate


@attrs.frozen
class HeaderRate:
    """A rate for each value of a header field.

    Attributes:
        name: the field's, in lower case; requests without it share one bucket.
        rate: what may come with each value.
    """

    name: bytes
    rate: Rate


@attrs.frozen
class RateLimits:
    """Limits that a request meets in this order (R-36): *total*; then the override that names its client, and no
    further one; else *per_identity* and *per_header*.

    Attributes:
        total: of all requests; None: no limit (for all).
        per_identity: of each client's verified identity; clients without one share one bucket.
        overrides: for clients by their names.
        per_header: of each value of a header field.
        max_keys: identities, and values, that are kept account of.
    """

    total: Rate | None = None
    per_identity: Rate | None = None
    overrides: tuple[Override, ...] = attrs.field(default=(), converter=tuple[Override, ...])
    per_header: HeaderRate | None = None
    max_keys: int = attrs.field(default=MAX_KEYS, validator=attrs.validators.ge(1))

    def __str__(self) -> str:
        parts = [] if self.total is None else [f"total {self.total}"]
        parts += [f"{', '.join(each.identities)} {each.rate}" for each in self.overrides]
        if self.per_identity is not None:
            parts.append(f"per identity {self.per_identity}")
        if self.per_header is not None:
            parts.append(f"per {self.per_header.name.decode('latin-1')} {self.per_header.rate}")
        return ", ".join(parts) or "none"


@attrs.frozen
class Exceeded:
    """A limit that does not let a request in.

    Attributes:
        what: ``"total"``, ``"override"``, ``"per-identity"`` or ``"per-header"``.
        rate: the limit.
        seconds: until there is room for one.
    """

    what: str
    rate: Rate
    seconds: float


class Limiter:
    """The state of some limits.

    Attributes:
        identities: the buckets by identity, None without such a limit.
        values: the buckets by the header's value, likewise.
    """

    __slots__ = ("_limits", "_overrides", "_total", "identities", "values")

    def __init__(self, limits: RateLimits) -> None:
        self._limits = limits
        self._total = None if limits.total is None else Bucket(limits.total)
        self._overrides: dict[str, tuple[Bucket, Rate]] = {}
        for override in limits.overrides:
            bucket = Bucket(override.rate)
            for name in override.identities:
                self._overrides.setdefault(name, (bucket, override.rate))
        self.identities = None if limits.per_identity is None else Buckets(limits.per_identity, limits.max_keys)
        self.values = None if limits.per_header is None else Buckets(limits.per_header.rate, limits.max_keys)

    def check(self, now: float, identity: str | None, headers: Headers) -> Exceeded | None:
        """Takes a token of each limit that a request meets; the first one that has none, None for a request that is
        let in.  As in linkerd, what a request has taken before it is refused is not given back.

        Args:
            now: seconds.
            identity: the client's verified name, in lower case if it is a host name; None without.
            headers: the request's.
        """
        at = nanoseconds(now)
        limits = self._limits
        if self._total is not None and (wait := self._total.take(at)):
            assert limits.total is not None
            return Exceeded("total", limits.total, wait / 1e9)
        if self._overrides and identity is not None:
            override = self._overrides.get(identity)
            if override is not None:
                bucket, rate = override
                wait = bucket.take(at)
                return Exceeded("override", rate, wait / 1e9) if wait else None
        if self.identities is not None and (wait := self.identities.take(identity, at)):
            assert limits.per_identity is not None
            return Exceeded("per-identity", limits.per_identity, wait / 1e9)
        if self.values is not None:
            assert limits.per_header is not None
            value = headers.get(limits.per_header.name)
            if value is not None and len(value) > _LONGEST_KEY:
                # Bounded, and still another one for another value.
                value = b"%d:" % len(value) + blake2b(value, digest_size=16).digest()
            if wait := self.values.take(value, at):
                return Exceeded("per-header", limits.per_header.rate, wait / 1e9)
        return None
