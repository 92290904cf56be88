"""Detection on a connection: which branch, with which bytes, when; and who may speak first."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from meshcore.errors import ConnectError, RemoteProtocolError
from meshcore.server.detect import Detect
from meshcore.server.opaque import Forward
from meshcore.stack import Stack, accept, role
from meshcore.testing import explore_schedules, memory_connection_pair
from meshcore.transport.connection import Connection
from meshcore.transport.drain import Drain
from meshcore.transport.target import Accepted, Endpoint
from tests.server.stacks import Branch, MemoryServer, To, read_all

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
ENDPOINT = Endpoint(("10.0.0.2", 80))
ACCEPTED = Accepted("gateway", ("10.0.0.2", 80), ("10.0.0.1", 50_000))


class Proxy:
    """Detect over two branches: one that says what it was given as HTTP, one that forwards to *server*."""

    def __init__(self, nursery: trio.Nursery, server: MemoryServer, *, nowait: bool = True, **options: Any) -> None:
        self.observed: list[tuple[str, float]] = []
        self.http: list[tuple[str | None, bytes]] = []
        self.nursery = nursery
        self.nowait = nowait
        self.errors: list[BaseException] = []
        detect = Detect[Accepted](
            http=accept(Accepted).then(Branch(self._http)),
            opaque=Stack((To(ENDPOINT), Forward())),
            observe=lambda result, seconds: self.observed.append((result, round(seconds, 3))),
            **options,
        )
        self.new_accept = detect.layer(server)

    async def _http(self, connection: Connection) -> None:
        self.http.append((connection.protocol, await read_all(connection)))
        await connection.send_all(b"HTTP")
        connection.close()

    def connect(self, target: Accepted = ACCEPTED, drain: Drain | None = None) -> Connection:
        """The client's end of an accepted connection that is being served."""
        client, accepted = memory_connection_pair(local=target.peer, peer=target.local, nowait=self.nowait)
        accepted.drain = drain
        self.nursery.start_soon(self._serve, accepted, target)
        return client

    async def _serve(self, accepted: Connection, target: Accepted) -> None:
        try:
            await self.new_accept.new_service(target, self.nursery)(accepted)
        except (RemoteProtocolError, ConnectError) as error:
            self.errors.append(error)
        finally:
            accepted.close()


async def echo(connection: Connection) -> None:
    while data := await connection.receive_some():
        await connection.send_all(b"echo:" + data)


async def greet(connection: Connection) -> None:
    await connection.send_all(b"220 ready\r\n")
    await echo(connection)


async def exchange(client: Connection, *pieces: bytes, pause: float = 0.0) -> bytes:
    """Sends the pieces, then the end; everything that comes back."""
    for piece in pieces:
        await client.send_all(piece)
        await trio.sleep(pause)
    await client.send_eof()
    return await read_all(client)


@pytest.mark.parity("D-02", "D-03", "D-09")
@pytest.mark.parametrize("nowait", [True, False])
@pytest.mark.parametrize(
    ("data", "protocol"),
    [(GET, "http/1"), (PREFACE + b"\0\0\0\4\0\0\0\0\0", "h2"), (b"BREW /pot HTTP/1.0\r\n\r\n", "http/1")],
)
async def test_http_is_served_with_every_byte_that_was_read_to_know_it(
    autojump_clock: Any, nursery: trio.Nursery, data: bytes, protocol: str, nowait: bool
) -> None:
    proxy = Proxy(nursery, MemoryServer(nursery, echo), nowait=nowait)

    assert b"HTTP" == await exchange(proxy.connect(), data)
    assert [(protocol, data)] == proxy.http


@pytest.mark.parity("D-01")
@pytest.mark.parametrize(("data", "protocol"), [(GET, "http/1"), (PREFACE, "h2")])
async def test_a_prefix_in_many_pieces_is_not_mistyped(
    autojump_clock: Any, nursery: trio.Nursery, data: bytes, protocol: str
) -> None:
    proxy = Proxy(nursery, MemoryServer(nursery, echo))
    pieces = [data[index : index + 1] for index in range(len(data))]

    assert b"HTTP" == await exchange(proxy.connect(), *pieces, pause=0.01)
    assert [(protocol, data)] == proxy.http
    assert [{"h2": "http/2"}.get(protocol, protocol)] == [result for result, _ in proxy.observed]


@pytest.mark.parity("D-04", "D-09", "U-01")
@pytest.mark.parametrize("data", [b"custom tcp hello\n", b"\x16\x03\x01\x02\0\1", b"\0\1\2", b"hello"])
async def test_anything_else_is_forwarded_with_every_byte(
    autojump_clock: Any, nursery: trio.Nursery, data: bytes
) -> None:
    proxy = Proxy(nursery, MemoryServer(nursery, echo))

    assert b"echo:" + data == await exchange(proxy.connect(), data)
    assert [] == proxy.http
    assert [("not_http", 0.0)] == proxy.observed


