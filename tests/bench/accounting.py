"""What the accounting of layers adds to a request: the same layers with it and without it."""

from __future__ import annotations

import gc
import statistics
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from meshcore import layers
from meshcore.accounting import Ledger, accounted
from meshcore.compiled import is_compiled
from meshcore.metrics.registry import Registry
from meshcore.stack import stack
from meshcore.testing import MockNewService, memory_connection_pair
from meshcore.transport.target import Accepted, Endpoint
from tests.bench import loads
from tests.bench.layers import ACCEPTED, BACKEND, Answers, get
from tests.bench.report import number, table
from tests.bench.slices import HEAD, HOW, Side, apart, in_pairs
from tests.peers import servers
from tests.peers.meshcore import meshcore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meshcore.abc import HttpService, NewHttp
    from meshcore.stack import Stack
    from tests.bench.measure import Settings

__all__ = ["accounting", "beside", "gateway"]

BOUND = 0.05
TURNS = 300
COUNT = 100


def accounting(settings: Settings) -> str:
    """Both tables of it."""
    return (
        "CPU time of the proxy under load, with the accounting and without:\n\n"
        f"{_loaded(settings)}\n\n"
        "And in this process, without a socket: the layers of a gateway over a service that answers at once.  "
        f"The data path is {'compiled' if is_compiled() else 'interpreted'}.\n\n"
        f"{trio.run(partial(in_process, TURNS))}"
    )


def _loaded(settings: Settings) -> str:
    rows = []
    with apart() as measured, servers.nginx() as nginx, servers.nghttpd() as nghttpd:
        for name, scheme, origin, load in (
            ("P1: HTTP/1.1, 32 connections", "http", nginx, partial(loads.counted, clients=32, streams=1, h1=True)),
            ("P2: HTTP/2, 8 × 16", "h2c", nghttpd, loads.counted),
        ):
            off, on = (
                Side(measured(meshcore, [origin.port], "--layer-accounting", word, scheme=scheme))
                for word in ("off", "on")
            )
            found = in_pairs(off, on, load, settings)
            rows.append([*found.row(name, "layers accounted"), str(1 + BOUND)])
    return f"{table([*HEAD, 'bound'], rows)}\n\n{HOW}"


def gateway(
    watching: Sequence[Any] = (), trying: Sequence[Any] = ()
) -> Stack[NewHttp[Endpoint], NewHttp[Accepted]]:
    """The layers of a gateway, with those of *watching* and *trying* where the shipped one has such."""
    registry = Registry()
    top: Stack[Any, Any] = stack(Accepted).then(layers.Metrics(registry, "inbound"))
    for layer in watching:
        top = top.then(layer)
    routed = top.then(layers.Rescue()).then(layers.ToBackend(BACKEND))
    balanced = routed.then(layers.Retry()).then(layers.Balance())
    tried = balanced.then(layers.Metrics(registry, name="endpoint_metrics"))
    for layer in trying:
        tried = tried.then(layer)
    return tried


async def in_process(turns: int) -> str:
    """The table: µs a request without accounting, with it, and where every request is measured."""
    kinds = {
        "off": gateway(),
        "on": accounted(gateway(), Ledger()),
        "on, each request measured": accounted(gateway(), Ledger(every=1e-9)),
    }
    rows = [[name, number(cost, 2), number(more, 2)] for name, cost, more in await beside(kinds, turns)]
    return table(["accounting", "µs/request", "added"], rows)


async def beside(kinds: dict[str, Stack[Any, NewHttp[Accepted]]], turns: int) -> list[tuple[str, float, float]]:
    """What a request costs in each of *kinds*, in µs, over a service that answers at once, and what that is more than
    in the first."""
    connection, _ = memory_connection_pair()
    async with trio.open_nursery() as nursery:
        bare = Answers()
        live = {
            name: each.layer(MockNewService(lambda _: bare)).new_service(ACCEPTED, nursery)
            for name, each in kinds.items()
        }
        found: dict[str, list[float]] = {name: [] for name in live}
        for turn in range(turns + 10):
            for name, service in live.items():
                seconds = await _turn(service, connection)
                if turn >= 10:
                    found[name].append(seconds * 1e6)
        nursery.cancel_scope.cancel()
    first = next(iter(found.values()))
    base = statistics.median(first)
    added = {name: statistics.median(a - b for a, b in zip(each, first, strict=True)) for name, each in found.items()}
    return [(name, base + more, more) for name, more in added.items()]


async def _turn(service: HttpService, connection: Any) -> float:
    """CPU seconds a request."""
    await trio.lowlevel.checkpoint()
    gc.disable()
    try:
        began = time.thread_time()
        for _ in range(COUNT):
            response = await service(get(connection))
            if response.body.end is None:
                response.body.receive_nowait()
        return (time.thread_time() - began) / COUNT
    finally:
        gc.enable()
