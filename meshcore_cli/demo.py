"""``meshcore demo``: the main job at work, on nothing but this machine."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshcore_cli.ask import add_output
from meshcore_cli.demo_outcome import PHASES, REPLICAS, Outcome
from meshcore_cli.parser import OK, PROBLEM, Parser, fail
from meshcore_cli.render import colour, print_json

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable

    from meshcore import Proxy
    from meshcore_cli.demo_mesh import Replica

DESCRIPTION = """\
Three replicas of a small service and the one who calls them, with a sidecar each, and a development CA that vouches for
all of them: between the sidecars there is mutual TLS and nothing else.  Under a steady load one replica becomes slow,
later it is killed, and at last a busy one is killed as well, its sidecar with it.  Watch where the requests go, and
that none of them fails.

Everything runs in this one process, on loopback ports that happen to be free; the CA lives in a temporary folder.  Exit
code 1 if a request failed, if the slow replica kept more than its share, or if anything went unsecured between
sidecars."""

SLOW = 0.2
"""Seconds that the slow replica takes for each answer."""
WORKERS = 24
"""Requests that the load keeps under way at most."""


def add_arguments(parser: Parser) -> None:
    """The options of the command."""
    parser.add_argument("--seconds", metavar="N", default="20", help="how long it takes (default: 20; at least 4)")
    parser.add_argument("--rate", metavar="N", default="300", help="requests a second (default: 300)")
    add_output(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs the demonstration; 1 if the proxy misbehaved."""
    problems = []
    for option, text, low, high in (("--seconds", arguments.seconds, 4, 3_600), ("--rate", arguments.rate, 1, 5_000)):
        if not (text.isascii() and text.isdigit() and low <= int(text[:6]) <= high):
            problems.append(f"{option}: {text!r} is not a whole number from {low} to {high}")
    if problems:
        return fail("meshcore demo", problems)

    import tempfile

    import trio

    from meshcore_cli.logs import configure

    configure("error")
    quiet = arguments.output == "json"
    demo = Demo(float(arguments.seconds), int(arguments.rate), (lambda line: None) if quiet else _say)
    with tempfile.TemporaryDirectory(prefix="meshcore-demo-") as folder:
        try:
            trio.run(demo.run, Path(folder))
        except* KeyboardInterrupt:
            _say("interrupted")
    if quiet:
        print_json(demo.outcome.summary())
    else:
        print("\n" + demo.outcome.report())
    return PROBLEM if demo.outcome.complaints() else OK


def _say(line: str) -> None:
    print(line, flush=True)


class Demo:
    """The story and the load."""

    def __init__(self, seconds: float, rate: int, say: Callable[[str], None]) -> None:
        self.seconds = seconds
        self.rate = rate
        self.say = say
        self.outcome = Outcome()
        self.phase = PHASES[0][0]
        self._replicas: dict[str, Replica] = {}

    async def run(self, folder: Path) -> None:
        """From the first listener to the last; *folder* is for the development CA."""
        import trio

        import meshcore
        from meshcore.stack import stack
        from meshcore_cli.demo_mesh import Replica, caller, security

        self._replicas = {name: Replica(name, folder) for name in REPLICAS}
        async with trio.open_nursery() as nursery:
            for replica in self._replicas.values():
                await nursery.start(replica.serve)
            drain = meshcore.Drain()
            config = caller(self._replicas.values(), folder)
            web: meshcore.Proxy = await nursery.start(partial(meshcore.serve_config, config, drain=drain))
            host, port = web.addresses[0]
            self._introduce(web)
            client = stack(meshcore.Endpoint).then(meshcore.Http()).layer(meshcore.connect_tcp)
            call = client.new_service(meshcore.Endpoint((host, port)), nursery)
            async with trio.open_nursery() as load:
                for number in range(WORKERS):
                    load.start_soon(self._work, call, number)
                await self._story()
                load.cancel_scope.cancel()
            self.outcome.retries = _retries(web.statistics())
            self.outcome.security = security(web, self._replicas.values())
            drain.start("the demonstration is over")
            nursery.cancel_scope.cancel()

    def _introduce(self, web: Proxy) -> None:
        for replica in self._replicas.values():
            self.say(f"orders {replica.name}: behind its sidecar at 127.0.0.1:{replica.address[1]}")
        self.say(f"web: calls http://orders through its sidecar at 127.0.0.1:{web.addresses[0][1]}")
        if web.admin is not None:
            self.say(f"its metrics: http://127.0.0.1:{web.admin.addresses[0][1]}/metrics\n")

    async def _story(self) -> None:
        import trio

        for name, part in PHASES:
            self.phase = name
            if name == "c slow":
                self.say(colour("yellow", f"--- replica c now takes {SLOW * 1_000:.0f} ms longer"))
                self._replicas["c"].delay = SLOW
            elif name != "healthy":
                self.say(colour("red", f"--- replica {name[0]} and its sidecar are killed"))
                self._replicas[name[0]].kill()
            end = trio.current_time() + self.seconds * part
            while (left := end - trio.current_time()) > 0.05:
                before = dict(self.outcome.phases[name].served)
                await trio.sleep(min(1.0, left))
                self.say(self._line(name, before))

    def _line(self, phase: str, before: dict[str, int]) -> str:
        samples = self.outcome.phases[phase]
        moved = {name: samples.served[name] - before[name] for name in REPLICAS}
        total = max(1, sum(moved.values()))
        shares = "  ".join(f"{name} {count / total:4.0%}" for name, count in moved.items())
        failed = sum(samples.failures.values())
        return (
            f"{phase:<8} {sum(moved.values()):>5} requests  {failed} failed  "
            f"p50 {samples.quantile(0.5):5.1f} ms  p99 {samples.quantile(0.99):6.1f} ms   {shares}"
        )

    async def _work(self, call: Callable[[Any], Awaitable[Any]], number: int) -> None:
        """One of those who send requests, each at its own beat."""
        import trio

        import meshcore
        from meshcore.http.body import read_all

        pause = WORKERS / self.rate
        beat = trio.current_time() + pause * number / WORKERS
        while True:
            await trio.sleep_until(beat)
            # What cannot be kept up with is not made up for: the load is steady, not bursty.
            beat = max(beat + pause, trio.current_time())
            samples = self.outcome.phases[self.phase]
            start = trio.current_time()
            try:
                response = await call(meshcore.Request(b"GET", b"http", b"orders", b"/"))
                await read_all(response.body)
            except meshcore.MeshError as error:
                samples.failures[error.code] = samples.failures.get(error.code, 0) + 1
                continue
            if response.status != 200:
                name = f"{response.status} {(response.headers.get(b'x-meshcore-error') or b'').decode('latin-1')}"
                samples.failures[name] = samples.failures.get(name, 0) + 1
                continue
            samples.latencies.append(trio.current_time() - start)
            samples.served[(response.headers.get(b"x-replica") or b"").decode("latin-1")] += 1


def _retries(told: Any) -> int:
    """How many further tries the caller's sidecar made, from what its live services tell."""
    if isinstance(told, dict):
        return sum(count if name == "retries" else _retries(count) for name, count in told.items())
    return sum(map(_retries, told)) if isinstance(told, list) else 0
