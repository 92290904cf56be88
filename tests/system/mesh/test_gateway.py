"""A gateway of a config file: certificates by name, clients' certificates, and ``https`` upstreams."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.peers.process import Running, free_port, running
from tests.peers.sidecar import Issuer
from tests.system.mesh.conftest import Curl, Sidecars

Peer = Callable[[str], str]
Start = Callable[..., Running]
ANY = "127.0.0.1:0"


def gateway(sidecars: Sidecars, tls: dict[str, Any] | None, backend: dict[str, Any]) -> Running:
    public: dict[str, Any] = {"bind": ANY, "to": [{"backend": "app"}]}
    if tls is not None:
        public["tls"] = tls
    return sidecars.run({"admin": {"listen": ANY}, "listen": {"public": public}, "backend": {"app": backend}})


def certificates(issuer: Issuer, *names: str) -> list[dict[str, str]]:
    pairs = [issuer.issue(name) for name in names]
    return [{"cert": str(cert), "key": str(key)} for cert, key in pairs]


def test_the_name_asked_for_picks_the_certificate_and_alpn_the_protocol(
    sidecars: Sidecars, peer: Peer, curl: Curl, origin: Running
) -> None:
    tls = {"certificates": certificates(sidecars.issuer, "site.test", "api.test")}
    public = gateway(sidecars, tls, {"endpoints": [origin.address]})
    for name in ("site.test", "api.test"):
        place = ["--resolve", f"{name}:{public.port}:127.0.0.1", "--cacert", str(sidecars.issuer.anchors)]
        for option, version in (("--http2", b"2"), ("--http1.1", b"1.1")):
            done = curl(option, "-w", " %{http_version}", *place, f"https://{name}:{public.port}/")
            assert done.stdout == b"origin " + version, done.stderr
    command = [peer("openssl"), "s_client", "-connect", public.address, "-alpn", "h2,http/1.1"]
    for options, shown in (("api.test",), b"DNS:api.test"), (("other.test",), b"DNS:site.test"), ((), b"DNS:site.test"):
        words = ["-servername", *options] if options else ["-noservername"]
        done = subprocess.run([*command, *words], input=b"", capture_output=True, timeout=20, check=False)
        assert b"ALPN protocol: h2" in done.stdout
        found = subprocess.run(
            [peer("openssl"), "x509", "-noout", "-ext", "subjectAltName"],
            input=done.stdout,
            capture_output=True,
            timeout=20,
            check=True,
        )
        assert shown in found.stdout


@pytest.mark.parametrize("versions", [("--tlsv1.3",), ("--tls-max", "1.2")])
def test_clients_have_to_show_a_certificate_where_one_is_required(
    sidecars: Sidecars, curl: Curl, origin: Running, versions: tuple[str, ...]
) -> None:
    clients = Issuer(sidecars.issuer.folder / "clients", "clients")
    files = certificates(sidecars.issuer, "site.test")[0]
    tls = {**files, "client_certificates": "required", "trust_anchors": str(clients.anchors)}
    public = gateway(sidecars, tls, {"endpoints": [origin.address]})
    place = ["--resolve", f"site.test:{public.port}:127.0.0.1", "--cacert", str(sidecars.issuer.anchors), *versions]
    url = f"https://site.test:{public.port}/"
    mine, foreign = clients.issue("client.test"), sidecars.issuer.issue("client.test")
    assert curl(*place, "--cert", str(mine[0]), "--key", str(mine[1]), url).stdout == b"origin"
    for options in ([], ["--cert", str(foreign[0]), "--key", str(foreign[1])]):
        done = curl(*place, *options, url)
        # In the handshake, or with TLS 1.3 in what curl sends or reads after it.
        assert done.returncode in (16, 35, 55, 56), done
        assert done.stdout == b""
    assert curl(*place, "--cert", str(mine[0]), "--key", str(mine[1]), url).stdout == b"origin"


def test_an_https_upstream_is_believed_by_its_own_trust_anchors_and_name(
    sidecars: Sidecars, start: Start, peer: Peer, curl: Curl
) -> None:
    cert, key = sidecars.issuer.issue("up.test")
    port = free_port()
    command = [peer("openssl"), "s_server", "-accept", f"127.0.0.1:{port}", "-cert", str(cert), "-key", str(key)]
    start(running("s_server", [*command, "-www"], ready=lambda program: "ACCEPT" in program.output()))
    elsewhere = Issuer(sidecars.issuer.folder / "elsewhere", "elsewhere")

    def asked(**tls: object) -> bytes:
        told = {"endpoints": [f"127.0.0.1:{port}"], "protocol": "https", "tls": tls}
        return curl("-i", f"http://127.0.0.1:{gateway(sidecars, None, told).port}/").stdout

    anchors = str(sidecars.issuer.anchors)
    answer = asked(server_name="up.test", trust_anchors=anchors)
    assert b"200 ok" in answer.splitlines()[0].lower()
    assert b"s_server" in answer
    for wrong, said in (
        ({"server_name": "other.test", "trust_anchors": anchors}, b"expected other.test, found up.test"),
        ({"server_name": "up.test", "trust_anchors": str(elsewhere.anchors)}, b"unknown issuer (CN=mesh)"),
        ({"server_name": "up.test"}, b"unknown issuer (CN=mesh)"),
    ):
        answer = asked(**wrong)
        assert answer.split(b" ")[1] == b"502", answer
        assert said in answer, answer
        assert b"s_server" not in answer
