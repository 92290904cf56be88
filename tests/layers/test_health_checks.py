"""Active health checks: when endpoints are asked, what takes them out, and what brings them back."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from meshcore.admin.live import live_tree
from meshcore.errors import ConnectError, FailFastError, MeshError, NotReady, chain
from meshcore.grpc.framing import frame
from meshcore.http.body import Chunks, Full, read_all
from meshcore.http.headers import Headers
from meshcore.http.message import Request, Response
from meshcore.layers import Balance, HealthChecks
from meshcore.layers.health_checks import GrpcCheck, HttpCheck, TcpCheck
from meshcore.metrics import Registry
from meshcore.testing import request
from meshcore.transport.health import Health
from meshcore.transport.target import Backend, Endpoint, TlsClient


@attrs.frozen
class Asking:
    """A check whose answers a test makes up."""

    peers: Peers = attrs.field(eq=False)

    async def check(self, endpoint: Endpoint, service: Any, /) -> None:
        self.peers.asked.append((trio.current_time(), endpoint))
        await trio.sleep(self.peers.takes)
        error = self.peers.ill.get(endpoint)
        if error is not None:
            raise error


class Peers:
    """Endpoints that answer, and say of themselves what the test wants."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, Endpoint]] = []
        self.ill: dict[Endpoint, NotReady] = {}
        self.takes = 0.0
        self.served: list[Endpoint] = []

    def new_service(self, endpoint: Endpoint, nursery: trio.Nursery, /) -> Any:
        async def serve(sent: Request) -> Response:
            await trio.lowlevel.checkpoint()
            self.served.append(endpoint)
            return Response(200, body=Full(b"x"))

        return serve


@pytest.fixture
def peers() -> Peers:
    return Peers()


@pytest.fixture
def registry() -> Registry:
    return Registry()


class Middle:
    """No jitter: the middle of every range."""

    def random(self) -> float:
        return 0.5


def endpoints(peers: Peers, count: int = 2, **times: Any) -> tuple[Endpoint, ...]:
    health = Health(Asking(peers), **times)
    return tuple(Endpoint((f"10.0.0.{number + 1}", 80), health=health) for number in range(count))


def start(peers: Peers, registry: Registry, nursery: trio.Nursery, *targets: Endpoint, **options: Any) -> Any:
    checks = HealthChecks(registry, rng=Middle())  # type: ignore[arg-type]
    balance = Balance(rng=random.Random(1), **options)
    return balance.layer(checks.layer(peers)).new_service(Backend("web", targets), nursery)


async def ask(service: Any, count: int = 1) -> set[Endpoint | None]:
    seen = set()
    for _ in range(count):
        sent = request()
        await read_all((await service(sent)).body)
        seen.add(sent.endpoint)
    return seen


