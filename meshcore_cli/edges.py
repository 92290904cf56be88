"""``meshcore edges``: who talks to whom through a running proxy, with which identity."""

from __future__ import annotations

from typing import Any

from meshcore_cli.columns import Cell, Heading
from meshcore_cli.figures import percent, rate
from meshcore_cli.listing import Listing
from meshcore_cli.pages import number, text
from meshcore_cli.render import speaks_unicode

DESCRIPTION = """\
Tells who talks to whom through a running proxy: the clients that call it and the backends that it calls, the identity
that each has shown in mutual TLS, and where there is none, why not.

  meshcore edges
  meshcore edges --direction inbound"""

_REASONS = {
    "no_tls_from_remote": "the client does not speak TLS",
    "not_provided_by_service_discovery": "no identity is configured",
    "loopback": "it stays on this host",
    "port_skipped": "the port is skipped",
    "no_identity": "the client shows no certificate",
    "disabled": "there is no [identity]",
    "opaque": "TLS of their own, passed through",
}

_HEADINGS = (
    Heading("SOURCE", shrinks=True),
    Heading("TARGET", shrinks=True),
    Heading("SOURCE IDENTITY", shrinks=True, rank=2),
    Heading("TARGET IDENTITY", shrinks=True, rank=1),
    Heading("SECURED", shrinks=True),
    Heading("CONNS", right=True, rank=3),
    Heading("RPS", right=True),
    Heading("SUCCESS", right=True, rank=4),
)


def _cells(row: dict[str, Any]) -> list[Cell]:
    return [
        Cell(text(row, "source") or "-"),
        Cell(text(row, "target") or "-"),
        Cell(text(row, "source_identity") or "-"),
        Cell(text(row, "target_identity") or "-"),
        _secured(row),
        Cell(f"{number(row, 'connections') or 0:.0f}"),
        Cell(rate(number(row, "rps"))),
        Cell(percent(number(row, "success"))),
    ]


def _secured(row: dict[str, Any]) -> Cell:
    if row.get("secured") is True:
        # Where the terminal has no such character there is a word.
        return Cell("√" if speaks_unicode() else "yes", "green")
    reason = text(row, "no_tls_reason")
    return Cell(_REASONS.get(reason, reason) or "no", "yellow")


_LISTING = Listing(
    "edges",
    _HEADINGS,
    _cells,
    # Whoever has most traffic first.
    lambda row: (text(row, "direction"), -(number(row, "rps") or 0.0), text(row, "source")),
)
add_arguments, run = _LISTING.add_arguments, _LISTING.run
