"""Who is let in, over HTTP and over connections, and what becomes of them when the policy changes."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import trio

from meshcore.errors import AuthorizationError
from meshcore.http.message import Request
from meshcore.layers import Authorize, Rescue
from meshcore.layers.authorize import Authorization, DefaultPolicy, Policies, ServerPolicy
from meshcore.metrics.registry import Registry
from meshcore.testing import MockNewService, memory_connection_pair, mock_service, request
from meshcore.transport.connection import Connection
from meshcore.transport.target import Accepted

NETWORKS = ("10.0.0.0/8", "fd00::/8")
INSIDE, OUTSIDE, LOCAL, NOWHERE = "10.1.2.3", "192.0.2.7", "127.0.0.1", ""


def client(peer: str, identity: str | None = None) -> Connection:
    connection = memory_connection_pair(peer=(peer, 50_000))[0]
    connection.identity = identity
    return connection


def http(policy: Any, nursery: trio.Nursery, **options: Any) -> Any:
    new = MockNewService(lambda _: mock_service())
    return Authorize(policy, **options).layer(new).new_service(Accepted(), nursery)


def asked(connection: Connection | None) -> Request:
    made = request()
    made.connection = connection
    return made


TABLE = [
    ("all-unauthenticated", OUTSIDE, None, True),
    ("all-unauthenticated", NOWHERE, None, True),
    ("all-authenticated", OUTSIDE, None, False),
    ("all-authenticated", INSIDE, None, False),
    ("all-authenticated", NOWHERE, None, False),
    ("all-authenticated", OUTSIDE, "web.shop", True),
    ("all-authenticated", NOWHERE, "web.shop", True),
    ("cluster-unauthenticated", INSIDE, None, True),
    ("cluster-unauthenticated", "fd00::1", None, True),
    ("cluster-unauthenticated", "::ffff:10.1.2.3", None, True),
    ("cluster-unauthenticated", OUTSIDE, None, False),
    ("cluster-unauthenticated", OUTSIDE, "web.shop", False),
    ("cluster-unauthenticated", NOWHERE, None, False),
    ("cluster-authenticated", INSIDE, "web.shop", True),
    ("cluster-authenticated", INSIDE, None, False),
    ("cluster-authenticated", OUTSIDE, "web.shop", False),
    ("cluster-authenticated", "not an address", "web.shop", False),
    ("audit", OUTSIDE, None, True),
    ("audit", OUTSIDE, "web.shop", True),
    ("deny", INSIDE, "web.shop", False),
    ("deny", OUTSIDE, None, False),
]


@pytest.mark.parity("R-33", "R-31", "R-29")
@pytest.mark.parametrize(("policy", "peer", "identity", "allowed"), TABLE)
async def test_a_policy_lets_a_request_in_or_answers_403(
    policy: str, peer: str, identity: str | None, allowed: bool, nursery: trio.Nursery
) -> None:
    service = Rescue().wrap(http(policy, nursery, networks=NETWORKS), None)

    answer = await service(asked(client(peer, identity)))

    assert ((200, False) if allowed else (403, False)) == (answer.status, answer.close)
    grpc = asked(client(peer, identity))
    grpc.version, grpc.method = 20, b"POST"
    grpc.headers.add(b"content-type", b"application/grpc")
    assert (None if allowed else b"7") == (await service(grpc)).headers.get(b"grpc-status")


@pytest.mark.parity("R-33", "R-32", "U-03")
@pytest.mark.parametrize(("policy", "peer", "identity", "allowed"), TABLE)
async def test_a_policy_lets_a_connection_in_or_refuses_it(
    policy: Any, peer: str, identity: str | None, allowed: bool, nursery: trio.Nursery
) -> None:
    carried: list[Connection] = []

    async def carry(connection: Connection) -> None:
        carried.append(connection)

    class New:
        def new_service(self, target: Accepted, nursery: trio.Nursery, /) -> Any:
            return carry

    service = Authorize(policy, networks=NETWORKS).layer(New()).new_service(Accepted(), nursery)
    connection = client(peer, identity)
    if allowed:
        await service(connection)
        assert [connection] == carried
    else:
        with pytest.raises(AuthorizationError, match=f"policy {policy}"):
            await service(connection)
        assert [] == carried


@pytest.mark.parity("R-30")
@pytest.mark.parametrize("policy", get_args(DefaultPolicy))
@pytest.mark.parametrize("peer", [LOCAL, "127.8.8.8", "::1", "::ffff:127.0.0.1"])
async def test_clients_on_this_host_are_always_let_in(policy: str, peer: str, nursery: trio.Nursery) -> None:
    assert 200 == (await http(policy, nursery, networks=NETWORKS)(asked(client(peer)))).status


@pytest.mark.parity("R-30")
async def test_unless_they_are_to_be_asked_like_everybody_else(nursery: trio.Nursery) -> None:
    with pytest.raises(AuthorizationError):
        await http("all-authenticated", nursery, loopback=False)(asked(client(LOCAL)))


async def test_a_request_of_no_connection_has_no_identity(nursery: trio.Nursery) -> None:
    with pytest.raises(AuthorizationError):
        await http("all-authenticated", nursery)(asked(None))
    assert 200 == (await http("all-unauthenticated", nursery)(asked(None))).status


@pytest.mark.parity("R-33")
async def test_an_audit_says_who_would_not_have_been_let_in(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    service = http("audit", nursery)
    await service(asked(client(OUTSIDE, "web.shop")))
    assert "" == caplog.text
    await service(asked(client(OUTSIDE)))
    assert "unauthorized request from 192.0.2.7 let in: policy audit" in caplog.text


@pytest.mark.parametrize(
    ("policy", "networks"), [("nobody", ()), ("cluster-authenticated", ()), ("deny", ("10.0.0.1/8",)), ("deny", ("x",))]
)
def test_a_policy_that_makes_no_sense_is_refused(policy: Any, networks: tuple[str, ...]) -> None:
    with pytest.raises(ValueError):
        Authorize(policy, networks)


# ----- policies -----

WEB = Authorization("web", identities=("web.shop",))
ADMIN = Authorization("ops", identities=("ops.shop",), routes=("admin",))
SHOP = ServerPolicy("deny", authorizations=(WEB, ADMIN), loopback=False, name="inbound")


@pytest.mark.parity("R-31", "R-28")
async def test_a_route_has_its_own_clients_beside_those_of_the_server(nursery: trio.Nursery) -> None:
    new = Authorize(SHOP, route=lambda target: target).layer(MockNewService(lambda _: mock_service()))
    services = {route: Rescue().wrap(new.new_service(route, nursery), None) for route in ("admin", "other")}

    async def ask(route: str, identity: str) -> tuple[int, bytes | None]:
        answer = await services[route](asked(client(OUTSIDE, identity)))
        return answer.status, answer.headers.get(b"l5d-proxy-error")

    assert (200, None) == await ask("admin", "web.shop")
    assert (200, None) == await ask("admin", "ops.shop")
    assert (200, None) == await ask("other", "web.shop")
    told = b"unauthorized request on route other from 192.0.2.7 (ops.shop): no policy of inbound permits it"
    assert (403, told) == await ask("other", "ops.shop")


@pytest.mark.parity("R-31")
async def test_a_target_may_bring_its_own_policy(nursery: trio.Nursery) -> None:
    policies = {"open": "all-unauthenticated", "shut": "deny", "web": SHOP}
    new = Authorize(lambda target: policies[target]).layer(MockNewService(lambda _: mock_service()))
    known = client(OUTSIDE, "web.shop")
    answers = {name: await Rescue().wrap(new.new_service(name, nursery), None)(asked(known)) for name in policies}
    assert {"open": 200, "shut": 403, "web": 200} == {name: answer.status for name, answer in answers.items()}


@pytest.mark.parity("R-32")
async def test_requests_are_judged_by_the_policy_of_their_moment(nursery: trio.Nursery) -> None:
    held = Policies(ServerPolicy())
    service = Rescue().wrap(http(held, nursery), None)
    connection, other = client(OUTSIDE), client(OUTSIDE, "web.shop")

    async def statuses() -> list[int]:
        return [(await service(asked(each))).status for each in (connection, other)]

    assert [200, 200] == await statuses()
    held.replace(SHOP)
    assert [403, 200] == await statuses()
    held.replace(ServerPolicy("deny", loopback=False))
    assert [403, 403] == await statuses()
    held.replace(ServerPolicy())
    assert [200, 200] == await statuses()


async def test_a_connection_is_judged_once_for_all_its_requests(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = []
    judge = ServerPolicy.judge
    monkeypatch.setattr(ServerPolicy, "judge", lambda self, *args: judged.append(args) or judge(self, *args))
    held = Policies(SHOP)
    service = http(held, nursery)
    connections = [client(OUTSIDE, "web.shop") for _ in range(2)]
    for _ in range(5):
        for connection in connections:
            await service(asked(connection))
    assert 2 == len(judged)
    held.replace(SHOP)
    await service(asked(connections[0]))
    assert 2 == len(judged)


async def test_what_is_kept_of_verdicts_on_a_connection_is_bounded(nursery: trio.Nursery) -> None:
    connection = client(OUTSIDE, "web.shop")
    held = Policies(SHOP)
    for _ in range(1_000):
        # As after so many reloads.
        await http(held, nursery)(asked(connection))
    assert connection.judged is not None
    assert len(connection.judged) <= 256


class Carrier:
    """Carries connections until it is told to stop."""

    def __init__(self) -> None:
        self.carried: list[Connection] = []
        self.cut: list[Connection] = []
        self.stop = trio.Event()

    def new_service(self, target: object, nursery: trio.Nursery, /) -> Any:
        async def carry(connection: Connection) -> None:
            self.carried.append(connection)
            try:
                await self.stop.wait()
            except trio.Cancelled:
                self.cut.append(connection)
                raise

        return carry


@pytest.mark.parity("R-32", "M-08")
async def test_connections_that_are_not_permitted_any_more_end_and_are_counted(
    autojump_clock: trio.testing.MockClock,
) -> None:
    held, registry, carrier = Policies(ServerPolicy()), Registry(), Carrier()
    layer = Authorize(held, registry=registry)
    refused: list[str] = []
    web, stranger = client(OUTSIDE, "web.shop"), client(OUTSIDE)
    web.secure = True

    async with trio.open_nursery() as nursery:
        new = layer.layer(carrier)

        async def serve(connection: Connection) -> None:
            try:
                await new.new_service(Accepted(local=("10.0.0.1", 80)), nursery)(connection)
            except AuthorizationError as error:
                refused.append(str(error))

        nursery.start_soon(serve, web)
        nursery.start_soon(serve, stranger)
        await trio.testing.wait_all_tasks_blocked()
        assert 2 == len(carrier.carried) == len(held)
        held.replace(SHOP)
        await trio.testing.wait_all_tasks_blocked()
        assert ([stranger], 1) == (carrier.cut, len(held))
        assert stranger.closed
        assert refused == ["connection from 192.0.2.7 is not authorized any more: no policy of inbound permits it"]
        await serve(client(OUTSIDE))
        carrier.stop.set()
    assert 0 == len(held)
    assert not web.closed
    text = registry.render()
    nobody = 'target_addr="10.0.0.1:80",target_ip="10.0.0.1",target_port="80",tls="no_identity",' \
             'no_tls_reason="no_tls_from_remote"'  # fmt: skip
    server = 'srv_kind="server",srv_name="inbound"'
    assert f"inbound_tcp_authz_terminate_total{{{nobody},{server}}} 1\n" in text
    assert f"inbound_tcp_authz_deny_total{{{nobody},{server}}} 1\n" in text
    default = 'srv_kind="default",srv_name="all-unauthenticated",authz_kind="default",authz_name="all-unauthenticated"'
    assert f"inbound_tcp_authz_allow_total{{{nobody},{default}}} 1\n" in text
    assert 'tls="true",client_id="web.shop",srv_kind="default"' in text


@pytest.mark.parity("M-08", "R-31")
async def test_requests_are_counted_by_what_let_them_in_or_did_not(nursery: trio.Nursery) -> None:
    registry = Registry()
    new = Authorize(SHOP, route="admin", registry=registry).layer(MockNewService(lambda _: mock_service()))
    service = Rescue().wrap(new.new_service(Accepted(local=("10.0.0.1", 80)), nursery), None)
    for identity in ("web.shop", "web.shop", "ops.shop", "x.shop"):
        connection = client(OUTSIDE, identity)
        connection.secure = True
        await service(asked(connection))
    text = registry.render()
    place = 'target_addr="10.0.0.1:80",target_ip="10.0.0.1",target_port="80",tls="true"'
    route = 'srv_kind="server",srv_name="inbound",route_kind="route",route_name="admin"'
    for identity, authorization, count in (("web.shop", "web", 2), ("ops.shop", "ops", 1)):
        assert (
            f'inbound_http_authz_allow_total{{{place},client_id="{identity}",{route},authz_kind="policy",'
            f'authz_name="{authorization}"}} {count}\n'
        ) in text
    assert f'inbound_http_authz_deny_total{{{place},client_id="x.shop",{route}}} 1\n' in text


async def test_it_is_not_there_where_everybody_is_let_in_for_good(nursery: trio.Nursery) -> None:
    inner = mock_service()
    new = MockNewService(lambda _: inner)
    assert inner is Authorize().layer(new).new_service(Accepted(), nursery)
    assert inner is not Authorize(Policies(ServerPolicy())).layer(new).new_service(Accepted(), nursery)


def test_its_repr_is_the_policy() -> None:
    assert repr(Authorize("deny")) == "Authorize(policy=deny)"
    cluster = ServerPolicy("cluster-authenticated", ("10.0.0.0/8",), authorizations=(WEB,))
    assert repr(Authorize(Policies(cluster))) == (
        "Authorize(policy=web; default cluster-authenticated from 10.0.0.0/8)"
    )
