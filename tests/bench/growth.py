"""P9: what a request costs as connections, endpoints and routes become many."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from tests.bench import loads
from tests.bench.contenders import CONTENDERS, OURS, PeerMissing
from tests.bench.measure import Settings, one, say
from tests.bench.report import number, table
from tests.peers import servers
from tests.peers.meshcore import meshcore, routed
from tests.peers.sidecar import sidecar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from tests.peers.process import Running

__all__ = ["growth"]

SIZES = (1, 10, 100, 1_000)


def _addresses(count: int, port: int) -> list[str]:
    """So many addresses of one origin that listens on all of loopback."""
    return [f"127.1.{index // 250}.{index % 250 + 1}:{port}" for index in range(count)]


def growth(settings: Settings) -> str:
    """Rows of CPU µs/request at 1, 10, 100 and 1,000, and the last by the smallest."""
    rows = []
    with servers.nginx(any_address=True) as origin:
        for contender in CONTENDERS:
            if contender.name not in (settings.only or (OURS, "envoy", "haproxy")):
                continue
            try:
                with contender.start([origin.port], "http/1") as proxy:
                    costs = _in_turns([proxy] * len(SIZES), settings, SIZES)
                    rows.append(_row(f"{contender.name}: connections", costs))
            except (PeerMissing, RuntimeError) as error:
                say(f"  skipped {contender.name}: {error}")
        endpoints: dict[str, Callable[[list[str]], AbstractContextManager[Running]]] = {
            OURS: lambda hosts: meshcore([f"http://{host}" for host in hosts]),
            "envoy": lambda hosts: servers.envoy([], addresses=hosts),
        }
        for name, start in endpoints.items():
            if settings.only and name not in settings.only:
                continue
            try:
                rows.append(_row(f"{name}: endpoints", _endpoints(start, origin.port, settings)))
            except (PeerMissing, RuntimeError) as error:
                say(f"  skipped {name}, endpoints: {error}")
            if name == OURS:
                rows.append(_row(f"{name}: routes by host", _routes(origin.port, settings)))
                rows.append(_row(f"{name}: routes by path", _paths(origin.port, settings)))
    return table(["what grows", *(f"{size:,}" for size in SIZES), "largest ÷ smallest"], rows)


def _endpoints(
    start: Callable[[list[str]], AbstractContextManager[Running]], port: int, settings: Settings
) -> list[float]:
    with ExitStack() as stack:
        proxies = [stack.enter_context(start(_addresses(count, port))) for count in SIZES]
        for proxy in proxies:
            # Every endpoint gets its connections, and its balancer an estimate, before it counts.
            loads.wrk(proxy.port, seconds=3)
        return _in_turns(proxies, settings)


def _routes(port: int, settings: Settings) -> list[float]:
    """wrk's authority is the address, which only the last, the wildcard, matches."""
    with ExitStack() as stack:
        proxies = []
        for count in SIZES:
            table = {f"service-{index}.test": f"http://127.0.0.1:{port}" for index in range(count - 1)}
            proxies.append(stack.enter_context(routed({**table, "*": f"http://127.0.0.1:{port}"})))
        return _in_turns(proxies, settings)


def _paths(port: int, settings: Settings) -> list[float]:
    """Routes of a config file; wrk's path is the last one's, after as many prefixes."""
    with ExitStack() as stack:
        proxies = []
        for count in SIZES:
            matches: list[dict[str, object]] = [{"path": {"prefix": f"/service-{index}"}} for index in range(count - 1)]
            matches.append({"path": {"exact": "/"}})
            routes = [{"match": [match], "to": [{"backend": "origin"}]} for match in matches]
            told = {
                "listen": {"public": {"bind": "127.0.0.1:0", "route": routes}},
                "backend": {"origin": {"endpoints": [f"127.0.0.1:{port}"]}},
                "admin": {"listen": "off"},
            }
            proxies.append(stack.enter_context(sidecar(told)))
        return _in_turns(proxies, settings)


def _in_turns(proxies: Sequence[Running], settings: Settings, connections: Sequence[int] = ()) -> list[float]:
    """Median CPU µs/request of each, all sizes once a round, so that what else the machine does meets all alike."""
    counts = connections or [32] * len(proxies)
    for proxy, count in zip(proxies, counts, strict=True):
        loads.wrk(proxy.port, connections=count, seconds=1 if count < 1_000 else 3)
    found: list[list[float]] = [[] for _ in proxies]
    for _ in range(settings.rounds):
        for costs, proxy, count in zip(found, proxies, counts, strict=True):
            # A thousand connections need their time to begin.
            seconds = settings.seconds if count < 1_000 else max(4.0, settings.seconds)
            costs.append(one(proxy, partial(loads.wrk, connections=count, seconds=seconds)).per_request)
    return [loads.median(costs) for costs in found]


def _row(name: str, costs: Sequence[float]) -> list[str]:
    return [name, *map(number, costs), number(costs[-1] / min(costs), 2)]
