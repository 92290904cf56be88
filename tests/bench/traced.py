"""What tracing costs a gateway that only forwards: switched on, for a part of the requests, for all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench.guarded import TO, Kind, guarded
from tests.peers.otlp import receiver

if TYPE_CHECKING:
    from tests.bench.measure import Settings

__all__ = ["traced"]


def traced(settings: Settings) -> str:
    """The table of it, over both versions of HTTP; nobody sends a trace."""
    with receiver() as collector:
        url = f"http://127.0.0.1:{collector.port}"
        kinds = [
            Kind("no [tracing]", {"to": TO}, {}),
            *(
                Kind(f"[tracing], sample = {share:g}", {"to": TO}, {}, {"tracing": {"collector": url, "sample": share}})
                for share in (0.0, 0.01, 1.0)
            ),
        ]
        return guarded(settings, kinds)
