"""Failures made on purpose, to see what becomes of them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import attrs

from meshcore.abc import HttpService, ServiceLayer
from meshcore.errors import ConfigError, InjectedFailure

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from meshcore.http.message import Request, Response

__all__ = ["InjectFailure"]


@attrs.frozen
class InjectFailure(ServiceLayer):
    """Fails a share of the requests (R-25): raises ``InjectedFailure``, which ``Rescue`` answers.

    Attributes:
        status: the HTTP status, 400 to 599; gRPC clients get FAILED_PRECONDITION.
        grpc_status: the gRPC status instead, 1 to 16.
        message: what is said of it.
        ratio: the share of requests that fail, from 0 to 1.
        rng: randomness, for tests.

    Raises:
        ConfigError: not just one of the two statuses is given, or something is out of its range.
    """

    status: int | None = None
    grpc_status: int | None = None
    message: str = "injected failure"
    ratio: float = 1.0
    rng: random.Random = attrs.field(factory=random.Random, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        if (self.status is None) == (self.grpc_status is None):
            raise ConfigError(["one of status and grpc_status is wanted"])
        if self.status is not None and not 400 <= self.status <= 599:
            raise ConfigError([f"status {self.status} is not one from 400 to 599"])
        if self.grpc_status is not None and not 1 <= self.grpc_status <= 16:
            raise ConfigError([f"grpc_status {self.grpc_status} is not one from 1 to 16"])
        if not 0 <= self.ratio <= 1:
            raise ConfigError([f"ratio {self.ratio} is not one from 0 to 1"])

    def wrap(self, inner: HttpService, target: Any, /) -> HttpService:
        """*inner* itself where nothing fails."""
        ratio, draw = self.ratio, self.rng.random
        if not ratio:
            return inner

        def inject_failure(request: Request) -> Awaitable[Response]:
            if draw() < ratio:
                raise InjectedFailure(self.message, status=self.status, grpc_status=self.grpc_status)
            return inner(request)

        return inject_failure
