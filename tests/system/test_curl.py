"""curl, as people use it, through the proxy to each kind of upstream."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.peers import servers
from tests.peers.process import Running

Proxy = Callable[..., Running]
Peer = Callable[[str], str]
MIB = 1 << 20


@pytest.fixture
def curl(peer: Peer) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    program = peer("curl")

    def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [program, "-sS", "--max-time", "20", *arguments], capture_output=True, timeout=30, check=False
        )

    return run


Curl = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.mark.parametrize("version", ["--http1.0", "--http1.1", "--http2-prior-knowledge"])
def test_a_get_is_answered_in_each_version(curl: Curl, proxy: Proxy, nginx: Running, version: str) -> None:
    through = proxy([nginx.port], scheme="http1")
    done = curl(version, "-w", "%{http_code}", f"http://{through.address}/")
    assert done.stdout == servers.ANSWER + b"200", done.stderr


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
@pytest.mark.parametrize("upstream", ["nginx", "nginx h2", "nghttpd", "envoy"])
def test_every_upstream_answers_in_both_versions(
    curl: Curl,
    proxy: Proxy,
    start: Callable[..., Running],
    nginx: Running,
    nghttpd: Running,
    version: str,
    upstream: str,
) -> None:
    if upstream == "nginx":
        through = proxy([nginx.port], scheme="http1")
    elif upstream == "nginx h2":
        through = proxy([nginx.ports["h2"]], scheme="h2c")
    elif upstream == "nghttpd":
        through = proxy([nghttpd.port], scheme="h2c")
    else:
        through = proxy([start(servers.envoy([nginx.port])).port], scheme="http")
    done = curl(version, "-w", "%{http_code}", f"http://{through.address}/")
    assert done.stdout == servers.ANSWER + b"200", done.stderr
    done = curl(version, f"http://{through.address}/1m")
    assert len(done.stdout) == MIB, done.stderr


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_an_upload_arrives_whole(
    curl: Curl, proxy: Proxy, origin: Running, tmp_path: Path, version: str, framing: str
) -> None:
    file = tmp_path / "upload"
    file.write_bytes(b"u" * (8 * MIB))
    through = proxy([origin.port], scheme="http1")
    options = ["-H", "Transfer-Encoding: chunked"] if framing == "chunked" and version == "--http1.1" else []
    done = curl(version, *options, "-T", str(file), f"http://{through.address}/sink")
    assert done.stdout == b"%d" % (8 * MIB), done.stderr


def test_head_has_the_length_and_no_body_and_the_connection_goes_on(curl: Curl, proxy: Proxy, nginx: Running) -> None:
    through = proxy([nginx.port], scheme="http1")
    url = f"http://{through.address}/"
    done = curl("--http1.1", "-I", url, "--next", "-sS", "--http1.1", "--max-time", "5", "-w", "%{num_connects}", url)
    head, _, rest = done.stdout.replace(b"\r", b"").partition(b"\n\n")
    assert b"content-length: 100" in head.lower()
    assert rest == servers.ANSWER + b"0", "the second request made a connection of its own"
    # curl 7.88 cannot use a prior-knowledge connection twice.
    done = curl("--http2-prior-knowledge", "-I", url)
    assert b"content-length: 100" in done.stdout.lower()


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
def test_expect_100_continue_is_answered_and_the_body_follows(
    curl: Curl, proxy: Proxy, origin: Running, tmp_path: Path, version: str
) -> None:
    file = tmp_path / "upload"
    file.write_bytes(b"u" * 100_000)
    through = proxy([origin.port], scheme="http1")
    # Were the 100 lost, curl would wait for the whole ten seconds.
    options = ["-H", "Expect: 100-continue", "--expect100-timeout", "10", "-w", " %{time_total}"]
    done = curl(version, *options, "--data-binary", f"@{file}", f"http://{through.address}/sink")
    length, took = done.stdout.split()
    assert length == b"100000", done.stderr
    assert float(took) < 5


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
def test_trailers_and_hints_reach_the_client(curl: Curl, proxy: Proxy, origin: Running, version: str) -> None:
    through = proxy([origin.port], scheme="http1")
    done = curl(version, "-D", "-", f"http://{through.address}/trailers")
    assert b"hello" in done.stdout
    assert b"x-sum: 42" in done.stdout.lower()
    done = curl(version, "-D", "-", f"http://{through.address}/hints")
    assert b" 103" in done.stdout
    assert b"link: </a.css>; rel=preload" in done.stdout.lower()
    assert done.stdout.endswith(b"hinted")


def test_a_body_that_the_upstream_cuts_short_never_looks_complete(curl: Curl, proxy: Proxy, origin: Running) -> None:
    through = proxy([origin.port], scheme="http1")
    assert curl("--http1.1", f"http://{through.address}/cut").returncode in (18, 56)
    assert curl("--http2-prior-knowledge", f"http://{through.address}/cut").returncode in (18, 92, 56)


def test_nobody_listening_upstream_is_a_bad_gateway_that_says_so(curl: Curl, proxy: Proxy) -> None:
    through = proxy([1])
    done = curl("-D", "-", "-o", "/dev/null", f"http://{through.address}/")
    head = done.stdout.lower()
    assert head.split(b" ")[1] in (b"502", b"503", b"504")
    assert b"x-meshcore-error: " in head
    assert b"l5d-proxy-error: " in head


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
def test_the_upstream_sees_the_request_as_it_was(curl: Curl, proxy: Proxy, origin: Running, version: str) -> None:
    through = proxy([origin.port], scheme="http1")
    done = curl(
        version, "-X", "PATCH", "-H", "Host: shop.test:81", "-H", "X-A: 1", f"http://{through.address}/info?q=%20"
    )
    facts = json.loads(done.stdout)
    headers = dict(facts["headers"])
    assert (facts["method"], facts["target"]) == ("PATCH", "/info?q=%20")
    assert headers["host"] == "shop.test:81"
    assert headers["x-a"] == "1"
    assert "connection" not in headers or headers["connection"] != "close"
