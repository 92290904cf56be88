"""Classify: what counts as a failure of a route or a backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from meshcore.abc import HttpService, ServiceLayer
from meshcore.http.classification import Classification
from meshcore.stack import Param, resolve

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from meshcore.http.message import Request, Response

__all__ = ["Classify"]


@attrs.frozen
class Classify(ServiceLayer):
    """Tells those below which responses are failures (R-20, R-21): breakers and metrics use the same verdict.

    It only sets ``request.classification``, so its place is above whatever asks; without a classification of its own
    it is not there, and 500 to 599 and gRPC's own list hold.

    Attributes:
        classification: what counts as a failure, or a function of the target; None: as by default.
    """

    classification: Param[Classification | None] = None

    def wrap(self, inner: HttpService, target: Any, /) -> HttpService:
        """*inner* itself where the default holds."""
        classification = resolve(self.classification, target)
        if classification is None or classification == Classification():
            return inner

        def classify(request: Request) -> Awaitable[Response]:
            request.classification = classification
            return inner(request)

        return classify
