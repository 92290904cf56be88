"""Makes the plots and the figures of explanation/simulations.md: ``python docs/simulations.py``.

The scenarios are those that tests/simulations asserts the claims of.
"""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from plot import Line, Plot  # noqa: E402

from meshcore.layers.retry import Budget  # noqa: E402
from tests.simulations import scenarios  # noqa: E402

if TYPE_CHECKING:
    from tests.simulations.simulator import Samples

PAGE = ROOT / "docs" / "explanation" / "simulations.md"
PLOTS = ROOT / "docs" / "explanation" / "simulations"

POLICIES = {"round-robin": "round robin", "least-request": "least request", "p2c-ewma": "peak EWMA"}
_TIMES = [(float(each), f"{each} s") for each in (0, 10, 20, 30, 40)]
_SHARES = [(0.0, "0 %"), (0.25, "25 %"), (0.5, "50 %"), (0.75, "75 %"), (1.0, "100 %")]
_SECONDS = [(0.01, "10 ms"), (0.1, "100 ms"), (1.0, "1 s"), (10.0, "10 s")]


def main() -> None:
    """Runs everything and writes it."""
    PLOTS.mkdir(exist_ok=True)
    text = PAGE.read_text()
    for name, make in (
        ("slow-endpoint", slow_endpoint),
        ("cold-replica", cold_replica),
        ("retry-storm", retry_storm),
        ("grey-failure", grey_failure),
        ("zone-lost", zone_lost),
        ("herd", herd),
    ):
        table, plots = make()
        for suffix, plot in plots.items():
            (PLOTS / f"{name}{suffix}.svg").write_text(plot.svg())
        block = re.compile(rf"(<!-- figures: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text, count = block.subn(lambda match, table=table: match[1] + table + match[2], text)  # type: ignore[misc]
        assert count == 1, name
    PAGE.write_text(text)


def _table(*rows: tuple[str, ...]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, "|" + " --- |" * len(rows[0]))
    return "\n".join(["", *lines, "", ""])


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"


def _percent(share: float) -> str:
    return f"{share * 100:.1f} %"


def slow_endpoint() -> tuple[str, dict[str, Plot]]:
    rows = [("policy", "p50", "p90", "p99", "p99.9", "requests over 1 s")]
    lines = []
    for policy, name in POLICIES.items():
        samples = scenarios.slow_endpoint(policy).samples
        late = sum(each.took > 1.0 for each in samples.all)
        rows.append((name, *(_ms(samples.latency(q)) for q in (50, 90, 99, 99.9)), f"{late} of {len(samples.all)}"))
        marks = [50 + each / 2 for each in range(80)] + [90 + each / 10 for each in range(100)] + [99.9]
        lines.append(Line(name, [(q, samples.latency(q)) for q in marks]))
    plot = Plot(
        "One of eleven replicas needs two seconds for ten of thirty",
        "percentile",
        "latency",
        lines,
        [(50.0, "50"), (90.0, "90"), (99.0, "99"), (99.9, "99.9")],
        _SECONDS,
        log_y=True,
        # As many nines as one likes: each takes as much room.
        place=lambda q: math.log10(50 / (100 - q)) / math.log10(500),
    )
    return _table(*rows), {"": plot}


def cold_replica() -> tuple[str, dict[str, Plot]]:
    rows = [("policy", "p95 while it is cold", "p99 while it is cold", "p99 afterwards")]
    lines = []
    for policy, name in POLICIES.items():
        samples = scenarios.cold_replica(policy).samples
        cold, after = samples.between(12, 17), samples.between(17, 25)
        rows.append((name, _ms(cold.latency(95)), _ms(cold.latency(99)), _ms(after.latency(99))))
        lines.append(Line(name, samples.over_time(1.0, lambda each: each.latency(95)), steps=True))
    plot = Plot(
        "One of four replicas restarts, and is ten times slower at first",
        "time",
        "p95 of each second",
        lines,
        [(float(each), f"{each} s") for each in (0, 5, 10, 15, 20, 25)],
        _SECONDS,
        log_y=True,
        shaded=(12.0, 17.0, "cold"),
    )
    return _table(*rows), {"": plot}


def retry_storm() -> tuple[str, dict[str, Plot]]:
    kinds = {"no retries": None, "with the budget": Budget(), "without a budget": scenarios.NO_BUDGET}
    rows = [("retries", "success before", "in the brownout", "14 s to 20 s", "20 s to 30 s", "30 s to 40 s")]
    success, load = [], []
    for name, budget in kinds.items():
        outcome = scenarios.retry_storm(budget)
        parts = ((0, 10), (10, 14), (14, 20), (20, 30), (30, 40))
        rows.append((name, *(_percent(outcome.samples.between(*part).success) for part in parts)))
        success.append(Line(name, outcome.samples.over_time(1.0, lambda each: each.success), steps=True))
        load.append(Line(name, outcome.arrivals(1.0)[:40], steps=True))
    shaded = (10.0, 14.0, "four times slower")
    title = "Users try again: what a brownout of four seconds does"
    rates = [(float(each), f"{each}/s") for each in (0, 250, 500, 750, 1000, 1250)]
    return _table(*rows), {
        "": Plot(title, "time", "requests that are answered", success, _TIMES, _SHARES, shaded=shaded),
        "-load": Plot("The load that it makes", "time", "tries", load, _TIMES, rates, shaded=shaded),
    }


def grey_failure() -> tuple[str, dict[str, Plot]]:
    kinds = {
        "neither": (False, False),
        "a breaker": (True, False),
        "retries": (False, True),
        "both": (True, True),
    }
    rows = [("there is", "success, 10 s to 20 s", "requests that went there", "success afterwards")]
    lines = []
    for name, (breaker, retries) in kinds.items():
        outcome = scenarios.grey_failure(breaker=breaker, retries=retries)
        arrived = [sum(10 <= moment < 20 for moment in replica.arrived) for replica in outcome.fleet.replicas]
        samples = outcome.samples
        rows.append(
            (
                name,
                _percent(samples.between(10, 20).success),
                _percent(arrived[0] / sum(arrived)),
                _percent(samples.between(20, 40).success),
            )
        )
        if name in ("neither", "a breaker"):
            lines.append(Line(name, samples.over_time(1.0, lambda each: each.success), steps=True))
    plot = Plot(
        "One of five replicas answers 500, ten times quicker than the others answer",
        "time",
        "requests that are answered",
        lines,
        _TIMES,
        _SHARES,
        shaded=(10.0, 20.0, "failing"),
    )
    return _table(*rows), {"": plot}


def zone_lost() -> tuple[str, dict[str, Plot]]:
    kinds = {
        "its hosts refuse": ("refused", 0),
        "its hosts are silent": ("silent", 0),
        "silent, with a breaker": ("silent", 3),
    }
    rows = [("the zone is gone, and", "success", "p50", "p99", "requests over half a second")]
    lines = []
    for name, (kind, breaker) in kinds.items():
        samples = scenarios.zone_lost(kind, breaker=breaker).samples
        lost = samples.between(10, 20)
        late = sum(each.took > 0.5 for each in lost.all) / len(lost.all)
        rows.append((name, _percent(lost.success), _ms(lost.latency(50)), _ms(lost.latency(99)), _percent(late)))
        lines.append(Line(name, samples.over_time(1.0, lambda each: each.latency(99)), steps=True))
    plot = Plot(
        "One of three zones is lost",
        "time",
        "p99 of each second",
        lines,
        _TIMES[:-1],
        _SECONDS,
        log_y=True,
        shaded=(10.0, 20.0, "lost"),
    )
    return _table(*rows), {"": plot}


def herd() -> tuple[str, dict[str, Plot]]:
    kinds = {3.0: "fail fast after 3 s", 60.0: "wait for a minute"}
    rows = [("requests", "highest load after it", "p99, 20 s to 22 s", "p99, 22 s to 25 s", "p99, 25 s to 30 s")]
    latency, load = [], []
    for fail_fast, name in kinds.items():
        outcome = scenarios.herd(fail_fast)
        arrivals = outcome.arrivals(0.5)
        most = max(rate for moment, rate in arrivals if moment >= 20)
        parts = ((20, 22), (22, 25), (25, 30))
        rows.append((name, f"{most:,.0f}/s", *(_ms(_after(outcome.samples, *part)) for part in parts)))
        # Where nobody was answered there is nothing to be drawn.
        seconds = outcome.samples.over_time(1.0, lambda each: each.latency(99) or math.nan)
        latency.append(Line(name, seconds, steps=True))
        load.append(Line(name, arrivals, steps=True))
    shaded = (10.0, 20.0, "down")
    rates = [(float(each), f"{each}/s") for each in (0, 500, 1000, 1500, 2000, 2500)]
    marks = [*_SECONDS, (100.0, "100 s")]
    return _table(*rows), {
        "": Plot(
            "A backend is down for ten seconds: answers by when their requests came",
            "time",
            "p99 of each second",
            latency,
            _TIMES,
            marks,
            log_y=True,
            shaded=shaded,
        ),
        "-load": Plot("The load that meets it when it is back", "time", "requests", load, _TIMES, rates, shaded=shaded),
    }


def _after(samples: Samples, begin: float, end: float) -> float:
    return samples.between(begin, end).latency(99)


if __name__ == "__main__":
    main()
