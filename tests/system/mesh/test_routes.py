"""Routes, filters and splits of a config file between curl, wrk and nginx."""

from __future__ import annotations

import json
import os
import signal
import threading
from typing import Any

import pytest

from tests.bench import loads
from tests.peers import python, servers
from tests.peers.process import Running
from tests.peers.sidecar import metric
from tests.system.conftest import Start
from tests.system.mesh.conftest import Curl, Sidecars

ANY = "127.0.0.1:0"
ANSWER = servers.ANSWER.decode()


def gateway(sidecars: Sidecars, backends: dict[str, Running], **public: Any) -> Running:
    return sidecars.run(
        {
            "admin": {"listen": ANY},
            "listen": {"public": {"bind": ANY, **public}},
            "backend": {name: {"endpoints": [each.address]} for name, each in backends.items()},
        }
    )


def to(*names: str) -> list[dict[str, Any]]:
    return [{"backend": name} for name in names]


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
@pytest.mark.parity("R-22", "R-24", "R-25")
def test_curl_is_routed_rewritten_redirected_and_failed(
    sidecars: Sidecars, curl: Curl, nginx: Running, origin: Running, version: str
) -> None:
    routes = [
        {
            "match": [
                {"host": "*.example.com", "path": {"prefix": "/api"}, "headers": {"x-beta": {"regex": "[0-9]+"}}},
            ],
            "filters": [{"rewrite": {"host": "inner.test", "prefix": "/"}, "set_response_headers": {"x-by": "mesh"}}],
            "to": to("nginx"),
        },
        {
            "match": [{"path": {"prefix": "/old"}}],
            "filters": [{"redirect": {"prefix": "/1m", "status": 302}}],
            "to": to("nginx"),
        },
        {
            "match": [{"path": {"exact": "/teapot"}, "query": {"hot": "yes"}, "method": "POST"}],
            "filters": [{"inject_failure": {"status": 418, "message": "short and stout"}}],
            "to": to("nginx"),
        },
        {"match": [{"path": {"exact": "/"}}, {"path": {"exact": "/1m"}}], "to": to("nginx")},
    ]
    public = gateway(sidecars, {"nginx": nginx, "origin": origin}, route=routes)

    def get(path: str, *options: str) -> tuple[str, str]:
        done = curl(version, "-w", "\n%{http_code}", *options, f"http://{public.address}{path}")
        body, _, status = done.stdout.decode().rpartition("\n")
        return status, body

    beta = ("-H", "host: a.example.com", "-H", "x-beta: 12")
    status, body = get("/api/host?x", *beta, "-D", "-")
    assert status == "200"
    assert "inner.test GET" in body
    assert "x-by: mesh" in body.lower()
    assert get("/api/host", "-H", "host: a.example.com")[0] == "404"
    assert get("/", *beta) == ("200", ANSWER)
    done = curl(version, "-w", "%{http_code} %{redirect_url}", f"http://{public.address}/old?x")
    assert done.stdout.decode() == f"302 http://{public.address}/1m?x"
    # curl 7.88 does not follow on the same connection by prior knowledge.
    status, body = get("/old", "-L", "--http1.1")
    assert (status, len(body)) == ("200", 1 << 20)
    status, body = get("/teapot?hot=yes", "-X", "POST", "-D", "-")
    assert status == "418"
    assert "route route-2: short and stout\r\n" in body
    assert get("/teapot?hot=no", "-X", "POST")[0] == "404"
    labels = {"parent_name": "public", "route_name": "route-0"}
    assert metric(public, "outbound_http_route_request_statuses_total", **labels, http_status="200") == 1
    assert metric(public, "outbound_http_route_backend_requests_total", **labels, backend_name="nginx") == 1


