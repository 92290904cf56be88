"""TLS in front of a service: what passes, who is refused, and that nobody else minds."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from meshcore.errors import ConfigError, ConnectionLost, TlsError
from meshcore.layers.tls import Tls
from meshcore.server.detect import Detect
from meshcore.server.opaque import Forward
from meshcore.server.serve import Server, serve
from meshcore.server.terminate_tls import TerminateTls
from meshcore.stack import Stack
from meshcore.testing import MemoryNetwork
from meshcore.transport.connection import Connection
from meshcore.transport.identity import ServerTls
from meshcore.transport.target import Endpoint, TlsClient
from meshcore.transport.tcp import connect_tcp, open_listeners
from tests.server.stacks import Branch, To, read_all, until


async def tell(connection: Connection) -> None:
    """Answers what came in with what is known of the connection."""
    data = await connection.receive_some()
    await connection.send_all(repr((data, connection.protocol, connection.alpn, connection.secure)).encode())
    await connection.send_eof()


@asynccontextmanager
async def serving(stack: Stack[Any, Any], listeners: Any, connect: Any = connect_tcp) -> AsyncIterator[Server]:
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            yield await nursery.start(
                lambda task_status: serve(stack.layer(connect), listeners, upstreams=nursery, task_status=task_status)
            )
            nursery.cancel_scope.cancel()


def detecting(pki: Any, **options: Any) -> Stack[Any, Any]:
    cert, key = pki.issue("localhost", "127.0.0.1", "10.0.0.2")
    return Stack(
        (
            TerminateTls(ServerTls(cert, key), **options),
            Detect(http=Stack((Branch(tell),)), opaque=Stack((Branch(tell),))),
        )
    )


def client_of(pki: Any, address: tuple[str, int], **more: Any) -> Endpoint:
    return Endpoint(address, tls=TlsClient("localhost", trust_anchors=pki.ca_file.read_bytes(), **more))


@pytest.mark.parametrize(
    ("alpn", "first", "expected"),
    [
        (("h2",), b"\0", (b"\0", "h2", "h2", True)),
        (("http/1.1",), b"\0", (b"\0", "http/1", "http/1.1", True)),
        ((), b"GET / HTTP/1.1\r\n", (b"GET / HTTP/1.1\r\n", "http/1", None, True)),
        ((), b"\0\1", (b"\0\1", "opaque", None, True)),
    ],
)
async def test_detection_goes_by_alpn_and_else_by_what_was_encrypted(
    pki: Any, alpn: tuple[str, ...], first: bytes, expected: tuple[Any, ...]
) -> None:
    async with serving(detecting(pki), await open_listeners("127.0.0.1")) as server:
        client = await Tls().layer(connect_tcp)(client_of(pki, server.addresses[0], alpn=alpn))
        await client.send_all(first)
        assert repr(expected).encode() == await read_all(client)
        client.close()
        assert 0 == server.crashes_total


async def test_over_memory_streams_too(pki: Any) -> None:
    network = MemoryNetwork()
    address = ("10.0.0.2", 443)
    async with serving(detecting(pki), [network.listen(address)], network.connect):
        client = await Tls().layer(network.connect)(client_of(pki, address))
        await client.send_all(b"x")
        assert repr((b"x", "h2", "h2", True)).encode() == await read_all(client)
        client.close()


async def test_tls_at_both_ends_forwards_megabytes_and_each_end(pki: Any) -> None:
    async def backend(connection: Connection) -> None:
        data = await read_all(connection)
        await connection.send_all(data[::-1])
        await connection.send_eof()

    cert, key = pki.issue("localhost", "127.0.0.1", "10.0.0.2")
    front: Stack[Any, Any]
    back: Stack[Any, Any] = Stack((TerminateTls(ServerTls(cert, key)), Branch(backend)))
    data = os.urandom(2 << 20)
    async with serving(back, await open_listeners("127.0.0.1")) as upstream:
        front = Stack(
            (TerminateTls(ServerTls(cert, key)), To(client_of(pki, upstream.addresses[0], alpn=())), Forward())
        )
        async with serving(front, await open_listeners("127.0.0.1"), Tls().layer(connect_tcp)) as server:
            client = await Tls().layer(connect_tcp)(client_of(pki, server.addresses[0], alpn=()))

            async def send() -> None:
                await client.send_all(data)
                await client.send_eof()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                got = await read_all(client)
            client.close()
            assert data[::-1] == got
            await until(lambda: not server.open_connections and not upstream.open_connections)
            assert 0 == server.crashes_total + upstream.crashes_total


async def test_who_fails_the_handshake_is_closed_and_the_others_are_served_on(pki: Any) -> None:
    async with serving(detecting(pki), await open_listeners("127.0.0.1")) as server:
        bystander = await Tls().layer(connect_tcp)(client_of(pki, server.addresses[0]))
        plain = await connect_tcp(Endpoint(server.addresses[0]))
        await plain.send_all(b"GET / HTTP/1.1\r\n\r\n")
        try:
            assert (await read_all(plain))[:1] in (b"", b"\x15")
        except ConnectionLost:
            # What the server had not read turned its end into a reset.
            pass
        plain.close()
        with pytest.raises(TlsError, match="no application protocol"):
            await Tls().layer(connect_tcp)(client_of(pki, server.addresses[0], alpn=("gopher",)))
        await until(lambda: server.open_connections == 1)
        await bystander.send_all(b"still here")
        assert b"still here" in await read_all(bystander)
        bystander.close()
        assert 0 == server.crashes_total


async def test_who_does_not_go_on_with_the_handshake_is_closed_in_time(
    pki: Any, autojump_clock: trio.testing.MockClock
) -> None:
    network = MemoryNetwork()
    address = ("10.0.0.2", 443)
    stack = detecting(pki, handshake_timeout=0.2)
    async with serving(stack, [network.listen(address)], network.connect) as server:
        bystander = await Tls().layer(network.connect)(client_of(pki, address))
        stalled = await network.connect(Endpoint(address))
        await stalled.send_all(b"\x16\x03\x01")
        began = trio.current_time()
        assert b"" == await stalled.receive_some()
        assert 0.2 <= trio.current_time() - began <= 0.5
        stalled.close()
        await trio.testing.wait_all_tasks_blocked()
        assert 1 == server.open_connections
        await bystander.send_all(b"still here")
        assert b"still here" in await read_all(bystander)
        bystander.close()
        assert 0 == server.crashes_total


async def test_a_crash_behind_tls_closes_the_connection(pki: Any) -> None:
    async def crash(connection: Connection) -> None:
        raise ZeroDivisionError

    cert, key = pki.issue("localhost")
    stack: Stack[Any, Any] = Stack((TerminateTls(ServerTls(cert, key)), Branch(crash)))
    async with serving(stack, await open_listeners("127.0.0.1")) as server:
        client = await Tls().layer(connect_tcp)(client_of(pki, server.addresses[0]))
        assert b"" == await client.receive_some()
        client.close()
        assert 1 == server.crashes_total


def test_files_that_cannot_be_used_are_found_when_the_layer_is_applied(tmp_path: Path) -> None:
    layer = TerminateTls(ServerTls(tmp_path / "none.crt", tmp_path / "none.key"))

    with pytest.raises(ConfigError, match=r"none\.crt: no such file or directory"):
        layer.layer(Branch(tell).layer(None))


async def test_handshakes_leave_no_descriptor_and_no_sockets_behind(pki: Any) -> None:
    async with serving(detecting(pki), await open_listeners("127.0.0.1")) as server:
        counts = []
        secure = Tls().layer(connect_tcp)
        for _ in range(3):
            for index in range(20):
                if index % 3 == 2:
                    with pytest.raises(TlsError):
                        await secure(client_of(pki, server.addresses[0], identity="somebody.else"))
                else:
                    client = await secure(client_of(pki, server.addresses[0]))
                    client.close() if index % 3 else client.reset()
            await until(lambda: server.open_connections == 0)
            counts.append(len(os.listdir("/proc/self/fd")))
        assert 1 == len(set(counts))


@pytest.mark.system
async def test_openssls_client_is_served(pki: Any, peer: Any) -> None:
    openssl = peer("openssl")
    async with serving(detecting(pki), await open_listeners("127.0.0.1")) as server:
        host, port = server.addresses[0]
        command = [openssl, "s_client", "-connect", f"{host}:{port}", "-CAfile", str(pki.ca_file)]
        command += ["-verify_return_error", "-verify_hostname", "localhost", "-alpn", "h2", "-quiet"]
        for version in ("-tls1_2", "-tls1_3"):
            result = await trio.run_process([*command, version, "-ign_eof"], stdin=b"hello", capture_stdout=True,
                                            capture_stderr=True)  # fmt: skip
            assert repr((b"hello", "h2", "h2", True)).encode() == result.stdout
        result = await trio.run_process([*command, "-tls1_1"], stdin=b"", capture_stderr=True, check=False)
        assert 0 != result.returncode


@pytest.mark.system
async def test_openssls_server_is_believed_only_with_the_right_name(pki: Any, peer: Any) -> None:
    openssl = peer("openssl")
    cert, key = pki.issue("localhost")
    (listener,) = await open_listeners("127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    command = [openssl, "s_server", "-accept", f"127.0.0.1:{port}", "-cert", str(cert), "-key", str(key), "-quiet"]
    command += ["-cert_chain", str(cert), "-alpn", "http/1.1", "-rev"]
    async with trio.open_nursery() as nursery:
        process = await nursery.start(
            lambda task_status: trio.run_process(command, stdin=None, check=False, task_status=task_status)
        )
        secure = Tls().layer(connect_tcp)
        with trio.fail_after(60):
            while True:
                try:
                    client = await secure(client_of(pki, ("127.0.0.1", port), alpn=("h2", "http/1.1")))
                    break
                except TlsError:
                    raise
                except Exception:
                    await trio.sleep(0.02)
            await client.send_all(b"abc\n")
            assert b"cba\n" == await client.receive_some()
            assert "http/1.1" == client.alpn
            client.close()
            with pytest.raises(TlsError, match="expected other"):
                await secure(client_of(pki, ("127.0.0.1", port), identity="other"))
        process.terminate()
