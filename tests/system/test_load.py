"""Load generators find no failed request."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable

import pytest

from tests.bench import loads
from tests.peers.process import Running

Proxy = Callable[..., Running]
Peer = Callable[[str], str]


@pytest.mark.parametrize("engine", ["auto", "pure"])
def test_20_000_http2_requests_from_h2load_all_succeed(peer: Peer, proxy: Proxy, nghttpd: Running, engine: str) -> None:
    peer("h2load")
    through = proxy([nghttpd.port], scheme="h2c", engine=engine)
    load = loads.requests(through.port, total=20_000, clients=10, streams=20)
    assert (load.requests, load.failed) == (20_000, 0)


@pytest.mark.parametrize("engine", ["auto", "pure"])
def test_20_000_http1_requests_from_h2load_all_succeed(peer: Peer, proxy: Proxy, nginx: Running, engine: str) -> None:
    peer("h2load")
    through = proxy([nginx.port], engine=engine)
    load = loads.requests(through.port, total=20_000, clients=20, streams=1, h1=True)
    assert (load.requests, load.failed) == (20_000, 0)


@pytest.mark.long
@pytest.mark.parametrize("h1", [False, True])
def test_200_000_requests_from_h2load_all_succeed(
    peer: Peer, proxy: Proxy, nghttpd: Running, nginx: Running, h1: bool
) -> None:
    peer("h2load")
    through = proxy([nginx.port]) if h1 else proxy([nghttpd.port], scheme="h2c")
    load = loads.requests(through.port, total=200_000, clients=20, streams=1 if h1 else 10, h1=h1)
    assert (load.requests, load.failed) == (200_000, 0)


@pytest.mark.parametrize(("client_h1", "scheme"), [(True, "h2c"), (False, "http1")])
def test_5_000_requests_are_translated_both_ways(
    peer: Peer, proxy: Proxy, nginx: Running, nghttpd: Running, client_h1: bool, scheme: str
) -> None:
    peer("h2load")
    through = proxy([nghttpd.port if scheme == "h2c" else nginx.port], scheme=scheme)
    load = loads.requests(through.port, total=5_000, clients=8, streams=1 if client_h1 else 8, h1=client_h1)
    assert (load.requests, load.failed) == (5_000, 0)


def test_wrk_sees_no_error(peer: Peer, proxy: Proxy, nginx: Running) -> None:
    peer("wrk")
    load = loads.wrk(proxy([nginx.port]).port, connections=64, seconds=2)
    assert load.requests > 100
    assert load.failed == 0


def test_hey_sees_only_200(peer: Peer, proxy: Proxy, nginx: Running) -> None:
    through = proxy([nginx.port])
    done = subprocess.run(
        [peer("hey"), "-n", "5000", "-c", "50", f"http://{through.address}/"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert re.findall(r"\[(\d+)\]\s+(\d+) responses", done.stdout) == [("200", "5000")]
    assert "Error distribution" not in done.stdout


def test_hey_without_keep_alive_sees_only_200(peer: Peer, proxy: Proxy, nginx: Running) -> None:
    through = proxy([nginx.port])
    done = subprocess.run(
        [peer("hey"), "-n", "2000", "-c", "20", "-disable-keepalive", f"http://{through.address}/"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert re.findall(r"\[(\d+)\]\s+(\d+) responses", done.stdout) == [("200", "2000")]


def test_nghttp_multiplexes_and_checks_lengths(peer: Peer, proxy: Proxy, nghttpd: Running) -> None:
    through = proxy([nghttpd.port], scheme="h2c")
    urls = [f"http://{through.address}/{path}" for path in ("", "1m", "", "1m")]
    done = subprocess.run(
        [peer("nghttp"), "-n", "-s", "-m", "4", "--no-dep", *urls],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    codes = re.findall(r"\s(\d{3})\s+(?:\d+\w?)\s+/", done.stdout)
    assert set(codes) == {"200"}, done.stdout
