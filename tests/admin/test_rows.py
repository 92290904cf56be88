"""The rows of /stats, where no mesh in memory leads to: TLS of gateways, TLS of others, what has no traffic."""

from __future__ import annotations

from collections import defaultdict

from meshcore.admin.endpoints import LiveBackend, LiveEndpoint
from meshcore.admin.stats import EdgeFigures, Golden
from meshcore.admin.stats.rows import Known, Row, Rows, busiest
from meshcore.admin.stats.series import RouteKey, Where, ended, route, route_ended, where
from meshcore.admin.stats.snapshot import Change
from meshcore.admin.stats.tally import Tally
from meshcore.layers.balance import BalanceStatistics, EndpointStatistics


def tally(requests: int) -> Tally:
    made = Tally()
    made.requests = made.successes = requests
    return made


def came(**places: tuple[Where, int]) -> Change:
    change = Change(10.0)
    for place, requests in places.values():
        change.requests[place] = tally(requests)
    return change


def endpoint(address: str, **more: object) -> LiveEndpoint:
    host, _, port = address.rpartition(":")
    told = EndpointStatistics((host, int(port)), "ready", 1.0, 0.1, 0.1, 0, 0, 0, 0, 5.0, "", **more)  # type: ignore[arg-type]
    return LiveEndpoint(address=address, told=told)


def backend(name: str, *endpoints: LiveEndpoint, listener: str = "outbound") -> LiveBackend:
    told = BalanceStatistics(name, tuple(each.told for each in endpoints), 0, False, True)
    return LiveBackend(listener=listener, told=told, endpoints=list(endpoints))


async def rows(
    change: Change,
    backends: list[LiveBackend] | None = None,
    connections: dict[tuple[str, Where], int] | None = None,
    known: Known | None = None,
) -> Rows:
    made = Rows(change, backends or [], defaultdict(int, connections or {}), known or Known(name="edge"))
    await made.gather()
    return made


async def edges(made: Rows) -> list[EdgeFigures]:
    return list((await busiest(made.edges(), 10.0))[0])


async def test_a_gateway_that_terminates_tls_has_secured_edges_whatever_its_connections_are_counted_as() -> None:
    asked = Where("inbound", "public", "10.0.0.1:443", tls="true")
    accepted = Where("inbound", "", "10.0.0.1:443", tls="no_identity", no_tls_reason="no_tls_from_remote")
    known = Known(name="edge", listeners={443: "public"}, gateways=frozenset({"public"}), secured=frozenset({"public"}))
    (edge,) = await edges(await rows(came(a=(asked, 20)), connections={("src", accepted): 3}, known=known))
    assert (edge.source, edge.target, edge.secured, edge.no_tls_reason) == ("unknown", "public", True, "")
    assert (edge.connections, edge.golden.requests, edge.golden.rps) == (3, 20, 2.0)


async def test_connections_without_a_request_are_an_edge_by_their_port() -> None:
    opaque = Where("inbound", "", "10.0.0.1:5432", tls="opaque")
    known = Known(name="db.shop", identity="db.shop", listeners={4143: "inbound"})
    (edge,) = await edges(await rows(Change(10.0), connections={("src", opaque): 2}, known=known))
    assert (edge.target, edge.secured, edge.no_tls_reason, edge.connections) == ("db.shop", False, "opaque", 2)
    assert (edge.golden, edge.source_identity) == (Golden(), None)


async def test_an_edge_is_by_identity_and_the_own_one_is_shown_in_mutual_tls_alone() -> None:
    meshed = endpoint("10.0.0.1:80", identity="a.shop", secured=True, mesh=True)
    public = endpoint("10.0.0.2:443", identity="api.example.com", secured=True)
    plain = endpoint("10.0.0.3:80", no_tls="loopback")
    known = Known(name="edge", identity="edge.shop")
    open_now = {("dst", Where("outbound", "", each.address)): 1 for each in (meshed, public, plain)}
    found = await edges(await rows(Change(1.0), [backend("b", meshed, public, plain)], open_now, known))
    told = {each.target_identity: (each.source_identity, each.secured, each.no_tls_reason) for each in found}
    assert told == {
        "a.shop": ("edge.shop", True, ""),
        "api.example.com": (None, True, ""),
        None: (None, False, "loopback"),
    }
    assert all(each.connections == 1 for each in found)