@pytest.mark.parity("D-04", "U-01")
async def test_an_end_before_the_first_byte_closes_quietly(autojump_clock: Any, nursery: trio.Nursery) -> None:
    server = MemoryServer(nursery, echo)
    proxy = Proxy(nursery, server)

    assert b"" == await exchange(proxy.connect())
    assert ([], []) == (server.connected, proxy.http)
    assert [("error", 0.0)] == proxy.observed
    assert [] == proxy.errors


@pytest.mark.parity("D-07")
async def test_each_detection_is_observed_with_its_time(autojump_clock: Any, nursery: trio.Nursery) -> None:
    proxy = Proxy(nursery, MemoryServer(nursery, echo))
    for pieces in ([GET], [b"GE", GET[2:]], [b"\0"], [PREFACE], []):
        await exchange(proxy.connect(), *pieces, pause=0.25)
    client = proxy.connect()
    await trio.sleep(2)
    client.close()

    assert [
        ("http/1", 0.0),
        ("http/1", 0.25),
        ("not_http", 0.0),
        ("http/2", 0.0),
        ("error", 0.0),
        ("read_timeout", 1.0),
    ] == proxy.observed


@pytest.mark.parity("D-15", "D-17", "X-60")
async def test_a_declared_port_lets_the_server_speak_at_once(autojump_clock: Any, nursery: trio.Nursery) -> None:
    proxy = Proxy(nursery, MemoryServer(nursery, greet), opaque_ports=frozenset({25}))
    client = proxy.connect(Accepted("smtp", ("10.0.0.2", 25), ("10.0.0.1", 50_000)))

    assert b"220 ready\r\n" == await client.receive_some()
    assert 0.0 == trio.current_time()
    await client.send_all(GET)
    assert b"echo:" + GET == await client.receive_some()
    assert [] == proxy.observed


@pytest.mark.parity("D-15")
async def test_the_original_destination_says_whether_a_port_is_opaque(
    autojump_clock: Any, nursery: trio.Nursery
) -> None:
    proxy = Proxy(nursery, MemoryServer(nursery, greet), opaque_ports=frozenset({25}))
    client = proxy.connect(Accepted("out", ("10.0.0.2", 4140), ("10.0.0.1", 50_000), original=("10.1.0.1", 25)))
    assert b"220 ready\r\n" == await client.receive_some()
    assert 0.0 == trio.current_time()

    other = proxy.connect(Accepted("out", ("10.0.0.2", 25), ("10.0.0.1", 50_000), original=("10.1.0.1", 80)))
    assert b"220 ready\r\n" == await other.receive_some()
    assert 1.0 == trio.current_time()


@pytest.mark.parity("D-05", "D-17", "X-60")
@pytest.mark.parametrize("nowait", [True, False])
async def test_after_a_second_of_silence_the_servers_bytes_are_passed_on(
    autojump_clock: Any, nursery: trio.Nursery, nowait: bool
) -> None:
    proxy = Proxy(nursery, MemoryServer(nursery, greet, nowait=nowait), nowait=nowait)
    client = proxy.connect()

    assert b"220 ready\r\n" == await client.receive_some()
    assert 1.0 == trio.current_time()
    # Client and server go on as they like, as long as it does not become HTTP.
    await client.send_all(b"EHLO there\r\n")
    assert b"echo:EHLO there\r\n" == await client.receive_some()
    await client.send_all(GET)
    assert b"echo:" + GET == await client.receive_some()
    await client.send_eof()
    assert b"" == await client.receive_some()
    assert [("read_timeout", 1.0)] == proxy.observed


@pytest.mark.parity("D-06", "U-01")
@pytest.mark.parametrize("pieces", [(GET,), (GET[:2], GET[2:]), (GET[:14], GET[14:])])
async def test_http_after_silence_is_served_as_http_if_the_server_has_not_spoken(
    autojump_clock: Any, nursery: trio.Nursery, pieces: tuple[bytes, ...]
) -> None:
    server = MemoryServer(nursery, echo_after_a_line)
    proxy = Proxy(nursery, server)
    client = proxy.connect()
    await trio.sleep(5)
    assert 1 == len(server.connected)

    assert b"HTTP" == await exchange(client, *pieces, pause=3.0)
    assert [("http/1", GET)] == proxy.http
    with pytest.raises(Exception, match=r"reset"):
        # The upstream connection made on approval is gone.
        while await server.connected[0].receive_some():
            pass


