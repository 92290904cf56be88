"""P9: what a request costs as connections, endpoints and routes become many."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench import loads
from tests.bench.contenders import CONTENDERS, OURS, PeerMissing
from tests.bench.measure import Settings, one, say
from tests.bench.report import number, table
from tests.peers import servers
from tests.peers.meshcore import meshcore, routed

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
                    costs = [_cost(proxy, settings, connections=count) for count in SIZES]
            except (PeerMissing, RuntimeError) as error:
                say(f"  skipped {contender.name}: {error}")
                continue
            rows.append(_row(f"{contender.name}: connections", costs))
        endpoints: dict[str, Callable[[list[str]], AbstractContextManager[Running]]] = {
            OURS: lambda hosts: meshcore([f"http://{host}" for host in hosts]),
            "envoy": lambda hosts: servers.envoy([], addresses=hosts),
        }
        for name, start in endpoints.items():
            if settings.only and name not in settings.only:
                continue
            try:
                rows.append(_row(f"{name}: endpoints", _costs(start, origin.port, settings)))
            except (PeerMissing, RuntimeError) as error:
                say(f"  skipped {name}, endpoints: {error}")
            if name == OURS:
                rows.append(_row(f"{name}: routes", _routes(origin.port, settings)))
    return table(["what grows", *(f"{size:,}" for size in SIZES), "largest ÷ smallest"], rows)


def _costs(start: Callable[[list[str]], AbstractContextManager[Running]], port: int, settings: Settings) -> list[float]:
    costs = []
    for count in SIZES:
        with start(_addresses(count, port)) as proxy:
            # Every endpoint gets its connections before it counts.
            loads.wrk(proxy.port, seconds=2)
            costs.append(_cost(proxy, settings, connections=32))
    return costs


def _routes(port: int, settings: Settings) -> list[float]:
    """wrk's authority is the address, which only the last, the wildcard, matches."""
    costs = []
    for count in SIZES:
        table = {f"service-{index}.test": f"http://127.0.0.1:{port}" for index in range(count - 1)}
        with routed({**table, "*": f"http://127.0.0.1:{port}"}) as proxy:
            costs.append(_cost(proxy, settings, connections=32))
    return costs


def _cost(proxy: Running, settings: Settings, *, connections: int) -> float:
    loads.wrk(proxy.port, connections=connections, seconds=1 if connections < 1_000 else 3)
    # A thousand connections need their time to begin.
    seconds = settings.seconds if connections < 1_000 else max(4.0, settings.seconds)
    samples = [
        one(proxy, lambda port: loads.wrk(port, connections=connections, seconds=seconds))
        for _ in range(settings.rounds)
    ]
    return loads.median([sample.per_request for sample in samples])


def _row(name: str, costs: Sequence[float]) -> list[str]:
    return [name, *map(number, costs), number(costs[-1] / min(costs), 2)]
