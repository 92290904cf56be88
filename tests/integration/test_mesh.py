"""A whole mesh under a clock that jumps: two sidecars of a config file each, mutual TLS between them, no socket."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

import meshcore
from meshcore import Connection, Headers, Proxy, Request, Response
from meshcore.http.body import Chunks, read_all
from meshcore.metrics import Registry
from meshcore.proxy import run
from meshcore.testing import (
    MemoryMesh,
    MemoryNetwork,
    MemoryStream,
    MockService,
    explore_schedules,
    mock_service,
    request,
    response,
)
from tests.codec.hellos import real

APPLICATION, INBOUND, OUTBOUND, DATABASE = ("orders", 8000), ("orders", 4143), ("127.0.0.1", 4140), ("127.0.0.1", 5432)

ORDERS = """
[service]
name = "orders"
namespace = "shop"
[identity]
mode = "dev"
[inbound]
listen = "orders:4143"
forward = "orders:8000"
default_policy = "{policy}"
[admin]
listen = "orders:4191"
open = ["/live", "/ready"]
"""
WEB = """
[service]
name = "web"
namespace = "shop"
[identity]
mode = "dev"
[outbound]
listen = "127.0.0.1:4140"
[outbound.to."orders:80"]
endpoints = ["orders:4143"]
identity = "{identity}"
[outbound.to."orders:5432"]
listen = "127.0.0.1:5432"
endpoints = ["orders:4143"]
protocol = "tcp"
identity = "{identity}"
[admin]
listen = "off"
"""


class Pair:
    """Web, which calls, and orders, which answers, with what can be seen between them.

    Attributes:
        wire: every byte between the sidecars, in both directions.
    """

    def __init__(self, mesh: MemoryMesh) -> None:
        self.mesh = mesh
        self.wire = bytearray()
        between = mesh.network.faults(INBOUND)
        between.request.tap = between.response.tap = self.wire.extend

    async def start(self, *, policy: str = "all-authenticated", identity: str = "orders.shop", more: str = "") -> None:
        """Both; *more* is appended to either's config."""
        self.orders: Proxy = await self.mesh.start(ORDERS.format(policy=policy) + more)
        self.web: Proxy = await self.mesh.start(WEB.format(identity=identity) + more)

    async def ask(self, version: int = 11, **more: Any) -> Response:
        return await self.mesh.client(OUTBOUND)(request(authority=b"orders:80", version=version, **more))

    def crashes(self) -> int:
        return sum(server.crashes_total for proxy in (self.web, self.orders) for server in proxy.servers)

    def metrics(self, proxy: Proxy, name: str) -> list[str]:
        text = proxy.registry.render()
        return [line for line in text.splitlines() if line.startswith(name)]


def echo(seen: Request) -> Response:
    return response(200, b"hello " + (seen.headers.get(b"l5d-client-id") or b"nobody"))


async def meshed(nursery: trio.Nursery, application: Any, network: MemoryNetwork | None = None, **more: str) -> Pair:
    pair = Pair(MemoryMesh(nursery, network))
    await pair.mesh.serve(APPLICATION, application)
    await pair.start(**more)
    return pair


@pytest.mark.parametrize("nowait", [True, False])
@pytest.mark.parametrize("version", [11, 20])
@pytest.mark.parity("D-24", "T-18", "T-05")
async def test_requests_pass_over_mutual_tls_and_the_application_knows_from_whom(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, version: int, nowait: bool
) -> None:
    application = mock_service(echo)
    pair = await meshed(nursery, application, network=MemoryNetwork(nowait=nowait))

    answers = [await pair.ask(version, body=b"secret", method=b"POST") for _ in range(3)]

    assert [b"hello web.shop"] * 3 == [await read_all(answer.body) for answer in answers]
    assert [version] * 3 == [seen.version for seen in application.requests]
    # One HTTP/2 connection between the sidecars for them all, and nothing to read on it.
    assert 1 == pair.mesh.network.connects[INBOUND]
    assert pair.wire
    assert not any(word in pair.wire for word in (b"secret", b"hello", b"web.shop", b"orders:80"))
    assert (0.0, 0) == (trio.current_time(), pair.crashes())
    nursery.cancel_scope.cancel()


