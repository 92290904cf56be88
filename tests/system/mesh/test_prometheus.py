"""A real Prometheus: what it makes of scrapes, what it has recorded of a load, and what scraping costs others."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from tests.metrics.exposed import parse
from tests.peers.process import Running, wait_until
from tests.peers.prometheus import prometheus, query, targets
from tests.peers.sidecar import admin, config
from tests.system.mesh.conftest import Sidecars

Start = Callable[..., Running]

RULES = Path(__file__).parents[3] / "docs" / "alerts"
# Names that are linkerd's, so that its dashboards work.
LINKERDS = ("response_latency_ms", "route_response_latency_ms")


class Moody(http.server.BaseHTTPRequestHandler):
    """Answers with the status that is in the path."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self.send_response(int(self.path.rpartition("/")[2]))
        self.send_header("content-length", "5")
        self.end_headers()
        self.wfile.write(b"moody")

    def log_message(self, *words: object) -> None:
        """Nothing."""


@pytest.fixture
def moody() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Moody) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


class Load:
    """Asks for a status after the other at an even pace, and keeps count.

    Attributes:
        seen: when each answer came, since the epoch, and its status.
    """

    def __init__(self, port: int, rate: float, statuses: list[int]) -> None:
        self.seen: list[tuple[float, int]] = []
        self._port, self._pause, self._statuses = port, 1 / rate, statuses
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)

    def _run(self) -> None:
        client = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        due = time.monotonic()
        while not self._stop.is_set():
            client.request("GET", f"/{self._statuses[len(self.seen) % len(self._statuses)]}")
            answer = client.getresponse()
            answer.read()
            self.seen.append((time.time(), answer.status))
            due += self._pause
            time.sleep(max(0.0, due - time.monotonic()))
        client.close()

    def between(self, start: float, end: float) -> Counter[int]:
        return Counter(status for at, status in self.seen if start < at <= end)


def test_what_prometheus_has_recorded_of_a_load_is_what_the_load_counted(
    sidecars: Sidecars, start: Start, moody: int
) -> None:
    outbound, inbound = sidecars.pair(moody, retry={"on": [], "limit": 0})
    jobs = {"outbound": outbound.ports["admin"], "inbound": inbound.ports["admin"]}
    rules = """
groups:
  - name: golden
    rules:
      - record: load:requests
        expr: sum by (job) (response_total{srv_name!="admin"})
      - record: load:success
        expr: sum by (job) (response_total{srv_name!="admin", classification="success"}) / load:requests
      - record: load:rps10s
        expr: sum by (job) (rate(request_total{srv_name!="admin"}[10s]))
      - record: load:success10s
        expr: |
          sum by (job) (rate(response_total{srv_name!="admin", classification="success"}[10s]))
            / sum by (job) (rate(response_total{srv_name!="admin"}[10s]))
"""
    server = start(prometheus(jobs, rules, RULES / "meshcore.rules.yml"))
    with Load(outbound.port, 100, [200] * 8 + [404, 503]) as load:

        def as_the_load_counts() -> bool:
            # The last ten seconds of each: once they hold nothing but an even load, wherever they begin.
            now = time.time()
            rates = dict.fromkeys(jobs, load.between(now - 11, now - 1).total() / 10)
            right = query(server, "load:rps10s", now - 1) == pytest.approx(rates, rel=0.05)
            ratio = query(server, "load:success10s", now - 1)
            return right and ratio == pytest.approx(dict.fromkeys(jobs, 0.9), abs=0.01)

        wait_until(lambda: len(load.seen) > 1_000, 40, "ten seconds of load")
        wait_until(as_the_load_counts, 40, "the rate and the success that the load has counted")
    seen = Counter(status for _, status in load.seen)
    assert set(seen) == {200, 404, 503}

    # Scraped once more, then to the last request.
    wait_until(lambda: query(server, "load:requests") == dict.fromkeys(jobs, len(load.seen)), what="the last scrape")
    ratio = (seen[200] + seen[404]) / len(load.seen)
    wait_until(lambda: query(server, "load:success") == pytest.approx(dict.fromkeys(jobs, ratio)), what="the ratio")
    assert {job: each["health"] for job, each in targets(server).items()} == dict.fromkeys(jobs, "up")


