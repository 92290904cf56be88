"""What a running proxy measures of itself, beside its traffic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.accounting.series import count_layers
from meshcore.metrics.scheduler import Scheduler
from meshcore.metrics.tls_info import tls_info

if TYPE_CHECKING:
    from meshcore.accounting.ledger import Ledger
    from meshcore.metrics.registry import Registry

__all__ = ["instruments"]


def instruments(registry: Registry, ledger: Ledger | None) -> Scheduler:
    """The scheduler's metrics, which are to be run; those of the layers, if they are accounted; the TLS library."""
    tls_info(registry)
    if ledger is None:
        return Scheduler(registry)
    count_layers(ledger, registry)
    return Scheduler(registry, ledger.look)