async def test_an_endpoint_goes_after_three_failures_and_comes_back_after_two_answers(
    peers: Peers, registry: Registry, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    ill, well = targets = endpoints(peers)
    service = start(peers, registry, nursery, *targets)
    assert {ill, well} == await ask(service, 10)

    peers.ill[ill] = NotReady("/healthz answers 503")
    await trio.sleep(11)
    assert {ill, well} == await ask(service, 10)
    await trio.sleep(5)
    assert {well} == await ask(service, 10)

    del peers.ill[ill]
    await trio.sleep(5)
    assert {well} == await ask(service, 10)
    await trio.sleep(5)
    assert {ill, well} == await ask(service, 10)


async def test_one_answer_between_failures_begins_the_count_anew(
    peers: Peers, registry: Registry, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    ill, well = targets = endpoints(peers, interval=1.0)
    service = start(peers, registry, nursery, *targets)
    await trio.sleep(0.5)

    for _ in range(3):
        peers.ill[ill] = NotReady("no")
        await trio.sleep(2)
        del peers.ill[ill]
        await trio.sleep(1)

    assert {ill, well} == await ask(service, 10)


async def test_nothing_is_sent_before_the_first_check_and_its_result_counts_at_once(
    peers: Peers, registry: Registry, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    ill, well = targets = endpoints(peers)
    peers.ill[ill] = NotReady("not warm yet")
    peers.takes = 0.5
    service = start(peers, registry, nursery, *targets, policy="round-robin")
    began = trio.current_time()

    assert {well} == await ask(service, 10)
    assert 0.5 == pytest.approx(trio.current_time() - began, abs=0.1)


async def test_a_check_that_takes_too_long_has_failed(
    peers: Peers, registry: Registry, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    (only,) = endpoints(peers, 1)
    service = start(peers, registry, nursery, only, policy="round-robin")
    await trio.sleep(1)
    peers.takes = 3600.0
    await trio.sleep(20)

    (tree,) = service.services().values()
    told = tree.statistics()
    assert (False, "no answer within 1 s") == (told.healthy, told.error)
    assert told.streak <= -3
    assert told.failures == -told.streak == told.checks - 1


async def test_with_everybody_ill_health_is_not_heeded_unless_that_is_wanted(
    peers: Peers, registry: Registry, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    from meshcore.layers.balance import Balancing

    targets = endpoints(peers)
    for target in targets:
        peers.ill[target] = NotReady("/healthz answers 500")
    heeded = start(peers, registry, nursery, *targets, policy=Balancing(panic=0.0))
    panicking = start(peers, registry, nursery, *targets)

    assert set(targets) == await ask(panicking, 20)
    with pytest.raises(FailFastError) as caught:
        await ask(heeded)
    assert "endpoint 10.0.0.1:80: health check failed: /healthz answers 500" in chain(caught.value)


async def test_endpoints_are_asked_at_their_interval_give_or_take_a_tenth(
    peers: Peers, registry: Registry, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    (only,) = endpoints(peers, 1, interval=10.0)
    HealthChecks(registry, rng=random.Random(3)).layer(peers).new_service(only, nursery)

    await trio.sleep(1_000)

    times = [time for time, _ in peers.asked]
    gaps = [after - before for before, after in pairwise(times)]
    assert 9.0 <= min(gaps) < 9.5
    assert 10.5 < max(gaps) <= 11.0


async def test_what_was_found_shows_in_metrics_and_in_the_live_stack(
    peers: Peers, registry: Registry, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    ill, _ = targets = endpoints(peers, interval=1.0)
    service = start(peers, registry, nursery, *targets)
    await trio.sleep(0.5)
    peers.ill[ill] = NotReady("no")
    await trio.sleep(4)

    text = registry.render()
    assert 'endpoint_healthy{direction="outbound",target_addr="10.0.0.1:80"} 0' in text
    assert 'endpoint_healthy{direction="outbound",target_addr="10.0.0.2:80"} 1' in text
    assert 'health_checks_total{direction="outbound",target_addr="10.0.0.1:80",result="failure"} 4' in text
    assert 'health_checks_total{direction="outbound",target_addr="10.0.0.2:80",result="success"} 5' in text
    (balance,) = live_tree(service)
    (checks,) = balance["services"]["10.0.0.1:80"]
    assert "health_checks" == checks["role"]
    assert (False, -4, "no") == tuple(checks["statistics"][name] for name in ("healthy", "streak", "error"))
    first = balance["statistics"]["endpoints"][0]
    assert ("busy", "ready") == (first["status"], first["state"])


async def test_an_endpoint_without_checks_is_left_as_it_is(
    peers: Peers, registry: Registry, nursery: trio.Nursery
) -> None:
    layer = HealthChecks(registry)
    inner: list[Any] = []

    class Remembering:
        def new_service(self, endpoint: Endpoint, nursery: trio.Nursery, /) -> Any:
            inner.append(peers.new_service(endpoint, nursery))
            return inner[-1]

    assert inner == [layer.layer(Remembering()).new_service(Endpoint(("10.0.0.1", 80)), nursery)]
    assert "HealthChecks(direction='outbound')" == repr(layer)


async def test_checks_end_with_their_endpoint(
    peers: Peers, registry: Registry, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    from meshcore.testing import FakeResolve

    one, two = endpoints(peers, interval=1.0)
    resolve = FakeResolve(one, two)
    start(peers, registry, nursery, resolve=resolve)
    await trio.sleep(0.5)
    resolve.publish(two)
    await trio.sleep(0.1)
    before = [endpoint for _, endpoint in peers.asked].count(one)
    await trio.sleep(5)

    assert before == [endpoint for _, endpoint in peers.asked].count(one)


# ----- checks -----

PLAIN = Endpoint(("10.0.0.1", 80))


def answering(status: int, body: Callable[[], Any] = lambda: Full(b"ok")) -> tuple[Any, list[Request]]:
    asked: list[Request] = []

    async def serve(sent: Request) -> Response:
        asked.append(sent)
        await trio.lowlevel.checkpoint()
        return Response(status, body=body())

    return serve, asked


@pytest.mark.parametrize(
    ("endpoint", "check", "scheme", "authority"),
    [
        (PLAIN, HttpCheck("/up?deep=1"), b"http", b"10.0.0.1:80"),
        (attrs.evolve(PLAIN, tls=TlsClient("a.test")), HttpCheck("/up?deep=1", "a.test"), b"https", b"a.test"),
        (
            attrs.evolve(PLAIN, tls=TlsClient("a", identity="a.b", mesh=True)),
            HttpCheck("/up?deep=1"),
            b"http",
            b"10.0.0.1:80",
        ),
    ],
)
async def test_a_request_asks_for_the_path_over_the_endpoints_own_connections(
    endpoint: Endpoint, check: HttpCheck, scheme: bytes, authority: bytes
) -> None:
    service, asked = answering(204)

    await check.check(endpoint, service)

    (sent,) = asked
    assert (b"GET", scheme, authority, b"/up?deep=1") == (sent.method, sent.scheme, sent.authority, sent.path)
    assert endpoint is sent.endpoint


@pytest.mark.parametrize(("status", "well"), [(200, True), (299, True), (302, False), (404, False), (503, False)])
async def test_a_status_from_200_to_299_is_well(status: int, well: bool) -> None:
    service, _ = answering(status)
    if well:
        await HttpCheck().check(PLAIN, service)
        return
    with pytest.raises(NotReady, match=f"/healthz answers {status}"):
        await HttpCheck().check(PLAIN, service)


async def test_an_answer_without_an_end_is_not_read_for_ever(autojump_clock: MockClock) -> None:
    body = Chunks()
    for _ in range(20):
        body.push(b"x" * 10_000)
    service, _ = answering(200, lambda: body)

    await HttpCheck().check(PLAIN, service)

    assert body.end is not None


async def test_a_connection_is_made_anew_where_others_are_kept() -> None:
    class Client:
        def __init__(self) -> None:
            self.probed = 0

        async def probe(self) -> None:
            self.probed += 1
            await trio.lowlevel.checkpoint()
            if self.probed > 1:
                raise ConnectError("connection refused")

        async def ready(self) -> None:
            raise AssertionError("content with a connection that it has")

    client = Client()
    await TcpCheck().check(PLAIN, client)
    with pytest.raises(ConnectError):
        await TcpCheck().check(PLAIN, client)
    del Client.probe
    with pytest.raises(AssertionError):
        await TcpCheck().check(PLAIN, Client())
    await TcpCheck().check(PLAIN, object())


@pytest.mark.parametrize(("answer", "well"), [(b"\x08\x01", True), (b"\x08\x02", False), (None, False)])
async def test_a_service_of_grpc_says_itself_whether_it_is_well(answer: bytes | None, well: bool) -> None:
    asked: list[Request] = []

    async def service(sent: Request) -> Response:
        asked.append(sent)
        grpc = (b"content-type", b"application/grpc")
        if answer is None:
            return Response(200, Headers([grpc, (b"grpc-status", b"5")]))
        return Response(200, Headers([grpc]), Full(frame(answer), [(b"grpc-status", b"0")]))

    if well:
        await GrpcCheck("shop.Users").check(PLAIN, service)
    else:
        with pytest.raises(NotReady, match=r"shop\.Users is not serving"):
            await GrpcCheck("shop.Users").check(PLAIN, service)
    (sent,) = asked
    assert (b"/grpc.health.v1.Health/Check", b"10.0.0.1:80", 20) == (sent.path, sent.authority, sent.version)


async def test_a_server_without_a_health_service_is_not_well() -> None:
    async def service(sent: Request) -> Response:
        return Response(404, Headers([(b"content-type", b"text/html")]))

    with pytest.raises(MeshError, match="unimplemented: HTTP status 404"):
        await GrpcCheck().check(PLAIN, service)
