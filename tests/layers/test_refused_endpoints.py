"""A balancer whose endpoints were refused for their certificates."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from meshcore.errors import FailFastError, IdentityError, TlsError
from tests.layers.fakes import Network
from tests.layers.test_balance import BACKEND, A, B, C, ask, balance

WRONG = "certificate does not match TLS identity: expected users.shop, found other.shop"


def wrong(endpoint: Any, reason: str = "name", text: str = WRONG) -> TlsError:
    return TlsError(f"endpoint {endpoint}: {text}", reason=reason)


@pytest.mark.parity("T-04")
async def test_where_everybody_is_somebody_else_that_is_told_at_once_with_both_names(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    for endpoint in (A, B, C):
        network[endpoint.address].refuses = wrong(endpoint)
    service = balance().layer(network).new_service(BACKEND, nursery)
    started = trio.current_time()

    with pytest.raises(IdentityError, match=f"^backend users: endpoint .*: {WRONG}$") as caught:
        await ask(service)

    assert ("identity-mismatch", 502) == (caught.value.code, caught.value.status_hint)
    assert trio.current_time() - started < 0.1
    with pytest.raises(IdentityError):
        await ask(service)
    assert trio.current_time() - started < 0.1


async def test_an_expired_certificate_is_told_at_once_and_mended_when_it_is_replaced(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    for endpoint in (A, B, C):
        network[endpoint.address].refuses = wrong(endpoint, "expired", "certificate has expired")
    service = balance().layer(network).new_service(BACKEND, nursery)
    with pytest.raises(TlsError, match="certificate has expired") as caught:
        await ask(service)
    assert not caught.value.retryable

    network[B.address].refuses = None
    await trio.sleep(5)

    assert [B, B] == await ask(service, 2)


async def test_one_endpoint_that_is_somebody_else_is_left_out(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    network[A.address].refuses = wrong(A)
    service = balance().layer(network).new_service(BACKEND, nursery)

    assert {B, C} == set(await ask(service, 50))


async def test_an_endpoint_that_may_come_back_is_waited_for_all_the_same(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    network[A.address].refuses = wrong(A)
    network[B.address].down = network[C.address].down = True
    service = balance(fail_fast=2.0).layer(network).new_service(BACKEND, nursery)
    started = trio.current_time()

    with pytest.raises(FailFastError):
        await ask(service)

    assert pytest.approx(2.0, abs=0.1) == trio.current_time() - started
