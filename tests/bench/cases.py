"""What is measured: one function a row of the targets, each returning its table as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench import loads
from tests.bench.accounting import accounting as accounting_costs
from tests.bench.contenders import CONTENDERS, OURS
from tests.bench.growth import growth
from tests.bench.idle import idle_memory
from tests.bench.layers import layer_costs
from tests.bench.measure import Sample, Settings, chosen, in_turns, one, started
from tests.bench.mesh import grpc_through_two, handshakes
from tests.bench.report import number, side_by_side, table
from tests.bench.traced import traced
from tests.bench.watched import watched
from tests.peers import servers

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CASES"]


def _per_request(sample: Sample) -> float:
    return sample.per_request


def _per_mib(sample: Sample) -> float:
    return sample.per_mib


def p1(settings: Settings) -> str:
    """HTTP/1.1, 32 connections, 100-byte answers, backend nginx."""
    with servers.nginx() as origin, started([*chosen("http/1", settings)], [origin.port], "http/1") as live:
        series = in_turns(live, lambda port: loads.wrk(port, seconds=settings.seconds), settings, _warm_h1)
    return side_by_side(series, "µs/request", _per_request)


def p2(settings: Settings) -> str:
    """HTTP/2 cleartext, 8 connections × 16 streams, 100-byte answers, backend nghttpd."""
    with servers.nghttpd() as origin, started([*chosen("h2", settings)], [origin.port], "h2") as live:
        series = in_turns(live, lambda port: loads.h2load(port, seconds=settings.seconds), settings, _warm_h2)
    return side_by_side(series, "µs/request", _per_request)


def p3(settings: Settings) -> str:
    """HTTP/2 cleartext, 32 connections × 1 stream, 100-byte answers, backend nghttpd."""

    def load(port: int) -> loads.Load:
        return loads.h2load(port, clients=32, streams=1, seconds=settings.seconds)

    with servers.nghttpd() as origin, started([*chosen("h2", settings)], [origin.port], "h2") as live:
        series = in_turns(live, load, settings, _warm_h2)
    return side_by_side(series, "µs/request", _per_request)


def p4(settings: Settings) -> str:
    """gRPC unary calls, 8 connections × 16 streams, through two proxies with mutual TLS between them; both count."""
    return grpc_through_two(settings)


def p4_handshakes(settings: Settings) -> str:
    """Full handshakes of mutual TLS with one small HTTP/1.1 request each, at the server's proxy; 4 clients."""
    return handshakes(settings)


def p5(settings: Settings) -> str:
    """Opaque TCP, one stream (iperf3)."""
    with servers.iperf3() as origin, started([*chosen("opaque", settings)], [origin.port], "opaque") as live:
        series = in_turns(
            live,
            lambda port: loads.iperf3(port, seconds=settings.seconds),
            settings,
            lambda port: loads.iperf3(port, seconds=1),
        )
    return side_by_side(series, "µs/MiB", _per_mib)


def p6(settings: Settings) -> str:
    """1 MiB bodies: HTTP/1.1 (8 connections, nginx) and HTTP/2 (4 connections × 4 streams, nghttpd)."""
    parts = []
    with servers.nginx() as origin, started([*chosen("http/1", settings)], [origin.port], "http/1") as live:
        series = in_turns(
            live, lambda port: loads.wrk(port, path="/1m", connections=8, seconds=settings.seconds), settings, _warm_h1
        )
        parts += ["HTTP/1.1:", side_by_side(series, "µs/MiB", _per_mib)]

    def load(port: int) -> loads.Load:
        return loads.h2load(port, path="/1m", clients=4, streams=4, seconds=settings.seconds)

    with servers.nghttpd() as origin, started([*chosen("h2", settings)], [origin.port], "h2") as live:
        series = in_turns(live, load, settings, _warm_h2)
        parts += ["HTTP/2:", side_by_side(series, "µs/MiB", _per_mib)]
    return "\n\n".join(parts)


def p7(settings: Settings) -> str:
    """Memory: idle after the start, and for each idle connection that has been used once."""
    return idle_memory(settings)


def p8(settings: Settings) -> str:
    """Latency added at 1,000 requests/s over 20 connections, HTTP/1.1."""
    rows = []
    with servers.nginx() as origin, started([*chosen("http/1", settings)], [origin.port], "http/1") as live:

        def load(port: int) -> loads.Load:
            return loads.paced(port, seconds=settings.seconds)

        series = in_turns(live, load, settings, _warm_h1)
        direct = [one(origin, load) for _ in range(settings.rounds)]
        p50 = loads.median([sample.load.p50 or 0 for sample in direct])
        p99 = loads.median([sample.load.p99 or 0 for sample in direct])
        for each in sorted(series, key=lambda found: found.median(lambda sample: sample.load.p99) or 0):
            mine50 = each.median(lambda sample: sample.load.p50) or 0
            mine99 = each.median(lambda sample: sample.load.p99) or 0
            cost = each.median(_per_request)
            rows.append([each.name, number(mine50 - p50, 2), number(mine99 - p99, 2), number(cost), str(each.failed)])
    rows.insert(0, ["direct (absolute)", number(p50, 2), number(p99, 2), "–", "–"])
    return table(["proxy", "p50 added ms", "p99 added ms", "CPU µs/request", "failed"], rows)


def p9(settings: Settings) -> str:
    """Cost as it grows: connections, endpoints and routes, each from 1 to 1,000."""
    return growth(settings)


def p10(settings: Settings) -> str:
    """The other Python proxies on P1's work."""
    contenders = [each for each in CONTENDERS if each.python or each.name == OURS]
    with servers.nginx() as origin, started(contenders, [origin.port], "http/1") as live:
        series = in_turns(live, lambda port: loads.wrk(port, seconds=settings.seconds), settings, _warm_h1)
    return side_by_side(series, "µs/request", _per_request, reference=OURS)


def layers(settings: Settings) -> str:
    """What layers cost a request, one by one and together on a route."""
    return layer_costs(settings)


def tracing(settings: Settings) -> str:
    """What tracing costs: switched on, for a part of the requests, for all of them."""
    return traced(settings)


def accounting(settings: Settings) -> str:
    """What the accounting of layers adds to a small request: with it and without it, side by side."""
    return accounting_costs(settings)


def everything_watched(settings: Settings) -> str:
    """What seeing everything costs: layers, scrapes, traces and access logs on, beside all of it off (aim: 1.10)."""
    return watched(settings)


def _warm_h1(port: int) -> loads.Load:
    return loads.wrk(port, connections=8, seconds=1)


def _warm_h2(port: int) -> loads.Load:
    return loads.requests(port, total=500, clients=4, streams=4)


CASES: dict[str, Callable[[Settings], str]] = {
    "P1": p1,
    "P2": p2,
    "P3": p3,
    "P4": p4,
    "P4-handshakes": p4_handshakes,
    "P5": p5,
    "P6": p6,
    "P7": p7,
    "P8": p8,
    "P9": p9,
    "P10": p10,
    "layers": layers,
    "tracing": tracing,
    "accounting": accounting,
    "watched": everything_watched,
}
