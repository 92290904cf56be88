"""What seeing everything costs a request: all that watches switched on, beside the same gateway with all of it off."""

from __future__ import annotations

import statistics
import threading
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import trio

from meshcore import layers
from meshcore.accounting import Ledger, accounted
from meshcore.compiled import is_compiled
from meshcore.layers.tap import TapHub
from meshcore.tracing.sampling import Tracing
from meshcore.tracing.tracer import Tracer
from tests.bench import loads
from tests.bench.accounting import TURNS, beside, gateway
from tests.bench.measure import in_turns
from tests.bench.report import against_first, number, table
from tests.peers import servers
from tests.peers.process import scratch
from tests.peers.sidecar import admin, sidecar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.bench.measure import Sample, Series, Settings

__all__ = ["watched"]

PROCESSES = 3
"""Of each kind: what is compared is close together, and one process differs from the next by up to 3 %, for life."""
ROUNDS = 12
"""More of them than elsewhere, and shorter ones."""
BOUND = 1.10
QUIET = (
    "*÷ off* is the median over pairs of turns, *quiet* the ratio of the lower quartiles: whatever else the machine "
    "does adds to a turn, and takes nothing away."
)


@dataclass(frozen=True)
class Kind:
    """A gateway.

    Attributes:
        name: in the table.
        config: more of its configuration.
        watched: whether somebody scrapes it and looks at its figures, each second.
    """

    name: str
    config: dict[str, Any]
    watched: bool = False


def watched(settings: Settings) -> str:
    """The table of it, over both versions of HTTP."""
    rows = []
    with servers.nginx() as nginx, servers.nghttpd() as nghttpd, servers.nginx() as other, scratch("seen") as folder:
        # Not one in Python: whatever it did, it would do on the processor that the load and the origins have.
        collector = f"http://127.0.0.1:{other.port}"
        off = Kind("off", {"proxy": {"layer_accounting": False}})
        accounts = Kind("layers accounted", {})
        scraped = Kind("and scraped, and looked at, each second", {}, watched=True)
        traced = {"tracing": {"collector": collector, "sample": 0.01}}
        spans = Kind("and 1 % traced", traced, watched=True)
        log = {"access_log": {"format": "json", "to": str(folder / "access.log"), "sample": 0.01, "statuses": ["5xx"]}}
        everything = Kind("and 1 % of all lines, and all of failures", {**traced, **log}, watched=True)
        told = {"access_log": {"format": "json", "to": str(folder / "each.log")}}
        lines = Kind("and a line for every request", {**traced, **told}, watched=True)
        kinds = (off, accounts, scraped, spans, everything, lines)
        rows += _rows(kinds, "P1: HTTP/1.1", f"http1://127.0.0.1:{nginx.port}", loads.wrk, settings)
        rows += _rows(kinds, "P2: HTTP/2", f"h2c://127.0.0.1:{nghttpd.port}", loads.h2load, settings)
    loaded = table(["", "what is on", "CPU µs/request", "÷ off", "÷ off, quiet", "failed"], rows)
    return (
        f"{loaded}\n\n{QUIET}\n\n"
        "And in this process, without a socket: a gateway's layers over a service that answers at once. "
        f"The data path is {'compiled' if is_compiled() else 'interpreted'}.\n\n{trio.run(_in_process)}"
    )


class _Nowhere:
    """Takes spans and forgets them."""

    def began(self, span: object, above: object, /) -> None:
        """Nothing."""

    def ended(self, span: object, /) -> None:
        """Nothing."""


async def _in_process() -> str:
    def kind(*, share: float | None = None, log: dict[str, Any] | None = None) -> Any:
        watching: list[Any] = [layers.Tap(TapHub(), "inbound")]
        trying: list[Any] = []
        if share is not None:
            tracer = Tracer(_Nowhere(), Tracing(sample=share))
            watching.append(layers.Trace(tracer))
            trying.append(layers.Trace(tracer, "client"))
        if log is not None:
            watching.append(layers.AccessLog(lambda _: None, "json", **log))
        return accounted(gateway(watching, trying), Ledger())

    some: dict[str, Any] = {"sample": 0.01, "statuses": ["5xx"]}
    kinds = {
        "off": gateway(),
        "layers accounted, tap that nobody looks at": kind(),
        "and 1 % traced": kind(share=0.01),
        "and 1 % of all lines, and all of failures": kind(share=0.01, log=some),
        "and a line for every request": kind(share=0.01, log={}),
        "and every request traced": kind(share=1.0, log={}),
    }
    rows = [[name, number(cost, 2), number(more, 2)] for name, cost, more in await beside(kinds, TURNS)]
    return table(["what is on", "µs/request", "added"], rows)


def _rows(
    kinds: tuple[Kind, ...], protocol: str, origin: str, load: Callable[..., loads.Load], settings: Settings
) -> list[list[str]]:
    with ExitStack() as stack:
        live = []
        for kind in kinds * PROCESSES:
            config = {
                "listen": {"public": {"bind": "127.0.0.1:0", "to": [{"backend": "origin"}]}},
                "backend": {"origin": {"endpoints": [origin]}},
                "admin": {"listen": "127.0.0.1:0"},
                **kind.config,
            }
            live.append((kind, stack.enter_context(sidecar(config))))
        watched = {running.port: running for kind, running in live if kind.watched}

        def loaded(port: int) -> loads.Load:
            with _looking(watched[port]) if port in watched else nullcontext():
                return load(port, seconds=short.seconds)

        short = type(settings)(max(1.0, settings.seconds / 4), max(ROUNDS, settings.rounds))
        series = in_turns(live, loaded, short)
    off = series[0]
    return [
        [*row[:-1], number(_lower_quartile(each) / _lower_quartile(off), 3), row[-1]]
        for row, each in zip(against_first(protocol, series, _per_request), series, strict=True)
    ]


def _lower_quartile(series: Series) -> float:
    return statistics.quantiles(map(_per_request, series.samples), n=4)[0]


@contextmanager
def _looking(running: Any) -> Iterator[None]:
    """Scrapes, and asks for the figures of the last seconds, once in each second of a load."""
    over = threading.Event()

    def look() -> None:
        pause = 0.5
        while not over.wait(pause):
            pause = 1.0
            for path in ("/metrics", "/stats?window=5"):
                with suppress(OSError):
                    admin(running, path)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _per_request(sample: Sample) -> float:
    return sample.per_request
