"""Detection of TLS: which branch gets a connection, with every byte, when, and who is refused."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from meshcore.codec.client_hello import MAX_HELLO
from meshcore.errors import ConnectionLost, TlsError
from meshcore.identity.store import Identity
from meshcore.layers.tcp_errors import TcpErrors
from meshcore.layers.tcp_metrics import TcpMetrics
from meshcore.metrics.detection import tls_detection
from meshcore.metrics.errors import error_kind
from meshcore.metrics.registry import Registry
from meshcore.server.detect import Detect
from meshcore.server.detect_tls import DetectTls
from meshcore.server.opaque import Forward
from meshcore.server.serve import Server, serve
from meshcore.server.terminate_tls import TerminateTls
from meshcore.stack import Stack, accept, role
from meshcore.testing import memory_connection_pair
from meshcore.transport.connection import Connection
from meshcore.transport.identity import ServerTls
from meshcore.transport.socket import SocketConnection
from meshcore.transport.target import Accepted, Endpoint
from meshcore.transport.tcp import connect_tcp, open_listeners
from tests.codec.hellos import message, padded, protocols, real, records, server_name
from tests.server.mesh import CLIENT, OWN, Renamed, identity, secured
from tests.server.stacks import Branch, MemoryServer, To, read_all, until

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
ACCEPTED = Accepted("inbound", ("10.0.0.2", 80), ("10.0.0.1", 50_000))
ENDPOINT = Endpoint(("10.0.0.3", 80))
FOREIGN = records(message(server_name(b"other.test")))
NAMELESS = records(message())


@pytest.fixture
def own(pki: Any) -> Identity:
    return identity(pki)


@attrs.define
class Served:
    """What a branch was given."""

    branch: str
    target: Accepted
    data: bytes
    alpn: str | None
    secure: bool
    identity: str | None


@attrs.frozen
class Note:
    """A layer that notes what its branch is given, and echoes it until the end."""

    branch: str
    served: list[Served]

    def layer(self, inner: Any, /) -> Any:
        return self

    def new_service(self, target: Any, nursery: trio.Nursery, /) -> Any:
        async def service(connection: Connection) -> None:
            entry = Served(self.branch, target, b"", connection.alpn, connection.secure, connection.identity)
            self.served.append(entry)
            while data := await connection.receive_some():
                entry.data += data
                await connection.send_all(data)
            await connection.send_eof()

        return service


class Proxy:
    """DetectTls over two branches that note what they are given."""

    def __init__(self, nursery: trio.Nursery, identity: Any, *, nowait: bool = True, **options: Any) -> None:
        self.nursery = nursery
        self.nowait = nowait
        self.served: list[Served] = []
        self.errors: list[BaseException] = []
        self.observed: list[tuple[str, float]] = []
        self.detect = DetectTls[Accepted](
            identity,
            plain=accept(Accepted).then(Note("plain", self.served)),
            passthrough=accept(Accepted).then(Note("passthrough", self.served)),
            observe=lambda result, seconds: self.observed.append((result, round(seconds, 3))),
            **options,
        )
        self.new_accept = self.detect.layer(MemoryServer(nursery, read_all))

    def connect(self, target: Accepted = ACCEPTED) -> Connection:
        """The client's end of an accepted connection that is being served."""
        client, accepted = memory_connection_pair(local=target.peer, peer=target.local, nowait=self.nowait)
        self.nursery.start_soon(self.serve, accepted, target)
        return client

    async def serve(self, accepted: Connection, target: Accepted = ACCEPTED) -> None:
        try:
            await self.new_accept.new_service(target, self.nursery)(accepted)
        except (TlsError, ConnectionLost) as error:
            self.errors.append(error)
        finally:
            accepted.close()

    def facts(self) -> list[tuple[str, bytes, str | None]]:
        return [(each.branch, each.data, each.target.sni) for each in self.served]


async def exchange(client: Connection, *pieces: bytes, pause: float = 0.0) -> bytes:
    for piece in pieces:
        await client.send_all(piece)
        await trio.sleep(pause)
    await client.send_eof()
    return await read_all(client)


