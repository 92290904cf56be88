"""What a running process gives its pipelines, beside their configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from meshcore.metrics.registry import Registry
from meshcore.tracing.tracer import Tracer
from meshcore.transport.tcp import connect_tcp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from meshcore.abc import Connect
    from meshcore.accounting.ledger import Ledger
    from meshcore.identity.store import Identity
    from meshcore.layers.authorize import Policies
    from meshcore.layers.ext_authz import ExtAuthz
    from meshcore.layers.jwt import Keys
    from meshcore.layers.split import Weights
    from meshcore.layers.tap import TapHub
    from meshcore.metrics.feed import Feed
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
        authorizers: what asks other services about requests, by what is told of them; for the same reason.
        own: the addresses of the process's listeners, which are no endpoints; by default nothing is checked.
        connect: how the services are connected to that the proxy itself asks; endpoints are by what is under the stack.
        feed: is told what happens, for whoever looks on; None: nobody is.
        authority_labels: whether requests are counted by the authority that they name, too (M-04).
        tap: shows requests to whoever looks on; None: to nobody.
        ledger: accounts what the pipelines' layers do; None: nobody does.
        splits: the weights of routes with several backends, as ``listen.NAME/ROUTE`` or ``outbound.to.NAME/ROUTE``; put
            here by the pipelines, to be changed by whoever likes.
        tracer: decides which requests are recorded, where the configuration, or it itself, says that some are.
    """

    registry: Registry = attrs.Factory(Registry)
    identity: Identity | None = None
    write: Callable[[str], None] | None = None
    clock: Callable[[], float] | None = None
    owner: Owner | None = None
    policies: dict[str, Policies] = attrs.Factory(dict)
    keys: dict[Any, Keys] = attrs.Factory(dict)
    authorizers: dict[Any, ExtAuthz] = attrs.Factory(dict)
    own: Callable[[], Iterable[Address]] | None = None
    connect: Connect = connect_tcp
    feed: Feed | None = None
    authority_labels: bool = False
    tap: TapHub | None = None
    ledger: Ledger | None = None
    splits: dict[str, Weights] = attrs.Factory(dict)
    tracer: Tracer = attrs.Factory(Tracer)

    def draft(self) -> Runtime:
        """The same for pipelines that may never run: what they put into its tables is there once it is adopted."""
        tables: dict[str, Any] = {name: dict(table) for name, table in self._tables()}
        return attrs.evolve(self, **tables)

    def adopt(self, draft: Runtime) -> None:
        """The pipelines run: their tables are those of the process."""
        for name, table in self._tables():
            table.clear()
            table.update(getattr(draft, name))

    def _tables(self) -> list[tuple[str, dict[Any, Any]]]:
        found = [(field.name, getattr(self, field.name)) for field in attrs.fields(type(self))]
        return [(name, value) for name, value in found if isinstance(value, dict)]
