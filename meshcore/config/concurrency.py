"""How many requests may be in flight at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import attrs

from meshcore.config.kinds import Kind, Seconds, Whole
from meshcore.config.tables import Table

if TYPE_CHECKING:
    from meshcore.config.report import At

__all__ = ["ConcurrencyConfig", "ConcurrencyLimited"]

_MOST = 1_000_000


@attrs.frozen(kw_only=True)
class ConcurrencyConfig:
    """A limit on requests in flight, to the last byte of their responses; what is too much is answered 503.

    Attributes:
        limit: requests in flight at the most.
        wait: how long a request may wait for its turn; 0: it is refused at once.
        waiting: requests that may wait; more are refused.
        adaptive: finds the limit by itself, between *minimum* and *limit*: it shrinks when latency rises.
        minimum: the lowest limit that is found.
    """

    limit: Annotated[int, Whole(1, _MOST)] = 100_000
    wait: Annotated[float, Seconds(zero=True)] = 0.0
    waiting: Annotated[int, Whole(0, _MOST)] = 1_000
    adaptive: bool = False
    minimum: Annotated[int, Whole(1, _MOST)] = 5


class ConcurrencyKind(Kind):
    """A limit, as a number or as a table."""

    title = "a whole number, or a table"
    table = ConcurrencyConfig

    def read(self, value: object, at: At, /) -> Any:
        """The limit."""
        if isinstance(value, dict):
            return Table(ConcurrencyConfig).read(value, at)
        limit = Whole(1, _MOST).read(value, at)
        return ConcurrencyConfig(limit=limit) if isinstance(limit, int) else limit

    def show(self, value: Any, /) -> Any:
        """The number, where that says all."""
        return value.limit if value == ConcurrencyConfig(limit=value.limit) else Table(ConcurrencyConfig).show(value)

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"anyOf": [Whole(1, _MOST).schema(), Table(ConcurrencyConfig).schema()]}


ConcurrencyLimited: TypeAlias = Annotated[ConcurrencyConfig, ConcurrencyKind()]
