"""What counts as a failure, as a route or a backend says it (R-20, R-21)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import attrs

from meshcore.http.classify import GRPC_FAILURES, error_label
from meshcore.http.grpc import GrpcStatus, status_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshcore.codec.events import Fields

__all__ = ["DEFAULT", "GRPC_NAMES", "SERVER_ERRORS", "STATUS_WORDS", "Classification", "Verdict", "statuses"]

GRPC_NAMES: dict[str, int] = {status.name.lower().replace("_", "-"): int(status) for status in GrpcStatus}
"""gRPC statuses by the names that a configuration uses: ``deadline-exceeded``."""

SERVER_ERRORS: frozenset[int] = frozenset(range(500, 600))
"""HTTP statuses that are the server's failure (R-20)."""

STATUS_WORDS: dict[str, tuple[int, int]] = {
    "5xx": (500, 599),
    "gateway-error": (502, 504),
    "4xx": (400, 499),
    # What may be another outcome a moment later, as Envoy has it: a conflict.
    "retriable-4xx": (409, 409),
}
"""Ranges of HTTP statuses that have names (R-14)."""


def statuses(word: str) -> tuple[int, int]:
    """The range of HTTP statuses that a word of a configuration means: ``503``, ``500-599`` or a name of
    ``STATUS_WORDS``, in any case (R-14).

    Raises:
        ValueError: it means none.
    """
    text = word.strip().lower()
    if text in STATUS_WORDS:
        return STATUS_WORDS[text]
    first, dash, last = text.partition("-")
    ends = [first, last if dash else first]
    if all(len(end) == 3 and end.isascii() and end.isdigit() for end in ends):
        low, high = map(int, ends)
        if 100 <= low <= high <= 599:
            return low, high
    raise ValueError(f"{word!r} is no status such as 503, 500-599 or 5xx")


class Verdict(NamedTuple):
    """What an exchange counts as, once it has ended.

    Attributes:
        failure: whether it is the server's failure.
        status: the HTTP status; 0 without a response.
        grpc_status: the gRPC status; -1 where there is none.
        error: the ``error`` label of what broke it; ``""`` where nothing did.
    """

    failure: bool
    status: int
    grpc_status: int = -1
    error: str = ""

    @property
    def abandoned(self) -> bool:
        """Whether it says nothing of the server: who asked has gone away."""
        return self.error == "cancelled" and not self.failure


@attrs.frozen(cache_hash=True)
class Classification:
    """Which responses are failures: one verdict for breakers, budgets and metrics (R-20, R-21).

    Attributes:
        failed: the HTTP statuses that are failures; 500 to 599 by default.
        grpc_failed: the gRPC statuses that are; ``GRPC_FAILURES`` by default.
    """

    failed: frozenset[int] = SERVER_ERRORS
    grpc_failed: frozenset[int] = GRPC_FAILURES

    @classmethod
    def of(cls, status: Iterable[str], grpc: Iterable[str]) -> Classification:
        """From the words of a configuration; either empty: as by default.

        Raises:
            ValueError: a word means no status.
        """
        ranges = [statuses(word) for word in status]
        codes = []
        for name in grpc:
            if name not in GRPC_NAMES:
                raise ValueError(f"{name!r} is no gRPC status such as unavailable")
            codes.append(GRPC_NAMES[name])
        return cls(
            frozenset(code for low, high in ranges for code in range(low, high + 1)) or SERVER_ERRORS,
            frozenset(codes) or GRPC_FAILURES,
        )

    def __repr__(self) -> str:
        return f"Classification({_ranges(self.failed)}; {', '.join(_names(self.grpc_failed))})"

    def verdict(
        self, status: int, headers: Fields, trailers: Fields, error: BaseException | None, *, grpc: bool
    ) -> Verdict:
        """What a response counts as at the end of its body.

        Args:
            status: its HTTP status.
            headers: its fields.
            trailers: its trailers.
            error: what broke it; None: it is complete.
            grpc: whether it answers a gRPC request.
        """
        failure = status in self.failed
        if error is not None:
            label = error_label(error)
            # A client that leaves early is no failure of what it left (as an early drop is none for linkerd).
            return Verdict(failure or label != "cancelled", status, -1, label)
        if not grpc:
            return Verdict(failure, status)
        code = status_of(headers)
        if code is None:
            code = status_of(trailers)
        if code is None:
            # A complete response that names none is a success with UNKNOWN.
            return Verdict(failure, status, GrpcStatus.UNKNOWN)
        return Verdict(failure or code in self.grpc_failed, status, code)


def _ranges(found: frozenset[int]) -> str:
    """A set of statuses as ranges, for people."""
    parts: list[list[int]] = []
    for status in sorted(found):
        if parts and parts[-1][1] == status - 1:
            parts[-1][1] = status
        else:
            parts.append([status, status])
    return ", ".join(f"{low}" if low == high else f"{low}-{high}" for low, high in parts)


def _names(found: frozenset[int]) -> list[str]:
    return [name for name, code in GRPC_NAMES.items() if code in found]


DEFAULT = Classification()
"""What holds where nothing else is said (R-20)."""
