"""Mutual TLS with peers that this project did not write: OpenSSL's own, curl and nginx."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from meshcore.errors import ConnectionLost, MeshError, TlsError
from meshcore.identity import Authority, Credentials, Identity, accept_mesh_tls, connect_mesh_tls
from meshcore.server.terminate_tls import TerminateTls
from meshcore.stack import Stack
from meshcore.transport.connection import Connection
from meshcore.transport.server_tls import ServerTls
from meshcore.transport.target import Endpoint
from meshcore.transport.tcp import connect_tcp, open_listeners
from tests.identity.issued import DAY, NOW, authority, failures, identity
from tests.peers.process import free_port, running
from tests.server.stacks import Branch
from tests.server.test_terminate_tls import serving

Peer = Callable[[str], str]
CA = authority()


class Files:
    """What was issued, as PEM files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.anchors = self.write("ca.crt", CA.cert_pem())

    def write(self, name: str, data: bytes) -> str:
        (self.folder / name).write_bytes(data)
        return str(self.folder / name)

    def issue(self, name: str, issuer: Authority = CA, *, now: float = NOW) -> tuple[str, str]:
        cert, key = issuer.issue(name, now=now)
        stem = name.rpartition("/")[2]
        return self.write(f"{stem}.crt", cert), self.write(f"{stem}.key", key)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


async def tell(connection: Connection) -> None:
    """Answers HTTP/1 with the client's identity."""
    while b"\r\n\r\n" not in await connection.receive_some():
        pass
    body = repr((connection.identity, connection.alpn)).encode()
    await connection.send_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    await connection.send_eof()


@asynccontextmanager
async def mesh(of: Identity) -> AsyncIterator[int]:
    """A server of the mesh; its port."""

    async def serve_one(connection: Connection) -> None:
        try:
            secured = await accept_mesh_tls(connection, of)
        except TlsError:
            return
        await tell(secured)
        secured.close()

    async with serving(Stack((Branch(serve_one),)), await open_listeners("127.0.0.1")) as server:
        yield server.addresses[0][1]
        assert 0 == server.crashes_total


