"""Asks by gRPC: Envoy's ``envoy.service.auth.v3.Authorization/Check``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import attrs

from meshcore.grpc.client import GrpcClient
from meshcore.grpc.method import Method
from meshcore.layers.ext_authz.beginning import PARTIAL, Beginning
from meshcore.layers.ext_authz.messages import Attributes, Peer, check_request, verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshcore.http.message import Request
    from meshcore.layers.ext_authz.verdict import Verdict

__all__ = ["CHECK", "LARGEST", "OverGrpc", "merged"]

CHECK: Final = Method(b"/envoy.service.auth.v3.Authorization/Check", check_request, verdict)
LARGEST: Final = 256 << 10
"""Bytes of an answer."""

_VERSIONS: Final = {10: "HTTP/1.0", 11: "HTTP/1.1", 20: "HTTP/2"}


@attrs.frozen
class OverGrpc:
    """One question a request, by gRPC.

    Attributes:
        client: of the authorization service.
        timeout: seconds for the answer.
        clock: seconds since the epoch.
        headers: names of the fields that it is told; None: all.
        extensions: told as ``context_extensions``.
    """

    client: GrpcClient
    timeout: float
    clock: Callable[[], float]
    headers: frozenset[bytes] | None = None
    extensions: tuple[tuple[str, str], ...] = ()

    async def __call__(self, request: Request, beginning: Beginning | None) -> Verdict:
        """The verdict about *request*; *beginning* is what it is told of the body.

        Raises:
            GrpcError: there is none.
        """
        return await self.client.unary(CHECK, self._attributes(request, beginning), timeout=self.timeout)

    def _attributes(self, request: Request, beginning: Beginning | None) -> Attributes:
        connection = request.connection
        source = destination = Peer()
        if connection is not None:
            source = Peer(*connection.peer, request.client_id or connection.identity or "")
            destination = Peer(*connection.local)
        size = request.body.size_hint
        headers = [*merged(self._pseudo(request) + request.headers.raw, self.headers)]
        if beginning is not None:
            headers.append((PARTIAL.decode(), "true" if beginning.partial else "false"))
        return Attributes(
            source=source,
            destination=destination,
            time=self.clock(),
            method=_text(request.method),
            scheme=_text(request.scheme),
            host=_text(request.authority),
            path=_text(request.path),
            headers=tuple(headers),
            size=-1 if size is None else size,
            body=b"" if beginning is None else beginning.data,
            protocol=_VERSIONS.get(request.version, "HTTP/1.1"),
            extensions=self.extensions,
        )

    def _pseudo(self, request: Request) -> list[tuple[bytes, bytes]]:
        # As Envoy has them among the fields; policies are written against that.
        return [
            (b":method", request.method),
            (b":scheme", request.scheme),
            (b":authority", request.authority),
            (b":path", request.path),
        ]


def merged(fields: Iterable[tuple[bytes, bytes]], names: frozenset[bytes] | None) -> Iterable[tuple[str, str]]:
    """Fields as text, one of a name (RFC 9110 §5.3; cookies by RFC 9113 §8.2.3).

    Args:
        fields: as received.
        names: those that count, beside pseudo-fields; None: all.
    """
    found: dict[bytes, bytes] = {}
    for name, value in fields:
        if names is not None and name not in names and not name.startswith(b":"):
            continue
        before = found.get(name)
        found[name] = value if before is None else before + (b"; " if name == b"cookie" else b",") + value
    return ((_text(name), _text(value)) for name, value in found.items())


def _text(value: bytes) -> str:
    # A string of protobuf is UTF-8, and a field need not be: what is not is told as being something else.
    return value.decode("utf-8", "replace")