@pytest.mark.parity("D-10", "D-12", "U-02")
@pytest.mark.parametrize("nowait", [True, False])
@pytest.mark.parametrize("alpn", [(), ("h2",), ("transport.l5d.io/v1",)])
async def test_tls_for_the_own_name_is_terminated(
    own: Any, pki: Any, nursery: trio.Nursery, nowait: bool, alpn: tuple[str, ...]
) -> None:
    proxy = Proxy(nursery, own, nowait=nowait)
    client = await secured(proxy.connect(), pki, alpn=alpn)

    await client.send_all(GET)
    assert GET == await client.receive_some()
    client.close()
    await trio.testing.wait_all_tasks_blocked()

    served = proxy.served[0]
    assert ("plain", GET, OWN) == (served.branch, served.data, served.target.sni)
    assert (True, alpn[0] if alpn else None, "") == (served.secure, served.alpn, served.target.no_tls)
    assert CLIENT == served.identity
    assert ["terminated"] == [result for result, _ in proxy.observed]


@pytest.mark.parity("D-12", "D-09", "U-19")
@pytest.mark.parametrize("nowait", [True, False])
async def test_tls_for_another_name_passes_untouched(
    autojump_clock: Any, own: Any, nursery: trio.Nursery, nowait: bool
) -> None:
    proxy = Proxy(nursery, own, nowait=nowait)

    assert FOREIGN + b"more" == await exchange(proxy.connect(), FOREIGN, b"more")
    assert [("passthrough", FOREIGN + b"more", "other.test")] == proxy.facts()
    assert [("passthrough", 0.0)] == proxy.observed


@pytest.mark.parity("D-11", "D-12", "U-02")
@pytest.mark.parametrize("nowait", [True, False])
@pytest.mark.parametrize("data", [GET, PREFACE, b"\x16\x02", b"\x16\3\1\0\5\2", b"\0", NAMELESS])
async def test_what_is_no_tls_or_asks_for_nobody_goes_on_at_once(
    autojump_clock: Any, own: Any, nursery: trio.Nursery, data: bytes, nowait: bool
) -> None:
    proxy = Proxy(nursery, own, nowait=nowait)
    client = proxy.connect()

    await client.send_all(data)
    assert data == await client.receive_some()
    assert 0.0 == trio.current_time()
    client.close()
    await trio.testing.wait_all_tasks_blocked()
    assert [("plain", data, None)] == proxy.facts()
    assert ["no_tls_from_remote"] == [each.target.no_tls for each in proxy.served]
    assert [("no_tls", 0.0)] == proxy.observed


@pytest.mark.parity("D-10")
@pytest.mark.parametrize("data", [real(OWN), FOREIGN, NAMELESS, GET])
async def test_without_an_identity_nothing_is_terminated(
    autojump_clock: Any, nursery: trio.Nursery, data: bytes
) -> None:
    proxy = Proxy(nursery, None)

    assert data == await exchange(proxy.connect(), data)
    branch = "plain" if data in (NAMELESS, GET) else "passthrough"
    assert branch == proxy.served[0].branch
    assert ("disabled" if branch == "plain" else "") == proxy.served[0].target.no_tls


@pytest.mark.parity("D-10", "D-17")
async def test_without_an_identity_silence_is_handed_on_and_a_stalled_hello_is_not(
    autojump_clock: Any, nursery: trio.Nursery
) -> None:
    proxy = Proxy(nursery, None, timeout=2.0)
    client = proxy.connect()
    await trio.sleep(2.1)
    await client.send_all(b"late")
    assert b"late" == await client.receive_some()
    stalled = proxy.connect()
    await stalled.send_all(FOREIGN[:20])
    assert b"" == await stalled.receive_some()

    assert [("plain", b"late", None)] == proxy.facts()
    assert [("no_tls", 2.0), ("timeout", 2.0)] == proxy.observed


