"""Read by mypy --strict in tests/test_typing.py, never run: each line marked ``# error`` has to be refused."""

from __future__ import annotations

import meshcore
from meshcore import Accepted, Backend, Connect, Endpoint, HttpRoute, NewAccept, NewHttp, RouteTable, Stack
from meshcore.abc import Resolve
from meshcore.layers.balance import Balance
from meshcore.layers.connect_timeout import ConnectTimeout
from meshcore.layers.rescue import Rescue
from meshcore.layers.route import Route
from meshcore.layers.timeout import Timeout
from meshcore.stack import stack


def http_layer_on_connections() -> Stack[NewAccept[Accepted], NewAccept[Accepted]]:
    return meshcore.accept(Accepted).then(Timeout(1.0))  # error


def balance_under_a_balance(resolve: Resolve[Backend]) -> Stack[NewHttp[Endpoint], NewHttp[Backend]]:
    return stack(Backend).then(Balance(resolve)).then(Balance(resolve))  # error


def balance_under_a_table_of_routes(table: RouteTable[HttpRoute]) -> Stack[NewHttp[Endpoint], NewHttp[Accepted]]:
    return stack(Accepted).then(Route(table)).then(Balance())  # error


def balance_of_endpoints(resolve: Resolve[Backend]) -> Stack[NewHttp[Endpoint], NewHttp[Endpoint]]:
    return stack(Endpoint).then(Balance(resolve))  # error


def layer_over_connect_above_http() -> Stack[Connect, NewHttp[Endpoint]]:
    return stack(Endpoint).then(ConnectTimeout(1.0)).then(meshcore.Http())  # error


def requests_served_twice() -> Stack[NewHttp[Accepted], NewAccept[Accepted]]:
    return meshcore.accept(Accepted).then(meshcore.ServeHttp()).then(meshcore.ServeHttp())  # error


def applied_to_what_connects_not() -> NewHttp[Endpoint]:
    return stack(Endpoint).then(meshcore.Http()).layer(Rescue())  # error


def not_a_service() -> meshcore.HttpService:
    async def takes_text(request: str) -> meshcore.Response:
        return meshcore.Response(200)

    return takes_text  # error
