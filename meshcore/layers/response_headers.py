"""Fields of responses, changed on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from meshcore._repr import changes
from meshcore.abc import HttpService, ServiceLayer
from meshcore.http.header_edit import HeaderEdit, Pairs, names, pairs

if TYPE_CHECKING:
    from meshcore.http.message import Request, Response

__all__ = ["ResponseHeaders"]


@attrs.frozen(repr=False)
class ResponseHeaders(ServiceLayer):
    """Adds, sets and removes fields of responses, in this order (R-25); what the proxy answers itself stays as it is.

    Attributes:
        add: fields that are appended, whatever there is.
        set: fields that replace all of their name.
        drop: names whose fields go.
        name: the role, where a stack has more than one.

    Raises:
        ConfigError: a name or a value is none; or the field is for proxies, or for framing.
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

        async def response_headers(request: Request) -> Response:
            response = await inner(request)
            edit.apply(response.headers)
            return response

        return response_headers
