"""What requests a rule is for: hosts, paths, headers, queries, methods."""

from __future__ import annotations

from typing import Generic, Literal, TypeVar

import attrs

from meshcore.errors import ConfigError
from meshcore.http.regex import Regex

__all__ = [
    "GrpcMatch",
    "PathMatch",
    "RequestMatch",
    "RouteRule",
    "ValueMatch",
]

T = TypeVar("T")

_LONGEST_PATH = 1_024


@attrs.frozen
class PathMatch:
    """What a request's path, without its query, is like.

    Attributes:
        kind: ``"exact"``; ``"prefix"``, by segments (``/a`` is one of ``/a/b`` and not of ``/ab``; a ``/`` at its end
            makes no difference); or ``"regex"``, for the whole path.
        value: the path, or the pattern.

    Raises:
        ConfigError: it is not a path, or not a pattern.
    """

    kind: Literal["exact", "prefix", "regex"]
    value: str

    def __attrs_post_init__(self) -> None:
        if self.kind == "regex":
            Regex(self.value)
            return
        if not self.value.startswith("/"):
            raise ConfigError([f"{self.value!r} is not a path: it begins with /"])
        if len(self.value) > _LONGEST_PATH or "?" in self.value or "#" in self.value or not self.value.isascii():
            raise ConfigError([f"{self.value[:60]!r} is not a path: ASCII without ? and #, {_LONGEST_PATH} at most"])


@attrs.frozen
class ValueMatch:
    """A header field, or a parameter of the query, that has to be there.

    Attributes:
        name: the field's (in any case), or the parameter's.
        value: one of its values; or the pattern, where that is one.
    """

    name: str
    value: str | Regex


@attrs.frozen
class GrpcMatch:
    """A gRPC call; at least one of the two.

    Attributes:
        service: its full name, ``package.Service``; None: any.
        method: None: any.

    Raises:
        ConfigError: neither is given.
    """

    service: str | None = None
    method: str | None = None

    def __attrs_post_init__(self) -> None:
        if not self.service and not self.method:
            raise ConfigError(["a gRPC match names a service, a method, or both"])


@attrs.frozen(kw_only=True)
class RequestMatch:
    """What a request has to be like; all of it (R-22).

    Attributes:
        host: its authority: ``host``, ``host:port``, ``*.suffix``, which is not the suffix itself, or ``*``.  Case, a
            final dot and the scheme's default port make no difference.
        path: its path; None: any.
        headers: fields that it has.
        query: parameters of its query.
        method: its method, case kept; None: any.
        grpc: a gRPC call, instead of *path* and *method*.

    Raises:
        ConfigError: host is no pattern, or *grpc* stands beside *path* or *method*.
    """

    host: str = "*"
    path: PathMatch | None = None
    headers: tuple[ValueMatch, ...] = ()
    query: tuple[ValueMatch, ...] = ()
    method: str | None = None
    grpc: GrpcMatch | None = None

    def __attrs_post_init__(self) -> None:
        if "*" in self.host.removeprefix("*.") and self.host != "*":
            raise ConfigError([f"route {self.host!r}: a * stands alone or before the first dot"])
        if self.grpc is not None and (self.path is not None or self.method is not None):
            raise ConfigError(["grpc says what path and method have to be: they cannot stand beside it"])


@attrs.frozen
class RouteRule(Generic[T]):
    """Requests, and what they are for.

    Attributes:
        target: where they go.
        matches: one of these has to fit; none: every request does.
    """

    target: T
    matches: tuple[RequestMatch, ...] = ()
