"""Which exchanges an access log tells: a sample of all, and beside it whatever failed or was slow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from meshcore.addresses import suggest
from meshcore.errors import ConfigError
from meshcore.http.classification import GRPC_NAMES, STATUS_WORDS, statuses

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["EVERYTHING", "LogChoice"]

_CLASSES = {f"{first}xx": (first * 100, first * 100 + 99) for first in range(1, 6)}
_ERROR = "error"


@attrs.frozen
class LogChoice:
    """What is told.

    Attributes:
        sample: the share of all requests, from 0 to 1.
        statuses: HTTP statuses that are always told.
        grpc: gRPC statuses that are.
        errors: whether exchanges are that broke or were never answered.
        slower_than: seconds; exchanges that took longer are always told; None: they are sampled like others.
    """

    sample: float = 1.0
    statuses: frozenset[int] = frozenset()
    grpc: frozenset[int] = frozenset()
    errors: bool = False
    slower_than: float | None = None

    @classmethod
    def of(cls, sample: float = 1.0, words: Iterable[str] = (), slower_than: float | None = None) -> LogChoice:
        """From the words of a configuration: ``5xx``, ``404``, ``500-504``, a gRPC status such as ``unavailable``,
        ``error``.

        Raises:
            ConfigError: a word means none of these, or the share is not one.
        """
        problems = [] if 0 <= sample <= 1 else [f"sample {sample} is not one from 0 to 1"]
        http: set[int] = set()
        grpc: set[int] = set()
        errors = False
        for word in words:
            name = word.strip().lower()
            if name == _ERROR:
                errors = True
            elif name in GRPC_NAMES:
                grpc.add(GRPC_NAMES[name])
            else:
                try:
                    low, high = _CLASSES.get(name) or statuses(name)
                except ValueError:
                    near = suggest(name, [*_CLASSES, *STATUS_WORDS, *GRPC_NAMES, _ERROR])
                    problems.append(
                        f"{word!r} is no status such as 404, 5xx or 500-504, no gRPC status such as unavailable, and "
                        f"not {_ERROR}{near}"
                    )
                else:
                    http.update(range(low, high + 1))
        if problems:
            raise ConfigError(problems)
        return cls(float(sample), frozenset(http), frozenset(grpc), errors, slower_than)

    @property
    def everything(self) -> bool:
        """Whether there is nothing to decide."""
        return self.sample >= 1

    @property
    def early(self) -> bool:
        """Whether it is known before the request is sent if it will be told."""
        return not (self.statuses or self.grpc or self.errors or self.slower_than is not None)


EVERYTHING = LogChoice()
"""Every exchange."""
