"""What a running process gives its pipelines, beside their configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from meshcore.metrics.registry import Registry
from meshcore.transport.tcp import connect_tcp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from meshcore.abc import Connect
    from meshcore.identity.store import Identity
    from meshcore.layers.authorize import Policies
    from meshcore.layers.jwt import Keys
    from meshcore.layers.split import Weights
    from meshcore.transport.connection import Owner
    from meshcore.transport.target import Address

__all__ = ["Runtime"]


@attrs.frozen(kw_only=True)
class Runtime:
    """What the pipelines of one process share.

    Attributes:
        registry: where metrics go.
        identity: what the process shows to its peers, and whom it trusts; None: no mutual TLS.
        write: takes the lines of access logs; standard output by default.
        clock: seconds since the epoch, for the lines' time stamps; by default Trio's, whose zero means nothing.
        owner: who is told of crashes in what serves the endpoints; by default they are only logged.
        policies: who may call, by the name of the side, for whoever replaces it while it runs.
        keys: of issuers of tokens, by what is told of them, so that pipelines that are built anew have them.
        connect: how connections that are no endpoint's are made, for keys that have to be fetched.
        own: the addresses of the process's listeners, which are no endpoints; by default nothing is checked.
        splits: the weights of routes with several backends, as ``listen.NAME/ROUTE`` or ``outbound.to.NAME/ROUTE``; put
            here by the pipelines, to be changed by whoever likes.
    """

    registry: Registry = attrs.Factory(Registry)
    identity: Identity | None = None
    write: Callable[[str], None] | None = None
    clock: Callable[[], float] | None = None
    owner: Owner | None = None
    policies: dict[str, Policies] = attrs.Factory(dict)
    keys: dict[Any, Keys] = attrs.Factory(dict)
    connect: Connect = connect_tcp
    own: Callable[[], Iterable[Address]] | None = None
    splits: dict[str, Weights] = attrs.Factory(dict)
