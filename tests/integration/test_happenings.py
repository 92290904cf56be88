"""What happens is told to the feed, each kind by what it happens to, and in words."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from meshcore.errors import NotReady
from meshcore.http.body import read_all
from meshcore.identity import FilesIdentity, Identity
from meshcore.identity.expiry import watch_expiry
from meshcore.layers import Balance, FailureAccrual, HealthChecks
from meshcore.layers.balance import Balancing
from meshcore.metrics.feed import Feed
from meshcore.metrics.happenings import KINDS, tell_endpoints
from meshcore.resolve import Dns, File
from meshcore.resolve.dns_message import A
from meshcore.resolve.resolv_conf import SystemFiles
from meshcore.testing import FakeResolve, MemoryMesh, request
from meshcore.transport.accrual import Accrual
from meshcore.transport.backoff import Backoff
from meshcore.transport.health import Health
from meshcore.transport.target import Backend, Endpoint
from tests.identity.issued import DAY, NOW, authority, credentials
from tests.integration.test_reload_file import BLUE, GREEN, watched_file
from tests.layers.fakes import Network
from tests.resolve.dns_server import DnsServer

ONE, TWO = (Endpoint((host, 80)) for host in ("10.0.0.1", "10.0.0.2"))


def feed() -> Feed:
    return Feed(trio.current_time)


def told(feed: Feed | None, *kinds: str) -> list[str]:
    """The texts, of these kinds or all, each behind its kind."""
    assert feed is not None
    found = [f"{each.kind}: {each.text}" for each in feed.since() if not kinds or each.kind in kinds]
    assert {each.kind for each in feed.since()} <= set(KINDS)
    return found


def kinds(feed: Feed) -> list[str]:
    return [each.kind for each in feed.since()]


async def ask(service: Any) -> int:
    answer = await service(request())
    await read_all(answer.body)
    return int(answer.status)


# ----- the proxy -----


async def test_a_proxy_tells_of_its_life_and_of_its_configurations(
    nursery: trio.Nursery, autojump_clock: MockClock, tmp_path: Path
) -> None:
    watched = await watched_file(nursery, tmp_path)
    proxy = watched.proxy
    assert ["proxy_ready: ready at gateway:80"] == told(proxy.feed)

    watched.path.write_text(GREEN)
    await trio.sleep(2)
    watched.path.write_text(BLUE.replace("bind", "bnid").replace("endpoints", "endpoint"))
    await trio.sleep(2)
    proxy.drain.start("SIGTERM")
    await trio.sleep(60)

    _, applied, refused, *end = told(proxy.feed)
    assert "config_applied: config v2: changed: listen.public.to" == applied
    assert refused.startswith(
        f"config_refused: config refused, v2 stays: {watched.path}:2: listen.public.bnid: unknown"
    )
    assert refused.endswith(" more")
    assert ["drain_started: drain started: SIGTERM", "drain_ended: drained: nothing is in flight"] == end
    assert proxy.feed is not None
    assert {"version": "2", "cause": f"{watched.path} has changed"} == proxy.feed.since(1)[0].fields


async def test_what_would_change_nothing_is_not_told(
    nursery: trio.Nursery, autojump_clock: MockClock, tmp_path: Path
) -> None:
    watched = await watched_file(nursery, tmp_path)
    watched.path.write_text(BLUE + "\n# the same\n")
    await trio.sleep(2)

    assert ["proxy_ready: ready at gateway:80"] == told(watched.proxy.feed)
    nursery.cancel_scope.cancel()


async def test_a_mesh_of_config_files_has_its_tellers_in_place(
    nursery: trio.Nursery, autojump_clock: MockClock, tmp_path: Path
) -> None:
    mesh = MemoryMesh(nursery)
    blue = tmp_path / "blue.json"
    blue.write_text('["blue:80", "indigo:80"]')
    proxy = await mesh.start(
        f"""
        [listen.public]
        bind = "gateway:80"
        fail_fast = "1s"
        to = [{{ backend = "blue" }}]
        [backend.blue]
        discover = "file:{blue}"
        failure_accrual = {{ consecutive = 2, penalty = "5s..5s" }}
        health_check = {{ interval = "10s", timeout = "1s", unhealthy = 1 }}
        [admin]
        listen = "off"
        """
    )
    await trio.sleep(1)
    client = mesh.client(("gateway", 80))
    with trio.move_on_after(10):
        await ask(client)
    blue.write_text("[")
    await trio.sleep(2)

    found = told(proxy.feed)
    assert "endpoint_added: backend blue: 2 endpoints added" in found
    assert any(each.startswith("endpoint_out: endpoint blue:80 cannot be connected: ") for each in found)
    assert any(each.startswith("discovery_lost: backend blue: ") for each in found)


# ----- endpoints -----


async def test_endpoints_that_discovery_adds_and_removes_are_told_by_name(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    resolve, listener = FakeResolve(), feed()
    Balance(resolve, feed=listener).layer(Network()).new_service(Backend("web", discover="dns:web:80"), nursery)
    await trio.sleep(1)

    resolve.publish(ONE)
    resolve.publish(TWO)

    assert told(listener) == [
        "endpoint_added: backend web: endpoint 10.0.0.1:80 added",
        "endpoint_removed: backend web: endpoint 10.0.0.1:80 removed",
        "endpoint_added: backend web: endpoint 10.0.0.2:80 added",
    ]
    assert {"backend": "web", "endpoint": "10.0.0.2:80"} == listener.since()[-1].fields


async def test_many_at_once_are_one_sentence(autojump_clock: MockClock) -> None:
    listener = feed()
    tell_endpoints(listener, "web", range(20), range(37))
    assert ["endpoint_removed", *["endpoint_added"] * 20] == kinds(listener)
    assert "endpoint_removed: backend web: 37 endpoints removed" == told(listener)[0]
    assert {"backend": "web", "count": "37"} == listener.since()[0].fields


async def test_endpoints_that_a_backend_is_made_with_are_no_news(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    listener = feed()
    service = Balance(feed=listener).layer(Network()).new_service(Backend("web", (ONE, TWO)), nursery)
    assert 200 == await ask(service)

    assert [] == told(listener)


async def test_an_endpoint_that_cannot_be_connected_is_told_once_and_again_when_it_is_back(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    network, listener = Network(), feed()
    service = Balance(feed=listener).layer(network).new_service(Backend("web", (ONE, TWO)), nursery)
    assert 200 == await ask(service)

    network[ONE.address].down = True
    for _ in range(10):
        await ask(service)
    await trio.sleep(60)
    network[ONE.address].down = False
    await trio.sleep(60)

    out, back = told(listener)
    assert out.startswith("endpoint_out: endpoint 10.0.0.1:80 cannot be connected: ")
    assert "endpoint_back: endpoint 10.0.0.1:80 is connected again" == back


async def test_a_backend_without_a_ready_endpoint_is_told_when_requests_begin_to_fail_at_once(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    network, listener = Network(), feed()
    resolve = FakeResolve()
    service = Balance(resolve, feed=listener, fail_fast=1.0).layer(network).new_service(Backend("web"), nursery)
    for _ in range(3):
        with pytest.raises(Exception, match="web"):
            await ask(service)
    resolve.publish(ONE)
    await trio.sleep(1)

    assert told(listener, "backend_unavailable", "backend_available") == [
        "backend_unavailable: backend web: no endpoint is ready, requests fail at once",
        "backend_available: backend web: an endpoint is ready again",
    ]


async def test_a_breaker_tells_that_it_trips_is_tried_and_has_recovered(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    network, listener = Network(), feed()
    accrual = Accrual(consecutive=2, penalty=Backoff(1.0, 60.0, 0.0), group="web")
    gates = FailureAccrual(accrual, rng=random.Random(1), feed=listener).layer(network)
    service = Balance().layer(gates).new_service(Backend("web", (ONE,)), nursery)
    network[ONE.address].status = 500
    await ask(service)
    await ask(service)
    await trio.sleep(1.1)
    await ask(service)
    network[ONE.address].status = 200
    await trio.sleep(2.1)
    await ask(service)

    assert told(listener) == [
        "breaker_tripped: endpoint 10.0.0.1:80 is left alone for 1.0 s: consecutive failures",
        "breaker_probation: endpoint 10.0.0.1:80 is tried with one request",
        "breaker_tripped: endpoint 10.0.0.1:80 is left alone for 2.0 s: failed probation",
        "breaker_probation: endpoint 10.0.0.1:80 is tried with one request",
        "breaker_recovered: endpoint 10.0.0.1:80 is well again",
    ]
    assert {"backend": "web", "endpoint": "10.0.0.1:80"} == listener.since()[0].fields


class Asked:
    """Health, as the test wants it."""

    def __init__(self) -> None:
        self.error: NotReady | None = None

    async def check(self, endpoint: Endpoint, service: Any, /) -> None:
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error


async def test_health_that_fails_and_comes_back_is_told_and_so_is_the_panic_that_follows(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    listener, check = feed(), Asked()
    healthy = Health(check, interval=5.0, timeout=1.0, healthy=1, unhealthy=2)  # type: ignore[arg-type]
    endpoint = Endpoint(("10.0.0.1", 80), health=healthy)
    checks = HealthChecks(feed=listener, rng=random.Random(1)).layer(Network())
    balance = Balance(policy=Balancing(panic=0.5), feed=listener)
    balance.layer(checks).new_service(Backend("web", (endpoint,)), nursery)
    await trio.sleep(12)
    # That it is well at first is no news.
    assert [] == told(listener)

    check.error = NotReady("/healthz answers 503")
    await trio.sleep(12)
    check.error = None
    await trio.sleep(12)

    assert told(listener) == [
        "panic_started: backend web: panic, only 0 endpoints are well, so all are used",
        "health_failed: endpoint 10.0.0.1:80 is not healthy: /healthz answers 503",
        "panic_ended: backend web: enough endpoints are well again",
        "health_recovered: endpoint 10.0.0.1:80 is healthy again",
    ]


# ----- discovery -----


async def test_a_file_that_cannot_be_read_is_told_once_and_again_when_it_can(
    nursery: trio.Nursery, autojump_clock: MockClock, tmp_path: Path
) -> None:
    listener, path = feed(), tmp_path / "web.json"
    path.write_text('["10.0.0.1:80"]')
    watch = File(feed=listener).watch
    nursery.start_soon(watch, Backend("web", discover=f"file:{path}"), lambda endpoints: None)
    await trio.sleep(1)
    path.write_text("[")
    await trio.sleep(2)
    path.write_text('["10.0.0.1')
    await trio.sleep(2)
    path.write_text('["10.0.0.2:80"]')
    await trio.sleep(2)

    lost, found = told(listener)
    assert lost.startswith(f"discovery_lost: backend web: {path}: not JSON: ")
    assert f"discovery_found: backend web: {path} is found again" == found


async def test_a_name_that_cannot_be_resolved_is_told_once_and_again_when_it_can(
    nursery: trio.Nursery, autojump_clock: MockClock, tmp_path: Path
) -> None:
    (tmp_path / "resolv.conf").write_text("nameserver 10.0.0.53\noptions timeout:1 attempts:2\n")
    (tmp_path / "hosts").write_text("")
    server, listener = DnsServer(), feed()
    dns = Dns(
        transport=server,
        files=SystemFiles(tmp_path / "resolv.conf", tmp_path / "hosts"),
        rng=random.Random(1),
        feed=listener,
    )
    nursery.start_soon(dns.watch, Backend("web", discover="dns:web.test:80"), lambda endpoints: None)
    await trio.sleep(60)
    server.put("web.test", A, "10.0.0.2")
    await trio.sleep(60)

    lost, found = told(listener)
    assert lost.startswith("discovery_lost: backend web: dns:web.test:80: ")
    assert "discovery_found: backend web: dns:web.test:80 is found again" == found


async def test_a_resolver_that_crashes_is_told(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    class Broken:
        async def watch(self, target: Backend, publish: Any, /) -> None:
            await trio.sleep(1)
            raise ValueError("a bug")

    listener = feed()
    balance = Balance(Broken(), feed=listener)
    balance.layer(Network()).new_service(Backend("web", discover="acme:web"), nursery)
    await trio.sleep(1.1)

    assert ["discovery_lost: backend web: acme:web: ValueError: a bug"] == told(listener)


# ----- identity -----


async def test_certificates_that_come_are_renewed_refused_or_about_to_expire_are_told(
    nursery: trio.Nursery, autojump_clock: MockClock, tmp_path: Path
) -> None:
    listener = feed()
    identity = Identity("a.shop", clock=lambda: NOW + trio.current_time(), feed=listener)
    issuer = authority()
    assert identity.publish(credentials(issuer, "a.shop", now=NOW))
    nursery.start_soon(watch_expiry, identity)
    await trio.sleep(10)
    assert identity.publish(credentials(issuer, "a.shop", now=NOW))
    assert not identity.publish(credentials(issuer, "b.shop", now=NOW))
    assert identity.current is not None
    left = identity.current.not_after - NOW
    await trio.sleep(0.8 * left)
    assert ["identity_certified", "certificate_renewed", "certificate_refused"] == kinds(listener)

    await trio.sleep(0.2 * left)

    expiring, expired = told(listener)[3:]
    assert expiring.startswith("certificate_expiring: identity a.shop: the certificate expires in ")
    assert "certificate_expired: identity a.shop: the certificate has expired" == expired
    texts = told(listener)
    assert texts[0].startswith("identity_certified: identity a.shop: certified until ")
    assert texts[2].startswith("certificate_refused: identity a.shop: refused: certificate does not match")
    # Said once each, and begun anew with the next certificate.
    await trio.sleep(DAY)
    assert 5 == len(kinds(listener))
    assert identity.publish(credentials(issuer, "a.shop", now=NOW + trio.current_time()))
    await trio.sleep(1.05 * left)
    assert ["certificate_renewed", "certificate_expiring", "certificate_expired"] == kinds(listener)[5:]


async def test_the_source_of_files_tells_through_its_identity(
    nursery: trio.Nursery, autojump_clock: MockClock, tmp_path: Path
) -> None:
    listener = feed()
    identity = Identity("a.shop", clock=lambda: NOW + trio.current_time(), feed=listener)
    source = FilesIdentity(tmp_path / "a.crt", tmp_path / "a.key", tmp_path / "ca.crt")
    nursery.start_soon(partial(source.run, identity))
    await trio.sleep(5)

    assert ["certificate_refused"] == kinds(listener)


# ----- words -----


async def test_what_a_peer_has_sent_is_cut(autojump_clock: MockClock) -> None:
    listener = feed()
    listener.tell("health_failed", "x" * 10_000, endpoint="y" * 10_000)

    (happening,) = listener.since()
    assert (500, 200) == (len(happening.text), len(happening.fields["endpoint"]))