async def test_where_the_server_may_speak_first_silence_is_handed_on_with_an_identity_too(
    autojump_clock: Any, own: Any, nursery: trio.Nursery
) -> None:
    proxy = Proxy(nursery, own, timeout=1.0, server_first=True)
    client = proxy.connect()
    await trio.sleep(1.1)
    await client.send_all(b"late")
    assert b"late" == await client.receive_some()

    assert [("plain", b"late", None)] == proxy.facts()
    assert [("no_tls", 1.0)] == proxy.observed


@pytest.mark.parity("D-13", "X-56")
@pytest.mark.parametrize("data", [b"", b"\x16", FOREIGN[:5], FOREIGN[:-1]])
@pytest.mark.parametrize("nowait", [True, False])
async def test_a_stalled_hello_fails_in_time_and_holds_nobody_up(
    autojump_clock: Any, own: Any, nursery: trio.Nursery, data: bytes, nowait: bool
) -> None:
    proxy = Proxy(nursery, own, nowait=nowait)
    stalled = proxy.connect()
    await stalled.send_all(data)
    await trio.sleep(5)
    assert FOREIGN == await exchange(proxy.connect(), FOREIGN)
    assert 5.0 == trio.current_time()

    assert b"" == await stalled.receive_some()
    assert 10.0 == trio.current_time()
    assert ["TLS detection timed out after 10 s"] == [str(error) for error in proxy.errors]
    # As in inbound_tcp_errors_total (E-08).
    assert ["tls detection timeout"] == [error_kind("inbound", error) for error in proxy.errors]
    assert [("passthrough", 0.0), ("timeout", 10.0)] == proxy.observed
    assert 1 == len(proxy.served)


@pytest.mark.parity("D-11")
@pytest.mark.parametrize("nowait", [True, False])
@pytest.mark.parametrize("hello", [FOREIGN, records(message(server_name(b"other.test")), 1, 3, 30)])
async def test_a_hello_in_pieces_and_in_records_is_understood(
    autojump_clock: Any, own: Any, nursery: trio.Nursery, hello: bytes, nowait: bool
) -> None:
    proxy = Proxy(nursery, own, nowait=nowait)
    pieces = [hello[index : index + 1] for index in range(len(hello))]

    assert hello == await exchange(proxy.connect(), *pieces, pause=0.01)
    assert [("passthrough", hello, "other.test")] == proxy.facts()


@pytest.mark.parity("D-11", "D-12")
async def test_the_own_hello_in_pieces_is_terminated(own: Any, pki: Any, nursery: trio.Nursery) -> None:
    proxy = Proxy(nursery, own)
    client = await secured(Crumbling(proxy.connect(), 50), pki)
    await client.send_all(b"x")
    assert b"x" == await client.receive_some()
    assert [("plain", b"x", OWN)] == proxy.facts()


class Crumbling(Connection):
    """Sends what it is given in small pieces."""

    def __init__(self, inner: Connection, size: int) -> None:
        super().__init__(inner.local, inner.peer)
        self.inner = inner
        self.size = size

    def receive_nowait(self, max_bytes: int = 65_536) -> bytes:
        return self.inner.receive_nowait(max_bytes)

    async def receive_some(self, max_bytes: int = 65_536) -> bytes:
        return await self.inner.receive_some(max_bytes)

    def send_nowait(self, data: bytes) -> int:
        return 0

    async def send_all(self, data: bytes) -> None:
        for start in range(0, len(data), self.size):
            await self.inner.send_all(data[start : start + self.size])
            await trio.testing.wait_all_tasks_blocked()

    async def send_eof(self) -> None:
        await self.inner.send_eof()

    def close(self) -> None:
        self.inner.close()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (records(padded(MAX_HELLO, server_name(OWN.encode()))), "TLS hello larger than 16384 bytes"),
        (records(message(server_name(b"a\0.test"))), "TLS hello has a server name that cannot be one"),
        (records(message(server_name(b"a"), server_name(b"b"))), "TLS hello names its server twice"),
        (FOREIGN[:30], "TLS hello breaks off"),
    ],
)
async def test_a_hello_that_cannot_be_relied_on_ends_the_connection(
    autojump_clock: Any, own: Any, nursery: trio.Nursery, data: bytes, text: str
) -> None:
    proxy = Proxy(nursery, own)
    client = proxy.connect()
    with contextlib.suppress(ConnectionLost):
        # It may be refused before all of it has been sent.
        await client.send_all(data)
        await client.send_eof()
        assert b"" == await read_all(client)
    await trio.testing.wait_all_tasks_blocked()

    assert [text] == [str(error) for error in proxy.errors]
    assert ([], [("refused", 0.0)]) == (proxy.served, proxy.observed)
    assert not any(error.retryable for error in proxy.errors if isinstance(error, TlsError))


