"""ProxyErrors: what an endpoint's own proxy says about errors is heard here and goes no further."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import attrs

from meshcore.abc import HttpService, ServiceLayer
from meshcore.http.pass_through import Framed
from meshcore.http.reserved import ERROR_CODE, PROXY_CONNECTION, PROXY_ERROR
from meshcore.transport.about import About

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from meshcore.http.message import Request, Response
    from meshcore.transport.target import Endpoint

__all__ = ["ProxyErrors"]

log = logging.getLogger(__name__)

_SHOWN = 1_024


@attrs.frozen
class ProxyErrors(ServiceLayer):
    """Takes ``l5d-proxy-error`` and ``l5d-proxy-connection`` out of an endpoint's responses (E-07).

    What this proxy's clients are told about errors is then always of its own making.  ``x-meshcore-error`` is kept
    of a ``mesh_proxy``, whose word it is, and removed otherwise: an application must not pass for a proxy.

    Attributes:
        forwards: the endpoint is the only one that the client can mean, so that ``l5d-proxy-connection: close`` of a
            ``mesh_proxy`` closes the client's HTTP/1 connection as well; behind a balancer the next request may go
            elsewhere, and it is kept.
    """

    forwards: bool = False

    def wrap(self, inner: HttpService, target: Endpoint, /) -> HttpService:
        """The service of one endpoint: one frame a request."""
        meshed = target.mesh_proxy
        return _Hearing(inner, target, meshed=meshed, forwards=self.forwards and meshed)


class _Hearing(Framed):
    """A class rather than a closure, which would not be compiled; as are those of other layers."""

    __slots__ = ("__layer__", "__wrapped__", "_endpoint", "_forwards", "_meshed")

    def __init__(self, inner: HttpService, endpoint: Endpoint, *, meshed: bool, forwards: bool) -> None:
        super().__init__(inner)
        self.__layer__: object = None
        self.__wrapped__: object = inner
        self._endpoint = endpoint
        self._meshed = meshed
        self._forwards = forwards

    def take(self, request: Any, /) -> Awaitable[Any] | None:
        """Every request."""
        return self._answer(request)

    async def _answer(self, request: Request) -> Response:
        response: Response = await self._inner(request)
        headers = response.headers
        said: bytes | None = None
        close: bytes | None = None
        code = False
        for name, value in headers.raw:
            if name == PROXY_ERROR:
                said = value
            elif name == PROXY_CONNECTION:
                close = value
            elif name == ERROR_CODE:
                code = True
        if said is not None:
            headers.remove(PROXY_ERROR)
            if log.isEnabledFor(logging.INFO):
                text = ascii(said[:_SHOWN].decode("latin-1"))
                about = About(request=request, endpoint=self._endpoint)
                log.info("endpoint %s: its proxy says: %s", self._endpoint, text, extra=about)
        if close is not None:
            headers.remove(PROXY_CONNECTION)
            if self._forwards and close.lower() == b"close":
                response.close = True
        if code and not self._meshed:
            headers.remove(ERROR_CODE)
        return response
