"""Discovery by DNS: what becomes of good answers, of bad ones, and of none."""

from __future__ import annotations

import random
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import attrs
import hypothesis
import pytest
import trio
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from meshcore.errors import ConfigError, FailFastError, NoEndpoints, chain
from meshcore.http.body import read_all
from meshcore.layers.balance import Balance
from meshcore.metrics import Registry
from meshcore.resolve import Discover, Dns, DnsStatistics
from meshcore.resolve.dns_message import AAAA, CNAME, SRV, A, BadMessage
from meshcore.resolve.resolv_conf import SystemFiles
from meshcore.testing import request
from meshcore.transport.target import Backend, Endpoint, TlsClient
from tests.layers.fakes import Network
from tests.resolve.dns_server import DnsServer, message, question, record

WEB = Backend("web", discover="dns:web.test:80")
PAY = Backend("pay", discover="dns+srv:_http._tcp.payments.shop")


@pytest.fixture
def server() -> DnsServer:
    return DnsServer()


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def files(tmp_path: Path) -> SystemFiles:
    (tmp_path / "resolv.conf").write_text("nameserver 10.0.0.53\noptions timeout:1 attempts:2\n")
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n10.9.9.9 legacy  # by hand\n")
    return SystemFiles(tmp_path / "resolv.conf", tmp_path / "hosts")


@pytest.fixture
def dns(server: DnsServer, files: SystemFiles) -> Dns:
    return Dns(transport=server, files=files, rng=random.Random(1))


class Watched:
    """What was published, and when."""

    def __init__(self, dns: Dns, target: Backend, nursery: trio.Nursery) -> None:
        self.dns, self.target = dns, target
        self.sets: list[tuple[float, list[str]]] = []
        self.endpoints: Sequence[Endpoint] = ()
        self.began = trio.current_time()
        self.over = False
        nursery.start_soon(self._run)

    async def _run(self) -> None:
        await self.dns.watch(self.target, self._publish)
        self.over = True

    def _publish(self, endpoints: Sequence[Endpoint]) -> None:
        self.endpoints = endpoints
        self.sets.append((round(trio.current_time() - self.began, 1), [str(endpoint) for endpoint in endpoints]))

    @property
    def statistics(self) -> DnsStatistics:
        found = self.dns.statistics(self.target)
        assert found is not None
        return found


async def watch(dns: Dns, target: Backend, nursery: trio.Nursery, seconds: float = 0.1) -> Watched:
    watched = Watched(dns, target, nursery)
    await trio.sleep(seconds)
    return watched


# ----- addresses -----


