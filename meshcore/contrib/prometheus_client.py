"""A proxy's metrics among those of an application that has ``prometheus_client``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio
from prometheus_client.core import REGISTRY, CollectorRegistry, Metric
from prometheus_client.registry import Collector

from meshcore.metrics.prometheus import title_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from meshcore.metrics.registry import Exposed, Registry

__all__ = ["RegistryCollector", "expose"]


class RegistryCollector(Collector):
    """Collects what a registry has, for ``CollectorRegistry.register``.

    Args:
        registry: the proxy's: ``mesh.registry`` of what ``serve_config`` has started.
        token: of the Trio that the proxy runs in (``trio.lowlevel.current_trio_token()``).  With it, a collection from
            another thread, such as that of ``prometheus_client.start_http_server``, asks that Trio; without, it has to
            come from Trio's own thread.
        without: prefixes of names that are left out: the application tells of its process itself.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        token: trio.lowlevel.TrioToken | None = None,
        without: Iterable[str] = ("process_",),
    ) -> None:
        self._registry = registry
        self._token = token
        self._without = tuple(without)

    def __repr__(self) -> str:
        return f"<RegistryCollector of {self._registry!r}>"

    def describe(self) -> Iterable[Metric]:
        """Nothing: what there is to tell is known once it is counted."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Every family that has series, as it is now; nothing once the Trio of *token* has ended."""
        if self._token is None or _in_trio():
            return self._collect()
        try:
            return trio.from_thread.run_sync(self._collect, trio_token=self._token)
        except trio.RunFinishedError:
            # The application's own metrics are still to be had.
            return []

    def _collect(self) -> list[Metric]:
        for _ in self._registry.collected():
            pass
        families = [each for each in self._registry.families() if not each.name.startswith(self._without)]
        return [metric for metric in map(_metric, families) if metric.samples]


def expose(
    registry: Registry,
    into: CollectorRegistry = REGISTRY,
    *,
    token: trio.lowlevel.TrioToken | None = None,
    without: Iterable[str] = ("process_",),
) -> Callable[[], None]:
    """Puts a proxy's metrics into an application's; returns what takes them out again.

    Args:
        registry, token, without: see :class:`RegistryCollector`.
        into: the application's; by default the one that ``prometheus_client`` itself uses.
    """
    collector = RegistryCollector(registry, token=token, without=without)
    into.register(collector)
    return partial(into.unregister, collector)


def _in_trio() -> bool:
    try:
        trio.lowlevel.current_trio_token()
    except RuntimeError:
        return False
    return True


def _metric(family: Exposed) -> Metric:
    name = title_of(family.name, family.kind, True)
    metric = Metric(name, family.description, family.kind)
    for labels, cell in family.series():
        with_labels = dict(labels)
        if family.histograms is None:
            metric.add_sample(family.name, with_labels, cell.value)
            continue
        buckets, total = family.histograms.buckets(cell)
        for bound, count in buckets:
            metric.add_sample(f"{name}_bucket", {**with_labels, "le": bound}, count)
        metric.add_sample(f"{name}_count", with_labels, buckets[-1][1])
        metric.add_sample(f"{name}_sum", with_labels, total)
    return metric
