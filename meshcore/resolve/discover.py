"""Which resolver a backend's endpoints come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs

from meshcore.abc import Resolve
from meshcore.addresses import suggest
from meshcore.errors import ConfigError
from meshcore.resolve.file import File
from meshcore.resolve.static import Static
from meshcore.transport.target import Backend, Endpoint

__all__ = ["Discover"]


def _schemes() -> Mapping[str, Resolve[Backend]]:
    return {"file": File(template=_template)}


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
        resolver: Resolve[Backend] = Static()
        if target.discover is not None:
            scheme = target.discover.partition(":")[0]
            if scheme not in self.schemes:
                known = ", ".join(f"{name}:" for name in self.schemes)
                what = f"{target.discover!r}: unknown scheme (known: {known})"
                raise ConfigError([f"backend {target.name}: {what}{suggest(scheme, list(self.schemes))}"])
            resolver = self.schemes[scheme]
        await resolver.watch(target, publish)
