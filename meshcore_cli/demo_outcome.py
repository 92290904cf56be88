"""What came of the demonstration: what the load saw, phase by phase, and what is wrong with it."""

from __future__ import annotations

from typing import Any

from meshcore_cli.render import bold, colour, table

REPLICAS = ("a", "b", "c")
PHASES = (("healthy", 0.25), ("c slow", 0.35), ("c killed", 0.2), ("b killed", 0.2))
"""What happens, and for what part of the time."""

SIDECARS = len(REPLICAS) + 1
"""One for each replica, and the caller's."""
SLOW_SHARE = 0.15
"""More than this part of the requests to the slow replica is a failure of the balancer (a third is an equal share)."""


class Samples:
    """What the load saw in one phase."""

    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.failures: dict[str, int] = {}
        self.served: dict[str, int] = dict.fromkeys(REPLICAS, 0)

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


class Security:
    """How the sidecars spoke with each other, by their own metrics.

    Attributes:
        connections: those on which both ends had verified each other's certificate (TLS 1.3: the mesh speaks no other).
        plaintext: those that went without TLS, or to or from somebody unknown.
        handshakes_failed: handshakes of either side that failed.
        certificates: the end of the validity, by the name in the certificate.
    """

    def __init__(self) -> None:
        self.connections = 0
        self.plaintext = 0
        self.handshakes_failed = 0
        self.certificates: dict[str, str] = {}

    def summary(self) -> dict[str, Any]:
        """The same as a JSON value."""
        return {
            "tls": "1.3",
            "verified_connections": self.connections,
            "unsecured_connections": self.plaintext,
            "failed_handshakes": self.handshakes_failed,
            "certificates": self.certificates,
        }


class Outcome:
    """All phases, and what the sidecars told of themselves."""

    def __init__(self) -> None:
        self.phases = {name: Samples() for name, _ in PHASES}
        self.retries = 0
        self.security = Security()

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
        slow = self.phases["c slow"]
        if slow.requests and slow.share("c") > SLOW_SHARE:
            found.append(f"the slow replica kept {slow.share('c'):.0%} of the requests")
        if self.security.plaintext:
            found.append(f"{self.security.plaintext} connections between sidecars were not secured")
        if every.latencies and not self.security.connections:
            found.append("no connection between sidecars was secured")
        return found

    def summary(self) -> dict[str, Any]:
        """The summary as a JSON value; latencies in milliseconds."""
        every = self.total()
        return {
            "services": {"web": 1, "orders": len(REPLICAS)},
            "sidecars": SIDECARS,
            "security": self.security.summary(),
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
        rows = [
            (
                name,
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
            f"{bold('balancer')} replica c got {self.phases['healthy'].share('c'):.1%} of the requests while healthy, "
            f"{self.phases['c slow'].share('c'):.1%} while slow",
        ]
        lines += self._mesh()
        complaints = self.complaints()
        lines += [colour("red", f"problem: {complaint}") for complaint in complaints]
        if not complaints:
            lines.append(colour("green", "no request failed"))
        return "\n".join(lines)

    def _mesh(self) -> list[str]:
        security = self.security
        names = ", ".join(f"{name} (valid until {until})" for name, until in security.certificates.items())
        return [
            f"{bold('mesh')} web calls {len(REPLICAS)} replicas of orders, {SIDECARS} sidecars in one process",
            f"{bold('security')} {security.connections} connections between sidecars, each over TLS 1.3 with both "
            f"identities verified; {security.plaintext} without; {security.handshakes_failed} handshakes failed",
            f"{bold('identities')} {names or 'none'}",
        ]
