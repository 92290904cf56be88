"""Read by mypy --strict in tests/test_typing.py, never run: what is inferred of a stack from its seed alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_type

import attrs

import meshcore
from meshcore import (
    Accepted,
    Backend,
    Connect,
    Endpoint,
    HttpRoute,
    HttpService,
    NewAccept,
    NewHttp,
    Request,
    Response,
    RouteTable,
    ServiceLayer,
    Stack,
    middleware,
)
from meshcore.layers.balance import Balance
from meshcore.layers.connect_timeout import ConnectTimeout
from meshcore.layers.rescue import Rescue
from meshcore.layers.route import Route
from meshcore.layers.split import Split
from meshcore.layers.timeout import Timeout
from meshcore.layers.to_backend import ToBackend
from meshcore.stack import stack

if TYPE_CHECKING:
    from meshcore.abc import Resolve


@attrs.frozen
class Custom(ServiceLayer):
    """A layer as users write them."""

    def wrap(self, inner: HttpService, target: Any, /) -> HttpService:
        async def custom(request: Request) -> Response:
            return await inner(request)

        return custom


@middleware
async def audit(request: Request, inner: HttpService) -> Response:
    return await inner(request)


def endpoint() -> Stack[Connect, NewHttp[Endpoint]]:
    found = stack(Endpoint).then(Timeout(1.0)).then(meshcore.Http()).then(ConnectTimeout(1.0))
    assert_type(found, Stack[Connect, NewHttp[Endpoint]])
    return found


def outbound(resolve: Resolve[Backend]) -> NewAccept[Accepted]:
    found = (
        meshcore.accept(Accepted)
        .then(meshcore.ServeHttp())
        .then(audit)
        .then(Rescue())
        .then(Route({"*": "users.internal:8080"}))
        .then(Custom())
        .then(Balance(resolve))
        .then(endpoint())
    )
    assert_type(found, Stack[Connect, NewAccept[Accepted]])
    # An edit keeps the type.
    assert_type(found.insert_before("rescue", Custom()), Stack[Connect, NewAccept[Accepted]])
    assert_type(found.layer(meshcore.connect_tcp), NewAccept[Accepted])
    return found.layer(meshcore.connect_tcp)


def routed(table: RouteTable[HttpRoute], resolve: Resolve[Backend]) -> NewAccept[Accepted]:
    found = (
        meshcore.accept(Accepted)
        .then(meshcore.ServeHttp())
        # What stands below follows from where the table leads to.
        .then(Route(table))
        .then(Custom())
        .then(Split())
        .then(Custom())
        .then(ToBackend(lambda reference: reference.backend))
        .then(Balance(resolve))
        .then(endpoint())
    )
    assert_type(found, Stack[Connect, NewAccept[Accepted]])
    return found.layer(meshcore.connect_tcp)


async def plain(request: Request) -> Response:
    return Response(200)


# A plain async function is a service.
service: HttpService = plain
