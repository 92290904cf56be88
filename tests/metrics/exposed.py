"""Strict parsers of what a scrape gets, after the formats' own texts: a deviation is an error."""

from __future__ import annotations

import math
import re
from typing import Any

import attrs

__all__ = ["Exposed", "parse"]

Labels = tuple[tuple[str, str], ...]

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"')
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|[+-]Inf|NaN")
_ESCAPE = re.compile(r"\\(.)")


@attrs.define
class Exposed:
    """A family as it was read.

    Attributes:
        name: from its TYPE line.
        kind: from there as well.
        description: from its HELP line, unescaped.
        samples: by name and labels, in order.
    """

    name: str
    kind: str
    description: str
    samples: dict[tuple[str, Labels], float]

    def histograms(self) -> dict[Labels, dict[str, float]]:
        """Each histogram's buckets by their bound, with ``sum`` and ``count``."""
        found: dict[Labels, dict[str, float]] = {}
        for (name, labels), value in self.samples.items():
            what = name.rpartition("_")[2]
            if what == "bucket":
                *others, (le, bound) = labels
                assert le == "le"
                found.setdefault(tuple(others), {})[bound] = value
            else:
                found[labels][what] = value
        return found


def parse(text: str, *, openmetrics: bool = False) -> dict[str, Exposed]:
    """The families by name.

    Raises:
        AssertionError: something is not as the format wants it.
    """
    assert text.endswith("# EOF\n") == openmetrics
    families: dict[str, Exposed] = {}
    family: Exposed | None = None
    described: tuple[str, str] | None = None
    lines = text.split("\n")
    assert lines.pop() == ""
    if openmetrics:
        assert lines.pop() == "# EOF"
    for line in lines:
        if line.startswith("# HELP "):
            name, _, words = line.removeprefix("# HELP ").partition(" ")
            described = (name, _unescaped(words, quotes=openmetrics))
        elif line.startswith("# TYPE "):
            name, kind = line.removeprefix("# TYPE ").split(" ")
            assert described is not None
            assert described[0] == name, "HELP and TYPE belong together"
            assert name not in families, "each family once"
            assert _NAME.fullmatch(name)
            assert kind in ("counter", "gauge", "histogram")
            family = families[name] = Exposed(name, kind, described[1], {})
            described = None
        else:
            assert family is not None
            assert described is None
            _sample(family, line, openmetrics)
    for family in families.values():
        assert family.samples, "no family without a sample"
        # The same labels in another order are the same series.
        assert len({(name, frozenset(labels)) for name, labels in family.samples}) == len(family.samples)
        if family.kind == "histogram":
            _check_histograms(family, openmetrics)
    return families


def _sample(family: Exposed, line: str, openmetrics: bool) -> None:
    found = _NAME.match(line)
    assert found, line
    name, rest = found[0], line[found.end() :]
    suffixes: tuple[str, ...] = ("",)
    if family.kind == "histogram":
        suffixes = ("_bucket", "_sum", "_count")
    elif family.kind == "counter":
        suffixes = ("_total",) if openmetrics else ("",)
    assert name in [family.name + suffix for suffix in suffixes], line
    labels: list[tuple[str, str]] = []
    if rest.startswith("{"):
        rest = rest[1:]
        while True:
            label = _LABEL.match(rest)
            assert label, line
            labels.append((label[1], _unescaped(label[2])))
            rest = rest[label.end() :]
            if rest[0] == "}":
                rest = rest[1:]
                break
            assert rest[0] == ",", line
            rest = rest[1:]
    assert len({key for key, _ in labels}) == len(labels), line
    assert all(value for _, value in labels), "no label without a value"
    assert rest[0] == " ", line
    assert _NUMBER.fullmatch(rest[1:]), line
    key = (name, tuple(labels))
    assert key not in family.samples, f"twice: {line}"
    family.samples[key] = float(rest[1:])


def _check_histograms(family: Exposed, openmetrics: bool) -> None:
    for found in family.histograms().values():
        bounds = [bound for bound in found if bound not in ("sum", "count")]
        assert bounds[-1] == "+Inf"
        numbers = [float(bound) for bound in bounds]
        assert numbers == sorted(set(numbers))
        counts = [found[bound] for bound in bounds]
        assert counts == sorted(counts), "cumulative"
        assert found["count"] == found["+Inf"], "all of them"
        assert not math.isnan(found["sum"])
        if openmetrics:
            assert all("." in bound or "e" in bound for bound in bounds[:-1]), "bounds are floats"


def _unescaped(text: str, *, quotes: bool = True) -> str:
    known: dict[str, Any] = {"\\": "\\", "n": "\n"}
    if quotes:
        known['"'] = '"'
    return _ESCAPE.sub(lambda found: known[found[1]], text)
