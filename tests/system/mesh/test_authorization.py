"""Who may call whom, between sidecars with identities of their own, and at a gateway by certificate or token."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import pytest

from tests.layers.tokens import ISSUER
from tests.layers.tokens import Issuer as TokenIssuer
from tests.peers.process import Running, wait_until
from tests.peers.sidecar import metric
from tests.system.mesh.conftest import Curl, Sidecars, meshed

ANY = "127.0.0.1:0"


@pytest.mark.parity("R-29", "R-31", "R-32")
def test_a_service_is_called_by_those_whom_it_names(sidecars: Sidecars, curl: Curl, origin: Running) -> None:
    inbound = sidecars.inbound(
        origin.port,
        default_policy="deny",
        policy=[
            {"name": "web", "identities": ["web.shop"]},
            {"name": "batch", "identity_suffixes": ["*.batch.shop"], "networks": ["127.0.0.0/8"]},
        ],
    )
    to = {"app:80": meshed(inbound.port, listen=ANY)}

    def ask(name: str) -> Any:
        client = sidecars.outbound(to, name)
        return client, curl("-i", f"http://127.0.0.1:{client.ports['app:80']}/").stdout

    for name, authorization in (("web.shop", "web"), ("nightly.batch.shop", "batch")):
        _, answer = ask(name)
        assert answer.startswith(b"HTTP/1.1 200 ")
        labels = {"client_id": name, "srv_name": "inbound", "authz_name": authorization}
        assert metric(inbound, "inbound_http_authz_allow_total", **labels) == 1
    carts, answer = ask("carts.shop")
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"x-meshcore-error: unauthorized\r\n" in answer
    assert metric(inbound, "inbound_http_authz_deny_total", client_id="carts.shop", srv_name="inbound") == 1
    # Bytes that are no requests are judged as the connection that brings them.
    with socket.create_connection(("127.0.0.1", carts.ports["app:80"]), 10) as sock:
        sock.sendall(b"\x00\x01\x02")
        assert sock.recv(100) == b""
    assert metric(inbound, "inbound_tcp_authz_deny_total", client_id="carts.shop") >= 1
    # Whoever has no identity at all is told the least.
    answer = curl("-i", f"http://{inbound.address}/").stdout
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"meshcore" not in answer


@pytest.mark.parity("R-28")
def test_a_gateway_lets_clients_in_by_their_certificates(sidecars: Sidecars, curl: Curl, origin: Running) -> None:
    issuer = sidecars.issuer
    cert, key = issuer.issue("site.test")
    tls = {
        "cert": str(cert),
        "key": str(key),
        "client_certificates": "optional",
        "trust_anchors": str(issuer.anchors),
    }
    public = {"bind": ANY, "to": [{"backend": "app"}], "tls": tls, "policy": [{"identities": ["partner.test"]}]}
    gateway = sidecars.run(
        {
            "admin": {"listen": ANY},
            "listen": {"public": public},
            "backend": {"app": {"endpoints": [origin.address]}},
        }
    )

    def ask(*options: str) -> bytes:
        place = ["--resolve", f"site.test:{gateway.port}:127.0.0.1", "--cacert", str(issuer.anchors)]
        return curl(
            "-w", "%{http_code}", "-o", "/dev/null", *place, *options, f"https://site.test:{gateway.port}/"
        ).stdout

    def as_client(name: str) -> list[str]:
        cert, key = issuer.issue(name)
        return ["--cert", str(cert), "--key", str(key)]

    assert ask() == b"403"
    assert ask(*as_client("stranger.test")) == b"403"
    for version in ("--http1.1", "--http2"):
        assert ask(version, *as_client("partner.test")) == b"200"
    assert metric(gateway, "inbound_http_authz_allow_total", client_id="partner.test", srv_name="public") == 2


def test_a_gateway_asks_for_a_token(sidecars: Sidecars, curl: Curl, origin: Running, tmp_path: Path) -> None:
    issuer = TokenIssuer()
    keys = tmp_path / "jwks.json"
    keys.write_bytes(issuer.jwks("RSA"))
    jwt = {"issuer": ISSUER, "audience": ["orders"], "keys": f"file:{keys}", "claims": {"x-user": "sub"}}
    gateway = sidecars.run(
        {
            "admin": {"listen": ANY},
            "listen": {"public": {"bind": ANY, "to": [{"backend": "app"}], "jwt": jwt}},
            "backend": {"app": {"endpoints": [origin.address]}},
        }
    )

    def ask(*options: str) -> bytes:
        return curl("-w", "%{http_code}", "-o", "/dev/null", *options, f"http://{gateway.address}/").stdout

    def bearer(token: bytes) -> list[str]:
        return ["-H", f"authorization: Bearer {token.decode()}"]

    now = time.time()
    assert ask() == b"401"
    for version in ("--http1.1", "--http2-prior-knowledge"):
        assert ask(version, *bearer(issuer.token("RS256", now=now))) == b"200"
    assert ask(*bearer(issuer.token("RS256", now=now - 120))) == b"401"
    assert ask(*bearer(issuer.token("ES256", now=now))) == b"401"
    keys.write_bytes(issuer.jwks("P-256"))
    wait_until(lambda: ask(*bearer(issuer.token("ES256", now=now))) == b"200", 10, "the new keys are taken")
    assert ask(*bearer(issuer.token("RS256", now=now))) == b"401"
    assert metric(gateway, "inbound_http_jwt_total", srv_name="public", result="expired") == 1
    with socket.create_connection(("127.0.0.1", gateway.port), 10) as sock:
        sock.sendall(b"\x00\x01\x02")
        assert sock.recv(100) == b""
