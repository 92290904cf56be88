"""RateLimit: what is let in, what is answered otherwise, and who shares a limit with whom."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from meshcore.errors import RateLimitError
from meshcore.http.message import Request
from meshcore.layers import RateLimit, Rescue
from meshcore.layers.rate_limit import HeaderRate, Override, Rate, RateLimits
from meshcore.metrics.registry import Registry
from meshcore.testing import MockNewService, memory_connection_pair, mock_service, request
from meshcore.transport.connection import Connection
from meshcore.transport.target import Accepted, Backend, HttpRoute


def client(identity: str | None = None) -> Connection:
    connection = memory_connection_pair(local=("10.0.0.1", 80), peer=("10.0.0.9", 50_000))[0]
    connection.identity = identity
    connection.secure = identity is not None
    return connection


def asked(connection: Connection | None = None, **options: Any) -> Request:
    made = request(**options)
    made.connection = connection
    return made


class Limited:
    """A limited application, as clients see it."""

    def __init__(self, limit: RateLimit, nursery: trio.Nursery) -> None:
        self.application = mock_service()
        self._new = limit.layer(MockNewService(lambda _: self.application))
        self._nursery = nursery

    def connect(self, target: Any = None) -> Any:
        service = self._new.new_service(Accepted() if target is None else target, self._nursery)
        return Rescue().wrap(service, None)


@pytest.mark.parity("R-36", "U-05", "E-09")
async def test_what_is_too_fast_is_answered_429_and_when_to_come_back(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    limited = Limited(RateLimit(RateLimits(Rate(0.5, 2))), nursery)
    service = limited.connect()

    answers = [await service(asked()) for _ in range(3)]

    assert [200, 200, 429] == [answer.status for answer in answers]
    assert answers[2].headers.get(b"retry-after") == b"2"
    assert answers[2].headers.get(b"x-meshcore-error") == b"rate-limited"
    assert answers[2].headers.get(b"l5d-proxy-error") == b"total rate limit exceeded: 0.5rps"
    assert answers[2].close is False
    assert len(limited.application.requests) == 2
    await trio.sleep(1.9)
    assert (await service(asked())).status == 429
    await trio.sleep(0.2)
    assert (await service(asked())).status == 200


@pytest.mark.parity("R-36")
async def test_grpc_is_told_that_the_resource_is_exhausted(nursery: trio.Nursery) -> None:
    service = Limited(RateLimit(RateLimits(Rate(1))), nursery).connect()
    grpc = {"method": b"POST", "version": 20, "headers": [(b"content-type", b"application/grpc")]}
    await service(asked(**grpc))
    answer = await service(asked(**grpc))
    assert (answer.status, answer.headers.get(b"grpc-status")) == (200, b"8")
    assert answer.headers.get(b"grpc-message") == b"total rate limit exceeded: 1rps"
    assert answer.headers.get(b"retry-after") == b"1"


@pytest.mark.parity("R-36")
async def test_connections_share_what_clients_and_all_together_may(nursery: trio.Nursery) -> None:
    override = Override(("gold.shop",), Rate(3))
    limits = RateLimits(Rate(8), Rate(1), (override,))
    limited = Limited(RateLimit(limits), nursery)

    async def ask(identity: str | None) -> bytes:
        answer = await limited.connect()(asked(client(identity)))
        return answer.headers.get(b"l5d-proxy-error") or b""

    assert [await ask("a.shop"), await ask("a.shop")] == [b"", b"per-identity rate limit exceeded: 1rps"]
    assert [await ask(None), await ask(None)] == [b"", b"per-identity rate limit exceeded: 1rps"]
    gold = [await ask("gold.shop") for _ in range(5)]
    assert gold == [b""] * 3 + [b"override rate limit exceeded: 3rps", b"total rate limit exceeded: 8rps"]


async def test_a_function_of_the_target_gives_each_target_limits_of_its_own(nursery: trio.Nursery) -> None:
    limits = {"a": RateLimits(Rate(1)), "b": RateLimits(Rate(1)), "c": None}
    limited = Limited(RateLimit(lambda backend: limits[backend.name], direction="outbound"), nursery)
    a, b, free = (limited.connect(Backend(name)) for name in "abc")
    assert [(await service(asked())).status for service in (a, b, a, b)] == [200, 200, 429, 429]
    assert {(await free(asked())).status for _ in range(20)} == {200}


async def test_targets_that_are_given_the_same_limits_share_them_and_equal_ones_do_not(nursery: trio.Nursery) -> None:
    shared, own = RateLimits(Rate(1)), RateLimits(Rate(1))
    limits = {"a": shared, "b": shared, "c": own}
    limited = Limited(RateLimit(lambda target: limits[target]), nursery)
    statuses = [(await limited.connect(name)(asked())).status for name in ("a", "b", "c", "c")]
    assert statuses == [200, 429, 200, 429]


async def test_limits_that_are_made_anew_each_time_are_not_kept_without_bound(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    from meshcore.layers.rate_limit import layer as module

    monkeypatch.setattr(module, "_MOST", 10)
    new: Any = RateLimit(lambda _: RateLimits(Rate(1))).layer(MockNewService(lambda _: mock_service()))
    services = [new.new_service("x", nursery) for _ in range(100)]
    assert len(new._states) == 10
    for service in services:
        await service(asked())
        with pytest.raises(RateLimitError):
            await service(asked())


async def test_refusals_name_the_route_they_are_about(nursery: trio.Nursery) -> None:
    registry = Registry()
    limit = RateLimit(RateLimits(Rate(1)), registry, of=lambda route: f"{route.parent}/{route.name}")
    service = Limited(limit, nursery).connect(HttpRoute("admin", parent="inbound"))
    for _ in range(2):
        await service(asked())
    assert (
        'inbound_http_local_ratelimit_total{srv_name="inbound",route_name="admin",ratelimit_kind="total",'
        'ratelimit_name="inbound/admin",ratelimit_scope="total"} 1\n'
    ) in registry.render()


async def test_a_header_is_what_is_counted_by_if_asked(nursery: trio.Nursery) -> None:
    limits = RateLimits(per_header=HeaderRate(b"x-tenant", Rate(1)))
    service = Limited(RateLimit(limits), nursery).connect()
    statuses = [(await service(asked(headers=[(b"x-tenant", value)]))).status for value in (b"a", b"b", b"a")]
    assert statuses == [200, 200, 429]


@pytest.mark.parity("R-36", "M-08")
async def test_refusals_are_counted_by_client_and_limit(nursery: trio.Nursery) -> None:
    registry = Registry()
    limits = RateLimits(Rate(3), Rate(1))
    limited = Limited(RateLimit(limits, registry, of="inbound"), nursery)
    for identity in ("a.shop", "a.shop", None, None):
        await limited.connect(Accepted("inbound", ("10.0.0.1", 80)))(asked(client(identity)))
    text = registry.render()
    target = 'target_addr="10.0.0.1:80",target_ip="10.0.0.1",target_port="80"'
    assert (
        f'inbound_http_local_ratelimit_total{{{target},tls="true",client_id="a.shop",srv_name="inbound",'
        'ratelimit_kind="per-identity",ratelimit_name="inbound",ratelimit_scope="identity"} 1\n'
    ) in text
    assert (
        f'inbound_http_local_ratelimit_total{{{target},tls="no_identity",no_tls_reason="no_tls_from_remote",'
        'srv_name="inbound",ratelimit_kind="total",ratelimit_name="inbound",ratelimit_scope="total"} 1\n'
    ) in text


async def test_refusals_on_the_way_out_are_counted_by_destination(nursery: trio.Nursery) -> None:
    registry = Registry()
    limit = RateLimit(lambda backend: RateLimits(Rate(1)), registry, direction="outbound")
    service = Limited(limit, nursery).connect(Backend("payments:80"))
    for _ in range(3):
        await service(asked(client()))
    assert (
        'outbound_http_local_ratelimit_total{backend="payments:80",ratelimit_kind="total",ratelimit_scope="total"} 2\n'
    ) in registry.render()


async def test_it_tells_what_it_has_done(nursery: trio.Nursery) -> None:
    limits = RateLimits(None, Rate(1), per_header=HeaderRate(b"x", Rate(100)), max_keys=2)
    new = RateLimit(limits).layer(MockNewService(lambda _: mock_service()))
    service: Any = new.new_service(Accepted(), nursery)
    for identity in ("a", "b", "c", "c"):
        try:
            await service(asked(client(identity)))
        except RateLimitError as error:
            assert error.retry_after <= 1.0
    told = service.statistics()
    assert (told.admitted, told.refused, told.identities, told.values, told.forgotten) == (3, 1, 2, 1, 1)


def test_its_repr_is_the_limits() -> None:
    assert repr(RateLimit(RateLimits(Rate(5), Rate(1)))) == "RateLimit(limits=total 5rps, per identity 1rps)"