async def test_an_end_before_the_first_byte_closes_quietly_and_one_soon_after_it_is_no_tls(
    autojump_clock: Any, own: Any, nursery: trio.Nursery
) -> None:
    proxy = Proxy(nursery, own)
    assert b"" == await exchange(proxy.connect())
    assert ([], []) == (proxy.served, proxy.errors)
    assert b"\x16\3" == await exchange(proxy.connect(), b"\x16\3")
    assert [("plain", b"\x16\3", None)] == proxy.facts()
    assert [("error", 0.0), ("no_tls", 0.0)] == proxy.observed


@pytest.mark.parity("D-14")
async def test_where_a_name_is_required_whoever_gives_none_is_refused(
    autojump_clock: Any, nursery: trio.Nursery
) -> None:
    proxy = Proxy(nursery, None, require_sni=True)
    for data in (GET, NAMELESS):
        assert b"" == await exchange(proxy.connect(), data)
    silent = proxy.connect()
    assert b"" == await silent.receive_some()
    assert FOREIGN == await exchange(proxy.connect(), FOREIGN)

    assert ["could not find SNI", "could not find SNI", "SNI detection timed out after 10 s"] == [
        str(error) for error in proxy.errors
    ]
    assert [("passthrough", FOREIGN, "other.test")] == proxy.facts()
    assert ["refused", "refused", "timeout", "passthrough"] == [result for result, _ in proxy.observed]


@pytest.mark.parity("D-16", "T-16")
async def test_at_a_skipped_port_tls_is_not_looked_for(autojump_clock: Any, own: Any, nursery: trio.Nursery) -> None:
    proxy = Proxy(nursery, own, ports_skipped=frozenset({25}))
    for target in (
        attrs.evolve(ACCEPTED, local=("10.0.0.2", 25)),
        attrs.evolve(ACCEPTED, original=("10.0.0.2", 25)),
    ):
        assert FOREIGN == await exchange(proxy.connect(target), FOREIGN)
    assert FOREIGN == await exchange(proxy.connect(), FOREIGN)

    assert ["plain", "plain", "passthrough"] == [each.branch for each in proxy.served]
    assert ["port_skipped", "port_skipped", ""] == [each.target.no_tls for each in proxy.served]


def asked(name: str) -> bytes:
    """A hello for *name*, whole and of no use to anybody who would answer it."""
    return records(message(server_name(name.encode())))


async def results(proxy: Proxy, *names: str) -> list[str]:
    """What hellos for these names are found to be."""
    before = len(proxy.observed)
    for name in names:
        client = proxy.connect()
        await client.send_all(asked(name))
        await client.send_eof()
        try:
            await read_all(client)
        except ConnectionLost:
            pass
        await trio.testing.wait_all_tasks_blocked()
    return [result for result, _ in proxy.observed[before:]]


@pytest.mark.parity("D-12")
async def test_the_own_names_are_those_given_and_those_of_the_certificate_in_any_case(
    nursery: trio.Nursery, own: Identity
) -> None:
    assert ["terminated", "terminated", "passthrough"] == await results(
        Proxy(nursery, own), OWN, OWN.upper(), "a.test"
    )
    spiffe = "spiffe://test/ns/web"
    assert ["terminated", "passthrough"] == await results(
        Proxy(nursery, Renamed(own, spiffe, (spiffe, "A.test."))), "a.test", spiffe
    )
    assert ["terminated", "terminated"] == await results(Proxy(nursery, own, names=("B.test",)), OWN, "b.test")
    assert ["passthrough"] == await results(Proxy(nursery, Renamed(own, spiffe)), OWN)


