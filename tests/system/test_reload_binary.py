"""Reloads of the real binary under load: by signal, by command, by the file; nothing fails or is connected anew."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.peers.process import Running, wait_until
from tests.peers.sidecar import admin, metric, sidecar

Peer = Callable[[str], str]


def told(nginx: Running, *, seconds: int = 10, endpoints: int = 1, **tables: Any) -> dict[str, Any]:
    """A gateway in front of nginx, which may be there several times under other names."""
    names = [f"127.0.0.{number + 1}:{nginx.port}" for number in range(endpoints)]
    return {
        "listen": {"public": {"bind": "127.0.0.1:0", "timeout": {"request": f"{seconds}s"}, "to": [{"backend": "a"}]}},
        "backend": {"a": {"endpoints": names}},
        "admin": {"listen": "127.0.0.1:0"},
        **tables,
    }


@pytest.fixture
def gateway(nginx: Running) -> Iterator[Running]:
    with sidecar(told(nginx)) as running:
        yield running
        output = running.output()
        assert "Traceback" not in output, output[-8_000:]
        assert "crash in" not in output, output[-8_000:]


def write(gateway: Running, value: dict[str, Any]) -> None:
    new = gateway.config.with_suffix(".new")
    new.write_text(json.dumps(value))
    new.rename(gateway.config)


def reload(gateway: Running) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "meshcore_cli", "reload", "--admin", f"127.0.0.1:{gateway.ports['admin']}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def summary(output: str) -> dict[str, int]:
    """``requests: 100 total, 100 started, 100 done, 100 succeeded, 0 failed …`` of h2load."""
    line = next(line for line in output.splitlines() if line.startswith("requests: "))
    parts = [part.split() for part in line.removeprefix("requests: ").split(", ")]
    return {name: int(number) for number, name in parts}


def pools(stack: Any) -> list[dict[str, int]]:
    """The statistics of every pool of HTTP/1 connections in a live stack that was used."""
    if isinstance(stack, dict):
        if {"hits", "misses", "expired"} <= set(stack):
            return [stack] if stack["hits"] else []
        stack = list(stack.values())
    return [pool for each in stack for pool in pools(each)] if isinstance(stack, list) else []


@pytest.mark.parametrize("protocol", ["--h1", "h2"])
def test_ten_signals_under_load_fail_no_request(gateway: Running, nginx: Running, peer: Peer, protocol: str) -> None:
    url = f"http://127.0.0.1:{gateway.port}/"
    options = ["--h1", "-c", "16"] if protocol == "--h1" else ["-c", "4", "-m", "8"]
    with subprocess.Popen([peer("h2load"), *options, "-D", "8", url], stdout=subprocess.PIPE, text=True) as load:
        wait_until(lambda: metric(gateway, "request_total", direction="inbound") > 100, 10, "the load has begun")
        for number in range(10):
            write(gateway, told(nginx, seconds=20 + number))
            os.kill(gateway.pid, signal.SIGHUP)
            wait_until(lambda: metric(gateway, "config_version") == number + 2, 5, "reloaded")  # noqa: B023
            time.sleep(0.3)
        output = load.communicate(timeout=30)[0]
    counted = summary(output)
    assert (0, 0) == (counted["failed"], counted["errored"]), output
    assert counted["succeeded"] == counted["done"] > 100
    # No more connections to the backend than there are requests at a time, and a few: none was made for a reload.
    # Those that nobody needed for three seconds (D-33) are made anew; the pool that counts them was never replaced.
    (pool,) = pools(json.loads(admin(gateway, "/stack")[1]))
    assert pool["hits"] + pool["misses"] >= counted["done"]
    assert metric(gateway, "tcp_open_total", peer="dst") <= 40 + pool["expired"]
    assert 10 == metric(gateway, "config_reload_total", result="applied")
    assert "config v11: changed: listen.public.timeout.request (SIGHUP)" in gateway.output()


def test_the_command_tells_what_has_changed_or_what_is_wrong(gateway: Running, nginx: Running) -> None:
    write(gateway, told(nginx, endpoints=3))
    done = reload(gateway)
    assert (0, "") == (done.returncode, done.stderr)
    # The file's own change may have been noticed first.
    assert done.stdout in ("config v2: +2 endpoints\n", "config v2: nothing has changed\n")

    done = reload(gateway)
    assert (0, "config v2: nothing has changed\n", "") == (done.returncode, done.stdout, done.stderr)

    write(gateway, told(nginx, proxy={"engin": "pure"}))
    done = reload(gateway)
    assert (1, "") == (done.returncode, done.stdout)
    assert f"{gateway.config}:1: proxy.engin: unknown key; did you mean 'engine'?" in done.stderr
    assert "config v2 stays as it is" in done.stderr
    status, value = admin(gateway, "/config")
    assert (200, "failed") == (status, json.loads(value)["reload"]["last"]["result"])
    assert 404 == admin(gateway, "/nothing")[0]


def test_the_log_level_and_a_new_listener_are_taken_from_the_file_alone(gateway: Running, nginx: Running) -> None:
    new = told(nginx, proxy={"log_level": "debug"})
    new["listen"]["second"] = {"bind": "127.0.0.1:0", "to": [{"backend": "a"}]}
    write(gateway, new)
    wait_until(lambda: metric(gateway, "config_version") == 2, 5, "reloaded")
    output = gateway.output()
    assert "config v2: +1 listener, changed: proxy.log_level" in output
    listen = json.loads(admin(gateway, "/stack")[1])["second"]["live"]["listen"][0]
    import http.client

    client = http.client.HTTPConnection(listen, timeout=10)
    client.request("GET", "/")
    assert 200 == client.getresponse().status
    client.close()
    assert gateway.alive


def test_a_proxy_that_is_not_there_is_told_without_a_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "meshcore_cli", "reload", "--admin", "127.0.0.1:1"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (1, "") == (done.returncode, done.stdout)
    assert done.stderr == (
        "meshcore reload: no proxy answers at 127.0.0.1:1: Connection refused\n"
        "  --admin HOST:PORT says where its [admin] listens\n"
    )
