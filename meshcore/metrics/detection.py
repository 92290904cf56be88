"""What the detection of protocols and of TLS found, and how long it took."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore.codec.transport_header import TransportHeader
    from meshcore.metrics.registry import Registry

__all__ = ["detection", "protocols", "tls_detection", "transport_headers"]

_BUCKETS = (0.001, 0.1)
_RESULTS = ("http/1", "http/2", "not_http", "read_timeout", "error")
_TLS_RESULTS = ("terminated", "passthrough", "no_tls", "timeout", "refused", "error")


def detection(registry: Registry, direction: str) -> Callable[[str, float], None]:
    """A function that counts one detection: its result and its seconds (D-07, with linkerd's families).

    Args:
        registry: where it is counted.
        direction: ``"inbound"`` or ``"outbound"``.
    """
    return _observer(registry, direction, "http", "HTTP", _RESULTS)


def tls_detection(registry: Registry, direction: str) -> Callable[[str, float], None]:
    """A function that counts one detection of TLS: its result and its seconds.

    Args:
        registry: where it is counted.
        direction: ``"inbound"`` or ``"outbound"``.
    """
    return _observer(registry, direction, "tls", "TLS", _TLS_RESULTS)


def protocols(registry: Registry) -> Callable[[str], None]:
    """A function that counts an application's connection by what it is served as
    (``outbound_tcp_protocol_connections_total``).

    Args:
        registry: where it is counted.
    """
    family = registry.counter(
        "outbound_tcp_protocol_connections_total", "Outbound connections by what they are served as.", "protocol"
    )
    cells = {word: family.labels(word) for word in ("http/1", "http/2", "opaq", "detect")}

    def served(protocol: str) -> None:
        cells[protocol].value += 1

    return served


def transport_headers(registry: Registry) -> Callable[[TransportHeader, str], None]:
    """A function that counts a connection at whose head a proxy told where it is to go
    (``inbound_tcp_transport_header_connections_total``); of whom comes after the header.

    Args:
        registry: where it is counted.
    """
    family = registry.counter(
        "inbound_tcp_transport_header_connections_total",
        "Connections with a transport header, by what it told and whose it was.",
        "session_protocol",
        "target_port",
        "target_name",
        "client_id",
    )

    def read(header: TransportHeader, client: str) -> None:
        protocol = {"h2": "http/2"}.get(header.protocol or "", header.protocol or "")
        family.labels(protocol, str(header.port), header.name or "", client).value += 1

    return read


def _observer(
    registry: Registry, direction: str, what: str, title: str, known: tuple[str, ...]
) -> Callable[[str, float], None]:
    results = registry.counter(
        f"{direction}_tcp_detect_{what}_results_total", f"Outcomes of looking for {title} on a connection.", "result"
    )
    cells = {result: results.labels(result) for result in known}
    durations = registry.histogram(
        f"{direction}_tcp_detect_{what}_duration_seconds",
        f"Time that looking for {title} on a connection took.",
        buckets=_BUCKETS,
    ).labels()

    def observe(result: str, seconds: float) -> None:
        cell = cells.get(result)
        if cell is None:
            cell = cells[result] = results.labels(result)
        cell.value += 1
        durations.observe(seconds)

    return observe
