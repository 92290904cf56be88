"""Which requests are traced, as one says it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import attrs

from meshcore.tracing.propagation import FORMATS, ORDER

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Continued", "Tracing"]

Continued: TypeAlias = Literal["parent", "ratio"]


def _share(instance: object, attribute: object, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"a share is from 0 to 1, not {value!r}")


def _known(instance: object, attribute: object, value: Sequence[str]) -> None:
    if not value or any(word not in FORMATS for word in value) or len(set(value)) < len(value):
        raise ValueError(f"formats are some of {', '.join(FORMATS)}, each once: {value!r}")


@attrs.frozen(kw_only=True)
class Tracing:
    """Which requests are traced.

    Attributes:
        sample: the share of requests that come without a trace, for which one begins here; 0: traces are only
            continued, as Linkerd does (M-17).
        continued: ``"parent"`` records what comes in a trace that is recorded; ``"ratio"`` the share *sample* of all
            traces, whatever the client says.
        propagation: the formats that are read, in this order; traces that begin here are written in the first.
        query: whether spans tell the query of a request, which may hold secrets.
    """

    sample: float = attrs.field(default=0.0, validator=_share)
    continued: Continued = attrs.field(default="parent", validator=attrs.validators.in_(("parent", "ratio")))
    propagation: tuple[str, ...] = attrs.field(default=ORDER, validator=_known)
    query: bool = False
