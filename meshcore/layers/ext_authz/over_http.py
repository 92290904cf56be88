"""Asks by HTTP: the request's own head is sent to the authorization service, whose status is the verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import trio

from meshcore.abc import HttpService
from meshcore.codec.validate import CONNECTION_FIELDS
from meshcore.errors import AuthorizationUnavailable, MeshError
from meshcore.http.body import Body, Empty, Full, read_all
from meshcore.http.headers import Headers
from meshcore.http.message import Request
from meshcore.layers.ext_authz.beginning import PARTIAL, Beginning
from meshcore.layers.ext_authz.verdict import Change, Verdict, may_change

if TYPE_CHECKING:
    from meshcore.http.message import Response

__all__ = ["OverHttp"]

_ALWAYS: Final = frozenset((b"authorization", b"l5d-client-id"))
_REMOVE: Final = b"x-envoy-auth-headers-to-remove"
_LARGEST: Final = 64 << 10
"""Bytes of the body of a refusal that are passed on."""


@attrs.frozen
class OverHttp:
    """One request about each request: its method, authority and path (under a prefix), the fields that are allowed, and
    as much of its body as it is given.

    200 lets it pass, and an error of the service (500 to 599) is no verdict.  Everything else is the refusal, passed
    on as it is.

    Attributes:
        service: how the authorization service is reached.
        timeout: seconds for the answer.
        scheme: ``b"http"`` or ``b"https"``.
        prefix: comes before the path.
        headers: names of the fields that it is told, ``authorization`` and the client's verified identity beside them.
        copied: names of the fields of its answer that the request goes on with; those that it does not name are
            removed, since a client could have sent them.
    """

    service: HttpService
    timeout: float
    scheme: bytes = b"http"
    prefix: bytes = b""
    headers: frozenset[bytes] = frozenset()
    copied: frozenset[bytes] = frozenset()

    async def __call__(self, request: Request, beginning: Beginning | None) -> Verdict:
        """The verdict about *request*; *beginning* is what it is told of the body.

        Raises:
            MeshError: there is none.
        """
        if request.method == b"CONNECT":
            return Verdict(False, reason="CONNECT cannot be asked about over HTTP")
        told = [
            field
            for field in request.headers.raw
            if (field[0] in self.headers or field[0] in _ALWAYS) and field[0] not in _NOT_TOLD
        ]
        path = self.prefix + (request.path if request.path.startswith(b"/") else b"/")
        body: Body = Empty()
        if beginning is not None:
            told.append((PARTIAL, b"true" if beginning.partial else b"false"))
            if beginning.data:
                told.append((b"content-length", b"%d" % len(beginning.data)))
                body = Full(beginning.data)
        question = Request(request.method, self.scheme, request.authority, path, Headers(told), body)
        with trio.CancelScope(deadline=trio.current_time() + self.timeout):
            return await self._ask(question)
        raise AuthorizationUnavailable(f"no answer within {self.timeout:g} s")

    async def _ask(self, question: Request) -> Verdict:
        response = await self.service(question)
        try:
            if response.status == 101 or response.status >= 500:
                raise AuthorizationUnavailable(f"it answered with status {response.status}")
            # Read in either case, so that its connection can be used again.
            body = await _body(response)
        finally:
            response.body.abort()
        return self._allowed(response) if response.status == 200 else _refused(response, body)

    def _allowed(self, response: Response) -> Verdict:
        set_, remove = [], []
        for name, value in response.headers:
            if name in self.copied:
                set_.append(Change(name, value))
            elif name == _REMOVE:
                remove += [part.strip().lower() for part in value.split(b",")]
        named = {change.name for change in set_}
        remove += [name for name in self.copied if name not in named]
        return Verdict(True, tuple(set_), tuple(name for name in remove if may_change(name)))


_NOT_TOLD: Final = CONNECTION_FIELDS | {PARTIAL, b"content-length", b"expect", b"te", b"trailer"}


def _refused(response: Response, body: bytes) -> Verdict:
    fields = [Change(name, value) for name, value in response.headers]
    return Verdict(
        False,
        answer=tuple(change for change in fields if change.valid),
        status=response.status,
        body=body,
        reason=f"it answered with status {response.status}",
    )


async def _body(response: Response) -> bytes:
    try:
        return await read_all(response.body, _LARGEST)
    except ValueError:
        raise AuthorizationUnavailable(f"its answer is longer than {_LARGEST} bytes") from None
    except MeshError as error:
        raise AuthorizationUnavailable("its answer broke") from error
