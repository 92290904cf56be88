"""What seeing everything costs a request: all that watches switched on, beside the same gateway with all of it off."""

from __future__ import annotations

import http.client
from dataclasses import dataclass
from functools import partial
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
from tests.bench.measure import say
from tests.bench.report import number, table
from tests.bench.slices import HEAD, HOW, Side, apart, in_pairs
from tests.peers import servers
from tests.peers.process import scratch
from tests.peers.sidecar import sidecar

if TYPE_CHECKING:
    from tests.bench.measure import Settings
    from tests.bench.slices import Measured
    from tests.peers.process import Running

__all__ = ["watched"]


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
    with (
        apart() as measured,
        servers.nginx() as nginx,
        servers.nghttpd() as nghttpd,
        servers.nginx() as other,
        scratch("seen") as folder,
    ):
        # Not one in Python: whatever it did, it would do on the processor that the load and the origins have.
        collector = f"http://127.0.0.1:{other.port}"
        off = Kind("off, once more", {"proxy": {"layer_accounting": False}})
        accounts = Kind("layers accounted", {})
        scraped = Kind("and scraped, and looked at, each second", {}, watched=True)
        traced = {"tracing": {"collector": collector, "sample": 0.01}}
        spans = Kind("and 1 % traced", traced, watched=True)
        log = {"access_log": {"format": "json", "to": str(folder / "access.log"), "sample": 0.01, "statuses": ["5xx"]}}
        everything = Kind("and 1 % of all lines, and all of failures", {**traced, **log}, watched=True)
        told = {"access_log": {"format": "json", "to": str(folder / "each.log")}}
        lines = Kind("and a line for every request", {**traced, **told}, watched=True)
        for protocol, origin, load in (
            ("P1: HTTP/1.1", f"http1://127.0.0.1:{nginx.port}", partial(loads.counted, clients=32, streams=1, h1=True)),
            ("P2: HTTP/2", f"h2c://127.0.0.1:{nghttpd.port}", loads.counted),
        ):
            first = _side(off, origin, measured)
            for kind in (off, accounts, scraped, spans, everything, lines):
                second = _side(kind, origin, measured)
                # The one that there is an aim for is measured more often.
                found = in_pairs(first, second, load, settings, 2 if kind is everything else 1)
                rows.append(found.row(protocol, kind.name))
                say(f"  {' '.join(rows[-1])}")
    return (
        f"{table(HEAD, rows)}\n\n{HOW}\n\n"
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


def _side(kind: Kind, origin: str, measured: Measured) -> Side:
    config = {
        "listen": {"public": {"bind": "127.0.0.1:0", "to": [{"backend": "origin"}]}},
        "backend": {"origin": {"endpoints": [origin]}},
        "admin": {"listen": "127.0.0.1:0"},
        **kind.config,
    }
    return Side(measured(sidecar, config), _Looking() if kind.watched else None)


class _Looking:
    """Scrapes, and asks for the figures of the last seconds, over a connection that it keeps, as Prometheus does."""

    def __init__(self) -> None:
        self._client = http.client.HTTPConnection("")
        self._at: Running | None = None

    def __call__(self, running: Running) -> None:
        if running is not self._at:
            self._client.close()
            self._client = http.client.HTTPConnection("127.0.0.1", running.ports["admin"], timeout=10)
            self._at = running
        for path in ("/metrics", "/stats?window=5"):
            self._client.request("GET", path)
            self._client.getresponse().read()
