"""What the requests of a route have to be like."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import attrs

from meshcore.codec.validate import is_field_name, is_method
from meshcore.config.kinds import Kind, Text, parsed, text
from meshcore.config.places import host_pattern
from meshcore.config.report import WRONG, At, shown
from meshcore.config.tables import Table, Tables
from meshcore.errors import ConfigError
from meshcore.http.matching import PathMatch
from meshcore.http.regex import Regex

__all__ = ["GrpcConfig", "Match", "PathConfig", "PatternKind", "RequestConfig", "ValueConfig", "literal_path"]


class PatternKind(Text):
    """A pattern of hosts."""

    title = "`HOST`, `HOST:PORT`, `*.SUFFIX` or `*`"

    def read(self, value: object, at: At, /) -> Any:
        """The pattern."""
        return parsed(value, at, host_pattern)


class RegexKind(Text):
    """A regular expression."""

    title = "a regular expression, for the whole text"

    def read(self, value: object, at: At, /) -> Any:
        """The pattern."""
        return parsed(value, at, lambda pattern: Regex(pattern).pattern)


def literal_path(value: str) -> str:
    """A path without a query.

    Raises:
        ConfigError: it is none.
    """
    return PathMatch("exact", value).value


class PathKind(Text):
    """A path."""

    title = "a path: `/…`, without a query"

    def read(self, value: object, at: At, /) -> Any:
        """The path."""
        return parsed(value, at, literal_path)


def _method(value: str) -> str:
    if not is_method(value.encode()):
        raise ConfigError([f"{shown(value)} is not a method"])
    if value != value.upper() and value.upper() in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        raise ConfigError([f"{shown(value)}: methods are told apart by case; did you mean {value.upper()!r}?"])
    return value


class MethodKind(Text):
    """A method."""

    title = "a method: `GET` …"

    def read(self, value: object, at: At, /) -> Any:
        """The method."""
        return parsed(value, at, _method)


Pattern: TypeAlias = Annotated[str | None, RegexKind()]
Path: TypeAlias = Annotated[str | None, PathKind()]


@attrs.frozen(kw_only=True)
class PathConfig:
    """What a path is like; one of the three.

    Attributes:
        exact: it is this.
        prefix: it begins with these segments: ``/a`` is a prefix of ``/a/b`` and not of ``/ab``.
        regex: the whole of it matches.
    """

    exact: Path = None
    prefix: Path = None
    regex: Pattern = None


@attrs.frozen(kw_only=True)
class ValueConfig:
    """What a value is like; as text it is ``exact``.

    Attributes:
        exact: it is this.
        regex: the whole of it matches.
    """

    exact: str | None = None
    regex: Pattern = None


class ValueKind(Kind):
    """A value, as text or as a table."""

    title = "text, or a table"
    table = ValueConfig

    def read(self, value: object, at: At, /) -> Any:
        """The value."""
        if isinstance(value, dict):
            read = Table(ValueConfig).read(value, at)
            if read is not WRONG and (read.exact is None) == (read.regex is None):
                return at.error("one of exact and regex is wanted")
            return read
        word = text(value, at)
        return WRONG if word is WRONG else ValueConfig(exact=word)

    def show(self, value: Any, /) -> Any:
        """Text, where that says all."""
        return value.exact if value.regex is None else Table(ValueConfig).show(value)

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"anyOf": [{"type": "string"}, Table(ValueConfig).schema()]}


def _field(value: str) -> str:
    if not is_field_name(value.lower().encode()):
        raise ConfigError([f"{shown(value)} is not the name of a header field"])
    return value.lower()


def _parameter(value: str) -> str:
    if not value:
        raise ConfigError(["a parameter has a name"])
    return value


class ValuesKind(Tables):
    """Values by a name."""

    title = "a table: text, or `{ regex = … }`, by name"
    table = ValueConfig

    def refused(self, value: object, at: At, /) -> Any:
        """Says that *value* is no table."""
        return at.error(f"{shown(value)} is not a table; did you mean {{ NAME = {shown(value)} }}?")


@attrs.frozen(kw_only=True)
class GrpcConfig:
    """A gRPC call; one of the two, or both.

    Attributes:
        service: its full name: ``PACKAGE.SERVICE``.
        method: its method.
    """

    service: str | None = None
    method: str | None = None


@attrs.frozen(kw_only=True)
class RequestConfig:
    """What a request has to be like: all of it (R-22).

    Attributes:
        path: its path, as it came, without its query.
        headers: fields that it has, by name.
        query: parameters of its query, by name.
        method: its method.
        grpc: a gRPC call, instead of path and method.
    """

    path: PathConfig | None = None
    headers: Annotated[dict[str, ValueConfig], ValuesKind(ValueKind(), _field)] = attrs.Factory(dict)
    query: Annotated[dict[str, ValueConfig], ValuesKind(ValueKind(), _parameter)] = attrs.Factory(dict)
    method: Annotated[str | None, MethodKind()] = None
    grpc: GrpcConfig | None = None


@attrs.frozen(kw_only=True)
class Match(RequestConfig):
    """What a request has to be like: all of it (R-22).

    Attributes:
        path: its path, as it came, without its query.
        headers: fields that it has, by name.
        query: parameters of its query, by name.
        method: its method.
        grpc: a gRPC call, instead of path and method.
        host: its authority: ``HOST``, ``HOST:PORT``, ``*.SUFFIX`` or ``*``.
    """

    host: Annotated[str, PatternKind()] = "*"