@pytest.mark.parametrize("protocol", [b"mesh.meshcore/1", b"transport.l5d.io/v1"])
async def test_a_hello_that_only_a_mesh_proxy_sends_is_for_this_one_whatever_it_asks_for(
    nursery: trio.Nursery, own: Identity, protocol: bytes
) -> None:
    def looked_at(identity: Identity | None, data: bytes) -> Proxy:
        proxy = Proxy(nursery, identity)
        nursery.start_soon(proxy.connect().send_all, data)
        return proxy

    offered = protocols(protocol, b"h2")
    asked_for_another = looked_at(own, records(message(server_name(b"a.test"), offered)))
    asked_for_nobody = looked_at(own, records(message(offered)))
    nobody_here = looked_at(None, records(message(server_name(b"a.test"), offered)))
    await trio.testing.wait_all_tasks_blocked()

    assert ["terminated"] == [result for result, _ in asked_for_another.observed]
    assert ["terminated"] == [result for result, _ in asked_for_nobody.observed]
    assert ["passthrough"] == [result for result, _ in nobody_here.observed]


@pytest.mark.parity("T-06")
async def test_names_follow_the_certificate_while_it_runs(nursery: trio.Nursery, own: Identity) -> None:
    renamed = Renamed(own, OWN)
    proxy = Proxy(nursery, renamed)
    assert ["passthrough"] == await results(proxy, "other.test")
    renamed.names = ("other.test",)
    renamed.generation += 1
    assert ["terminated", "terminated"] == await results(proxy, "other.test", OWN)


@pytest.mark.parity("T-13")
async def test_before_the_first_certificate_nobody_is_terminated_and_nobody_downgraded(nursery: trio.Nursery) -> None:
    proxy = Proxy(nursery, Identity(OWN, clock=lambda: 0.0))
    assert ["terminated"] == await results(proxy, OWN)
    assert [] == proxy.served
    assert ["TlsError"] == [type(error).__name__ for error in proxy.errors]


async def test_what_is_terminated_already_goes_on_as_it_is(nursery: trio.Nursery, own: Any) -> None:
    proxy = Proxy(nursery, own)
    client, accepted = memory_connection_pair()
    accepted.secure = True
    nursery.start_soon(proxy.serve, accepted)

    assert FOREIGN == await exchange(client, FOREIGN)
    assert [("plain", FOREIGN, None)] == proxy.facts()
    assert [] == proxy.observed


async def test_bytes_that_were_read_ahead_reach_the_handshake(nursery: trio.Nursery, own: Any, pki: Any) -> None:
    proxy = Proxy(nursery, own)
    client, accepted = memory_connection_pair()

    async def serve() -> None:
        accepted.unread(await accepted.receive_some(100))
        await proxy.serve(accepted)

    nursery.start_soon(serve)
    tls = await secured(client, pki)
    await tls.send_all(b"x")
    assert b"x" == await tls.receive_some()


def test_its_branches_are_printed_and_edited_by_role() -> None:
    forward = Forward(idle_timeout=5.0)
    inner = Detect[Accepted](http=Stack(), opaque=Stack((To(ENDPOINT), Forward())))
    detect = DetectTls[Accepted](
        None,
        plain=Stack((inner,)),
        passthrough=Stack((To(ENDPOINT),)),
        names=("a.test",),
        ports_skipped=frozenset({25, 5}),
        require_sni=True,
    )
    stack: Stack[Any, Any] = Stack((detect,))

    assert "detect_tls" == role(detect)
    printed = repr(stack.replace("forward", forward))
    assert "identity=None, names=['a.test'], timeout=10.0, ports_skipped=[5, 25], require_sni=True" in printed
    assert "└─ Forward(idle_timeout=5.0)" in printed
    assert "┊ passthrough" in printed
    assert Stack() == detect.with_branch("passthrough", Stack()).passthrough
    with pytest.raises(LookupError, match="no branch 'other'; the branches are: plain, passthrough"):
        detect.with_branch("other", Stack())


