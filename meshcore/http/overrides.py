"""What an application asks of its proxy for one request: the ``l5d-retry-…`` and ``l5d-…-timeout`` fields (R-15)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from meshcore.durations import parse_duration
from meshcore.errors import ConfigError
from meshcore.http.classification import GRPC_NAMES, statuses
from meshcore.http.timeouts import Timeouts

if TYPE_CHECKING:
    from meshcore.http.headers import Headers

__all__ = ["FIELDS", "MOST_RETRIES", "Overrides", "take_overrides"]

FIELDS: frozenset[bytes] = frozenset(
    {
        b"l5d-retry-http",
        b"l5d-retry-grpc",
        b"l5d-retry-limit",
        b"l5d-retry-timeout",
        b"l5d-timeout",
        b"l5d-request-timeout",
        b"l5d-response-timeout",
    }
)
"""Their names; none of them is ever sent on."""

MOST_RETRIES = 10
"""Further tries that a request may ask for; what asks for more gets these."""


@attrs.frozen
class Overrides:
    """What one request asks for; None: what its route says.

    Attributes:
        limit: further tries.
        statuses: HTTP statuses that are tried again.
        grpc: gRPC statuses that are.
        timeout: seconds for each try but the last one.
        request: seconds from the request's head to the response's last byte.
        response: seconds from the end of the request's body to the response's last byte.
    """

    limit: int | None = None
    statuses: frozenset[int] | None = None
    grpc: frozenset[int] | None = None
    timeout: float | None = None
    request: float | None = None
    response: float | None = None

    @property
    def retries(self) -> bool:
        """Whether it says anything of retries."""
        return any(value is not None for value in (self.limit, self.statuses, self.grpc, self.timeout))

    def limits(self, timeouts: Timeouts | None) -> Timeouts | None:
        """*timeouts* as this request wants them."""
        if self.request is None and self.response is None:
            return timeouts
        given = Timeouts() if timeouts is None else timeouts
        return Timeouts(
            given.request if self.request is None else self.request,
            given.response if self.response is None else self.response,
            given.idle,
        )


def take_overrides(headers: Headers, *, allowed: bool) -> Overrides | None:
    """Removes the fields from a request, in place, and tells what they say; None: nothing, or it is not allowed.

    A value that means nothing is left out, as are the words of a list that do (R-14).
    """
    raw = headers.raw
    found = {name: value for name, value in raw if name in FIELDS}
    if not found:
        return None
    raw[:] = [field for field in raw if field[0] not in FIELDS]
    if not allowed:
        return None
    text = {name.decode("ascii"): value.decode("latin-1") for name, value in found.items()}
    total = text.get("l5d-request-timeout", text.get("l5d-timeout"))
    overrides = Overrides(
        limit=_limit(text.get("l5d-retry-limit")),
        statuses=_statuses(text.get("l5d-retry-http")),
        grpc=_codes(text.get("l5d-retry-grpc")),
        timeout=_seconds(text.get("l5d-retry-timeout")),
        request=_seconds(total),
        response=_seconds(text.get("l5d-response-timeout")),
    )
    return None if overrides == Overrides() else overrides


def _limit(value: str | None) -> int | None:
    if value is None or not (value.isascii() and value.isdigit()):
        return None
    return min(int(value[:9]), MOST_RETRIES)


def _seconds(value: str | None) -> float | None:
    if value is None:
        return None
    try:
        return parse_duration(value) or None
    except ConfigError:
        return None


def _statuses(value: str | None) -> frozenset[int] | None:
    if value is None:
        return None
    found: set[int] = set()
    for word in value.split(","):
        try:
            low, high = statuses(word)
        except ValueError:
            continue
        found.update(range(low, high + 1))
    return frozenset(found)


def _codes(value: str | None) -> frozenset[int] | None:
    if value is None:
        return None
    words = (word.strip().lower() for word in value.split(","))
    return frozenset(GRPC_NAMES[word] for word in words if word in GRPC_NAMES)
