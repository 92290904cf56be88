"""UpgradeOrigProto: HTTP/1 travels to another proxy of the mesh over HTTP/2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from meshcore.abc import HttpService, ServiceLayer
from meshcore.http.forward import strip_connection
from meshcore.http.headers import Headers
from meshcore.http.pass_through import Framed
from meshcore.http.reserved import ORIG_PROTO

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from meshcore.http.message import Request, Response
    from meshcore.transport.target import Endpoint

__all__ = ["UpgradeOrigProto"]


@attrs.frozen
class UpgradeOrigProto(ServiceLayer):
    """Sends HTTP/1 requests to a proxy of the mesh as HTTP/2 ones that say what they were (D-24, D-25).

    So the clients of an application share one connection to each endpoint, instead of having one each.  The version,
    and whether the request was in absolute-form, go in ``l5d-orig-proto``, which ``DowngradeOrigProto`` at the other
    end reads; its answer says in the same field which version the application spoke (D-26).  That field is removed
    from what a client sent, and from every response, whoever the endpoint is.

    Not translated: what came by HTTP/2, tunnels (CONNECT and upgrades: D-27), and everything where the endpoint is no
    ``mesh_proxy`` or its protocol is ``"http/1"``.  The request of the layers above stays as it is, so that ``Retry``
    may send it elsewhere and ``Rescue`` answers a reset with a 502 (D-28).  A ``host`` that differs from an
    absolute-form target's authority is not sent on: HTTP/2 has no place for it (RFC 9112 §3.2.2).

    It stands directly above ``Http``.
    """

    def wrap(self, inner: HttpService, target: Endpoint, /) -> HttpService:
        """The service of one endpoint: one frame a request."""
        return _Upgrading(inner, target.mesh_proxy and target.protocol != "http/1")


class _Upgrading(Framed):
    __slots__ = ("__layer__", "__wrapped__", "_upgrades")

    def __init__(self, inner: HttpService, upgrades: bool) -> None:
        super().__init__(inner)
        self.__layer__: object = None
        self.__wrapped__: object = inner
        self._upgrades = upgrades

    def take(self, request: Any, /) -> Awaitable[Any] | None:
        """Every request."""
        return self._answer(request)

    async def _answer(self, request: Request) -> Response:
        fields = request.headers
        fields.remove(ORIG_PROTO)
        if not self._upgrades or request.version == 20 or request.is_tunnel:
            response: Response = await self._inner(request)
            response.headers.remove(ORIG_PROTO)
            return response
        marked = strip_connection(fields.raw)
        marked.append((ORIG_PROTO, _MARKS[request.version == 10, request.absolute_form]))
        response = await self._inner(request.variant(Headers(marked), 20))
        answer = response.headers
        response.version = 10 if answer.get(ORIG_PROTO) == b"HTTP/1.0" else 11
        answer.remove(ORIG_PROTO)
        return response


_MARKS: Final[dict[tuple[bool, bool], bytes]] = {
    (False, False): b"HTTP/1.1",
    (True, False): b"HTTP/1.0",
    (False, True): b"HTTP/1.1; absolute-form",
    (True, True): b"HTTP/1.0; absolute-form",
}