@given(
    cuts=st.lists(st.integers(1, 30), max_size=6),
    pieces=st.lists(st.integers(1, 60), max_size=12),
    after=st.binary(max_size=30),
    nowait=st.booleans(),
)
def test_however_a_hello_comes_no_byte_of_it_is_lost(
    cuts: list[int], pieces: list[int], after: bytes, nowait: bool
) -> None:
    whole = message(server_name(b"other.test"))
    while cuts and sum(cuts) >= len(whole):
        cuts.pop()
    data = records(whole, *cuts) + after

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            proxy = Proxy(nursery, None, nowait=nowait)
            parts = []
            rest = data
            for size in pieces:
                parts.append(rest[:size])
                rest = rest[size:]
            assert data == await exchange(proxy.connect(), *[part for part in [*parts, rest] if part], pause=0.1)
            assert [("passthrough", data, "other.test")] == proxy.facts()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


# ----- real sockets -----


class Sockets:
    """A server on a real socket: DetectTls over *plain* and *passthrough*."""

    def __init__(self, server: Server, address: tuple[str, int]) -> None:
        self.server = server
        self.address = address

    async def connect(self) -> SocketConnection:
        connection = await connect_tcp(Endpoint(self.address))
        assert isinstance(connection, SocketConnection)
        return connection


async def start(nursery: trio.Nursery, stack: Stack[Any, Any]) -> Sockets:
    listeners = await open_listeners("127.0.0.1")
    server: Server = await nursery.start(
        lambda task_status: serve(stack.layer(connect_tcp), listeners, upstreams=nursery, task_status=task_status)
    )
    return Sockets(server, server.addresses[0])


async def tell(connection: Connection) -> None:
    """Speaks first, then answers with what it got."""
    await connection.send_all(b"220 ready\r\n")
    while data := await connection.receive_some():
        await connection.send_all(data)
    await connection.send_eof()


@pytest.mark.parity("D-12", "D-17")
async def test_the_server_speaks_first_over_tls_that_was_terminated(own: Any, pki: Any, nursery: trio.Nursery) -> None:
    detect = DetectTls[Accepted](own, plain=Stack((Branch(tell),)), passthrough=Stack((Branch(read_all),)))
    proxy = await start(nursery, Stack((detect,)))
    with trio.fail_after(20):
        client = await secured(await proxy.connect(), pki)
        assert b"220 ready\r\n" == await client.receive_some()
        data = os.urandom(1 << 20)

        async def send() -> None:
            await client.send_all(data)
            await client.send_eof()

        nursery.start_soon(send)
        assert data == await read_all(client)
        client.close()
    assert 0 == proxy.server.crashes_total


@pytest.mark.parity("D-12")
async def test_foreign_tls_reaches_its_own_server_through_the_proxy(own: Any, pki: Any, nursery: trio.Nursery) -> None:
    cert, key = pki.issue("other.test")
    behind = await start(nursery, Stack((TerminateTls(ServerTls(cert, key)), Branch(tell))))
    proxy = await start(
        nursery,
        Stack(
            (
                DetectTls[Accepted](
                    own,
                    plain=Stack((Branch(read_all),)),
                    passthrough=Stack((To(Endpoint(behind.address)), Forward())),
                ),
            )
        ),
    )
    with trio.fail_after(20):
        client = await secured(await proxy.connect(), pki, "other.test")
        assert b"220 ready\r\n" == await client.receive_some()
        await client.send_all(b"x")
        assert b"x" == await client.receive_some()
        client.close()
        await until(lambda: not proxy.server.open_connections and not behind.server.open_connections)
    assert 0 == proxy.server.crashes_total + behind.server.crashes_total


class Steps(trio.abc.Instrument):
    """Counts how often the tasks that serve a connection run."""

    def __init__(self) -> None:
        self.count = 0

    def before_task_step(self, task: Any) -> None:
        self.count += task.name.endswith("Server._serve")


