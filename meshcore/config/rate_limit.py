"""How much is let in: the tables of rate limits, and what does not go together in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import attrs

from meshcore.config.kinds import Kind, Number, Text, Whole, parsed
from meshcore.config.places import Peer
from meshcore.config.report import WRONG, At, right
from meshcore.config.tables import Table
from meshcore.errors import ConfigError

if TYPE_CHECKING:
    from meshcore.config.report import Report
    from meshcore.config.toml_lines import KeyPath

__all__ = ["HeaderRateConfig", "OverrideConfig", "RateConfig", "RateLimitConfig", "check_rate_limits"]

Rps: TypeAlias = Annotated[float, Number(0.001, 1_000_000)]
Burst: TypeAlias = Annotated[int, Whole(1, 1_000_000)]

_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")


class FieldNameKind(Text):
    """The name of a header field, in any case."""

    title = "the name of a header field"

    def read(self, value: object, at: At, /) -> Any:
        """The name in lower case."""
        return parsed(value, at, self.check)

    @staticmethod
    def check(value: str) -> str:
        """The name in lower case.

        Raises:
            ConfigError: it is none.
        """
        name = value.lower()
        if not name or len(name) > 256 or not set(name) <= _TOKEN:
            raise ConfigError([f"{value[:60]!r} is not the name of a header field"])
        return name


FieldName: TypeAlias = Annotated[str, FieldNameKind()]


@attrs.frozen(kw_only=True)
class RateConfig:
    """A rate: a number of requests a second, or this table.

    Attributes:
        rps: requests a second, on average.
        burst: how many may come at once; absent: as many as in a second, at least one.
    """

    rps: Rps
    burst: Burst | None = None


class RateKind(Kind):
    """A rate, as a number or as a table."""

    title = "requests a second, or a table"
    table = RateConfig

    def read(self, value: object, at: At, /) -> Any:
        """The rate."""
        if isinstance(value, dict):
            return Table(RateConfig).read(value, at)
        rps = Number(0.001, 1_000_000).read(value, at)
        return WRONG if rps is WRONG else RateConfig(rps=rps)

    def show(self, value: Any, /) -> Any:
        """A number, where that says all."""
        return value.rps if value.burst is None else Table(RateConfig).show(value)

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"anyOf": [Number(0.001, 1_000_000).schema(), Table(RateConfig).schema()]}


@attrs.frozen(kw_only=True)
class OverrideConfig:
    """A rate of their own for some clients, shared among them; `per_identity` does not apply to them.

    Attributes:
        identities: the names in the clients' certificates.
        rps: requests a second, on average.
        burst: how many may come at once; absent: as many as in a second, at least one.
    """

    identities: tuple[Peer, ...]
    rps: Rps
    burst: Burst | None = None


@attrs.frozen(kw_only=True)
class HeaderRateConfig:
    """A rate for each value of a header field.

    Attributes:
        name: the field's; requests without it share one bucket.
        rps: requests a second with each value, on average.
        burst: how many may come at once; absent: as many as in a second, at least one.
    """

    name: FieldName
    rps: Rps
    burst: Burst | None = None


@attrs.frozen(kw_only=True)
class RateLimitConfig:
    """Requests that are let in: first by `rps`; then by the override that names the client, else by the rest (R-36).

    Attributes:
        rps: requests a second of all clients together, on average.
        burst: how many of these may come at once; absent: as many as in a second, at least one.
        per_identity: of each client by its certificate; those without one share one bucket.
        overrides: for clients by name, instead of *per_identity* and *per_header*.
        per_header: for each value of a header field.
        max_keys: identities, and header values, that are kept account of; beyond, the one that was not seen for the
            longest is forgotten and may have a whole burst again.
    """

    rps: Rps | None = None
    burst: Burst | None = None
    per_identity: Annotated[RateConfig, RateKind()] | None = None
    overrides: tuple[OverrideConfig, ...] = ()
    per_header: HeaderRateConfig | None = None
    max_keys: Annotated[int, Whole(1, 1_000_000)] = 10_000


def check_rate_limits(here: KeyPath, side: Any, report: Report, *, identities: bool, why: str) -> None:
    """Reports limits that say nothing, and those for clients that cannot be told apart.

    Args:
        here: the path of the table that has them, itself and its routes.
        side: the table.
        report: where problems go.
        identities: whether clients have identities there.
        why: they have none.
    """
    places = [((*here, "rate_limit"), side.rate_limit)]
    places += [
        ((*here, "route", index, "rate_limit"), route.rate_limit)
        for index, route in enumerate(side.route or ())
        if right(route)
    ]
    for path, limit in places:
        _check(path, limit, report, identities=identities, why=why)


def _check(here: KeyPath, limit: RateLimitConfig | None, report: Report, *, identities: bool, why: str) -> None:
    if limit is None or not right(limit):
        return
    by_client = [name for name in ("per_identity", "overrides") if getattr(limit, name) not in (None, ())]
    if limit.rps is None and limit.per_header is None and not by_client:
        report.error(here, "nothing is limited; rps, per_identity, overrides or per_header is wanted")
    if limit.rps is None and limit.burst is not None:
        report.error((*here, "burst"), "is that of rps, which is not there")
    if not identities:
        for name in by_client:
            report.error((*here, name), why)
    seen: dict[str, int] = {}
    for index, override in enumerate(limit.overrides or ()):
        if not right(override) or not right(override.identities):
            continue
        path = (*here, "overrides", index, "identities")
        if override.identities == ():
            report.error(path, "has to name a client")
        for number, name in enumerate(override.identities):
            if not right(name):
                continue
            name = name if "://" in name else name.lower()
            if name in seen:
                report.error((*path, number), f"{name!r} is in override {seen[name]} already")
            seen.setdefault(name, index)