Promtool = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def promtool(peer: Callable[[str], str]) -> Promtool:
    """``promtool(*arguments, text="")``, as a person uses it."""
    program = peer("promtool")

    def run(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        command = [program, *arguments]
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)

    return run


@pytest.mark.parity("M-02", "X-50")
def test_promtool_has_nothing_to_say_of_a_scrape_of_every_pipeline(
    sidecars: Sidecars, promtool: Promtool, moody: int
) -> None:
    route = {"name": "all"}
    told = config(
        sidecars.issuer.identity("payments.shop"),
        forward=moody,
        inbound={"route": [route], "rate_limit": {"rps": 1}},
        listen={"public": {"bind": "127.0.0.1:0", "route": [{**route, "to": [{"backend": "one"}]}]}},
        backend={"one": {"endpoints": [f"127.0.0.1:{moody}"], "failure_accrual": {"consecutive": 3}}},
        metrics={"authority": True},
    )
    inbound = sidecars.run(told)
    to = {
        "app:80": {
            "endpoints": [f"127.0.0.1:{inbound.ports['inbound']}"],
            "identity": "payments.shop",
            "listen": "127.0.0.1:0",
            "route": [route],
            "retry": {"on": ["5xx"]},
        }
    }
    outbound = sidecars.run(config(sidecars.issuer.identity("orders.shop"), to=to))
    for port in (outbound.ports["app:80"], inbound.ports["public"]):
        for status in (200, 404, 503, 503, 503, 503):
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as client:
                client.request("GET", f"/{status}", headers={"host": 'a"b.test'} if status == 404 else {})
                client.getresponse().read()

    for program in (outbound, inbound):
        text = admin(program, "/metrics")[1]
        assert len(parse(text)) > 40
        found = promtool("check", "metrics", text=text)
        told_of = found.stderr.splitlines()
        assert [line for line in told_of if not line.startswith(LINKERDS)] == []
        assert all(line.endswith("metric names should not contain abbreviated units") for line in told_of)


def test_the_alert_rules_are_right_and_do_what_their_tests_say(promtool: Promtool) -> None:
    checked = promtool("check", "rules", str(RULES / "meshcore.rules.yml"))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    tested = promtool("test", "rules", str(RULES / "meshcore.test.yml"))
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.alone
def test_requests_are_not_held_up_while_ten_thousand_series_are_scraped(sidecars: Sidecars, moody: int) -> None:
    inbound = sidecars.run(config(forward=moody, metrics={"authority": True}))
    client = http.client.HTTPConnection("127.0.0.1", inbound.ports["inbound"], timeout=20)

    def ask(host: str = "app.test") -> float:
        began = time.perf_counter()
        client.request("GET", "/200", headers={"host": host})
        client.getresponse().read()
        return time.perf_counter() - began

    def p99(count: int = 1_500) -> float:
        return sorted(ask() for _ in range(count))[int(count * 0.99)]

    with contextlib.closing(client):
        for number in range(400):
            ask(f"a{number}.test")
        text = admin(inbound, "/metrics")[1]
        assert text.count("\n") > 10_000
        quiet = p99()
        scrapes: list[float] = []
        with scraping(inbound, scrapes):
            busy = p99(5_000)

    assert len(scrapes) >= 5
    print(f"p99 {quiet * 1_000:.1f} ms, while scraping {busy * 1_000:.1f} ms; {len(scrapes)} scrapes")
    assert busy < quiet + 0.05


@contextlib.contextmanager
def scraping(program: Running, took: list[float]) -> Iterator[None]:
    """Scrapes again and again, ten times a second at the most."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(0.1):
            began = time.perf_counter()
            assert admin(program, "/metrics")[0] == 200
            took.append(time.perf_counter() - began)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
