"""``ext_authz``: another service that decides about requests."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeAlias

import attrs

from meshcore.config.kinds import Bytes, Duration, Kind, Text, parsed
from meshcore.config.places import Peer
from meshcore.config.report import At, shown
from meshcore.config.tables import Listed, Tables
from meshcore.config.upstream import ClientTls, EndpointConfig, EndpointKind
from meshcore.errors import ConfigError

__all__ = ["ExtAuthzConfig"]

_FIELD = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}")
_PREFIX = re.compile(r"(/[!-\"$->@-~]*)?")


def _field(value: str) -> str:
    if not _FIELD.fullmatch(value):
        raise ConfigError([f"{shown(value)} is not the name of a header"])
    return value.lower()


def _prefix(value: str) -> str:
    if not _PREFIX.fullmatch(value) or value.endswith("/"):
        near = f"; did you mean {'/' + value.strip('/')!r}?" if _PREFIX.fullmatch("/" + value.strip("/")) else ""
        raise ConfigError([f"{shown(value)} is not a path such as /check{near}"])
    return value


@attrs.frozen
class FieldKind(Kind):
    """The name of a header."""

    title = "the name of a header"

    def read(self, value: object, at: At, /) -> Any:
        """The name, in lower case."""
        return parsed(value, at, _field)

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"type": "string", "pattern": f"^{_FIELD.pattern}$"}


@attrs.frozen
class PrefixKind(Kind):
    """What comes before a path."""

    title = "a path"

    def read(self, value: object, at: At, /) -> Any:
        """The path."""
        return parsed(value, at, _prefix)

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"type": "string", "pattern": "^/.*$"}


Fields: TypeAlias = Annotated[tuple[str, ...], Listed(FieldKind(), tuple)]
OptionalFields: TypeAlias = Annotated[tuple[str, ...] | None, Listed(FieldKind(), tuple)]
Asked: TypeAlias = Annotated[EndpointConfig | None, EndpointKind()]


@attrs.frozen(kw_only=True)
class ExtAuthzConfig:
    """``ext_authz``: a service that is asked about each request; what is not HTTP is refused then.

    Attributes:
        grpc: where it is asked by Envoy's ``envoy.service.auth.v3.Authorization/Check``; this or *http*.
        http: where it is asked with the request's own method, authority and path: 200 lets it pass, an error of the
            service is no verdict, and everything else is the answer.
        timeout: for the verdict.
        on_error: what becomes of requests without one: ``deny`` answers 503, ``allow`` lets them pass.
        headers: what it is told of the request's fields, beside ``authorization`` and the client's verified identity;
            absent: all over gRPC, no others over HTTP.
        copy_headers: over HTTP: fields of its answer that the request goes on with; what a client sends under these
            names is removed.
        path_prefix: over HTTP: what comes before the path.
        max_body: bytes of the request's body that it is told, from the beginning, and waited for at most *timeout*; 0:
            none.
        context: over gRPC: further pairs that it is told (``context_extensions``).
        identity: who must answer: mutual TLS with that DNS name or ``spiffe://`` URI.
        tls: for ``https``.
    """

    grpc: Asked = None
    http: Asked = None
    timeout: Duration = 0.2
    on_error: Literal["deny", "allow"] = "deny"
    headers: OptionalFields = None
    copy_headers: Fields = ()
    path_prefix: Annotated[str | None, PrefixKind()] = None
    max_body: Annotated[int, Bytes(8 << 20)] = 0
    context: Annotated[dict[str, str], Tables(Text())] = attrs.Factory(dict)
    identity: Peer | None = None
    tls: ClientTls | None = None