@pytest.mark.parity("B-13", "R-27")
def test_wrk_is_split_by_the_weights_and_a_backend_that_dies_is_not_missed(
    sidecars: Sidecars, start: Start[Running]
) -> None:
    stable, canary = start(servers.nginx()), start(servers.nginx())
    weights = [{"backend": "stable", "weight": 80}, {"backend": "canary", "weight": 20}]
    public = gateway(sidecars, {"stable": stable, "canary": canary}, to=weights)

    def picks(name: str) -> float:
        return metric(public, "outbound_http_route_backend_requests_total", backend_name=name)

    load = loads.wrk(public.port, seconds=2)
    assert load.failed == 0
    total = picks("stable") + picks("canary")
    assert total >= load.requests > 1_000
    assert picks("canary") / total == pytest.approx(0.2, abs=0.02)

    # Killed under load: requests on its connections are sent again, all others go elsewhere.
    def kill() -> None:
        for pid in canary.pids():
            os.kill(pid, signal.SIGKILL)

    killer = threading.Timer(1.0, kill)
    killer.start()
    load = loads.wrk(public.port, seconds=3)
    killer.join()
    assert load.failed == 0
    before = picks("canary")
    assert loads.wrk(public.port, seconds=1).failed == 0
    assert picks("canary") == before


def test_copies_of_requests_reach_the_mirror(sidecars: Sidecars, curl: Curl, nginx: Running, origin: Running) -> None:
    route = {"filters": [{"mirror": {"backend": "shadow"}}], "to": to("main")}
    public = gateway(sidecars, {"main": nginx, "shadow": origin}, route=[route])
    direct = f"http://{origin.address}/count"
    before = int(curl(direct).stdout)
    for _ in range(5):
        done = curl("-d", "x" * 1_000, f"http://{public.address}/")
        assert done.returncode == 0
    text = ""
    for _ in range(50):
        after = int(curl(direct).stdout)
        text = f"{before} {after}"
        if after - before >= 5:
            return
    raise AssertionError(f"{text}: {json.dumps(public.output()[-2_000:])}")


@pytest.mark.parity("R-22", "R-24", "R-25")
def test_grpc_calls_are_routed_by_service_method_and_metadata(sidecars: Sidecars, start: Start[Running]) -> None:
    grpc = pytest.importorskip("grpc")
    stable, canary = start(python.grpc_server(name="stable")), start(python.grpc_server(name="canary"))
    routes = [
        {"match": [{"grpc": {"service": "test.Echo"}}], "to": to("stable")},
        {"match": [{"grpc": {"service": "test.Echo", "method": "Repeat"}}], "to": to("canary")},
        {"match": [{"grpc": {"service": "test.Echo"}, "headers": {"x-beta": "1"}}], "to": to("canary")},
        {
            "match": [{"grpc": {"method": "Collect"}}],
            "filters": [{"inject_failure": {"grpc_status": "RESOURCE_EXHAUSTED", "message": "enough"}}],
            "to": to("stable"),
        },
    ]
    backends = {each: {"endpoints": [found.address], "protocol": "h2c"} for each, found in
                (("stable", stable), ("canary", canary))}  # fmt: skip
    public = sidecars.run(
        {"admin": {"listen": ANY}, "listen": {"public": {"bind": ANY, "route": routes}}, "backend": backends}
    )
    with grpc.insecure_channel(public.address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        unary = channel.unary_unary("/test.Echo/Unary")
        assert unary(b"", timeout=10) == b"stable"
        assert unary(b"", timeout=10, metadata=[("x-beta", "1")]) == b"canary"
        assert list(channel.unary_stream("/test.Echo/Repeat")(b"3", timeout=10)) == [b"0", b"1", b"2"]
        for method, code, details in (
            ("/other.Echo/Collect", grpc.StatusCode.RESOURCE_EXHAUSTED, "enough"),
            ("/other.Echo/Unary", grpc.StatusCode.NOT_FOUND, "no route found"),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(method)(b"", timeout=10)
            assert caught.value.code() == code
            assert details in caught.value.details()
    labels = {"parent_name": "public", "backend_name": "canary"}
    assert metric(public, "outbound_grpc_route_backend_requests_total", **labels) == 2
