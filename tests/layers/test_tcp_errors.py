"""TcpErrors: connections that end with an error, counted by its kind."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from meshcore.errors import AuthorizationError, ConnectError, FailFastError
from meshcore.layers import TcpErrors
from meshcore.metrics import Registry
from meshcore.testing import memory_connection_pair
from meshcore.transport.target import Accepted


class Failing:
    def __init__(self, error: BaseException | None) -> None:
        self.error = error

    def new_service(self, target: object, nursery: trio.Nursery, /) -> Any:
        async def service(connection: object) -> None:
            if self.error is not None:
                raise self.error

        return service


@pytest.mark.parity("E-08", "M-07")
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (FailFastError(), "failfast"),
        (ConnectError("x"), "i/o"),
        (KeyError("x"), "unexpected"),
        (AuthorizationError("x"), None),
        (None, None),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("direction", ["inbound", "outbound"])
async def test_an_error_is_counted_and_raised_on(direction: str, error: Exception | None, kind: str | None) -> None:
    registry = Registry()
    target = Accepted("x", ("10.0.0.1", 80), original=("10.0.0.9", 81))
    async with trio.open_nursery() as nursery:
        service = TcpErrors(registry, direction).layer(Failing(error)).new_service(target, nursery)
        connection, _ = memory_connection_pair()
        if error is None:
            await service(connection)
        else:
            with pytest.raises(type(error)):
                await service(connection)
    labels = f'target_addr="10.0.0.9:81",target_ip="10.0.0.9",target_port="81",error="{kind}"'
    assert (f"{direction}_tcp_errors_total{{{labels}}} 1\n" in registry.render()) == (kind is not None)


def test_it_prints_its_direction() -> None:
    assert "TcpErrors(direction='outbound')" == repr(TcpErrors(Registry(), "outbound"))
    with pytest.raises(ValueError):
        TcpErrors(Registry(), "sideways")
