"""Delays made on purpose, to see what becomes of them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import attrs
import trio

from meshcore.abc import HttpService, ServiceLayer

if TYPE_CHECKING:
    from meshcore.http.message import Request, Response

__all__ = ["InjectDelay"]


@attrs.frozen
class InjectDelay(ServiceLayer):
    """Holds a share of the requests up before they are sent on.

    Attributes:
        seconds: for how long.
        ratio: the share of requests that are held up, from 0 to 1.
        rng: randomness, for tests.
    """

    seconds: float = attrs.field(validator=attrs.validators.gt(0))
    ratio: float = attrs.field(default=1.0, validator=[attrs.validators.ge(0), attrs.validators.le(1)])
    rng: random.Random = attrs.field(factory=random.Random, repr=False, eq=False)

    def wrap(self, inner: HttpService, target: Any, /) -> HttpService:
        """*inner* itself where nothing is held up."""
        ratio, draw, seconds = self.ratio, self.rng.random, self.seconds
        if not ratio:
            return inner

        async def inject_delay(request: Request) -> Response:
            if draw() < ratio:
                await trio.sleep(seconds)
            return await inner(request)

        return inject_delay
