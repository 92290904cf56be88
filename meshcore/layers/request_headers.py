"""Fields of requests, changed on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from meshcore._repr import changes
from meshcore.abc import HttpService, ServiceLayer
from meshcore.http.header_edit import HeaderEdit, Pairs, names, pairs

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from meshcore.http.message import Request, Response

__all__ = ["RequestHeaders"]


@attrs.frozen(repr=False)
class RequestHeaders(ServiceLayer):
    """Adds, sets and removes fields of requests, in this order (R-25).

    Its place is above ``Retry``, where it is done once; below it, each try begins with the fields as they were.

    Attributes:
        add: fields that are appended, whatever there is.
        set: fields that replace all of their name.
        drop: names whose fields go.
        name: the role, where a stack has more than one.

    Raises:
        ConfigError: a name or a value is none; or the field is for proxies, for framing, or ``host``.
    """

    add: Pairs = attrs.field(default=(), converter=pairs)
    set: Pairs = attrs.field(default=(), converter=pairs)
    drop: tuple[str, ...] = attrs.field(default=(), converter=names)
    name: str = attrs.field(default="", repr=False, kw_only=True)

    __repr__ = changes

    def __attrs_post_init__(self) -> None:
        self._edit()

    def _edit(self) -> HeaderEdit:
        return HeaderEdit(self.add, self.set, self.drop)

    def wrap(self, inner: HttpService, target: Any, /) -> HttpService:
        """*inner* itself where nothing is changed."""
        edit = self._edit()
        if not edit:
            return inner

        def request_headers(request: Request) -> Awaitable[Response]:
            # Not in place: whoever may have to send it again, or elsewhere, has the fields as they were.
            headers = request.headers = request.headers.copy()
            edit.apply(headers)
            return inner(request)

        return request_headers