@pytest.mark.parity("D-10")
@pytest.mark.parametrize("hello", [real("other.test", ["h2"]), records(message(server_name(b"other.test")), 5, 20)])
async def test_a_hello_that_comes_byte_by_byte_wakes_the_proxy_a_handful_of_times(
    own: Any, nursery: trio.Nursery, hello: bytes
) -> None:
    got: list[bytes] = []

    async def note(connection: Connection) -> None:
        assert connection.plain_socket() is not None, "nothing was read to look at it"
        got.append(await connection.receive_some())

    proxy = await start(
        nursery,
        Stack((DetectTls[Accepted](own, plain=Stack(), passthrough=Stack((Branch(note),))),)),
    )
    client = await proxy.connect()
    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    with trio.fail_after(30):
        for index in range(len(hello)):
            client.socket.send(hello[index : index + 1])
            # The proxy gets every chance to run.
            await trio.sleep(0.0005)
        await until(lambda: bool(got))
    trio.lowlevel.remove_instrument(steps)
    client.close()

    assert [hello] == got
    assert steps.count <= 20, "six for the first bytes, one for each length and what it says, and the end"


async def test_stalled_hellos_on_sockets_time_out_and_hold_nobody_up(own: Any, pki: Any, nursery: trio.Nursery) -> None:
    observed: list[str] = []

    def observe(result: str, seconds: float) -> None:
        observed.append(result)

    detect = DetectTls[Accepted](
        own, plain=Stack((Branch(tell),)), passthrough=Stack((Branch(tell),)), timeout=0.5, observe=observe
    )
    proxy = await start(nursery, Stack((detect,)))
    with trio.fail_after(20):
        stalled = [await proxy.connect() for _ in range(50)]
        for index, client in enumerate(stalled):
            client.socket.send(FOREIGN[: index % 20])
        other = await secured(await proxy.connect(), pki)
        assert b"220 ready\r\n" == await other.receive_some()
        await until(lambda: observed.count("timeout") == 50)
        await other.send_all(b"still there")
        assert b"still there" == await other.receive_some()
        for client in [*stalled, other]:
            client.close()
        await until(lambda: not proxy.server.open_connections)
    assert 0 == proxy.server.crashes_total


@pytest.mark.parity("T-16", "X-56")
async def test_metrics_say_what_became_of_each_connection(own: Any, pki: Any, nursery: trio.Nursery) -> None:
    registry = Registry()
    counted: Stack[Any, Any] = Stack((TcpMetrics(registry), Branch(tell)))
    detect = DetectTls[Accepted](
        own, plain=counted, passthrough=counted, timeout=0.2, observe=tls_detection(registry, "inbound")
    )
    proxy = await start(nursery, Stack((TcpErrors(registry), detect)))

    with trio.fail_after(20):
        client = await secured(await proxy.connect(), pki)
        await client.receive_some()
        client.close()
        for data in (FOREIGN, GET, FOREIGN[:20]):
            plain = await proxy.connect()
            plain.socket.send(data)
            try:
                await plain.receive_some()
            except ConnectionLost:
                pass
            plain.close()
        await until(lambda: not proxy.server.open_connections)
    text = registry.render()
    opened = [line for line in text.splitlines() if line.startswith("tcp_open_total")]
    for labels in (
        f'tls="true",peer="src",client_id="{CLIENT}"',
        'tls="opaque",peer="src"',
        'tls="no_identity",no_tls_reason="loopback",peer="src"',
    ):
        assert 1 == sum(labels in line and line.endswith(" 1") for line in opened), opened
    for result in ("terminated", "passthrough", "no_tls", "timeout"):
        assert f'inbound_tcp_detect_tls_results_total{{result="{result}"}} 1' in text
    assert "inbound_tcp_detect_tls_duration_seconds_count 4" in text
    errors = [line for line in text.splitlines() if line.startswith("inbound_tcp_errors_total{")]
    assert ['error="tls detection timeout"} 1'] == [line.rpartition(",")[2] for line in errors]
