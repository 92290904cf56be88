"""Something to look at for the sampler: a registry, and nothing that runs."""

from __future__ import annotations

from collections.abc import Iterable

import trio

from meshcore.admin.stats import ProxyFacts
from meshcore.admin.stats.rows import Known
from meshcore.metrics import Counter, Registry
from meshcore.metrics.labels import TARGET_LABELS

FACTS = ProxyFacts(name="x", namespace="", identity=None, version="1", state="ready", uptime=1.0)


class Sampled:
    """See :class:`meshcore.admin.stats.sampler.Sampled`.

    Attributes:
        asked: how often it was looked at.
        counter: one series of ``request_total``.
        gone: whether there is no series at all.
        broken: how many looks still crash.
        crashes: where, and what it was.
    """

    def __init__(self, max_series: int = 2_000) -> None:
        self._all = Registry(max_series=max_series)
        self._none = Registry()
        self.asked = 0
        self.gone = False
        self.broken = 0
        self.crashes: list[tuple[str, str]] = []
        self.counter = self.request("inbound", "public", "10.0.0.1:80")
        self.registry: Registry = _Changing(self)

    def request(self, direction: str, listener: str, address: str) -> Counter:
        family = self._all.counter("request_total", "…", *TARGET_LABELS)
        extra = (("listener", listener),) if listener else ()
        return family.labels(direction, address, "", "", "", "", "", extra=extra)

    def now(self) -> Registry:
        return self._none if self.gone else self._all

    def facts(self) -> ProxyFacts:
        return FACTS

    def known(self) -> Known:
        return Known(name="x")

    def services(self) -> Iterable[tuple[str, object]]:
        self.asked += 1
        if self.broken:
            self.broken -= 1
            raise ValueError("broken")
        return ()

    def time(self) -> float:
        return trio.current_time() + 1_000_000_000.0

    def crashed(self, error: BaseException, where: str, /) -> None:
        self.crashes.append((where, f"{type(error).__name__}: {error}"))


class _Changing(Registry):
    """The one that there is at the moment."""

    def __init__(self, sampled: Sampled) -> None:
        super().__init__()
        self._sampled = sampled

    def families(self):  # type: ignore[no-untyped-def]
        return self._sampled.now().families()
