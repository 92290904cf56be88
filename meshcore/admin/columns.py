"""The figures of layers beside the tree that they are in, in columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshcore.accounting.account import OUTCOMES
from meshcore.accounting.places import places

if TYPE_CHECKING:
    from collections.abc import Mapping

    from meshcore.stack import Stack

__all__ = ["beside"]

_DID = ("answered", "repeated", "raised")


def beside(stack: Stack[Any, Any], accounts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The lines of the stack's tree, each layer's figures in front of it; a line of headings above.

    Columns of ends and deeds that never came are left out.  Behind a layer stand the errors that it has raised.
    """
    order = list(places(stack))
    shown = [place for _, place in order if place in accounts]
    # The tree has them in the same order.
    named = iter(order)
    coming = next(named, None)
    outcomes = [name for name in OUTCOMES if any(accounts[place]["outcomes"].get(name) for place in shown)]
    did = [name for name in _DID if any(accounts[place][name] for place in shown)]
    rows = [["calls", "in flight", "mean", "self", *outcomes, *did, "layer"]]
    for line, layer in stack.rows():
        found = None
        if coming is not None and layer is coming[0]:
            found = accounts.get(coming[1])
            coming = next(named, None)
        if found is None or not found["calls"]:
            rows.append([*[""] * (len(rows[0]) - 1), line])
            continue
        raised = ", ".join(f"{code} {count}" for code, count in found["errors"].items())
        rows.append(
            [
                str(found["calls"]),
                str(found["in_flight"]),
                _time(found["mean_us"]),
                _time(found["self_us"]),
                *(str(found["outcomes"].get(name, 0) or "-") for name in outcomes),
                *(str(found[name] or "-") for name in did),
                f"{line}  raised: {raised}" if raised else line,
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = [
        "  ".join([*(cell.rjust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    ]
    for place in shown:
        one_in = accounts[place].get("one_in", 1.0)
        if one_in > 1.0:
            lines.append(f"from {place} on, one in {one_in:g} is measured and stands for the others")
    return lines


def _time(microseconds: float | None) -> str:
    if microseconds is None:
        return "-"
    for limit, unit, scale in ((1_000.0, "µs", 1.0), (1_000_000.0, "ms", 1_000.0)):
        if microseconds < limit:
            return f"{microseconds / scale:.3g} {unit}"
    return f"{microseconds / 1_000_000.0:.3g} s"
