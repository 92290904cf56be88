"""What a route does to its requests and to their answers."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import attrs

from meshcore.addresses import parse_upstream, suggest
from meshcore.config.kinds import Choice, Duration, Kind, Name, Number, Text, Whole, parsed, text
from meshcore.config.match import Path, literal_path
from meshcore.config.places import authority
from meshcore.config.report import WRONG, At, shown
from meshcore.config.tables import Listed
from meshcore.errors import ConfigError
from meshcore.http.grpc import GrpcStatus
from meshcore.http.header_edit import field_name, field_value

__all__ = [
    "DelayConfig",
    "FailureConfig",
    "FilterConfig",
    "MirrorConfig",
    "RedirectConfig",
    "RewriteConfig",
]

Ratio: TypeAlias = Annotated[float, Number(0, 1)]


class FieldName(Text):
    """The name of a field."""

    title = "a header field's name"

    def read(self, value: object, at: At, /) -> Any:
        """The name, in lower case."""
        return parsed(value, at, lambda name: field_name(name).decode())


class FieldsKind(Kind):
    """Header fields."""

    title = "a table: values by header field"

    def read(self, value: object, at: At, /) -> Any:
        """Values by name."""
        if not isinstance(value, dict):
            return at.error(f"{shown(value)} is not a table; did you mean {{ NAME = {shown(value)} }}?")
        found: dict[str, str] = {}
        for name, item in value.items():
            here = at.child(name)
            read = parsed(item, here, lambda word: field_value(word).decode())
            key = parsed(name, here, lambda word: field_name(word).decode())
            if key in found:
                here.error("is there already, in other letters")
            else:
                found[name if key is WRONG else key] = read
        return found

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"type": "object", "additionalProperties": {"type": "string"}}


class PrefixKind(Text):
    """What stands for a prefix."""

    title = "a path, `/…`, or `/` to take the prefix away"

    def read(self, value: object, at: At, /) -> Any:
        """The path."""
        return parsed(value, at, literal_path)


class HostKind(Text):
    """A host, perhaps with a port."""

    title = "`HOST` or `HOST:PORT`"

    def read(self, value: object, at: At, /) -> Any:
        """The host."""
        return parsed(value, at, authority)


def _host(value: str) -> str:
    if value.count(":") == 1:
        raise ConfigError([f"{shown(value)} has a port: that is `port`"])
    return parse_upstream(f"{f'[{value}]' if ':' in value and value[0] != '[' else value}:1").host


class BareHostKind(Text):
    """A host without a port."""

    title = "`HOST`"

    def read(self, value: object, at: At, /) -> Any:
        """The host."""
        return parsed(value, at, _host)


class GrpcCode(Kind):
    """A gRPC status that is a failure."""

    title = "a gRPC status: 1 to 16, or its name"

    def read(self, value: object, at: At, /) -> Any:
        """Its number."""
        names = [status.name for status in GrpcStatus if status]
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 16:
            return value
        word = value.upper().replace("-", "_") if isinstance(value, str) else ""
        if word in names:
            return int(GrpcStatus[word])
        return at.error(f"{shown(value)} is not {self.title}{suggest(word, names) if word else ''}")

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        names = [status.name for status in GrpcStatus if status]
        return {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 16}, {"enum": names}]}


class Message(Text):
    """Text on one line."""

    title = "text on one line"

    def read(self, value: object, at: At, /) -> Any:
        """The text."""
        word = text(value, at)
        if word is not WRONG and (not word.isprintable() or len(word) > 500):
            return at.error("is not one printable line, 500 characters at the most")
        return word


_REDIRECTS = (301, 302, 303, 307, 308)


class StatusKind(Kind):
    """A status that redirects."""

    title = "301, 302, 303, 307 or 308"

    def read(self, value: object, at: At, /) -> Any:
        """The status."""
        return value if value in _REDIRECTS and type(value) is int else at.error(f"{shown(value)} is not {self.title}")

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"enum": list(_REDIRECTS)}


Fields: TypeAlias = Annotated[dict[str, str], FieldsKind()]
Names: TypeAlias = Annotated[tuple[str, ...], Listed(FieldName(), tuple)]


@attrs.frozen(kw_only=True)
class RedirectConfig:
    """Where clients are told to ask; what is not given stays as it was asked for.

    Attributes:
        scheme: of the new URL.
        host: of the new URL.
        port: of the new URL; the scheme's own is left out.
        path: the whole new path; the query goes.
        prefix: what stands for the prefix that was matched; the query stays.
        status: of the answer.
    """

    scheme: Annotated[str | None, Choice(("http", "https"))] = None
    host: Annotated[str | None, BareHostKind()] = None
    port: Annotated[int | None, Whole(1, 65_535)] = None
    path: Path = None
    prefix: Annotated[str | None, PrefixKind()] = None
    status: Annotated[int, StatusKind()] = 301


@attrs.frozen(kw_only=True)
class RewriteConfig:
    """What a request is sent on with; its query stays.

    Attributes:
        host: the new authority.
        path: the whole new path.
        prefix: what stands for the prefix that was matched.
    """

    host: Annotated[str | None, HostKind()] = None
    path: Path = None
    prefix: Annotated[str | None, PrefixKind()] = None


@attrs.frozen(kw_only=True)
class FailureConfig:
    """A failure made on purpose; one of the two statuses.

    Attributes:
        status: the HTTP status.
        grpc_status: the gRPC status.
        message: what is said of it.
        ratio: the share of requests that fail.
    """

    status: Annotated[int | None, Whole(400, 599)] = None
    grpc_status: Annotated[int | None, GrpcCode()] = None
    message: Annotated[str, Message()] = "injected failure"
    ratio: Ratio = 1.0


@attrs.frozen(kw_only=True)
class DelayConfig:
    """A delay made on purpose.

    Attributes:
        duration: for how long.
        ratio: the share of requests that are held up.
    """

    duration: Duration
    ratio: Ratio = 1.0


@attrs.frozen(kw_only=True)
class MirrorConfig:
    """Copies of requests; they slow and fail nobody.

    Attributes:
        backend: the name of the ``[backend.…]`` that gets them; its answers are thrown away.
        ratio: the share of requests that are copied.
    """

    backend: Name
    ratio: Ratio = 1.0


@attrs.frozen(kw_only=True)
class FilterConfig:
    """What is done to requests and to their answers; of several in one table, in this order.

    Attributes:
        add_request_headers: fields that are appended to the request's.
        set_request_headers: fields that replace all of their name.
        remove_request_headers: names of fields that go.
        add_response_headers: fields that are appended to the answer's.
        set_response_headers: fields that replace all of their name.
        remove_response_headers: names of fields that go.
        rewrite: another host or path to be sent on with.
        inject_delay: a delay made on purpose.
        inject_failure: a failure made on purpose.
        redirect: where clients are told to ask instead.
        mirror: who gets a copy.
    """

    add_request_headers: Fields = attrs.Factory(dict)
    set_request_headers: Fields = attrs.Factory(dict)
    remove_request_headers: Names = ()
    add_response_headers: Fields = attrs.Factory(dict)
    set_response_headers: Fields = attrs.Factory(dict)
    remove_response_headers: Names = ()
    rewrite: RewriteConfig | None = None
    inject_delay: DelayConfig | None = None
    inject_failure: FailureConfig | None = None
    redirect: RedirectConfig | None = None
    mirror: MirrorConfig | None = None
