"""What the accounting of layers adds to a request: the same proxy with it and without it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.bench import loads
from tests.bench.measure import in_turns
from tests.bench.report import number, table
from tests.peers import servers
from tests.peers.meshcore import meshcore

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.measure import Sample, Settings

__all__ = ["accounting"]

ROUNDS = 15
"""More of them than elsewhere, and shorter ones: what is compared is close together."""
BOUND = 0.05


@dataclass(frozen=True)
class Kind:
    """A proxy: the name says whether it accounts."""

    name: str


KINDS = (Kind("on"), Kind("off"))


def accounting(settings: Settings) -> str:
    """The table of it, over both versions of HTTP."""
    rows = []
    with servers.nginx() as nginx, servers.nghttpd() as nghttpd:
        for name, scheme, origin, load in (
            ("P1: HTTP/1.1, 32 connections", "http", nginx, _http1(1.0)),
            ("P2: HTTP/2, 8 × 16", "h2c", nghttpd, _http2(min(settings.seconds, 1.0))),
        ):
            with ExitStack() as stack:
                live = [
                    (
                        kind,
                        stack.enter_context(meshcore([origin.port], "--layer-accounting", kind.name, scheme=scheme)),
                    )
                    for kind in KINDS
                ]
                on, off = in_turns(live, load, type(settings)(settings.seconds, ROUNDS), load)
            ratio = on.ratio(off, _per_request)
            rows.append(
                [name, *(number(each.median(_per_request)) for each in (on, off)), number(ratio, 3), str(1 + BOUND)]
            )
    return table(["load", "CPU µs/request, on", "off", "÷", "bound"], rows)


def _http1(seconds: float) -> Callable[[int], loads.Load]:
    return lambda port: loads.wrk(port, seconds=seconds)


def _http2(seconds: float) -> Callable[[int], loads.Load]:
    return lambda port: loads.h2load(port, seconds=seconds)


def _per_request(sample: Sample) -> float:
    return sample.per_request
