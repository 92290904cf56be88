"""``meshcore demo``: the main job at work, on nothing but this machine."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from meshcore_cli.parser import OK, PROBLEM, Parser, fail
from meshcore_cli.render import bold, colour, print_json, table

DESCRIPTION = """\
Three replicas of a small service behind a gateway, and a steady load on it.  Then one replica becomes slow, later it
is killed, and at last it comes back.  Watch where the requests go, and that none of them fails.

Everything runs in this one process, on loopback ports that happen to be free.  Exit code 1 if a request failed, or if
the slow replica kept more than its share."""

REPLICAS = ("a", "b", "c")
PHASES = (("healthy", 0.25), ("slow", 0.35), ("killed", 0.25), ("back", 0.15))
"""What happens to replica c, and for what part of the time."""

SLOW = 0.2
"""Seconds that the slow replica takes for each answer."""
WORKERS = 24
"""Requests that the load keeps under way at most."""
SLOW_SHARE = 0.15
"""More than this part of the requests to the slow replica is a failure of the balancer (a third is an equal share)."""


def add_arguments(parser: Parser) -> None:
    """The options of the command."""
    parser.add_argument("--seconds", metavar="N", default="20", help="how long it takes (default: 20; at least 4)")
    parser.add_argument("--rate", metavar="N", default="300", help="requests a second (default: 300)")
    parser.add_argument("-o", dest="output", choices=["table", "json"], default="table", help="form of the summary")


def run(arguments: argparse.Namespace) -> int:
    """Runs the demonstration; 1 if the proxy misbehaved."""
    problems = []
    for option, text, low, high in (("--seconds", arguments.seconds, 4, 3_600), ("--rate", arguments.rate, 1, 5_000)):
        if not (text.isascii() and text.isdigit() and low <= int(text[:6]) <= high):
            problems.append(f"{option}: {text!r} is not a whole number from {low} to {high}")
    if problems:
        return fail("meshcore demo", problems)

    import trio

    from meshcore_cli.logs import configure

    configure("error")
    quiet = arguments.output == "json"
    demo = Demo(float(arguments.seconds), int(arguments.rate), (lambda line: None) if quiet else _say)
    try:
        trio.run(demo.run)
    except* KeyboardInterrupt:
        _say("interrupted")
    if quiet:
        print_json(demo.summary())
    else:
        print("\n" + demo.report())
    return PROBLEM if demo.complaints() else OK


def _say(line: str) -> None:
    print(line, flush=True)


class Samples:
    """What the load saw in one phase."""

    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.failures: dict[str, int] = {}
        self.served = dict.fromkeys(REPLICAS, 0)

    @property
    def requests(self) -> int:
        """All of them, failed ones too."""
        return len(self.latencies) + sum(self.failures.values())

    def quantile(self, part: float) -> float:
        """A latency in milliseconds; 0 without samples."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * part))] * 1_000 if ordered else 0.0

    def share(self, replica: str) -> float:
        """The part of the answers that came from a replica."""
        return self.served[replica] / max(1, sum(self.served.values()))

    def add(self, other: Samples) -> None:
        """Adds what another phase saw."""
        self.latencies += other.latencies
        for name, count in other.failures.items():
            self.failures[name] = self.failures.get(name, 0) + count
        for name, count in other.served.items():
            self.served[name] += count


