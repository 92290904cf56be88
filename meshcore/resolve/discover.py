"""Which resolver a backend's endpoints come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from meshcore.abc import Resolve
from meshcore.addresses import suggest
from meshcore.errors import ConfigError
from meshcore.resolve.dns import Dns
from meshcore.resolve.file import File
from meshcore.resolve.static import Static
from meshcore.transport.target import Address, Backend, Endpoint

if TYPE_CHECKING:
    from meshcore.metrics.feed import Feed
    from meshcore.metrics.registry import Registry

__all__ = ["Discover", "schemes"]


def _schemes() -> Mapping[str, Resolve[Backend]]:
    return schemes()


def schemes(
    registry: Registry | None = None, *, servers: tuple[Address, ...] = (), feed: Feed | None = None
) -> Mapping[str, Resolve[Backend]]:
    """The resolvers that there are, by what stands before the colon of ``backend.discover``.

    Args:
        registry: where their metrics go.
        servers: the DNS servers; none: those of ``/etc/resolv.conf``.
        feed: is told when one of them does not find what it looks for; None: nobody is.
    """
    dns = Dns(_template, servers, registry, feed=feed)
    return {"file": File(template=_template, feed=feed), "dns": dns, "dns+srv": dns}


def _template(backend: Backend) -> Endpoint:
    return Endpoint(("", 0)) if backend.template is None else backend.template


@attrs.frozen
class Discover:
    """A backend's own endpoints where they are fixed, else those that ``backend.discover``'s scheme finds.

    Attributes:
        schemes: resolvers by what stands before the colon of ``file:PATH`` and the like.
    """

    schemes: Mapping[str, Resolve[Backend]] = attrs.field(
        factory=_schemes, repr=lambda schemes: repr(list(schemes)), hash=False
    )

    async def watch(self, target: Backend, publish: Callable[[Sequence[Endpoint]], None], /) -> None:
        """Watches with the resolver of the scheme.

        Raises:
            ConfigError: there is none.
        """
        resolver = self._resolver(target)
        if resolver is None:
            scheme = (target.discover or "").partition(":")[0]
            known = ", ".join(f"{name}:" for name in self.schemes)
            what = f"{target.discover!r}: unknown scheme (known: {known})"
            raise ConfigError([f"backend {target.name}: {what}{suggest(scheme, list(self.schemes))}"])
        await resolver.watch(target, publish)

    def _resolver(self, target: Backend) -> Resolve[Backend] | None:
        if target.discover is None:
            return Static()
        return self.schemes.get(target.discover.partition(":")[0])

    def statistics(self, target: Backend, /) -> Any:
        """What the resolver of the scheme knows of *target*; None where it does not tell."""
        statistics = getattr(self._resolver(target), "statistics", None)
        return None if statistics is None else statistics(target)
