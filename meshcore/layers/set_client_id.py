"""SetClientId: the application is told who the client is, by the proxy and by nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from meshcore.abc import HttpService, ServiceLayer
from meshcore.codec.validate import is_field_value
from meshcore.errors import AuthorizationError
from meshcore.http.pass_through import PassThrough
from meshcore.http.reserved import CLIENT_ID, strip_reserved

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from meshcore.codec.events import Field
    from meshcore.http.message import Request

__all__ = ["SetClientId"]

_LONGEST = 2_048


@attrs.frozen
class SetClientId(ServiceLayer):
    """Sets ``l5d-client-id`` and ``request.client_id`` from the client's verified certificate (T-18).

    What a client sent under that name, and every other field that only proxies may send
    (:mod:`meshcore.http.reserved`), is removed; a client with a verified identity may say what its proxy may.
    Without an identity ``request.client_id`` is None and the field is not there.

    It stands below ``DowngradeOrigProto``, whose field it would remove.

    Raises:
        AuthorizationError: when called, for an identity that cannot stand in a field: the application must not take
            such a client for an anonymous one.
    """

    def wrap(self, inner: HttpService, target: Any, /) -> HttpService:
        """The service behind it; no frame of its own."""
        return _Identifying(inner)


class _Identifying(PassThrough):
    __slots__ = ("__layer__", "__wrapped__", "_field", "_identity")

    def __init__(self, inner: HttpService) -> None:
        super().__init__(inner)
        self.__layer__: object = None
        self.__wrapped__: object = inner
        # The last client's; a connection has one for good, and most of these services serve one connection.
        self._identity = ""
        self._field: Field = None

    def take(self, request: Any, /) -> Awaitable[Any] | None:
        """None: it changes requests, and leaves them all to what is below."""
        asked: Request = request
        connection = asked.connection
        identity = connection.identity if connection is not None else None
        headers = asked.headers
        strip_reserved(headers, meshed=identity is not None)
        asked.client_id = identity
        if identity is not None:
            if identity != self._identity or self._field is None:
                self._field = (CLIENT_ID, _value(identity))
                self._identity = identity
            headers.raw.append(self._field)
        return None


def _value(identity: str) -> bytes:
    value = identity.encode() if identity.isascii() else b""
    if not value or len(value) > _LONGEST or not is_field_value(value):
        raise AuthorizationError("client identity cannot be passed on")
    return value
