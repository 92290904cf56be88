"""Endpoints that were refused for their certificates: what no waiting mends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.errors import IdentityError, MeshError, TlsError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshcore.layers.balance.member import Member

__all__ = ["all_refused"]


def all_refused(backend: str, members: Iterable[Member]) -> MeshError | None:
    """What to tell at once where each of a backend's endpoints was refused for its certificate: the last refusal,
    which names both names if somebody else answered (T-04, T-19).  None where one may become ready by itself.

    Args:
        backend: its name, for the message.
        members: its endpoints; those of weight 0 do not count.
    """
    last: TlsError | None = None
    for member in members:
        if member.weight > 0:
            error = member.error
            if member.slot >= 0 or not isinstance(error, TlsError) or not error.lasting:
                return None
            last = error
    if last is None:
        return None
    text = f"backend {backend}: {last}"
    return IdentityError(text) if last.reason == "name" else TlsError(text, retryable=False, reason=last.reason)
