"""``meshcore top`` in a real terminal: tmux types at it and reads its screen."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.peers import python
from tests.peers.load import load
from tests.peers.meshcore import command_line
from tests.peers.process import Running, wait_until
from tests.peers.sidecar import sidecar
from tests.peers.tmux import Window, window
from tests.system.conftest import Start

COLUMNS, ROWS = 80, 24


@pytest.fixture
def gateway(start: Start[Running]) -> Running:
    one, other = start(python.origin("one")), start(python.origin("other"))
    return start(
        sidecar(
            {
                "listen": {
                    "public": {
                        "bind": "127.0.0.1:0",
                        "route": [
                            {"name": "api", "match": [{"path": {"prefix": "/api"}}], "to": [{"backend": "one"}]},
                            {"name": "rest", "to": [{"backend": "other"}]},
                        ],
                    }
                },
                "backend": {"one": {"endpoints": [one.address]}, "other": {"endpoints": [other.address]}},
                "admin": {"listen": "127.0.0.1:0"},
            }
        )
    )


@pytest.fixture
def screen(start: Start[Window]) -> Window:
    return start(window(COLUMNS, ROWS))


@pytest.fixture
def busy(gateway: Running) -> Iterator[None]:
    with load(gateway.port, paths=("/api", "/api", "/"), pause=0.005):
        yield


def top(gateway: Running, *options: str, term: str = "screen") -> str:
    words = [*command_line(), "top", "--admin", f"127.0.0.1:{gateway.ports['admin']}", "--window", "2s", *options]
    return f"TERM={term} {shlex.join(words)}; echo code-$?"


def contains(*parts: str) -> Callable[[str], bool]:
    return lambda text: all(part in text for part in parts)


def rps(lines: list[str]) -> float:
    """What comes in; -1: that is not drawn yet."""
    found = re.match(r"inbound +([0-9.]+) rps", lines[1]) if len(lines) > 1 else None
    return float(found[1]) if found else -1.0


def other_than(figure: float) -> Callable[[str], bool]:
    return lambda text: rps(text.splitlines()) not in (figure, -1.0)


def names(lines: list[str]) -> list[str]:
    return [words[1] for line in lines[5:-1] if len(words := line.split()) > 1]


@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize("term", ["xterm", "screen", "tmux-256color"])
def test_figures_move_under_load_and_keys_sort_filter_and_pause(gateway: Running, screen: Window, term: str) -> None:
    before = screen.settings()
    screen.run(top(gateway, term=term))
    lines = screen.wait(contains("meshcore top", "[1 routes]", "api", "rest"), "the routes")
    assert len(lines) == ROWS
    assert all(len(line) <= COLUMNS for line in lines)
    assert lines[-1].startswith("1/2/3 view  s sort  r reverse  / filter  p pause  ? help  q quit")
    assert screen.state() == ("1", "0")
    # The numbers move.
    lines = screen.wait(lambda text: rps(text.splitlines()) > 5, "load")
    first = rps(lines)
    screen.wait(other_than(first), "other figures")
    # Twice as many go to the one: traffic first, then by name, then the other way round.
    screen.wait(lambda text: names(text.splitlines()) == ["api", "rest"], "by traffic")
    screen.type("r")
    screen.wait(lambda text: names(text.splitlines()) == ["rest", "api"], "the other way round")
    screen.type("o")
    screen.wait(contains("sort ROUTE ▲"), "by name")
    assert names(screen.lines()) == ["api", "rest"]
    screen.type("s")
    screen.wait(contains("sort DIRECTION ▲"), "by the next column")
    # Filtering, which takes keys as text.
    screen.type("/", "r", "e", "s")
    screen.wait(contains("/res_"), "the text that is typed")
    screen.type("Enter")
    screen.wait(lambda text: names(text.splitlines()) == ["rest"] and "filter res" in text, "the filter")
    screen.type("Escape")
    screen.wait(lambda text: names(text.splitlines()) == ["api", "rest"], "no filter")
    # The other views.
    screen.type("2")
    screen.wait(contains("[2 backends]", "BUDGET", "one", "other"), "backends")
    screen.type("3")
    screen.wait(contains("[3 endpoints]", "ENDPOINT", "127.0.0.1:"), "endpoints")
    screen.type("Tab")
    screen.wait(contains("[1 routes]"), "around again")
    screen.type("?")
    screen.wait(contains("filter by name: Enter keeps it"), "help")
    screen.type("x")
    screen.wait(contains("[1 routes]"), "help left")
    # A pause.
    screen.type("Space")
    lines = screen.wait(contains("PAUSED"), "the pause")
    frozen = rps(lines)
    for _ in range(5):
        assert rps(screen.lines()) == frozen
        subprocess.run(["sleep", "0.5"], check=True)
    screen.type("p")
    screen.wait(lambda text: "PAUSED" not in text and other_than(frozen)(text), "the pause's end")
    screen.type("q")
    screen.wait(contains("code-0"), "the end")
    assert screen.state() == ("0", "1")
    assert screen.settings() == before


@pytest.mark.usefixtures("busy")
def test_it_follows_the_size_of_the_terminal(gateway: Running, screen: Window) -> None:
    screen.run(top(gateway))
    screen.wait(contains("[1 routes]", "api"), "the routes")
    screen.type("3")
    for columns, rows in ((50, 10), (120, 40), (30, 6)):
        screen.resize(columns, rows)

        def drawn(text: str, rows: int = rows) -> bool:
            lines = text.splitlines()
            return (
                len(lines) == rows
                and lines[0].startswith("meshcore top")
                and any(line.startswith("ENDPO") for line in lines)
                and lines[-1].startswith("1/2/3 view")
            )

        lines = screen.wait(drawn, f"{columns}×{rows}")
        assert all(len(line) <= columns for line in lines)
    screen.type("q")
    screen.wait(contains("code-0"), "the end")


def test_a_proxy_that_goes_away_is_told_and_found_again(gateway: Running, screen: Window) -> None:
    port = gateway.ports["admin"]
    screen.run(top(gateway))
    screen.wait(contains("[1 routes]"), "the routes")
    gateway.process.send_signal(signal.SIGTERM)
    gateway.process.wait(20)
    screen.wait(contains(f"no proxy answers at 127.0.0.1:{port}", "trying again"), "the complaint")
    words = [*command_line(), "proxy", "--from", "127.0.0.1:0", "--to", "127.0.0.1:9", "--admin", f"127.0.0.1:{port}"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as other:
        try:
            screen.wait(contains("meshcore top  gateway", "1/2/3 view"), "the other one")
        finally:
            other.terminate()
            other.communicate(timeout=20)
    screen.type("q")
    screen.wait(contains("code-0"), "the end")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 0)])
def test_the_terminal_is_given_back_however_it_ends(
    gateway: Running, screen: Window, number: signal.Signals, code: int
) -> None:
    before = screen.settings()
    screen.run(top(gateway))
    screen.wait(contains("[1 routes]"), "the routes")
    if number == signal.SIGINT:
        screen.type("C-c")
    else:
        wanted = f"top --admin 127.0.0.1:{gateway.ports['admin']}"
        found = subprocess.run(["pgrep", "-f", wanted], capture_output=True, text=True, check=True)
        for pid in found.stdout.split():
            subprocess.run(["kill", f"-{number.name.removeprefix('SIG')}", pid], check=False)
    screen.wait(contains(f"code-{code}"), "the end")
    assert screen.state() == ("0", "1")
    assert screen.settings() == before


def test_stopped_and_continued_it_takes_the_terminal_again(gateway: Running, screen: Window) -> None:
    screen.run("set -m")
    screen.run(top(gateway))
    screen.wait(contains("[1 routes]"), "the routes")
    screen.type("C-z")
    wait_until(lambda: screen.state() == ("0", "1"), what="the shell's screen")
    screen.run("fg")
    screen.wait(contains("[1 routes]", "1/2/3 view"), "the routes again")
    assert screen.state() == ("1", "0")
    screen.type("q")
    wait_until(lambda: screen.state() == ("0", "1"), what="the end")


def test_where_there_is_no_proxy_the_screen_is_not_taken(screen: Window) -> None:
    words = [*command_line(), "top", "--admin", "127.0.0.1:1"]
    screen.run(f"{shlex.join(words)}; echo code-$?")
    screen.wait(contains("no proxy answers at 127.0.0.1:1", "code-1"), "the complaint")
    screen.run(f"TERM=dumb {shlex.join(words)}; echo code-$?")
    screen.wait(contains("it needs a terminal", "code-2"), "the complaint")