async def test_a_shared_address_is_split_evenly_where_the_balancers_gave_it_nothing() -> None:
    change = came(a=(Where("outbound", "", "10.0.0.1:80"), 10))
    shared = endpoint("10.0.0.1:80")
    made = await rows(change, [backend("one", shared), backend("other", shared)])
    found, _ = await busiest(made.backends(), 10.0)
    assert {each.backend: each.golden.requests for each in found} == {"one": 5, "other": 5}


async def test_balancers_of_requests_and_of_bytes_are_one_backend() -> None:
    change = came(a=(Where("outbound", "", "10.0.0.1:80"), 10))
    made = await rows(change, [backend("b", endpoint("10.0.0.1:80")), backend("b", endpoint("10.0.0.1:80"))])
    (found,), _ = await busiest(made.backends(), 10.0)
    assert (found.golden.requests, found.ready, found.pending) == (10, 1, 0)
    assert len(made.endpoints()) == 1


async def test_routes_of_gateways_are_inbound_and_of_destinations_outbound() -> None:
    change = Change(10.0)
    change.routes[RouteKey("outbound", "public", "r")] = tally(10)
    change.routes[RouteKey("outbound", "payments:80", "r")] = tally(20)
    quiet = (RouteKey("outbound", "payments:80", "r"), RouteKey("outbound", "stock:80", "default"))
    known = Known(name="x", gateways=frozenset({"public"}), routes=quiet)
    found, _ = await busiest((await rows(change, known=known)).routes(), 10.0)
    assert [(each.direction, each.parent, each.route, each.golden.requests) for each in found] == [
        ("outbound", "payments:80", "r", 20),
        ("inbound", "public", "r", 10),
        ("outbound", "stock:80", "default", 0),
    ]


async def test_what_comes_to_the_admin_server_is_nobodys_traffic() -> None:
    admin = Where("inbound", "admin", "127.0.0.1:4191", tls="no_identity")
    change = came(a=(admin, 10), b=(Where("inbound", "public", "10.0.0.1:80"), 2))
    known = Known(name="x", listeners={80: "public"}, gateways=frozenset({"public"}), admin=frozenset({4191}))
    made = await rows(change, connections={("src", admin): 3}, known=known)
    assert made.totals()["inbound"].requests == 2
    assert [row.name for row in made.routes()] == [("inbound", "public", "default")]
    assert [each.target for each in await edges(made)] == ["public"]


async def test_rows_that_are_not_shown_are_not_made() -> None:
    made = []

    def make(golden: Golden) -> EdgeFigures:
        made.append(golden)
        return golden  # type: ignore[return-value]

    shown, more = await busiest([Row((str(number),), tally(number), make) for number in range(600)], 1.0)
    assert (len(shown), len(made), more) == (500, 500, 100)
    assert made[0].requests == 599


def test_labels_that_are_not_there_are_done_without() -> None:
    assert where({}) == where({"overflow": "true", "direction": "inbound"}) == Where("")
    assert where({"direction": "inbound"}) == Where("inbound")
    assert ended({"direction": "inbound"}) is None
    assert ended({"direction": "inbound", "classification": "failure"}) == (Where("inbound"), True)
    assert route("inbound", {"parent_name": "p"}) is None


def test_a_route_has_failed_by_its_classification_its_status_or_its_error() -> None:
    key = {"parent_name": "p", "route_name": "r"}

    def failed(**labels: str) -> bool:
        found = route_ended("outbound", {**key, **labels})
        assert found is not None
        return found[1]

    assert not failed(http_status="200")
    assert not failed(http_status="404")
    assert failed(http_status="503")
    assert not failed(http_status="503", classification="success")
    assert failed(http_status="200", classification="failure")
    assert failed(grpc_status="14")
    assert not failed(grpc_status="5")
    assert failed(error="connect-failed")
    assert failed(error="FAIL_FAST")
    assert not failed(http_status="200", error="cancelled")
    assert not failed(error="CANCEL")
    assert not failed(http_status="x")
