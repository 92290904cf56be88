"""What a proxy says of its own process: CPU, memory, descriptors, build, crashes."""

from __future__ import annotations

import os
import platform
import resource
from pathlib import Path
from typing import TYPE_CHECKING

from meshcore.compiled import is_compiled

if TYPE_CHECKING:
    from meshcore.metrics.registry import Counter, Registry

__all__ = ["crashes_total", "h2_abuse_closed_total", "process_metrics"]


def process_metrics(registry: Registry, *, start_time: float, version: str, engines: str = "") -> None:
    """Adds ``process_*`` and ``proxy_build_info``, read anew at each scrape.

    Args:
        start_time: when the process started, in seconds since the epoch: the one time of the wall clock.
        version: of this package.
        engines: which codec engines are in use.
    """
    started = registry.gauge(
        "process_start_time_seconds", "Time that the process started (in seconds since the UNIX epoch)"
    ).labels()
    info = registry.gauge("proxy_build_info", "Proxy build info", "version", "engines", "python", "compiled").labels(
        version, engines, platform.python_version(), str(is_compiled()).lower()
    )
    cpu = registry.counter("process_cpu_seconds_total", "Total user and system CPU time spent in seconds").labels()
    resident = registry.gauge("process_resident_memory_bytes", "Resident memory size in bytes").labels()
    virtual = registry.gauge("process_virtual_memory_bytes", "Virtual memory size in bytes").labels()
    open_fds = registry.gauge("process_open_fds", "Number of open file descriptors").labels()
    max_fds = registry.gauge("process_max_fds", "Maximum number of open file descriptors").labels()
    page = resource.getpagesize()

    def collect() -> None:
        # Held by this function, so that they are never forgotten.
        info.value = 1
        started.value = start_time
        times = os.times()
        cpu.value = times.user + times.system
        pages = _read("/proc/self/statm").split()
        if len(pages) >= 2:
            virtual.value = int(pages[0]) * page
            resident.value = int(pages[1]) * page
        open_fds.value = _descriptors()
        max_fds.value = resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    registry.collect(collect)


def crashes_total(registry: Registry) -> Counter:
    """Connections and background tasks ended by an exception that nobody expected: 0, or a bug."""
    family = registry.counter("crashes_total", "Total count of connections and tasks ended by an unexpected exception")
    return family.labels()


def h2_abuse_closed_total(registry: Registry, kind: str) -> Counter:
    """HTTP/2 connections closed for what *kind* names (``rapid-reset``, ``ping`` …)."""
    return registry.counter(
        "h2_abuse_closed_total", "Total count of HTTP/2 connections closed for abuse of the protocol", "kind"
    ).labels(kind)


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _descriptors() -> int:
    try:
        # The listing itself has one open.
        return len(os.listdir("/proc/self/fd")) - 1
    except OSError:
        return 0