async def echo_after_a_line(connection: Connection) -> None:
    """A server that says nothing before it has a line."""
    data = b""
    try:
        while b"\n" not in data:
            more = await connection.receive_some()
            if not more:
                return
            data += more
        await connection.send_all(b"line:" + data)
        await connection.receive_some()
    except Exception:
        await trio.sleep_forever()


@pytest.mark.parametrize("pieces", [(GET,), (GET[:2], GET[2:]), (PREFACE,)])
async def test_http_after_the_server_spoke_is_closed(
    autojump_clock: Any, nursery: trio.Nursery, pieces: tuple[bytes, ...]
) -> None:
    seen: list[bytes] = []

    async def serve(connection: Connection) -> None:
        await connection.send_all(b"220 ready\r\n")
        try:
            while data := await connection.receive_some():
                seen.append(data)
        except Exception as error:
            assert "reset" in str(error)

    proxy = Proxy(nursery, MemoryServer(nursery, serve))
    client = proxy.connect()
    assert b"220 ready\r\n" == await client.receive_some()
    for piece in pieces:
        await client.send_all(piece)
        await trio.sleep(0.1)
    with pytest.raises(Exception, match="reset"):
        await client.receive_some()

    assert [] == proxy.http
    assert ["http after the server spoke, on a port not declared opaque"] == [str(error) for error in proxy.errors]
    # Not a request line: what was ambiguous at most.
    assert b"".join(pieces[:-1]) == b"".join(seen)


@pytest.mark.parity("U-01", "D-06")
async def test_a_few_bytes_and_then_silence_are_forwarded(autojump_clock: Any, nursery: trio.Nursery) -> None:
    # A client of a protocol that begins as HTTP might, and whose server is to answer that.
    proxy = Proxy(nursery, MemoryServer(nursery, echo))
    client = proxy.connect()
    await client.send_all(b"ping")

    assert b"echo:ping" == await client.receive_some()
    assert 1.0 == trio.current_time()
    await client.send_all(b"pong\n")
    assert b"echo:pong\n" == await client.receive_some()


@pytest.mark.parity("X-61")
async def test_a_client_that_goes_away_while_nobody_speaks_frees_both_sides(
    autojump_clock: Any, nursery: trio.Nursery
) -> None:
    server = MemoryServer(nursery, echo)
    proxy = Proxy(nursery, server)
    client = proxy.connect()
    await trio.sleep(2)
    client.close()
    await trio.sleep(0.1)

    assert server.connected[0].closed


async def test_a_server_that_cannot_be_reached_closes_a_silent_client(
    autojump_clock: Any, nursery: trio.Nursery
) -> None:
    server = MemoryServer(nursery, echo)
    server.refuse = True
    proxy = Proxy(nursery, server)
    client = proxy.connect()

    assert b"" == await client.receive_some()
    assert ["endpoint 10.0.0.2:80: connection refused"] == [str(error) for error in proxy.errors]


@pytest.mark.parity("L-03")
async def test_a_silent_connection_ends_with_the_drain(autojump_clock: Any, nursery: trio.Nursery) -> None:
    drain = Drain()
    server = MemoryServer(nursery, greet)
    proxy = Proxy(nursery, server)
    client = proxy.connect(drain=drain)
    drain.start()

    assert b"" == await client.receive_some()
    assert [] == server.connected


@pytest.mark.parity("D-06", "U-02")
@pytest.mark.parametrize(("protocol", "first"), [("http/1", b"\0\1"), ("h2", GET), ("opaque", GET)])
async def test_a_protocol_can_be_forced(
    autojump_clock: Any, nursery: trio.Nursery, protocol: str, first: bytes
) -> None:
    proxy = Proxy(nursery, MemoryServer(nursery, echo), protocol=protocol)

    answer = await exchange(proxy.connect(), first)
    assert (b"echo:" + first if protocol == "opaque" else b"HTTP") == answer
    assert ([] if protocol == "opaque" else [(protocol, first)]) == proxy.http
    assert [] == proxy.observed


@pytest.mark.parity("D-08")
async def test_inside_tls_without_alpn_http2_is_known_by_its_preface(nursery: trio.Nursery) -> None:
    proxy = Proxy(nursery, MemoryServer(nursery, echo))
    client, accepted = memory_connection_pair()
    accepted.secure = True
    nursery.start_soon(proxy.new_accept.new_service(ACCEPTED, nursery), accepted)

    assert b"HTTP" == await exchange(client, PREFACE)
    assert [("h2", PREFACE)] == proxy.http