@pytest.mark.parity("D-26", "X-25")
async def test_a_stream_with_trailers_passes_in_both_directions(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def calls(seen: Request) -> Response:
        answer = Chunks()

        async def double() -> None:
            async for message in seen.body:
                answer.push(message * 2)
            answer.push_end([(b"grpc-status", b"0"), (b"grpc-message", b"done")])

        nursery.start_soon(double)
        return Response(200, Headers([(b"content-type", b"application/grpc")]), answer)

    pair = await meshed(nursery, calls)
    sent = Chunks()
    fields = Headers([(b"content-type", b"application/grpc"), (b"te", b"trailers")])
    call = Request(b"POST", b"http", b"orders:80", b"/shop.Orders/Watch", fields, sent, version=20)

    answer = await pair.mesh.client(OUTBOUND)(call)
    for message in (b"\0\0\0\0\1a", b"\0\0\0\0\1b"):
        # Each message is answered before the next is sent: nobody waits for more.
        sent.push(message)
        assert message * 2 == await answer.body.receive_some()
    sent.push_end()

    assert b"" == await answer.body.receive_some()
    assert answer.body.end is not None
    assert [(b"grpc-status", b"0"), (b"grpc-message", b"done")] == answer.body.end.trailers
    assert (0.0, 0) == (trio.current_time(), pair.crashes())
    nursery.cancel_scope.cancel()


@pytest.mark.parity("D-19", "D-20", "X-60")
async def test_bytes_pass_over_mutual_tls_even_where_the_server_speaks_first(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def database(connection: Connection) -> None:
        await connection.send_all(b"220 ready\r\n")
        assert b"quit" == await connection.receive_some()
        await connection.send_all(b"bye")

    pair = Pair(MemoryMesh(nursery))
    await pair.mesh.serve_bytes(APPLICATION, database)
    await pair.start()

    client: MemoryStream = await pair.mesh.network.open_stream(DATABASE)
    assert b"220 ready\r\n" == await client.receive_some()
    greeted = trio.current_time()
    await client.send_all(b"quit")

    assert b"bye" == await client.receive_some()
    assert b"" == await client.receive_some()
    assert not any(word in pair.wire for word in (b"ready", b"quit", b"bye"))
    # A destination's own listener is told to take bytes, and the other sidecar by a header: nothing to wait for.
    assert (greeted, 0) == (trio.current_time(), pair.crashes())
    nursery.cancel_scope.cancel()


@pytest.mark.parity("T-06")
async def test_a_certificate_is_replaced_and_no_open_connection_notices(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    pair = await meshed(nursery, mock_service(echo))
    await pair.ask()
    for _ in range(3):
        await trio.sleep(10)
        pair.mesh.renew()
        answer = await pair.ask()
        assert (200, b"hello web.shop") == (answer.status, await read_all(answer.body))

    assert 1 == pair.mesh.network.connects[INBOUND]
    assert ['control_identity_cert_refreshes_total{result="ok"} 4'] == pair.metrics(
        pair.orders, 'control_identity_cert_refreshes_total{result="ok"}'
    )
    nursery.cancel_scope.cancel()


@pytest.mark.parity("T-06")
async def test_the_authority_is_replaced_in_three_steps_and_no_new_connection_fails(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    pair = await meshed(nursery, mock_service(echo))
    mesh, old = pair.mesh, pair.mesh.authority
    new = mesh.new_authority()

    async def still_reached(times: int) -> None:
        mesh.network.reset_all(INBOUND)
        answer = await pair.ask()
        assert (200, b"hello web.shop") == (answer.status, await read_all(answer.body))
        assert times == mesh.network.connects[INBOUND]

    await still_reached(1)
    mesh.anchors = [old, new]
    mesh.renew()
    await still_reached(2)
    mesh.authority = new
    for number, name in enumerate(mesh.proxies, 3):
        # Not all at once: for a while the one shows the old authority's and the other the new one's.
        mesh.renew(name)
        await still_reached(number)
    mesh.anchors = [new]
    mesh.renew()
    await still_reached(5)
    nursery.cancel_scope.cancel()


@explore_schedules(examples=12)
async def test_under_every_schedule_no_request_fails_while_certificates_and_connections_are_replaced() -> None:
    async with trio.open_nursery() as nursery:
        pair = Pair(MemoryMesh(nursery))
        mesh = pair.mesh
        await mesh.serve(APPLICATION, mock_service(echo))
        await pair.start(more='[proxy]\nmax_connection_age = "1s"\n')
        statuses: list[int] = []

        async def ask(version: int) -> None:
            for _ in range(12):
                answer = await pair.ask(version)
                await read_all(answer.body)
                statuses.append(answer.status)
                await trio.sleep(1)

        async def replace() -> None:
            for _ in range(6):
                await trio.sleep(2)
                mesh.authority = mesh.new_authority()
                mesh.anchors.append(mesh.authority)
                mesh.renew()

        async with trio.open_nursery() as busy:
            for version in (11, 20, 11, 20):
                busy.start_soon(ask, version)
            busy.start_soon(replace)

        assert [200] * 48 == statuses
        assert mesh.network.connects[INBOUND] > 4
        assert 0 == pair.crashes()
        nursery.cancel_scope.cancel()


@explore_schedules(examples=12)
async def test_under_every_schedule_a_link_that_breaks_is_made_anew_and_nothing_crashes() -> None:
    async with trio.open_nursery() as nursery:
        pair = await meshed(nursery, mock_service(0.01, echo))
        statuses: list[int] = []

        async def ask(version: int) -> None:
            for _ in range(4):
                answer = await pair.ask(version)
                await read_all(answer.body)
                statuses.append(answer.status)

        async with trio.open_nursery() as busy:
            for version in (11, 20, 11, 20):
                busy.start_soon(ask, version)
            for _ in range(4):
                await trio.sleep(0.005)
                pair.mesh.network.reset_all(INBOUND)

        assert 16 == len(statuses)
        assert set(statuses) <= {200, 502}
        assert 0 == pair.crashes()
        assert 200 == (await pair.ask()).status
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("version", [11, 20])
@pytest.mark.parity("T-04", "T-17", "U-19")
async def test_whoever_else_answers_is_a_502_with_both_names_and_the_application_hears_nothing(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, version: int
) -> None:
    application = mock_service(200)
    pair = await meshed(nursery, application, identity="payments.shop")

    answer = await pair.ask(version)

    said = answer.headers.get(b"l5d-proxy-error")
    assert (502, b"identity-mismatch") == (answer.status, answer.headers.get(b"x-meshcore-error"))
    assert said is not None
    assert b"expected payments.shop, found orders.shop" in said
    assert [] == application.requests
    assert 0 == pair.crashes()
    nursery.cancel_scope.cancel()


@pytest.mark.parity("U-19")
async def test_whoever_another_authority_vouches_for_is_refused(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    application = mock_service(200)
    pair = await meshed(nursery, application)
    pair.mesh.authority = pair.mesh.new_authority()
    pair.mesh.anchors.append(pair.mesh.authority)
    # Web trusts both, and shows what orders does not know.
    pair.mesh.renew("web.shop")

    answer = await pair.ask()

    said = answer.headers.get(b"l5d-proxy-error")
    assert (502, b"tls-failed") == (answer.status, answer.headers.get(b"x-meshcore-error"))
    assert said is not None
    assert said.endswith(b"certificate was refused by the peer: tlsv1 alert unknown ca")
    assert [] == application.requests
    assert pair.metrics(pair.orders, 'tls_handshake_errors_total{side="server",reason="unknown issuer"}')
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("limit", [2.0, 30.0])
async def test_a_client_that_stalls_in_its_handshake_is_given_as_long_as_the_config_says(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, limit: float
) -> None:
    mesh = MemoryMesh(nursery)
    orders = await mesh.start(
        ORDERS.format(policy="audit").replace("[inbound]", f'[inbound]\ndetect_timeout = "{limit:g}s"')
    )
    client = await mesh.network.open_stream(INBOUND)
    await client.send_all(real("orders.shop"))

    assert (await client.receive_some()).startswith(b"\x16\3\3")
    while await client.receive_some():
        pass

    assert limit == trio.current_time()
    errors = orders.registry.render()
    assert 'tls_handshake_errors_total{side="server",reason="timeout"} 1' in errors
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("policy", "status"), [("all-authenticated", 403), ("all-unauthenticated", 200)])
@pytest.mark.parity("T-03", "R-33", "U-05")
async def test_plaintext_is_let_in_as_far_as_the_policy_says(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, policy: str, status: int
) -> None:
    application: MockService = mock_service(echo)
    pair = await meshed(nursery, application, policy=policy)
    forged = [(b"l5d-client-id", b"web.shop")]

    answer = await pair.mesh.client(INBOUND)(request(authority=b"orders", headers=forged))

    assert status == answer.status
    assert [None] * len(application.requests) == [seen.headers.get(b"l5d-client-id") for seen in application.requests]
    nursery.cancel_scope.cancel()


async def test_a_slow_network_takes_its_time_and_no_other(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    pair = await meshed(nursery, mock_service(echo))
    between = pair.mesh.network.faults(INBOUND)
    between.connect_delay = between.request.delay = between.response.delay = 0.1

    await pair.ask()
    first = trio.current_time()
    await pair.ask()

    # A connect, the round trips of the handshake, of HTTP/2's settings, of the request; then that one alone.
    assert (0.7, 0.9) == pytest.approx((first, trio.current_time()))
    nursery.cancel_scope.cancel()


async def test_a_sidecar_is_ready_drains_and_leaves_its_addresses(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    mesh, drain = MemoryMesh(nursery), meshcore.Drain()
    slow = mock_service(30.0, response(200, b"late"))
    await mesh.serve(APPLICATION, slow)
    orders = await mesh.start(ORDERS.format(policy="all-unauthenticated"), drain=drain)
    assert {"inbound": (INBOUND,)} == orders.listeners
    admin = mesh.client(("orders", 4191))
    assert 200 == (await admin(request(authority=b"localhost", path=b"/ready"))).status

    answers: list[Response] = []

    async def ask() -> None:
        answers.append(await mesh.client(INBOUND)(request(authority=b"orders")))

    nursery.start_soon(ask)
    await trio.sleep(1)
    drain.start("enough")
    await trio.sleep(60)

    assert b"late" == await read_all(answers[0].body)
    # Free for its successor.
    await mesh.start(ORDERS.format(policy="all-unauthenticated"))
    nursery.cancel_scope.cancel()


@pytest.mark.parity("A-05", "T-13", "L-01")
async def test_files_of_the_identity_that_are_not_there_yet_are_waited_for_and_nothing_is_served_before(
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    mesh = MemoryMesh(nursery)
    await mesh.serve(APPLICATION, mock_service(echo))
    files = 'mode = "files"\ncert = "late.crt"\nkey = "late.key"\ntrust_anchors = "ca.crt"'
    (tmp_path / "orders.toml").write_text(ORDERS.replace('mode = "dev"', files).format(policy="all-unauthenticated"))
    with pytest.raises(meshcore.errors.ConfigError, match=r"orders.toml:7: identity.cert: 'late.crt': no such file"):
        meshcore.load_config(tmp_path / "orders.toml")
    config = meshcore.load_config(tmp_path / "orders.toml", waiting=True)
    network, registry = mesh.network, Registry()
    start = partial(run, config, registry=registry, connect=network.connect, listen=network.open_listeners)
    nursery.start_soon(start)
    answers: list[Response] = []

    async def ask() -> None:
        answers.append(await mesh.client(INBOUND)(request(authority=b"orders")))

    async def ready() -> tuple[int, bytes]:
        answer = await mesh.client(("orders", 4191))(request(authority=b"localhost", path=b"/ready"))
        return answer.status, await read_all(answer.body)

    nursery.start_soon(ask)
    await trio.sleep(10)

    # What the process is, and that it is well so far, is told meanwhile.
    metrics = registry.render()
    assert "\nproxy_build_info{" in metrics
    assert "\ncrashes_total 0\n" in metrics

    status, said = await ready()
    assert 503 == status
    assert said.startswith(b"not ready: waiting for the identity: ")
    assert said.count(b"no such file or directory") == 3
    assert 1 == caplog.text.count("refused")
    assert [] == answers
    cert, key = mesh.authority.issue("orders.shop", now=mesh.now())
    for name, data in (("ca.crt", mesh.authority.cert_pem()), ("late.crt", cert), ("late.key", key)):
        (tmp_path / name).write_bytes(data)
    await trio.sleep(1.5)
    # Whoever had come too early was not turned away.
    assert [200] == [answer.status for answer in answers]
    assert (200, b"ready from=orders:4143\n") == await ready()
    nursery.cancel_scope.cancel()


def test_two_sidecars_at_one_address_are_a_problem_of_the_second() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            mesh = MemoryMesh(nursery)
            await mesh.start(ORDERS.format(policy="audit"))
            await mesh.start(ORDERS.format(policy="audit"))

    with pytest.RaisesGroup(pytest.RaisesExc(meshcore.proxy.AddressError, match="inbound.listen: address in use")):
        trio.run(main)
