"""The labels that say where a series belongs, with linkerd's names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.transport.target import Accepted, Address, Backend, Endpoint

if TYPE_CHECKING:
    from meshcore.metrics.prometheus import Labels

__all__ = ["TARGET_LABELS", "extra_labels", "target_labels"]

TARGET_LABELS = ("direction", "target_addr", "target_ip", "target_port", "tls", "no_tls_reason", "server_id")
"""The names of what :func:`target_labels` gives."""


def target_labels(direction: str, target: object) -> tuple[str, ...]:
    """The values of ``TARGET_LABELS`` for a target: an endpoint's address and how it is secured, the
    address that a connection was accepted at, nothing for other targets."""
    if isinstance(target, Endpoint):
        if target.tls is None:
            tls = ("no_identity", "not_provided_by_service_discovery", "")
        else:
            tls = ("true", "", target.tls.identity or target.tls.server_name)
        return (direction, *_address(target.address), *tls)
    if isinstance(target, Accepted):
        return (direction, *_address(target.original or target.local), "", "", "")
    return (direction, "", "", "", "", "", "")


def extra_labels(target: object) -> Labels:
    """What discovery says of an endpoint (``dst_…``); of a backend its name; of a listener its name."""
    if isinstance(target, Endpoint):
        return tuple((f"dst_{name}", value) for name, value in target.labels)
    if isinstance(target, Backend):
        return (("backend", target.name),)
    if isinstance(target, Accepted):
        return (("listener", target.listener),)
    return ()


def _address(address: Address) -> tuple[str, str, str]:
    host, port = address
    return (f"[{host}]:{port}" if ":" in host else f"{host}:{port}", host, str(port))
