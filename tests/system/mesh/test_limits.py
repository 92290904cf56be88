"""Rate limits between real sidecars, as clients with identities of their own meet them."""

from __future__ import annotations

import pytest

from tests.peers.process import Running
from tests.peers.sidecar import metric
from tests.system.mesh.conftest import Curl, Sidecars, meshed


@pytest.mark.parity("R-36")
def test_each_client_of_a_mesh_has_its_share(sidecars: Sidecars, curl: Curl, origin: Running) -> None:
    limit = {"per_identity": {"rps": 0.1, "burst": 5}, "overrides": [{"identities": ["web.shop"], "rps": 20}]}
    inbound = sidecars.inbound(origin.port, rate_limit=limit)
    to = {"app:80": meshed(inbound.port, listen="127.0.0.1:0")}

    def statuses(name: str) -> list[bytes]:
        client = sidecars.outbound(to, name)
        url = f"http://127.0.0.1:{client.ports['app:80']}/"
        done = curl("-w", "%{http_code} ", *["-o", "/dev/null", url] * 10)
        return done.stdout.split()

    assert statuses("orders.shop") == [b"200"] * 5 + [b"429"] * 5
    assert statuses("carts.shop") == [b"200"] * 5 + [b"429"] * 5
    assert statuses("web.shop") == [b"200"] * 10
    client = sidecars.outbound(to, "orders.shop")
    done = curl("-i", f"http://127.0.0.1:{client.ports['app:80']}/")
    assert b"HTTP/1.1 429 " in done.stdout
    assert b"\r\nretry-after: " in done.stdout
    assert b"\r\nx-meshcore-error: rate-limited\r\n" in done.stdout
    told = {"client_id": "orders.shop", "ratelimit_kind": "per-identity", "tls": "true"}
    assert metric(inbound, "inbound_http_local_ratelimit_total", **told) == 6