async def test_the_addresses_of_a_name_are_its_endpoints_in_one_order(
    dns: Dns, server: DnsServer, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    server.put("web.test", A, "10.0.0.2", "10.0.0.1", "10.0.0.2")
    server.put("web.test", AAAA, "fd00::1")

    watched = await watch(dns, WEB, nursery)

    assert [(0.0, ["10.0.0.1:80", "10.0.0.2:80"])] == watched.sets
    assert [("web.test", A)] == server.asked


async def test_ipv6_addresses_are_asked_for_where_there_are_no_others(
    dns: Dns, server: DnsServer, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    server.put("web.test", AAAA, "fd00::1")

    assert [(0.0, ["[fd00::1]:80"])] == (await watch(dns, WEB, nursery)).sets


async def test_aliases_are_followed_whether_their_addresses_are_told_along_or_not(
    dns: Dns, server: DnsServer, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    server.put("web.test", CNAME, "cdn.test", ttl=7)
    server.put("cdn.test", A, "10.0.0.1", ttl=60)

    watched = await watch(dns, WEB, nursery)
    server.put("web.test", CNAME, "far.example", ttl=7)
    server.negative = None
    await trio.sleep(7)
    server.put("far.example", CNAME, "farther.example", ttl=7)
    server.put("farther.example", A, "10.0.0.3", ttl=60)
    await trio.sleep(10)

    assert [["10.0.0.1:80"], ["10.0.0.3:80"]] == [found for _, found in watched.sets]


@pytest.mark.parametrize(
    ("source", "want"),
    [
        ("dns:127.0.0.1:80", "127.0.0.1:80"),
        ("dns:[::1]:80", "[::1]:80"),
        ("dns:localhost:80", "127.0.0.1:80"),
        ("dns:app.localhost:80", "127.0.0.1:80"),
        ("dns:LEGACY:80", "10.9.9.9:80"),
    ],
)
async def test_addresses_and_localhost_and_names_of_this_host_are_not_asked_for(
    dns: Dns, server: DnsServer, nursery: trio.Nursery, autojump_clock: MockClock, source: str, want: str
) -> None:
    watched = await watch(dns, Backend("web", discover=source), nursery)

    assert [(0.0, [want])] == watched.sets
    assert [] == server.asked
    assert watched.over == (source.startswith(("dns:127", "dns:[", "dns:app")))


async def test_a_change_of_the_hosts_file_is_seen(
    dns: Dns, nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    watched = await watch(dns, Backend("web", discover="dns:legacy:80"), nursery)
    (tmp_path / "hosts").write_text("10.9.9.10 legacy other\n")
    await trio.sleep(5)

    assert [["10.9.9.9:80"], ["10.9.9.10:80"]] == [found for _, found in watched.sets]


async def test_addresses_that_are_nobodys_are_left_out_and_a_thousand_are_enough(
    dns: Dns, server: DnsServer, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    server.put("web.test", A, "0.0.0.0", "224.0.0.1", *[f"10.0.{i // 200}.{i % 200}" for i in range(1_200)])

    watched = await watch(dns, WEB, nursery)

    assert 1_000 == len(watched.endpoints)
    assert 1 == server.streams
    assert not {"0.0.0.0:80", "224.0.0.1:80"} & set(map(str, watched.endpoints))


# ----- time -----


@pytest.mark.parity("B-25")
@pytest.mark.parametrize(
    ("ttl", "seconds"), [(0, 5.0), (1, 5.0), (5, 5.0), (30, 30.0), (1 << 31, 5.0), (86_400, 3600.0)]
)
async def test_a_name_is_asked_for_again_when_its_ttl_is_over_and_not_within_5_s(
    dns: Dns, server: DnsServer, nursery: trio.Nursery, autojump_clock: MockClock, ttl: int, seconds: float
) -> None:
    server.put("web.test", A, "10.0.0.1", ttl=ttl)
    watched = await watch(dns, WEB, nursery)
    server.put("web.test", A, "10.0.0.1", "10.0.0.2", ttl=ttl)
    await trio.sleep(seconds + 1)

    assert [(0.0, ["10.0.0.1:80"]), (seconds, ["10.0.0.1:80", "10.0.0.2:80"])] == watched.sets


@pytest.mark.parity("B-25")
@pytest.mark.parametrize(("negative", "seconds"), [(None, 5.0), (1, 5.0), (12, 12.0), (3600, 30.0)])
async def test_an_answer_that_there_is_nothing_holds_for_its_negative_ttl(
    dns: Dns,
    server: DnsServer,
    nursery: trio.Nursery,
    autojump_clock: MockClock,
    negative: int | None,
    seconds: float,
) -> None:
    server.negative = negative
    watched = await watch(dns, WEB, nursery)
    server.put("web.test", A, "10.0.0.1")
    await trio.sleep(seconds + 1)

    assert [(0.0, []), (seconds, ["10.0.0.1:80"])] == watched.sets


@pytest.mark.parametrize("how", ["silent", "refused", "missing"])
async def test_what_was_found_last_stays_and_its_age_shows(
    dns: Dns, server: DnsServer, nursery: trio.Nursery, autojump_clock: MockClock, how: str
) -> None:
    registry = Registry()
    server.put("web.test", A, "10.0.0.1", ttl=5)
    watched = await watch(attrs.evolve(dns, registry=registry), WEB, nursery)
    assert (1, 0, "") == (
        watched.statistics.endpoints,
        watched.statistics.failures,
        watched.statistics.error,
    )

    if how == "silent":
        server.silent = True
    elif how == "refused":
        server.code = 5
    else:
        server.put("web.test", A)
    await trio.sleep(60)

    assert 1 == len(watched.sets)
    told = watched.statistics
    assert 60 <= (told.age or 0) < 61
    assert told.failures > 1
    want = {"silent": "no answer in 1 s", "refused": "refused", "missing": "no such name"}
    assert want[how] in told.error
    text = registry.render()
    assert 'dns_answer_age_seconds{source="dns:web.test:80"} 60' in text
    assert 'control_dns_resolutions_total{client="dns:web.test:80",record_type="A/AAAA",result="ok"} 1' in text
    result = "not_found" if how == "missing" else "error"
    assert f'result="{result}"}} 0' not in text

    server.silent, server.code = False, 0
    server.put("web.test", A, "10.0.0.1", ttl=5)
    await trio.sleep(20)

    assert 1 == len(watched.sets)
    assert (0, "") == (watched.statistics.failures, watched.statistics.error)
    assert (watched.statistics.age or 0) < 6


@pytest.mark.parity("B-22")
async def test_a_name_that_is_gone_for_five_minutes_has_no_endpoints(
    dns: Dns, server: DnsServer, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    server.put("web.test", A, "10.0.0.1", ttl=5)
    watched = await watch(dns, WEB, nursery)
    server.put("web.test", A)

    await trio.sleep(290)
    assert 1 == len(watched.sets)
    await trio.sleep(30)

    assert [] == watched.sets[1][1]


async def test_questions_that_nobody_answers_come_at_growing_intervals(
    dns: Dns, server: DnsServer, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    server.code = 2

    await watch(dns, WEB, nursery, 120)

    # Two attempts each, after 0.5, 1, 2, 4, 8 s and every 15 s from then on.
    assert 2 * 11 <= len(server.asked) <= 2 * 13


async def test_a_second_server_is_asked_where_the_first_is_silent(
    files: SystemFiles, server: DnsServer, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    asked: list[str] = []

    class Two:
        async def ask(self, address: Any, query: bytes, accept: Any, /, *, stream: bool) -> Any:
            asked.append(address[0])
            if address[0] == "10.0.0.1":
                await trio.sleep_forever()
            return await server.ask(address, query, accept, stream=stream)

    server.put("web.test", A, "10.0.0.7")
    dns = Dns(servers=(("10.0.0.1", 53), ("10.0.0.2", 5353)), transport=Two(), files=files)

    assert [(1.0, ["10.0.0.7:80"])] == (await watch(dns, WEB, nursery, 14)).sets
    # From then on the one that has answered is asked first.
    assert ["10.0.0.1", "10.0.0.2", "10.0.0.2", "10.0.0.2"] == asked


async def test_names_are_completed_by_the_search_list(
    dns: Dns, server: DnsServer, nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    (tmp_path / "resolv.conf").write_text(
        "# by Kubernetes\nnameserver 10.0.0.53\nsearch shop.svc.cluster.local svc.cluster.local\noptions ndots:5\n"
    )
    server.put("_http._tcp.payments.shop.svc.cluster.local", SRV, (0, 50, 8080, "a.payments.shop.svc.cluster.local"))
    server.put("a.payments.shop.svc.cluster.local", A, "10.1.0.1")

    watched = await watch(dns, PAY, nursery)

    assert [["10.1.0.1:8080"]] == [found for _, found in watched.sets]
    assert [
        "_http._tcp.payments.shop.shop.svc.cluster.local",
        "_http._tcp.payments.shop.svc.cluster.local",
        "a.payments.shop.svc.cluster.local",
    ] == [name for name, _ in server.asked]


# ----- services -----


@pytest.mark.parametrize("glue", [True, False])
async def test_services_are_the_hosts_of_the_lowest_priority_by_weight(
    dns: Dns, server: DnsServer, nursery: trio.Nursery, autojump_clock: MockClock, glue: bool
) -> None:
    server.glue = glue
    server.put(
        "_http._tcp.payments.shop",
        SRV,
        (10, 60, 8080, "a.shop"),
        (10, 30, 8081, "b.shop"),
        (10, 0, 8082, "c.shop"),
        (20, 99, 8080, "spare.shop"),
    )
    for index, host in enumerate("abc"):
        server.put(f"{host}.shop", A, f"10.0.0.{index + 1}")

    watched = await watch(dns, PAY, nursery)

    assert {"10.0.0.1:8080": 1.0, "10.0.0.2:8081": 0.5, "10.0.0.3:8082": 0.01} == {
        str(endpoint): endpoint.weight for endpoint in watched.endpoints
    }
    assert (1 if glue else 4) == len(server.asked)


async def test_equal_weights_stay_equal_when_their_number_changes(
    dns: Dns, server: DnsServer, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    for host in "abc":
        server.put(f"{host}.shop", A, f"10.0.0.{ord(host)}")
    server.put("_http._tcp.payments.shop", SRV, (0, 50, 80, "a.shop"), (0, 50, 80, "b.shop"))
    watched = await watch(dns, PAY, nursery)
    server.put("_http._tcp.payments.shop", SRV, *[(0, 33, 80, f"{host}.shop") for host in "abc"])
    await trio.sleep(6)

    assert [1.0] * 3 == [endpoint.weight for endpoint in watched.endpoints]


@pytest.mark.parametrize("target", ["", "bad host.shop"])
async def test_a_service_that_is_decidedly_not_there_has_no_endpoints(
    dns: Dns, server: DnsServer, nursery: trio.Nursery, autojump_clock: MockClock, target: str
) -> None:
    server.put("_http._tcp.payments.shop", SRV, (0, 0, 80, target))

    watched = await watch(dns, PAY, nursery)

    assert [(0.0, [])] == watched.sets
    assert "no addresses" in watched.statistics.error


async def test_half_an_answer_takes_nobody_away(
    dns: Dns, server: DnsServer, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    server.put("_http._tcp.payments.shop", SRV, (0, 1, 80, "a.shop"), (0, 1, 80, "b.shop"))
    server.put("a.shop", A, "10.0.0.1")
    server.put("b.shop", A, "10.0.0.2")
    watched = await watch(dns, PAY, nursery)
    real = server.answer

    def answer(query: bytes, *, stream: bool = False) -> bytes:
        server.code = 2 if b"\x01b\x04shop" in query else 0
        return real(query, stream=stream)

    server.answer = answer  # type: ignore[method-assign]
    await trio.sleep(20)

    assert [["10.0.0.1:80", "10.0.0.2:80"]] == [found for _, found in watched.sets]
    assert "b.shop" in watched.statistics.error


async def test_the_name_asked_for_is_the_name_that_a_certificate_has_to_have(
    dns: Dns, server: DnsServer, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    server.put("web.test", A, "10.0.0.1")
    secured = attrs.evolve(dns, template=Endpoint(("", 0), tls=TlsClient("")))

    watched = await watch(secured, WEB, nursery)

    (endpoint,) = watched.endpoints
    assert endpoint.tls is not None
    assert "web.test" == endpoint.tls.server_name


@pytest.mark.parametrize("source", ["dns:", "dns:web.test", "dns:web test:80", "dns+srv:", "dns+srv:a b", "file:x"])
async def test_what_is_no_name_is_a_mistake_of_the_configuration(dns: Dns, source: str) -> None:
    with pytest.raises(ConfigError, match="backend web"):
        await dns.watch(Backend("web", discover=source), lambda endpoints: None)


# ----- under a balancer -----


@pytest.mark.parity("B-11", "B-22", "X-16")
async def test_a_name_that_cannot_be_resolved_yet_makes_requests_wait_and_fails_no_start(
    dns: Dns, server: DnsServer, network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    server.code = 2
    resolve = Discover({"dns": dns})
    service: Any = Balance(resolve, rng=random.Random(3)).layer(network).new_service(WEB, nursery)

    async def come_up() -> None:
        await trio.sleep(1)
        server.code = 0
        server.put("web.test", A, "10.0.0.1")

    nursery.start_soon(come_up)
    sent = request()
    await read_all((await service(sent)).body)

    assert "10.0.0.1:80" == str(sent.endpoint)
    told = service.statistics().discovery
    assert ("dns:web.test:80", 1) == (told.source, told.endpoints)


async def test_who_waited_in_vain_is_told_why_nobody_is_known(
    dns: Dns, server: DnsServer, network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    server.code = 5
    service: Any = Balance(dns).layer(network).new_service(WEB, nursery)

    with pytest.raises(FailFastError) as caught:
        await service(request())

    assert "backend web: service in fail-fast: web.test: 10.0.0.53: refused" == chain(caught.value)


@pytest.mark.parity("B-22")
async def test_a_name_that_does_not_exist_is_no_endpoints_for_requests(
    dns: Dns, network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    service: Any = Balance(dns).layer(network).new_service(WEB, nursery)

    with pytest.raises(NoEndpoints, match="web"):
        await service(request())


@pytest.mark.parity("B-22")
async def test_an_answer_with_the_same_addresses_keeps_connections_and_load(
    dns: Dns, server: DnsServer, network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    server.put("web.test", A, "10.0.0.1", "10.0.0.2")
    service: Any = Balance(dns).layer(network).new_service(WEB, nursery)
    await read_all((await service(request())).body)

    server.put("web.test", A, "10.0.0.2", "10.0.0.1")
    await trio.sleep(30)
    server.put("web.test", A, "10.0.0.2", "10.0.0.3")
    await trio.sleep(30)
    await wait_all_tasks_blocked()

    assert [1, 1, 1] == [network[(f"10.0.0.{i}", 80)].made for i in (1, 2, 3)]
    assert [1, 0, 0] == [network[(f"10.0.0.{i}", 80)].stopped for i in (1, 2, 3)]


# ----- a real socket -----


async def test_a_real_server_is_asked_over_udp_and_over_tcp_where_that_is_too_small(
    server: DnsServer, files: SystemFiles, nursery: trio.Nursery
) -> None:
    server.put("web.test", A, *[f"10.0.0.{i}" for i in range(200)])
    server.forged = [b"", b"garbage" * 10, b"\0" * 12]
    address = await nursery.start(server.serve)
    dns = Dns(servers=(address,), files=files)
    found: list[Endpoint] = []
    known = trio.Event()

    def publish(endpoints: Sequence[Endpoint]) -> None:
        found.extend(endpoints)
        known.set()

    nursery.start_soon(dns.watch, WEB, publish)
    with trio.fail_after(5):
        await known.wait()

    assert 200 == len(found)
    assert 1 == server.streams
    nursery.cancel_scope.cancel()


# ----- hostile answers -----

VALUES = st.one_of(
    st.tuples(st.just(A), st.ip_addresses(v=4).map(str)),
    st.tuples(st.just(AAAA), st.ip_addresses(v=6).map(str)),
    st.tuples(
        st.just(SRV),
        st.tuples(
            st.integers(0, 3),
            st.integers(0, 65_535),
            st.integers(0, 65_535),
            st.sampled_from(["a.test", "b.test", "."]),
        ),
    ),
    st.tuples(st.just(CNAME), st.sampled_from(["a.test", "b.test", "_http._tcp.payments.shop", "web.test"])),
)
RECORDS = st.lists(
    st.tuples(st.sampled_from(["web.test", "a.test", "b.test", "_http._tcp.payments.shop"]), VALUES), max_size=12
)


@hypothesis.given(RECORDS, st.sampled_from([WEB, PAY]), st.sampled_from([0, 0, 0, 1, 2, 3, 5]), st.binary(max_size=40))
@hypothesis.settings(max_examples=60, deadline=None)
def test_whatever_servers_answer_only_endpoints_that_can_be_are_published(
    records: list[tuple[str, tuple[int, Any]]], target: Backend, code: int, noise: bytes
) -> None:
    published: list[Endpoint] = []

    class Hostile:
        async def ask(self, server: Any, query: bytes, accept: Any, /, *, stream: bool) -> Any:
            await trio.lowlevel.checkpoint()
            id, name, kind = question(query)
            made = [record(owner, what, value, 1) for owner, (what, value) in records]
            try:
                accept(noise)
            except BadMessage:
                pass
            try:
                return accept(message(id, name, kind, made, code=code, additional=made))
            except BadMessage as error:
                raise OSError(str(error)) from error

    async def main() -> None:
        files = SystemFiles(Path("/nonexistent/resolv.conf"), Path("/nonexistent/hosts"))
        dns = Dns(transport=Hostile(), files=files, rng=random.Random(1))
        with trio.move_on_after(30):
            await dns.watch(target, published.extend)

    trio.run(main, clock=MockClock(autojump_threshold=0))

    for endpoint in published:
        host, port = endpoint.address
        assert not ip_address(host).is_unspecified
        assert 0 < port < 65_536
        assert 0 < endpoint.weight <= 1.0