@pytest.mark.parametrize(("alpn", "protocol"), [("h2", "h2"), ("http/1.1", "http/1")])
async def test_what_alpn_chose_is_not_asked_again(nursery: trio.Nursery, alpn: str, protocol: str) -> None:
    proxy = Proxy(nursery, MemoryServer(nursery, echo))
    client, accepted = memory_connection_pair()
    accepted.alpn = alpn
    nursery.start_soon(proxy.new_accept.new_service(ACCEPTED, nursery), accepted)

    assert b"HTTP" == await exchange(client, b"\0")
    assert [(protocol, b"\0")] == proxy.http


def test_an_unknown_protocol_cannot_be_forced() -> None:
    with pytest.raises(ValueError, match="protocol"):
        Detect(http=Stack(), opaque=Stack(), protocol="gopher")


def test_its_branches_are_printed_and_edited_by_role() -> None:
    forward = Forward(idle_timeout=5.0)
    detect = Detect[Accepted](http=Stack(), opaque=Stack((To(ENDPOINT), Forward())), opaque_ports=frozenset({25, 5}))
    stack: Stack[Any, Any] = Stack((detect,))

    edited = stack.replace("forward", forward)

    assert "detect" == role(detect)
    assert "└─ Forward(idle_timeout=5.0)" in repr(edited)
    assert "└─ Detect(timeout=1.0, opaque_ports=[5, 25])" in repr(edited)
    assert "Detect(protocol='h2')" == repr(Detect(http=Stack(), opaque=Stack(), protocol="h2"))
    with pytest.raises(LookupError, match="no branch 'other'; the branches are: http, opaque"):
        detect.with_branch("other", Stack())
    assert stack.replace("forward", forward).roles() == ["detect", "to", "forward"]


async def polite(connection: Connection, upstream: Connection) -> None:
    """An opaque branch of another make: without waiting where that can be, greeting first."""
    assert connection.fileno() == -1
    assert connection.plain_socket() is None
    assert "undecided" in repr(connection)
    with pytest.raises(trio.WouldBlock):
        connection.receive_nowait()
    sent = connection.send_nowait(b"hi ") if await upstream.receive_some() == b"greet" else 0
    while True:
        try:
            data = connection.receive_nowait()
        except trio.WouldBlock:
            await trio.sleep(0.1)
            continue
        if not data:
            break
        connection.unread(data)
        assert data == await connection.receive_some()
        await connection.send_all(b"%d:" % sent + data)
    await connection.send_eof()


@pytest.mark.parametrize(
    ("greet", "first", "expected"),
    [
        (b"greet", b"opaque", b"hi 3:opaque"),
        (b"no", b"opaque", b"0:opaque"),
        (b"no", GET, b"HTTP"),
        (b"greet", GET, b"hi "),
    ],
)
async def test_a_branch_that_does_not_wait_is_watched_as_well(
    autojump_clock: Any, nursery: trio.Nursery, greet: bytes, first: bytes, expected: bytes
) -> None:
    upstream, far = memory_connection_pair()
    await far.send_all(greet)
    served: list[bytes] = []
    errors: list[BaseException] = []

    async def http(connection: Connection) -> None:
        served.append(await connection.receive_some())
        await connection.send_all(b"HTTP")

    async def opaque(connection: Connection) -> None:
        await polite(connection, upstream)

    detect = Detect[Accepted](http=Stack((Branch(http),)), opaque=Stack((Branch(opaque),)))
    client, accepted = memory_connection_pair()

    async def run() -> None:
        try:
            await detect.layer(MemoryServer(nursery, echo)).new_service(ACCEPTED, nursery)(accepted)
        except RemoteProtocolError as error:
            errors.append(error)
        accepted.close()

    nursery.start_soon(run)
    await trio.sleep(1.5)
    await client.send_all(first)
    await client.send_eof()

    assert expected == await read_all(client)
    assert ([GET] if expected == b"HTTP" else []) == served
    assert (1 if expected == b"hi " else 0) == len(errors)


@explore_schedules(60)
async def test_whoever_is_first_the_client_gets_http_or_the_server_never_both() -> None:
    # The server speaks and the client's request arrives in the same instant.
    async with trio.open_nursery() as nursery:

        async def serve(connection: Connection) -> None:
            await trio.sleep(1.0)
            try:
                await connection.send_all(b"220 ready\r\n")
                await connection.receive_some()
            except Exception:
                pass

        proxy = Proxy(nursery, MemoryServer(nursery, serve))
        client = proxy.connect()
        await trio.sleep(2.0)
        try:
            answer = await exchange(client, GET)
        except Exception:
            answer = b"closed"
        if proxy.http:
            assert (b"HTTP", [("http/1", GET)]) == (answer, proxy.http)
            assert [] == proxy.errors
        else:
            assert answer in (b"220 ready\r\n", b"closed")
            assert 1 == len(proxy.errors)
        nursery.cancel_scope.cancel()
