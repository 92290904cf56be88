"""Default policies: who is let in, over HTTP and over connections."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import trio

from meshcore.errors import AuthorizationError
from meshcore.http.message import Request
from meshcore.layers import Authorize, Rescue
from meshcore.layers.authorize import DefaultPolicy
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


@pytest.mark.parity("R-33", "R-32")
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