async def run(*command: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    with trio.fail_after(60):
        return await trio.run_process(command, stdin=stdin, capture_stdout=True, capture_stderr=True, check=False)


REQUEST = b"GET / HTTP/1.1\r\nhost: b.shop\r\n\r\n"


@pytest.mark.parity("T-01", "T-03", "T-05")
async def test_openssls_client_is_accepted_with_and_without_a_certificate(files: Files, peer: Peer) -> None:
    server = identity(CA, "b.shop")
    async with mesh(server) as port:
        command = [peer("openssl"), "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "b.shop", "-quiet"]
        command += ["-ign_eof", "-CAfile", files.anchors, "-verify_return_error", "-verify_hostname", "b.shop"]
        done = await run(*command, stdin=REQUEST)
        assert b"(None, None)" in done.stdout
        for name in ("a.shop", "spiffe://mesh.local/ns/shop/sa/orders"):
            cert, key = files.issue(name)
            done = await run(*command, "-cert", cert, "-key", key, stdin=REQUEST)
            assert repr((name, None)).encode() in done.stdout, done.stderr
        assert {} == failures(server)
        foreign = files.issue("c.shop", authority("another"))
        expired = files.issue("d.shop", now=NOW - 9 * DAY)
        for (cert, key), alert in ((foreign, b"unknown ca"), (expired, b"certificate expired")):
            done = await run(*command, "-cert", cert, "-key", key, stdin=REQUEST)
            assert b"200 OK" not in done.stdout
            assert alert in done.stderr
        done = await run(*command, "-tls1_2", stdin=REQUEST)
        assert b"protocol version" in done.stderr
    assert {("server", "unknown issuer"): 1, ("server", "expired"): 1, ("server", "version"): 1} == failures(server)


@pytest.mark.parity("T-03")
async def test_openssls_client_never_resumes(files: Files, peer: Peer, tmp_path: Path) -> None:
    cert, key = files.issue("a.shop")
    session = str(tmp_path / "session")
    async with mesh(identity(CA, "b.shop")) as port:
        command = [peer("openssl"), "s_client", "-connect", f"127.0.0.1:{port}", "-ign_eof", "-CAfile", files.anchors,
                   "-cert", cert, "-key", key]  # fmt: skip
        first = await run(*command, "-sess_out", session, stdin=REQUEST)
        assert b"New, TLSv1.3" in first.stdout
        assert Path(session).exists()
        again = await run(*command, "-sess_in", session, stdin=REQUEST)
        assert b"Reused" not in again.stdout
        assert b"a.shop" in again.stdout


@pytest.mark.parity("T-04")
async def test_openssls_server_is_believed_only_as_who_it_is(files: Files, peer: Peer) -> None:
    cert, key = files.issue("spiffe://mesh.local/b")
    port = free_port()
    command = [peer("openssl"), "s_server", "-accept", f"127.0.0.1:{port}", "-cert", cert, "-key", key, "-CAfile",
               files.anchors, "-Verify", "1", "-verify_return_error", "-quiet", "-rev"]  # fmt: skip
    with running("s_server", command, port=port):
        client = await met(port, identity(CA, "a.shop"), "spiffe://mesh.local/b")
        await client.send_all(b"abc\n")
        assert b"cba\n" == await client.receive_some()
        client.close()
        with pytest.raises(TlsError, match=r"expected c\.shop, found spiffe://mesh\.local/b"):
            await met(port, identity(CA, "a.shop"), "c.shop")
        other = authority("another")
        refused = await met(port, identity(other, "a.shop", trusting=[other, CA]), "spiffe://mesh.local/b")
        # Our side of the handshake is done: what the peer thinks of us comes after it.
        with pytest.raises(TlsError, match="refused by the peer"):
            await refused.receive_some()
        refused.close()


async def met(port: int, of: Identity, expected: str) -> Connection:
    with trio.fail_after(60):
        connection = await connect_tcp(Endpoint(("127.0.0.1", port)))
        return await connect_mesh_tls(connection, of, server_name="b.shop", expected=expected)


async def test_curl_with_a_client_certificate_is_known_to_the_mesh_and_to_a_gateway(files: Files, peer: Peer) -> None:
    cert, key = files.issue("a.shop")
    async with mesh(identity(CA, "b.shop")) as port:
        done = await curl(peer, port, files, "--cert", cert, "--key", key, "--http1.1")
        assert b"'a.shop'" in done.stdout, done.stderr
    tls = ServerTls(*files.issue("b.shop"), client_certificates="required", trust_anchors=Path(files.anchors))
    gateway: Any = TerminateTls(tls)
    async with serving(Stack((gateway, Branch(tell))), await open_listeners("127.0.0.1")) as server:
        port = server.addresses[0][1]
        for version in ("--tlsv1.3", "--tls-max=1.2"):
            options = version.split("=")
            done = await curl(peer, port, files, "--cert", cert, "--key", key, "--http1.1", *options)
            assert repr(("a.shop", "http/1.1")).encode() == done.stdout, done.stderr
            done = await curl(peer, port, files, "--http1.1", *options)
            assert 0 != done.returncode
            assert b"" == done.stdout


async def curl(peer: Peer, port: int, files: Files, *options: str) -> subprocess.CompletedProcess[bytes]:
    place = ["--resolve", f"b.shop:{port}:127.0.0.1", f"https://b.shop:{port}/"]
    return await run(peer("curl"), "-sS", "--max-time", "20", "--cacert", files.anchors, *options, *place)


async def test_nginx_that_verifies_clients_knows_us(files: Files, peer: Peer, tmp_path: Path) -> None:
    cert, key = files.issue("b.shop")
    port = free_port()
    config = files.write(
        "nginx.conf",
        f"""
        user root; daemon off; worker_processes 1; pid {tmp_path}/nginx.pid; error_log stderr warn;
        events {{ worker_connections 64; }}
        http {{
            access_log off;
            client_body_temp_path {tmp_path}/body; proxy_temp_path {tmp_path}/proxy;
            fastcgi_temp_path {tmp_path}/fastcgi; uwsgi_temp_path {tmp_path}/uwsgi; scgi_temp_path {tmp_path}/scgi;
            server {{
                listen 127.0.0.1:{port} ssl; ssl_protocols TLSv1.3;
                ssl_certificate {cert}; ssl_certificate_key {key};
                ssl_client_certificate {files.anchors}; ssl_verify_client on;
                location / {{ return 200 "$ssl_client_verify"; }}
            }}
        }}""".encode(),
    )
    with running("nginx", [peer("nginx"), "-c", config, "-p", str(tmp_path)], port=port):
        assert b"SUCCESS" in await asked(port, identity(CA, "a.shop"))
        other = authority("another")
        answer = await asked(port, identity(other, "a.shop", trusting=[other, CA]))
        assert b"400 Bad Request" in answer
        nobody = Identity("", clock=lambda: NOW)
        assert nobody.publish(Credentials.from_pem(*CA.issue("x.shop", now=NOW), CA.cert_pem()))
        assert b"SUCCESS" in await asked(port, nobody)


async def asked(port: int, of: Identity) -> bytes:
    client = await met(port, of, "b.shop")
    await client.send_all(REQUEST.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
    answer = b""
    try:
        with trio.fail_after(20):
            while data := await client.receive_some():
                answer += data
    except (ConnectionLost, MeshError):
        pass
    client.close()
    return answer
