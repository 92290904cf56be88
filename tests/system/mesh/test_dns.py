"""Discovery by DNS with processes: a real server, real sockets, and what is left when the server has gone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.peers import python, servers
from tests.peers.process import Running, free_port, wait_until
from tests.peers.sidecar import admin, config, metric
from tests.system.mesh.conftest import Curl, Sidecars

Start = Callable[..., Running]


@pytest.mark.parity("B-22", "B-25")
def test_names_are_found_followed_and_remembered_when_dns_has_gone(
    sidecars: Sidecars, start: Start, curl: Curl, tmp_path: Path
) -> None:
    zone, dns_port = tmp_path / "zone.json", free_port()
    app = start(servers.nginx(any_address=True))
    second = start(python.origin("second"))
    to: dict[str, Any] = {
        "web:80": {"discover": f"dns:web.test:{app.port}"},
        "pay:80": {"discover": "dns+srv:_http._tcp.pay.test", "listen": "127.0.0.1:0"},
    }
    # Nobody answers yet, which is no reason not to start.
    outbound = sidecars.run(config(to=to, proxy={"dns_servers": [f"127.0.0.1:{dns_port}"]}))

    def ask(host: str) -> bytes:
        return curl("-H", f"host: {host}", "-w", "%{http_code}", f"http://127.0.0.1:{outbound.port}/").stdout

    assert ask("web:80").endswith(b"504")
    zone.write_text(
        json.dumps(
            {
                "web.test": {"A": ["127.0.0.2"]},
                "_http._tcp.pay.test": {"SRV": [[0, 1, second.port, "a.pay.test"], [9, 1, 1, "b.pay.test"]]},
                "a.pay.test": {"A": ["127.0.0.1"]},
            }
        )
    )
    server = start(python.dns_server(zone, port=dns_port))
    wait_until(lambda: ask("web:80").endswith(b"200"), 20, "the name is found")
    wait_until(lambda: ask("pay:80") == b"second200", 20, "the service is found")

    zone.write_text(zone.read_text().replace("127.0.0.2", "127.0.0.3"))
    wait_until(
        lambda: ask("web:80") and metric(outbound, "tcp_open_total", peer="dst", target_ip="127.0.0.3"),
        15,
        "the change",
    )
    server.process.kill()
    failing = re.compile(
        rf'"source": "dns:web.test:{app.port}",\s+"endpoints": 1,\s+"age": [\d.]+,\s+"ttl": 5.0,\s+"failures": [1-9]'
    )
    wait_until(lambda: failing.search(admin(outbound, "/stack")[1]), 15, "nobody answers")

    assert ask("web:80").endswith(b"200")
    assert metric(outbound, "dns_answer_age_seconds", source=f"dns:web.test:{app.port}") > 1
    assert metric(outbound, "control_dns_resolutions_total", client=f"dns:web.test:{app.port}", result="ok") > 1
