"""How a destination or a backend is balanced, and how its endpoints are asked whether they are well."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import attrs

from meshcore.config.kinds import Choice, Duration, Flag, Kind, Number, Seconds, Text, Whole, text
from meshcore.config.places import Peer
from meshcore.config.report import WRONG, At, shown
from meshcore.config.tables import Table, settings

__all__ = ["BalanceConfig", "BalanceKind", "HashConfig", "HealthCheckConfig", "ZoneConfig", "ZoneKind"]

Policy: TypeAlias = Literal["p2c-ewma", "p2c-penalty-ewma", "round-robin", "least-request", "maglev"]
_POLICIES: tuple[str, ...] = ("p2c-ewma", "p2c-penalty-ewma", "round-robin", "least-request", "maglev")
_MARKS = frozenset("!#$%&'*+-.^_`|~")


class PathKind(Text):
    """A path, with or without a query."""

    title = "a path"

    def read(self, value: object, at: At, /) -> Any:
        """The path."""
        word = text(value, at)
        if word is WRONG:
            return WRONG
        if not word.startswith("/"):
            return at.error(f"{shown(word)} is not a path; did you mean {'/' + word!r}?")
        if not (word.isascii() and word.isprintable()) or " " in word or "#" in word or len(word) > 2_048:
            return at.error(f"{shown(word)} is not a path: printable ASCII without blanks and '#' is")
        return word


class ServiceKind(Text):
    """The name of a gRPC service, or of none."""

    title = "a gRPC service, or `\"\"` for the server as a whole"

    def read(self, value: object, at: At, /) -> Any:
        """The name."""
        word = text(value, at)
        if word is WRONG:
            return WRONG
        parts = word.split(".") if word else []
        if len(word) > 256 or not all(part.isascii() and part.isidentifier() for part in parts):
            near = f"; did you mean {word.strip('/').partition('/')[0]!r}?" if "/" in word else ""
            return at.error(f"{shown(word)} is not the name of a gRPC service such as package.Service{near}")
        return word

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"type": "string", "pattern": "^([A-Za-z_][A-Za-z0-9_]*([.][A-Za-z_][A-Za-z0-9_]*)*)?$"}


class TokenKind(Text):
    """The name of a header, or of a cookie."""

    title = "a name"

    def read(self, value: object, at: At, /) -> Any:
        """The name."""
        word = text(value, at)
        if word is WRONG:
            return WRONG
        right = 0 < len(word) <= 256 and word.isascii() and all(mark.isalnum() or mark in _MARKS for mark in word)
        return word if right else at.error(f"{shown(word)} is not the name of a header or a cookie (RFC 9110 §5.6.2)")


@attrs.frozen(kw_only=True)
class HashConfig:
    """What ``maglev`` hashes; one of the keys.

    Attributes:
        header: the name of a request's field.
        cookie: the name of a cookie that the application sets.
        source: true: the client's address.
    """

    header: Annotated[str | None, TokenKind()] = None
    cookie: Annotated[str | None, TokenKind()] = None
    source: bool = False


@attrs.frozen(kw_only=True)
class BalanceConfig:
    """How requests are balanced: the policy's name, or a table.

    Attributes:
        policy: who gets a request: the quicker of two by peak EWMA (``p2c-ewma``); the same, where answers that say
            "not now" count as slow ones (``p2c-penalty-ewma``); everyone in turn; the one of two with fewer requests;
            or always the same one for the same *hash* (``maglev``).
        hash: what ``maglev`` hashes; requests without it are balanced as by ``p2c-ewma``.
        slow_start: how long the share of an endpoint that has become ready grows, from a tenth of it; 0: it has all
            of it at once.
        panic: the part of the endpoints that has to be well; with fewer, their health checks are not heeded, since the
            rest would be overrun.  0: they always are.
        penalty: how long an answer that says "not now" counts as, with ``p2c-penalty-ewma``.
        max_retry_after: how long an endpoint may ask for then (``retry-after``), at the most.
    """

    policy: Annotated[Policy, Choice(_POLICIES)] = "p2c-ewma"
    hash: HashConfig | None = None
    slow_start: Annotated[float, Seconds(zero=True)] = 0.0
    panic: Annotated[float, Number(0, 1)] = 0.5
    penalty: Duration = 5.0
    max_retry_after: Duration = 300.0


@attrs.frozen(kw_only=True)
class ZoneConfig:
    """Endpoints of the own zone first: ``true``, or a table.

    Attributes:
        enough: the part of the own zone's endpoints that has to be ready for them to get everything; with fewer, the
            rest goes to other zones.
        spill_over: requests under way at one of them from which on an endpoint of another zone with fewer is
            preferred.
    """

    enough: Annotated[float, Number(0.01, 1)] = 0.7
    spill_over: Annotated[int, Whole(1, 1_000_000)] = 100


@attrs.frozen(kw_only=True)
class HealthCheckConfig:
    """How each endpoint is asked whether it is well, beside what its traffic tells.

    Attributes:
        path: asked for by ``GET``; a status from 200 to 299 is well.  Absent, as *grpc*: it has to take a connection.
        grpc: the service that is asked for by ``grpc.health.v1.Health/Check``; ``""``: the server as a whole.
        host: the authority that is asked for; absent: the endpoint's address.
        interval: between two checks.
        timeout: how long one may take.
        healthy: answers in a row that bring an endpoint back.
        unhealthy: failures in a row that take it out.
    """

    path: Annotated[str | None, PathKind()] = None
    grpc: Annotated[str | None, ServiceKind()] = None
    host: Peer | None = None
    interval: Duration = 5.0
    timeout: Duration = 1.0
    healthy: Annotated[int, Whole(1, 100)] = 2
    unhealthy: Annotated[int, Whole(1, 100)] = 3


class BalanceKind(Kind):
    """A policy, as a word or as a table."""

    title = f"{', '.join(f'`{word}`' for word in _POLICIES)} or a table"
    table = BalanceConfig

    def read(self, value: object, at: At, /) -> Any:
        """The table."""
        if isinstance(value, dict):
            return Table(BalanceConfig).read(value, at)
        if not isinstance(value, str):
            return at.error(f'{shown(value)} is not a policy such as "p2c-ewma"')
        word = settings(BalanceConfig)["policy"].kind.read(value, at)
        return WRONG if word is WRONG else BalanceConfig(policy=word)

    def show(self, value: Any, /) -> Any:
        """The word, where that says all."""
        return value.policy if value == BalanceConfig(policy=value.policy) else Table(BalanceConfig).show(value)

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"anyOf": [{"enum": list(_POLICIES)}, Table(BalanceConfig).schema()]}


class ZoneKind(Kind):
    """Whether the own zone is preferred, or how."""

    title = "true, false or a table"
    table = ZoneConfig

    def read(self, value: object, at: At, /) -> Any:
        """The table; None for false."""
        if isinstance(value, dict):
            return Table(ZoneConfig).read(value, at)
        flag = Flag().read(value, at)
        return flag if flag is WRONG else ZoneConfig() if flag else None

    def show(self, value: Any, /) -> Any:
        """True, where that says all."""
        return True if value == ZoneConfig() else Table(ZoneConfig).show(value)

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"anyOf": [{"type": "boolean"}, Table(ZoneConfig).schema()]}
