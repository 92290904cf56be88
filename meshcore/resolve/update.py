"""What changes from one published set of endpoints to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from meshcore.transport.target import Endpoint

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

__all__ = ["Update", "changes", "identity"]


@attrs.frozen
class Update:
    """The difference between two sets (B-22); what is in neither list is kept as it is.

    Attributes:
        added: endpoints to be made.
        removed: endpoints to be drained, as they were keyed.
        weighted: endpoints that are kept and have another weight now.
    """

    added: tuple[Endpoint, ...] = ()
    removed: tuple[Endpoint, ...] = ()
    weighted: tuple[Endpoint, ...] = ()


def identity(endpoint: Endpoint) -> Endpoint:
    """What makes an endpoint the same one as before: all of it but its weight, which may change while its
    connections, its load and its statistics stay."""
    return endpoint if endpoint.weight == 1.0 else attrs.evolve(endpoint, weight=1.0)


def changes(known: Iterable[Endpoint], published: Collection[Endpoint]) -> Update:
    """The difference between the endpoints *known* and those *published*; of endpoints published twice
    the first counts."""
    old = {identity(endpoint): endpoint for endpoint in known}
    new: dict[Endpoint, Endpoint] = {}
    for endpoint in published:
        new.setdefault(identity(endpoint), endpoint)
    return Update(
        added=tuple(endpoint for key, endpoint in new.items() if key not in old),
        removed=tuple(endpoint for key, endpoint in old.items() if key not in new),
        weighted=tuple(
            endpoint for key, endpoint in new.items() if key in old and old[key].weight != endpoint.weight
        ),
    )
