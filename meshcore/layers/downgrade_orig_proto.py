"""DowngradeOrigProto: what another proxy translated to HTTP/2 is HTTP/1 again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from meshcore.abc import HttpService, ServiceLayer
from meshcore.errors import RemoteProtocolError
from meshcore.http.pass_through import Framed
from meshcore.http.reserved import ORIG_PROTO

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from meshcore.http.message import Request, Response

__all__ = ["DowngradeOrigProto"]

_FORMS: Final = {
    b"HTTP/1.1": (11, False),
    b"HTTP/1.0": (10, False),
    b"HTTP/1.1; absolute-form": (11, True),
    b"HTTP/1.0; absolute-form": (10, True),
}


@attrs.frozen
class DowngradeOrigProto(ServiceLayer):
    """Restores the version, and absolute-form, of requests that the client's proxy sent by HTTP/2 (D-26).

    They say what they were in ``l5d-orig-proto``, which the application never sees; nor does a client see the one
    that an application made up.  The response of such a request gets the field, with the version that the application
    spoke, for the proxy that asked.  On HTTP/1, and for tunnels (D-27), the field means nothing and is removed.

    The field is believed whoever sent it: it can ask for nothing that a client could not have by speaking HTTP/1
    itself.  A reset stream of such a request is answered 502, as it is for every HTTP/1 client (D-28).

    It stands below ``Rescue`` and above ``SetClientId``, which removes what is left of reserved fields.

    Raises:
        RemoteProtocolError: when called, for a value that is no HTTP/1 version, or more than one: 400.
    """

    def wrap(self, inner: HttpService, target: Any, /) -> HttpService:
        """The service behind it: one frame a request."""
        return _Downgrading(inner)


class _Downgrading(Framed):
    __slots__ = ("__layer__", "__wrapped__")

    def __init__(self, inner: HttpService) -> None:
        super().__init__(inner)
        self.__layer__: object = None
        self.__wrapped__: object = inner

    def take(self, request: Any, /) -> Awaitable[Any] | None:
        """Every request."""
        return self._answer(request)

    async def _answer(self, request: Request) -> Response:
        fields = request.headers
        marked = False
        if fields.get(ORIG_PROTO) is not None:
            values = fields.get_all(ORIG_PROTO)
            fields.remove(ORIG_PROTO)
            marked = request.version == 20 and not request.is_tunnel
            if marked:
                form = _FORMS.get(values[0]) if len(values) == 1 else None
                if form is None:
                    raise RemoteProtocolError(f"{ORIG_PROTO.decode()} is no version of HTTP/1")
                request.version, absolute = form
                request.absolute_form = absolute and bool(request.authority)
        response: Response = await self._inner(request)
        answer = response.headers
        answer.remove(ORIG_PROTO)
        if marked:
            answer.add(ORIG_PROTO, b"HTTP/1.0" if response.version == 10 else b"HTTP/1.1")
        return response
