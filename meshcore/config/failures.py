"""What counts as a failure, what is tried again, and when an endpoint is left alone."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import attrs

from meshcore.addresses import suggest
from meshcore.config.kinds import Choice, Duration, Kind, Number, Whole, parsed
from meshcore.config.report import At, shown
from meshcore.config.tables import Listed
from meshcore.durations import format_duration, parse_duration
from meshcore.errors import ConfigError
from meshcore.http.classification import GRPC_NAMES, STATUS_WORDS, statuses

__all__ = ["ClassifyConfig", "DurationRange", "FailureAccrualConfig", "StatusKind"]


@attrs.frozen
class RangeKind(Kind):
    """Two durations, of which the second one is not the shorter."""

    title = "a range of durations such as `25ms..250ms`"

    def read(self, value: object, at: At, /) -> Any:
        """The two, in seconds; a single duration is both."""
        return parsed(value, at, self.parse)

    @staticmethod
    def parse(text: str) -> tuple[float, float]:
        """The two.

        Raises:
            ConfigError: they are none, or 0, or the wrong way round.
        """
        first, dots, last = text.partition("..")
        low = parse_duration(first)
        high = parse_duration(last) if dots else low
        if not low > 0:
            raise ConfigError([f"{text!r} has to begin above 0"])
        if high < low:
            raise ConfigError([f'{text!r} is the wrong way round; did you mean "{last.strip()}..{first.strip()}"?'])
        return low, high

    def show(self, value: Any, /) -> Any:
        """Their text."""
        low, high = value
        return format_duration(low) if low == high else f"{format_duration(low)}..{format_duration(high)}"

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        one = "[0-9]+(ms|s|m|h|d)"
        return {"type": "string", "pattern": f"^{one}(\\.\\.{one})?$"}


DurationRange: TypeAlias = Annotated[tuple[float, float], RangeKind()]
"""Seconds: the first and the longest."""


@attrs.frozen
class StatusKind(Kind):
    """HTTP statuses, by number, range or name; further words where they mean something.

    Attributes:
        words: what is allowed beside statuses.
        grpc: whether gRPC statuses are, by name.
    """

    words: tuple[str, ...] = ()
    grpc: bool = False

    @property
    def title(self) -> str:  # type: ignore[override]
        """With the words."""
        known = ", ".join(f"`{word}`" for word in (*STATUS_WORDS, *self.words))
        return f"{known}, a status or a range of them{', a gRPC status' if self.grpc else ''}"

    @property
    def _all(self) -> list[str]:
        codes = [name for name in GRPC_NAMES if name != "ok"] if self.grpc else []
        return [*STATUS_WORDS, *self.words, *codes]

    def read(self, value: object, at: At, /) -> Any:
        """The word, in small letters."""
        if isinstance(value, int) and not isinstance(value, bool) and 100 <= value <= 599:
            return str(value)
        return parsed(value, at, self._word)

    def _word(self, text: str) -> str:
        word = text.strip().lower()
        if word in self._all:
            return word
        try:
            statuses(word)
        except ValueError:
            known = ", ".join((*STATUS_WORDS, *self.words))
            more = ", nor a gRPC status such as unavailable" if self.grpc else ""
            raise ConfigError(
                [f"{shown(text)} is not one of {known}, nor a status such as 503{more}{suggest(word, self._all)}"]
            ) from None
        return word

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        number = {"type": "integer", "minimum": 100, "maximum": 599}
        text = {"type": "string", "pattern": "^[1-5][0-9]{2}(-[1-5][0-9]{2})?$"}
        return {"anyOf": [{"enum": self._all}, text, number]}


@attrs.frozen(kw_only=True)
class ClassifyConfig:
    """Which responses are failures; metrics and circuit breakers use the same verdict (R-20).

    Attributes:
        status: HTTP statuses; empty: 500 to 599.
        grpc: gRPC statuses by name; empty: data-loss, deadline-exceeded, internal, permission-denied, unavailable and
            unknown.
    """

    status: Annotated[tuple[str, ...], Listed(StatusKind(), tuple)] = ()
    grpc: Annotated[tuple[str, ...], Listed(Choice(tuple(GRPC_NAMES)), tuple)] = ()


@attrs.frozen(kw_only=True)
class FailureAccrualConfig:
    """When an endpoint is taken out because it fails, and for how long; then one request tries whether it is well.

    Attributes:
        consecutive: failures in a row that take it out; 0: they do not.
        penalty: how long it is left alone: the first time, and at the most when it fails again and again.
        jitter: the part of a penalty that is added to it at random, at the most.
        success_rate: below this share of successes in *window* it is taken out; 0: that is not looked at.
        window: how far back the success rate looks.
        min_requests: results that have to be in *window* before their rate says anything.
        min_ready_endpoints: so many endpoints are never taken out, whatever their failures.
        retry_after: whether a penalty lasts at least as long as the endpoint's ``retry-after`` asks for, up to 5
            minutes.
    """

    consecutive: Annotated[int, Whole(0, 1_000_000)] = 7
    penalty: DurationRange = (1.0, 60.0)
    jitter: Annotated[float, Number(0, 100)] = 0.5
    success_rate: Annotated[float, Number(0, 1)] = 0.0
    window: Duration = 10.0
    min_requests: Annotated[int, Whole(0, 1_000_000)] = 5
    min_ready_endpoints: Annotated[int, Whole(0, 1_000_000)] = 0
    retry_after: bool = True
