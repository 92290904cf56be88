"""What a route does to its requests and their answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from meshcore.abc import HttpService, ServiceLayer, link
from meshcore.stack import Param, resolve

__all__ = ["Filters"]


@attrs.frozen
class Filters(ServiceLayer):
    """The layers that the target itself brings: each route has others.

    Attributes:
        filters: layers in the order in which a request meets them, or a function of the target that gives them.
        name: the role, where a stack has more than one.
    """

    filters: Param[Sequence[ServiceLayer]] = ()
    name: str = attrs.field(default="", repr=False, kw_only=True)

    def wrap(self, inner: HttpService, target: Any, /) -> HttpService:
        """*inner* under each of them; itself where there are none."""
        service = inner
        for layer in reversed(resolve(self.filters, target)):
            service = link(layer.wrap(service, target), service, layer)
        return service