class Replica:
    """A small HTTP service that can be made slow, killed and started again at the same port."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.delay = 0.0
        self.port = 0
        self._scope: Any = None

    async def serve(self, upstreams: Any, *, task_status: Any) -> None:
        """Serves until killed."""
        import trio

        import meshcore
        from meshcore.transport.tcp import open_listeners

        name = self.name.encode()

        async def answer(request: meshcore.Request) -> meshcore.Response:
            if self.delay:
                await trio.sleep(self.delay)
            body = b"replica " + name + b"\n"
            fields = [(b"x-replica", name), (b"content-length", b"%d" % len(body))]
            return meshcore.Response(200, meshcore.Headers(fields), meshcore.Full(body))

        new_accept = meshcore.accept(meshcore.Accepted).then(meshcore.ServeHttp()).layer(Fixed(answer))
        listeners = await open_listeners("127.0.0.1", self.port)
        self.port = listeners[0].socket.getsockname()[1]
        with trio.CancelScope() as self._scope:
            await meshcore.serve(new_accept, listeners, upstreams=upstreams, task_status=task_status)

    def kill(self) -> None:
        """Ends it as a crash would: listener and connections are gone at once."""
        self._scope.cancel()


class Fixed:
    """The same service for every target."""

    def __init__(self, service: Callable[[Any], Awaitable[Any]]) -> None:
        self._service = service

    def new_service(self, target: object, nursery: Any, /) -> Callable[[Any], Awaitable[Any]]:
        """The service."""
        return self._service


class Demo:
    """The story, the load, and what came of it."""

    def __init__(self, seconds: float, rate: int, say: Callable[[str], None]) -> None:
        self.seconds = seconds
        self.rate = rate
        self.say = say
        self.phases = {name: Samples() for name, _ in PHASES}
        self.phase = PHASES[0][0]
        self.retries = 0
        self._replicas = {name: Replica(name) for name in REPLICAS}

    async def run(self) -> None:
        """From the first listener to the last."""
        import trio

        import meshcore.proxy
        from meshcore.config import proxy_config
        from meshcore.stack import stack

        async with trio.open_nursery() as nursery:
            for replica in self._replicas.values():
                await nursery.start(replica.serve, nursery)
            urls = ",".join(f"127.0.0.1:{replica.port}" for replica in self._replicas.values())
            config = proxy_config(["127.0.0.1:0"], [urls], admin="127.0.0.1:0", retries="2", grace_period="2s")
            drain = meshcore.Drain()
            proxy: meshcore.proxy.Proxy = await nursery.start(partial(meshcore.proxy.run, config, drain=drain))
            host, port = proxy.addresses[0]
            self.say(f"gateway at http://{host}:{port}, replicas {', '.join(REPLICAS)} at {urls.replace(',', ', ')}")
            if proxy.admin is not None:
                self.say(f"admin at http://127.0.0.1:{proxy.admin.addresses[0][1]}/metrics\n")
            client = stack(meshcore.Endpoint).then(meshcore.Http()).layer(meshcore.connect_tcp)
            call = client.new_service(meshcore.Endpoint((host, port)), nursery)
            async with trio.open_nursery() as load:
                for number in range(WORKERS):
                    load.start_soon(self._work, call, number)
                await self._story(nursery)
                load.cancel_scope.cancel()
            self.retries = _retries(proxy.statistics())
            drain.start("the demonstration is over")
            nursery.cancel_scope.cancel()

    async def _story(self, nursery: Any) -> None:
        import trio

        victim = self._replicas[REPLICAS[-1]]
        for name, part in PHASES:
            self.phase = name
            if name == "slow":
                self.say(colour("yellow", f"--- replica {victim.name} now takes {SLOW * 1_000:.0f} ms longer"))
                victim.delay = SLOW
            elif name == "killed":
                self.say(colour("red", f"--- replica {victim.name} is killed"))
                victim.kill()
            elif name == "back":
                self.say(colour("green", f"--- replica {victim.name} is back, and fast"))
                victim.delay = 0.0
                await nursery.start(victim.serve, nursery)
            end = trio.current_time() + self.seconds * part
            while (left := end - trio.current_time()) > 0.05:
                before = {each: count for each, count in self.phases[name].served.items()}
                await trio.sleep(min(1.0, left))
                self.say(self._line(name, before))

    def _line(self, phase: str, before: dict[str, int]) -> str:
        samples = self.phases[phase]
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
            samples = self.phases[self.phase]
            start = trio.current_time()
            try:
                response = await call(meshcore.Request(b"GET", b"http", b"demo.example", b"/"))
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

    def total(self) -> Samples:
        """All phases together."""
        every = Samples()
        for samples in self.phases.values():
            every.add(samples)
        return every

    def complaints(self) -> list[str]:
        """What the proxy did wrong; empty if nothing."""
        every = self.total()
        found = [f"{count} requests failed: {name}" for name, count in every.failures.items()]
        if not every.latencies:
            found.append("no request was answered")
        victim = REPLICAS[-1]
        slow = self.phases["slow"]
        if slow.requests and slow.share(victim) > SLOW_SHARE:
            found.append(f"the slow replica kept {slow.share(victim):.0%} of the requests")
        return found

    def summary(self) -> dict[str, Any]:
        """The summary as a JSON value; latencies in milliseconds."""
        every = self.total()
        return {
            "requests": every.requests,
            "success_rate": len(every.latencies) / max(1, every.requests),
            "failures": every.failures,
            "p50_ms": round(every.quantile(0.5), 3),
            "p99_ms": round(every.quantile(0.99), 3),
            "retries": self.retries,
            "phases": {
                name: {
                    "requests": samples.requests,
                    "p50_ms": round(samples.quantile(0.5), 3),
                    "p99_ms": round(samples.quantile(0.99), 3),
                    "share": {replica: round(samples.share(replica), 4) for replica in REPLICAS},
                }
                for name, samples in self.phases.items()
            },
            "complaints": self.complaints(),
        }

    def report(self) -> str:
        """The summary for people."""
        every = self.total()
        victim = REPLICAS[-1]
        rows = [
            (
                f"{victim} {name}" if name != "healthy" else "all healthy",
                samples.requests,
                sum(samples.failures.values()),
                f"{samples.quantile(0.5):.1f} ms",
                f"{samples.quantile(0.99):.1f} ms",
                *(f"{samples.share(replica):.1%}" for replica in REPLICAS),
            )
            for name, samples in self.phases.items()
        ]
        header = ["PHASE", "REQUESTS", "FAILED", "P50", "P99", *(f"TO {name.upper()}" for name in REPLICAS)]
        success = len(every.latencies) / max(1, every.requests)
        lines = [
            table(header, rows, right=range(1, len(header))),
            "",
            f"{bold('requests')} {every.requests}, success rate {success:.2%}, "
            f"p50 {every.quantile(0.5):.1f} ms, p99 {every.quantile(0.99):.1f} ms, retries {self.retries}",
            f"{bold('balancer')} replica {victim} got {self.phases['healthy'].share(victim):.1%} of the requests while healthy, "
            f"{self.phases['slow'].share(victim):.1%} while slow, {self.phases['killed'].share(victim):.1%} after it was killed, "
            f"{self.phases['back'].share(victim):.1%} once it was back",
        ]
        complaints = self.complaints()
        lines += [colour("red", f"problem: {complaint}") for complaint in complaints]
        if not complaints:
            lines.append(colour("green", "no request failed"))
        return "\n".join(lines)


def _retries(told: Any) -> int:
    """How many further tries the gateway made, from what its live services tell."""
    if isinstance(told, dict):
        return sum(count if name == "retries" else _retries(count) for name, count in told.items())
    return sum(map(_retries, told)) if isinstance(told, list) else 0
