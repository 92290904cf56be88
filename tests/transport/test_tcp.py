"""Listening and connecting over TCP: addresses, names, options, and what is said when it fails."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

import pytest
import trio

from meshcore.errors import ConnectError
from meshcore.transport.socket import SocketConnection
from meshcore.transport.target import Endpoint
from meshcore.transport.tcp import Connector, TcpOptions, connect_tcp, family_of, open_listeners


@pytest.fixture
def listener() -> Any:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


async def connected(endpoint: Endpoint, connector: Connector = connect_tcp) -> SocketConnection:
    connection = await connector(endpoint)
    assert isinstance(connection, SocketConnection)
    return connection


@pytest.mark.parity("D-41")
async def test_a_connection_has_its_options_and_addresses(listener: Any) -> None:
    address = listener.getsockname()
    connection = await connected(Endpoint(address), Connector(TcpOptions(keepalive=12.0, user_timeout=20.0)))
    sock = connection.socket
    options = [
        sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY),
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
        sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
        sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
        sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
    ]
    local, peer = connection.local, connection.peer
    connection.close()

    assert [1, 1, 12, 12, 3, 20_000] == options
    assert ("127.0.0.1", address[1]) == (local[0], peer[1])


@pytest.mark.parity("D-41")
async def test_options_can_be_left_to_the_system(listener: Any) -> None:
    connector = Connector(TcpOptions(nodelay=False, keepalive=None))
    connection = await connected(Endpoint(listener.getsockname()), connector)
    options = [
        connection.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY),
        connection.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
    ]
    connection.close()

    assert [0, 0] == options


async def test_a_name_is_resolved(listener: Any) -> None:
    connection = await connected(Endpoint(("localhost", listener.getsockname()[1])))
    peer = connection.peer
    connection.close()

    assert ("127.0.0.1", listener.getsockname()[1]) == peer


def unused_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def test_a_refusal_names_the_endpoint_and_is_retryable() -> None:
    port = unused_port()
    for host in ("127.0.0.1", "localhost"):
        with pytest.raises(ConnectError) as caught:
            await connect_tcp(Endpoint((host, port)))
        assert f"endpoint {host}:{port}: connection refused" == str(caught.value)
        assert caught.value.retryable
        assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (errno.ENETUNREACH, "network is unreachable"),
        (errno.EADDRNOTAVAIL, "cannot assign requested address"),
        (errno.ETIMEDOUT, "connection timed out"),
    ],
)
async def test_other_failures_are_said_as_the_system_says_them(
    monkeypatch: pytest.MonkeyPatch, code: int, text: str
) -> None:
    monkeypatch.setattr(socket.socket, "connect_ex", lambda sock, address: code)

    with pytest.raises(ConnectError, match=rf"^endpoint 10\.0\.0\.7:8080: {text}$"):
        await connect_tcp(Endpoint(("10.0.0.7", 8080)))


async def test_without_descriptors_connecting_fails_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> socket.socket:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("meshcore.transport.tcp.socket.socket", refuse)

    with pytest.raises(ConnectError, match="too many open files"):
        await connect_tcp(Endpoint(("127.0.0.1", 1)))


async def test_a_name_that_does_not_exist_is_a_failed_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    async def none(*_: object, **__: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(trio, "open_tcp_stream", none)

    with pytest.raises(ConnectError, match=r"^endpoint nowhere\.example:80: name or service not known$"):
        await connect_tcp(Endpoint(("nowhere.example", 80)))


async def test_a_connect_that_is_cancelled_leaves_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    # A full backlog: the kernel drops the SYN and the connect waits.
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = []
        for _ in range(3):
            fillers.append(socket.socket())
            fillers[-1].setblocking(False)
            fillers[-1].connect_ex(full.getsockname())
        before = len(os.listdir("/proc/self/fd"))
        with trio.move_on_after(0.05) as scope:
            await connect_tcp(Endpoint(full.getsockname()))
        after = len(os.listdir("/proc/self/fd"))
        for filler in fillers:
            filler.close()

    assert scope.cancelled_caught
    assert before == after


async def test_a_connect_that_has_to_wait_gets_there(monkeypatch: pytest.MonkeyPatch, listener: Any) -> None:
    connect_ex = socket.socket.connect_ex
    calls = []

    def slow(sock: socket.socket, address: Any) -> int:
        calls.append(connect_ex(sock, address))
        return errno.EINPROGRESS if len(calls) == 1 else errno.EALREADY

    monkeypatch.setattr(socket.socket, "connect_ex", slow)
    connection = await connected(Endpoint(listener.getsockname()))
    accepted, _ = listener.accept()
    accepted.send(b"hello")
    assert b"hello" == await connection.receive_some()
    accepted.close()
    connection.close()


@pytest.mark.parametrize(
    ("host", "family"),
    [
        ("127.0.0.1", socket.AF_INET),
        ("::1", socket.AF_INET6),
        ("localhost", None),
        ("127.0.0.1.example", None),
        ("", None),
        ("127.1", None),
    ],
)
def test_literals_are_told_from_names(host: str, family: Any) -> None:
    assert family == family_of(host)


# ----- listening -----


async def test_every_address_listens_on_one_port() -> None:
    listeners = await open_listeners(None, 0)
    ports = {listener.socket.getsockname()[1] for listener in listeners}
    families = {listener.socket.family for listener in listeners}
    port = ports.pop()
    (await connect_tcp(Endpoint(("127.0.0.1", port)))).close()
    if socket.AF_INET6 in families:
        (await connect_tcp(Endpoint(("::1", port)))).close()
    for listener in listeners:
        await listener.aclose()

    assert set() == ports
    assert socket.AF_INET in families


async def test_a_port_in_use_is_said_with_its_address() -> None:
    (listener,) = await open_listeners("127.0.0.1", 0)
    port = listener.socket.getsockname()[1]
    with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1:{port}: Address already in use"):
        await open_listeners("127.0.0.1", port)
    await listener.aclose()


async def test_processes_can_share_a_port_if_they_say_so() -> None:
    (first,) = await open_listeners("127.0.0.1", 0, reuse_port=True)
    (second,) = await open_listeners("127.0.0.1", first.socket.getsockname()[1], reuse_port=True)
    assert first.socket.getsockname() == second.socket.getsockname()
    await first.aclose()
    await second.aclose()


async def test_a_machine_without_a_family_listens_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    here = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("0.0.0.0", 0))
    unknown = (999, socket.SOCK_STREAM, 0, "", ("::", 0))
    found = [unknown, here]

    async def getaddrinfo(*_: object, **__: object) -> list[Any]:
        return found

    monkeypatch.setattr(trio.socket, "getaddrinfo", getaddrinfo)
    (listener,) = await open_listeners(None, 0)
    assert socket.AF_INET == listener.socket.family
    await listener.aclose()

    found.remove(here)
    with pytest.raises(OSError, match="Address family not supported"):
        await open_listeners(None, 0)
