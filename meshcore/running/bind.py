"""Addresses to be listened on: all of them, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from meshcore.errors import ConfigError
from meshcore.transport.stream import close_at_once

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import trio

    from meshcore.abc import Listen
    from meshcore.transport.target import Address

__all__ = ["AddressError", "Bound", "bind", "close_all"]

Bound: TypeAlias = "list[Sequence[trio.abc.Listener[Any]]]"
"""The listeners of each address, in order."""


class AddressError(ConfigError):
    """Addresses cannot be listened on: the configuration is well-formed, and the machine says no."""


async def bind(wanted: Iterable[tuple[str, Address]], listen: Listen) -> Bound:
    """Binds everything or nothing.

    Args:
        wanted: the option or key that says so, and the address.
        listen: how it is done.

    Raises:
        AddressError: with every address that cannot be had.
    """
    bound: Bound = []
    problems: list[str] = []
    try:
        for option, address in wanted:
            try:
                bound.append(await listen(*address))
            except OSError as error:
                problems.append(f"{option}: {str(error.strerror or error).lower()}")
        if problems:
            raise AddressError(problems)
    except BaseException:
        close_all(bound)
        raise
    return bound


def close_all(bound: Bound) -> None:
    """Stops listening."""
    for listeners in bound:
        for listener in listeners:
            close_at_once(listener)
