"""Measures meshcore against every peer that is installed, in alternating runs.

    python tests/bench/run.py [P1 P2 …] [--quick] [--only NAME …] [--write | --no-write]

Prints Markdown tables; without ``--quick`` it writes them to docs/explanation/benchmarks.md.
"""

from __future__ import annotations

import argparse
import resource
import signal
import sys
import time
from pathlib import Path

# Last: what is installed, compiled or not, goes before the sources.
sys.path.append(str(Path(__file__).parent.parent.parent))

from tests.bench.cases import CASES
from tests.bench.measure import Settings, say
from tests.bench.report import facts, write


def main() -> None:
    parser = argparse.ArgumentParser(description="measures meshcore against every peer that is installed")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"some of {' '.join(CASES)}; default: all")
    parser.add_argument("--quick", action="store_true", help="one second a turn; not written to the page")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="only this contender (repeatable)")
    parser.add_argument("--seconds", type=float, help="of each turn")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender (default 3)")
    parser.add_argument(
        "--write", action=argparse.BooleanOptionalAction, help="write the page (default: unless --quick)"
    )
    options = parser.parse_args()
    unknown = set(options.cases) - set(CASES)
    if unknown:
        parser.error(f"unknown case {', '.join(sorted(unknown))}; there are {' '.join(CASES)}")
    # As by Ctrl-C: what was started is killed, where the default action would leave it behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Many connections at once need many descriptors, here and in what is started from here.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    settings = Settings(options.seconds or (1.0 if options.quick else 4.0), options.rounds, tuple(options.only))
    sections = {"machine": facts()}
    print(sections["machine"])
    for name in options.cases or CASES:
        began = time.monotonic()
        case = CASES[name]
        say(f"{name} …")
        text = f"## {name}: {(case.__doc__ or '').strip()}\n\n{case(settings)}"
        sections[name] = text
        print(f"\n{text}", flush=True)
        say(f"  {name} took {time.monotonic() - began:.0f} s")
    if options.write if options.write is not None else not options.quick:
        write(sections)


if __name__ == "__main__":
    main()
