"""Which TLS library is in use."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meshcore.metrics.registry import Registry

__all__ = ["tls_info"]


def tls_info(registry: Registry) -> None:
    """Adds ``tls_info``, whose label is OpenSSL's version; only once something has loaded OpenSSL."""
    family = registry.gauge("tls_info", "The TLS library in use.", "library")
    held: list[Any] = []

    def collect() -> None:
        found: Any = sys.modules.get("OpenSSL.SSL")
        if found is not None and not held:
            held.append(family.labels(found.SSLeay_version(found.SSLEAY_VERSION).decode("ascii", "replace")))
        for cell in held:
            cell.value = 1

    registry.collect(collect)
