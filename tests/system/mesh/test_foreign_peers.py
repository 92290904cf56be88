"""Peers that this project did not write, as the other end of the mesh: Envoy, nginx, curl and OpenSSL."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bench import loads
from tests.peers import mesh, servers
from tests.peers.process import Running, free_port, running
from tests.peers.sidecar import metric
from tests.system.mesh.conftest import ORDERS, PAYMENTS, Curl, Sidecars
from tests.system.test_grpc import echo as grpc_client
from tests.system.test_opaque import read_all, tcp_server

pytest.importorskip("grpc")
Peer = Callable[[str], str]
Start = Callable[..., Running]
SPIFFE = "spiffe://shop.local/ns/shop/sa/payments"


def foreign(port: int, identity: str = PAYMENTS, **more: object) -> dict[str, object]:
    """A destination that is no proxy of ours: mutual TLS, and nothing else."""
    told = {"endpoints": [f"127.0.0.1:{port}"], "identity": identity, "mesh": False, "listen": "127.0.0.1:0"}
    return {**told, **more}


def envoy_inbound(start: Start, sidecars: Sidecars, to: int, protocol: str, name: str = PAYMENTS) -> Running:
    files = (*sidecars.issuer.issue(name), sidecars.issuer.anchors)
    return start(mesh.envoy_inbound(to, *files, protocol=protocol, client=ORDERS))


def envoy_outbound(start: Start, sidecars: Sidecars, to: int, protocol: str, server: str = PAYMENTS) -> Running:
    files = (*sidecars.issuer.issue(ORDERS), sidecars.issuer.anchors)
    return start(mesh.envoy_outbound(to, *files, server=server, protocol=protocol))


def digests(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 20) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        return read_all(client)


def digest(connection: socket.socket) -> None:
    connection.sendall(hashlib.sha256(read_all(connection)).digest())


# ----- Envoy as the other sidecar -----


@pytest.mark.parity("T-04", "T-15")
def test_our_clients_reach_applications_behind_envoy(
    sidecars: Sidecars, start: Start, peer: Peer, curl: Curl, nginx: Running, nghttpd: Running, grpc_origin: Running
) -> None:
    peer("h2load")
    with tcp_server(digest) as port:
        to = {
            "h1:80": foreign(envoy_inbound(start, sidecars, nginx.port, "http/1").port, protocol="http1"),
            "h2:80": foreign(
                envoy_inbound(start, sidecars, nghttpd.port, "h2", SPIFFE).port,
                SPIFFE,
                protocol="h2c",
                server_name="payments.shop",
            ),
            "grpc:80": foreign(envoy_inbound(start, sidecars, grpc_origin.port, "h2").port, protocol="h2c"),
            "any:80": foreign(envoy_inbound(start, sidecars, nginx.port, "http/1").port),
            "bytes:80": foreign(envoy_inbound(start, sidecars, port, "opaque").port, protocol="tcp"),
            "wrong:80": foreign(envoy_inbound(start, sidecars, nginx.port, "http/1").port, "other.shop"),
        }
        ours = sidecars.outbound(to, outbound={"fail_fast": "1s"})
        ports = {name.partition(":")[0]: found for name, found in ours.ports.items()}
        for name in ("h1", "h2", "any"):
            for version in ("--http1.1", "--http2-prior-knowledge"):
                done = curl(version, f"http://127.0.0.1:{ports[name]}/")
                assert done.stdout == servers.ANSWER, (name, version, done.stderr)
                assert len(curl(version, f"http://127.0.0.1:{ports[name]}/1m").stdout) == 1 << 20
        load = loads.requests(ports["h2"], total=2_000, clients=5, streams=10)
        assert (load.requests, load.failed) == (2_000, 0)
        load = loads.requests(ports["h1"], total=2_000, clients=10, streams=1, h1=True)
        assert (load.requests, load.failed) == (2_000, 0)
        with grpc_client(ports["grpc"]) as client:
            assert client.call("Unary", b"hello") == b"hello"
            chat = client.channel.stream_stream("/test.Echo/Chat")
            assert list(chat(iter([b"a", b"b"]), timeout=10)) == [b"a", b"b"]
        data = os.urandom(2 << 20)
        assert digests(ports["bytes"], data) == hashlib.sha256(data).digest()
        done = curl("-i", f"http://127.0.0.1:{ports['wrong']}/")
        assert done.stdout.startswith(b"HTTP/1.1 502"), done.stdout
        assert b"expected other.shop, found payments.shop" in done.stdout
        assert metric(ours, "tls_handshake_errors_total", side="client", reason="name") >= 1


@pytest.mark.parity("T-03", "T-05")
def test_envoys_clients_reach_applications_behind_us(
    sidecars: Sidecars, start: Start, peer: Peer, curl: Curl, nginx: Running, nghttpd: Running, grpc_origin: Running
) -> None:
    peer("h2load")
    strict = {"default_policy": "all-authenticated"}
    h1 = sidecars.inbound(nginx.port, **strict)
    h2 = sidecars.inbound(nghttpd.port, **strict)
    grpc = sidecars.inbound(grpc_origin.port, **strict)
    through = envoy_outbound(start, sidecars, h1.port, "http/1")
    for version in ("--http1.1", "--http2-prior-knowledge"):
        assert curl(version, f"http://{through.address}/").stdout == servers.ANSWER
    load = loads.requests(through.port, total=2_000, clients=10, streams=1, h1=True)
    assert (load.requests, load.failed) == (2_000, 0)
    assert metric(h1, "tcp_open_total", peer="src", tls="true", client_id=ORDERS) >= 1
    through = envoy_outbound(start, sidecars, h2.port, "h2")
    assert len(curl("--http2-prior-knowledge", f"http://{through.address}/1m").stdout) == 1 << 20
    load = loads.requests(through.port, total=2_000, clients=5, streams=10)
    assert (load.requests, load.failed) == (2_000, 0)
    with grpc_client(envoy_outbound(start, sidecars, grpc.port, "h2").port) as client:
        assert client.call("Unary", b"hello") == b"hello"
        assert client.channel.stream_unary("/test.Echo/Collect")(iter([b"m"] * 50), timeout=10) == b"50"
    with tcp_server(digest) as port:
        opaque = sidecars.inbound(port, **strict)
        data = b"\x00" + os.urandom(2 << 20)
        through = envoy_outbound(start, sidecars, opaque.port, "opaque")
        assert digests(through.port, data) == hashlib.sha256(data).digest()


# ----- nginx as an upstream that verifies clients -----


def test_nginx_that_verifies_clients_lets_us_in(
    sidecars: Sidecars, start: Start, peer: Peer, curl: Curl, tmp_path: Path
) -> None:
    cert, key = sidecars.issuer.issue(PAYMENTS)
    port = free_port()
    places = "".join(f"{each}_temp_path {tmp_path}/{each};" for each in ("proxy", "fastcgi", "uwsgi", "scgi"))
    user = "user root;" if os.geteuid() == 0 else ""
    file = tmp_path / "nginx.conf"
    file.write_text(
        f"""
        {user} daemon off; worker_processes 1; pid {tmp_path}/nginx.pid; error_log stderr warn;
        events {{ worker_connections 64; }}
        http {{
            access_log off; client_body_temp_path {tmp_path}/body; {places}
            server {{
                listen 127.0.0.1:{port} ssl http2; ssl_protocols TLSv1.3;
                ssl_certificate {cert}; ssl_certificate_key {key};
                ssl_client_certificate {sidecars.issuer.anchors}; ssl_verify_client on;
                location / {{ return 200 "$ssl_client_verify $ssl_client_raw_cert $server_protocol"; }}
            }}
        }}"""
    )
    start(running("nginx", [peer("nginx"), "-c", str(file), "-p", str(tmp_path), "-e", "stderr"], port=port))
    ours = sidecars.outbound({"web:80": foreign(port), "web:81": foreign(port, protocol="http1")})
    own = (sidecars.issuer.folder / f"{ORDERS}.crt").read_text().split("-----")[2].strip()
    for name, version in (("web:80", b"HTTP/2.0"), ("web:81", b"HTTP/1.1")):
        done = curl("--http2-prior-knowledge", f"http://127.0.0.1:{ours.ports[name]}/")
        assert done.stdout.startswith(b"SUCCESS"), done
        assert done.stdout.endswith(version)
        assert own.split("\n")[0].encode() in done.stdout


# ----- curl and OpenSSL straight at the inbound side -----


def test_curl_with_a_client_certificate_is_let_in_and_known(sidecars: Sidecars, curl: Curl, origin: Running) -> None:
    inbound = sidecars.inbound(origin.port, default_policy="all-authenticated")
    cert, key = sidecars.issuer.issue("curl.shop")
    place = ["--resolve", f"{PAYMENTS}:{inbound.port}:127.0.0.1", "--cacert", str(sidecars.issuer.anchors)]
    url = f"https://{PAYMENTS}:{inbound.port}/info"
    for version in ("--http1.1", "--http2"):
        done = curl(version, "-w", "%{http_version}", *place, "--cert", str(cert), "--key", str(key), url)
        assert b'["l5d-client-id", "curl.shop"]' in done.stdout, done.stderr
        assert done.stdout.endswith({"--http1.1": b"1.1", "--http2": b"2"}[version])
        done = curl(version, "-i", *place, url)
        assert done.stdout.split(b" ")[1] == b"403", done
        assert b"l5d-proxy-error" not in done.stdout
    assert metric(inbound, "response_total", status_code="403") == 2


def s_client(peer: Peer, port: int, anchors: Path, *options: str) -> subprocess.CompletedProcess[bytes]:
    command = [peer("openssl"), "s_client", "-connect", f"127.0.0.1:{port}", "-servername", PAYMENTS, "-quiet",
               "-ign_eof", "-CAfile", str(anchors), "-verify_return_error", "-verify_hostname", PAYMENTS]  # fmt: skip
    request = b"GET /info HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n"
    return subprocess.run([*command, *options], input=request, capture_output=True, timeout=30, check=False)


@pytest.mark.parity("T-01")
def test_openssls_client_is_served_with_what_tls_1_3_has(sidecars: Sidecars, peer: Peer, origin: Running) -> None:
    inbound = sidecars.inbound(origin.port)
    cert, key = sidecars.issuer.issue("spiffe://shop.local/ns/shop/sa/orders")
    mine = ["-cert", str(cert), "-key", str(key)]
    for suite in ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"):
        for group in ("X25519", "P-256", "P-384"):
            options = ["-ciphersuites", suite, "-groups", group, "-alpn", "http/1.1", *mine]
            done = s_client(peer, inbound.port, sidecars.issuer.anchors, *options)
            assert b"spiffe://shop.local/ns/shop/sa/orders" in done.stdout, done.stderr
    assert b"l5d-client-id" not in s_client(peer, inbound.port, sidecars.issuer.anchors).stdout


@pytest.mark.parity("T-17")
def test_a_wrong_server_of_openssls_is_never_spoken_to(
    sidecars: Sidecars, start: Start, peer: Peer, curl: Curl
) -> None:
    ports = {"wrong-name": free_port(), "tls-1-2": free_port(), "plain": 0}
    for name, certified, *options in (("wrong-name", "other.shop"), ("tls-1-2", PAYMENTS, "-tls1_2")):
        cert, key = sidecars.issuer.issue(certified)
        command = [peer("openssl"), "s_server", "-accept", f"127.0.0.1:{ports[name]}", "-cert", str(cert),
                   "-key", str(key), "-rev", *options]  # fmt: skip
        start(running("s_server", command, ready=lambda program: "ACCEPT" in program.output()))
    heard: list[bytes] = []

    def plain(connection: socket.socket) -> None:
        heard.append(connection.recv(1 << 16))
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno")

    with tcp_server(plain) as ports["plain"]:
        to = {f"{name}:80": foreign(port) for name, port in ports.items()}
        ours = sidecars.outbound(to, outbound={"fail_fast": "1s"})
        for name, said in (
            ("wrong-name", b"expected payments.shop, found other.shop"),
            ("tls-1-2", b"protocol version"),
            ("plain", b"TLS handshake failed"),
        ):
            url = f"http://127.0.0.1:{ours.ports[f'{name}:80']}/secret"
            done = curl("-i", url)
            assert done.stdout.startswith(b"HTTP/1.1 502"), (name, done.stdout)
            assert said in done.stdout, done.stdout
        assert heard
        assert all(each.startswith(b"\x16\x03") and b"secret" not in each for each in heard)
        for reason in ("name", "version", "malformed"):
            assert metric(ours, "tls_handshake_errors_total", side="client", reason=reason) >= 1, reason
        assert "certificate does not match TLS identity: expected payments.shop, found other.shop" in ours.output()
