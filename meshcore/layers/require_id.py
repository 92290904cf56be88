"""RequireId: an application may insist on who answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from meshcore.abc import HttpService, ServiceLayer
from meshcore.errors import IdentityError
from meshcore.http.headers import Headers
from meshcore.http.pass_through import PassThrough
from meshcore.http.reserved import REQUIRE_ID

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from meshcore.codec.events import Field
    from meshcore.http.message import Request
    from meshcore.transport.target import Endpoint

__all__ = ["RequireId"]

_LONGEST = 512


@attrs.frozen
class RequireId(ServiceLayer):
    """Refuses a request whose ``l5d-require-id`` is not the identity that the endpoint has to prove (T-19).

    The endpoint's identity is what its certificate is verified against, so that a request which passes is answered
    by it or not at all; one on plaintext, or whose certificate is not verified, has none.  DNS names are compared
    without regard to case, ``spiffe://`` ones exactly.  The field is never sent on; the request of the layers above
    keeps it, so that another try is judged as well.

    It stands below ``Balance``.

    Raises:
        IdentityError: when called, before anything is sent: 502 ``required id …; found …``.
    """

    def wrap(self, inner: HttpService, target: Endpoint, /) -> HttpService:
        """The service of one endpoint; no frame of its own."""
        return _Requiring(inner, target)


class _Requiring(PassThrough):
    __slots__ = ("__layer__", "__wrapped__", "_endpoint", "_found", "_right")

    def __init__(self, inner: HttpService, endpoint: Endpoint) -> None:
        super().__init__(inner)
        self.__layer__: object = None
        self.__wrapped__: object = inner
        self._endpoint = endpoint
        found = _identity(endpoint)
        self._found = found
        self._right = _comparable(found) if found is not None else None

    def take(self, request: Any, /) -> Awaitable[Any] | None:
        """A request that asks for an identity, without the field."""
        asked: Request = request
        for name, _ in asked.headers.raw:
            if name == REQUIRE_ID:
                sent: Awaitable[Any] = self._inner(asked.variant(self._judged(asked.headers), asked.version))
                return sent
        return None

    def _judged(self, headers: Headers) -> Headers:
        """The fields of a request that asks for this endpoint's identity, without those that do."""
        kept: list[Field] = []
        fields: list[Field] = headers.raw
        for field in fields:
            if field[0] != REQUIRE_ID:
                kept.append(field)
                continue
            required = field[1].decode("latin-1")
            if self._right is None or _comparable(required) != self._right:
                known = self._found or "none"
                raise IdentityError(f"endpoint {self._endpoint}: required id {required[:_LONGEST]}; found {known}")
        return Headers(kept)


def _identity(endpoint: Endpoint) -> str | None:
    tls = endpoint.tls
    if tls is None or not (tls.mesh or tls.verify):
        return None
    return tls.identity or tls.server_name or None


def _comparable(identity: str) -> str:
    return identity if "://" in identity else identity.lower()
