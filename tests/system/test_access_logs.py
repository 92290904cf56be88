"""Access logs and logs of the real binary: files moved away under load, last lines, levels changed while it runs."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.peers.process import Running, wait_until
from tests.peers.sidecar import admin, config, metric, sidecar

Peer = Callable[[str], str]
Proxy = Callable[..., Running]


def gateway(nginx: Running, **tables: Any) -> dict[str, Any]:
    return {
        "listen": {"public": {"bind": "127.0.0.1:0", "to": [{"backend": "a"}]}},
        "backend": {"a": {"endpoints": [nginx.address]}},
        "admin": {"listen": "127.0.0.1:0"},
        **tables,
    }


def ended(running: Running) -> None:
    os.kill(running.pid, signal.SIGTERM)
    assert running.process.wait(30) == 0


def get(address: str, path: str = "/", **headers: str) -> int:
    client = http.client.HTTPConnection(address, timeout=10)
    try:
        client.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = client.getresponse()
        response.read()
        return response.status
    finally:
        client.close()


def done(output: str) -> int:
    """The requests that h2load has got an answer for."""
    line = next(line for line in output.splitlines() if line.startswith("requests: "))
    return int(line.split(", ")[2].split()[0])


def test_no_line_is_lost_or_torn_while_the_file_is_moved_away_under_load(
    nginx: Running, peer: Peer, tmp_path: Path
) -> None:
    path = tmp_path / "access.log"
    fields = {"n": "%{total_s}", "path": "%{path}", "status": "%{status}", "listener": "%{listener}"}
    told = gateway(nginx, access_log={"to": str(path), "fields": fields, "capacity": 200_000})
    with sidecar(told) as running:
        command = [peer("h2load"), "-c", "4", "-m", "8", "-D", "5", f"http://127.0.0.1:{running.port}/"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as load:
            for number in range(3):
                time.sleep(1.3)
                wait_until(path.exists, 10, "the file is there")
                path.rename(tmp_path / f"access.log.{number}")
            output = load.communicate(timeout=60)[0]
        ended(running)
        assert "access log" not in running.output()
    files = sorted(tmp_path.glob("access.log*"))
    assert len(files) == 4
    lines = [line for file in files for line in file.read_text().splitlines()]
    values = [json.loads(line) for line in lines]
    assert {(value["path"], value["listener"]) for value in values} == {("/", "public")}
    answered = sum(value["status"] == 200 for value in values)
    # Those that the load has given up at its end are told, too.
    assert done(output) <= answered <= len(values) <= done(output) + 4 * 8
    assert done(output) > 100


def test_both_sides_of_a_mesh_tell_of_the_same_sample_of_traces(nginx: Running, tmp_path: Path) -> None:
    rng = random.Random(7)
    log = {"sample": 0.5, "fields": {"trace": "%{trace_id}", "side": "%{direction}", "to": "%{endpoint}"}}
    server = config(forward=nginx.port, access_log={**log, "to": str(tmp_path / "inbound.log")})
    with sidecar(server) as inbound:
        to = {"orders:80": {"endpoints": [f"127.0.0.1:{inbound.ports['inbound']}"]}}
        client = config(to=to, access_log={**log, "to": str(tmp_path / "outbound.log")})
        with sidecar(client) as outbound:
            for _ in range(60):
                trace = f"00-{rng.getrandbits(128):032x}-{rng.getrandbits(64):016x}-01"
                assert get(f"127.0.0.1:{outbound.ports['outbound']}", host="orders:80", traceparent=trace) == 200
            ended(outbound)
        ended(inbound)
    found = {}
    for side in ("inbound", "outbound"):
        lines = [json.loads(line) for line in (tmp_path / f"{side}.log").read_text().splitlines()]
        assert {line["side"] for line in lines} == {side}
        found[side] = [line["trace"] for line in lines]
    assert found["inbound"] == found["outbound"]
    assert 10 < len(found["inbound"]) < 50


@pytest.mark.parametrize("to", ["stdout", "file"])
def test_the_last_request_before_the_end_is_told(proxy: Proxy, nginx: Running, tmp_path: Path, to: str) -> None:
    path = tmp_path / "access.log"
    options = [] if to == "stdout" else ["--access-log-to", str(path)]
    running = proxy([nginx.port], "--access-log", '%{client} "%{method} %{path}" %{status}', *options)
    assert get(running.address, "/one?a=b c".replace(" ", "%20")) == 404
    assert get(running.address, "/") == 200
    ended(running)
    text = running.output() if to == "stdout" else path.read_text()
    told = [line.partition(" ")[2] for line in text.splitlines() if '"GET' in line]
    assert told == ['"GET /one?a=b%20c" 404', '"GET /" 200']


def test_a_disk_that_is_full_stalls_nothing(nginx: Running) -> None:
    with sidecar(gateway(nginx, access_log={"to": "/dev/full"})) as running:
        for _ in range(20):
            assert get(f"127.0.0.1:{running.port}") == 200
        wait_until(lambda: metric(running, "access_log_dropped_total") == 20, 10, "dropped lines are counted")
        assert metric(running, "access_log_lines_total") == 0
        assert running.output().count("No space left on device") == 1
        ended(running)


@pytest.mark.parity("M-14", "M-16")
def test_levels_are_changed_while_it_runs_and_put_back_by_a_reload(nginx: Running) -> None:
    told = gateway(nginx, proxy={"log_level": "warn,meshcore.proxy=info", "log_format": "json"})
    with sidecar(told) as running:
        assert (200, "warning,meshcore.proxy=info\n") == admin(running, "/proxy-log-level")
        client = http.client.HTTPConnection("127.0.0.1", running.ports["admin"], timeout=10)
        client.request("PUT", "/proxy-log-level", b"debug")
        assert client.getresponse().status == 204
        client.close()
        assert (200, "debug\n") == admin(running, "/proxy-log-level")
        told["proxy"]["grace_period"] = "7s"
        new = running.config.with_suffix(".new")
        new.write_text(json.dumps(told))
        new.rename(running.config)
        wait_until(lambda: metric(running, "config_version") == 2, 10, "reloaded")
        wait_until(lambda: admin(running, "/proxy-log-level")[1].startswith("warning"), 5, "levels are put back")
        values = [json.loads(line) for line in running.output().splitlines() if line.startswith("{")]
        assert all(set(value) >= {"timestamp", "level", "logger", "message"} for value in values)


@pytest.mark.parity("X-55")
def test_the_log_is_streamed_until_its_reader_goes(nginx: Running) -> None:
    with sidecar(gateway(nginx)) as running:
        reader = http.client.HTTPConnection("127.0.0.1", running.ports["admin"], timeout=10)
        reader.request("GET", "/logs.json?warn,meshcore.server=debug")
        response = reader.getresponse()
        assert response.status == 200
        assert metric(running, "log_stream_readers") == 1
        # A client that sends no request, but something else.
        with http_socket(running.port) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n")
            sock.recv(100)
        value = json.loads(response.readline())
        assert value["logger"].startswith("meshcore.server.")
        assert value["listener"] == "public"
        assert value["client"].startswith("127.0.0.1:")
        response.close()
        reader.close()
        wait_until(lambda: metric(running, "log_stream_readers") == 0, 10, "the reader is gone")


def http_socket(port: int) -> Any:
    import socket

    return socket.create_connection(("127.0.0.1", port), 10)


@pytest.mark.parity("X-54")
def test_the_environment_is_asked_of_the_binary(nginx: Running) -> None:
    with sidecar(gateway(nginx)) as running:
        status, text = admin(running, "/env.json?PATH&NO_SUCH_VARIABLE")
        assert status == 200
        assert json.loads(text) == {"PATH": os.environ["PATH"], "NO_SUCH_VARIABLE": None}
