"""The reference of the events."""

from __future__ import annotations

from pathlib import Path

from meshcore.metrics.happenings import KINDS


def test_every_kind_is_in_the_reference() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "events.md").read_text()
    assert [] == [kind for kind in KINDS if f"| `{kind}` | {KINDS[kind]} |" not in page]
