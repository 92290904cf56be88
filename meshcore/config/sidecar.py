"""The two sides of a sidecar: what comes in for the application, and what the application sends."""

from __future__ import annotations

import attrs

from meshcore.config.layers import LayerEdit
from meshcore.config.upstream import Destination
from meshcore.config.words import OPAQUE_PORTS, Policy
from meshcore.transport.target import Address

__all__ = ["Inbound", "Outbound"]


@attrs.frozen(kw_only=True)
class Inbound:
    """``[inbound]``: the side that others call; what it lets in goes to the application in plaintext.

    Attributes:
        listen: where to accept.
        forward: the application; absent: where the connection was sent to before it was redirected here.
        default_policy: who may call, by linkerd's names (R-33).
        opaque_ports: what was sent to these ports is forwarded byte for byte at once (D-15).
        connect_timeout: for connecting to the application (B-19).
        detect_timeout: how long TLS and the protocol are waited for (D-13).
        layer: changes to the built-in pipeline.
    """

    listen: Address = ("0.0.0.0", 4143)
    forward: Address | None = None
    default_policy: Policy = "all-unauthenticated"
    opaque_ports: frozenset[int] = OPAQUE_PORTS
    connect_timeout: float = 0.3
    detect_timeout: float = 10.0
    layer: tuple[LayerEdit, ...] = ()


@attrs.frozen(kw_only=True)
class Outbound:
    """``[outbound]``: the side that the application calls.

    Attributes:
        listen: where to accept; loopback, for whoever reaches it speaks in the application's name.
        opaque_ports: what was sent to these ports is forwarded byte for byte at once (D-15).
        connect_timeout: for each attempt to connect to an endpoint (B-19).
        detect_timeout: how long the protocol is waited for before the server may speak first.
        fail_fast: how long requests wait for any endpoint to be ready (B-09).
        to: destinations by the authority that the application uses (``payments:80``).
        layer: changes to the built-in pipeline.
    """

    listen: Address = ("127.0.0.1", 4140)
    opaque_ports: frozenset[int] = OPAQUE_PORTS
    connect_timeout: float = 1.0
    detect_timeout: float = 10.0
    fail_fast: float = 3.0
    to: dict[str, Destination] = attrs.Factory(dict)
    layer: tuple[LayerEdit, ...] = ()
