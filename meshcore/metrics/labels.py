"""The labels that say where a series belongs, with linkerd's names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.transport.target import Accepted, Address, Backend, Endpoint, HttpRoute

if TYPE_CHECKING:
    from meshcore.metrics.prometheus import Labels
    from meshcore.transport.connection import Connection

__all__ = ["CLIENT_LABELS", "TARGET_LABELS", "client_labels", "extra_labels", "server_tls_labels", "target_labels"]

CLIENT_LABELS = ("target_addr", "target_ip", "target_port", "tls", "no_tls_reason", "client_id")
"""The names of what :func:`client_labels` gives."""

TARGET_LABELS = ("direction", "target_addr", "target_ip", "target_port", "tls", "no_tls_reason", "server_id")
"""The names of what :func:`target_labels` gives."""


def target_labels(direction: str, target: object) -> tuple[str, ...]:
    """The values of ``TARGET_LABELS`` for a target: an endpoint's address and how it is secured, the
    address that a connection was accepted at, nothing for other targets."""
    if isinstance(target, Endpoint):
        if target.tls is None:
            tls = (*_not_secure(target.no_tls or "not_provided_by_service_discovery"), "")
        else:
            tls = ("true", "", target.tls.identity or target.tls.server_name)
        return (direction, *_address(target.address), *tls)
    if isinstance(target, Accepted):
        # Where nobody looks for TLS the client has shown none.
        how = ("true", "") if target.secure else _not_secure(target.no_tls or "no_tls_from_remote")
        return (direction, *_address(target.original or target.local), *how, "")
    return (direction, "", "", "", "", "", "")


def extra_labels(target: object) -> Labels:
    """What discovery says of an endpoint (``dst_…``); of a backend its name; of a route its parent's and its
    own; of a listener its name, twice, for that is linkerd's server, and who the client is."""
    if isinstance(target, Endpoint):
        # In one order: discovery may tell the same ones in another, which is the same series.
        return tuple([(f"dst_{name}", value) for name, value in sorted(target.labels)])
    if isinstance(target, Backend):
        return (("backend", target.name),)
    if isinstance(target, HttpRoute):
        return (("parent_name", target.parent), ("route_name", target.name))
    if isinstance(target, Accepted):
        listener = (("listener", target.listener), ("srv_name", target.listener))
        return listener if target.client_id is None else (*listener, ("client_id", target.client_id))
    return ()


def server_tls_labels(target: object, connection: Connection) -> tuple[str, str]:
    """The values of ``tls`` and ``no_tls_reason`` for a connection accepted as *target* (T-16): ``"true"`` where
    it was terminated here, ``"opaque"`` where it is passed through, and why there is none."""
    if connection.secure:
        return ("true", "")
    if isinstance(target, Accepted):
        if target.sni is not None:
            return ("opaque", "")
        if target.no_tls:
            return _not_secure(target.no_tls)
    return _not_secure("no_tls_from_remote")


def client_labels(target: object, connection: Connection) -> tuple[str, ...]:
    """The values of ``CLIENT_LABELS``: where a connection was meant to go, how it is secured, and whose it is, for
    what was decided about its client.  *target* tells more than the connection does, where it is an ``Accepted``."""
    to = connection.local if not isinstance(target, Accepted) else target.original or target.local
    return (*_address(to), *server_tls_labels(target, connection), connection.identity or "")


def _not_secure(why: str) -> tuple[str, str]:
    return ("disabled", "") if why == "disabled" else ("no_identity", why)


def _address(address: Address) -> tuple[str, str, str]:
    host, port = address
    return (f"[{host}]:{port}" if ":" in host else f"{host}:{port}", host, str(port))
