"""Tokens checked and keys looked for, counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshcore.metrics.registry import Counter, Registry

__all__ = ["JwtCounts", "KeyCounts"]


class JwtCounts:
    """``inbound_http_jwt_total`` of one server.

    Args:
        registry: where they are.
        name: the server's.
    """

    __slots__ = ("_cells", "_name", "_tokens")

    def __init__(self, registry: Registry, name: str) -> None:
        self._name = name
        self._tokens = registry.counter(
            "inbound_http_jwt_total", "Requests by what became of their token.", "srv_name", "result"
        )
        self._cells: dict[str, Counter] = {}

    def result(self, word: str) -> None:
        """Counts a request: ``ok``, ``none``, ``no_keys``, or why its token was refused."""
        cell = self._cells.get(word)
        if cell is None:
            cell = self._cells[word] = self._tokens.labels(self._name, word)
        cell.value += 1


class KeyCounts:
    """``jwt_key_refreshes_total`` of one source of keys.

    Args:
        registry: where it is.
        source: where the keys come from.
    """

    __slots__ = ("_error", "_ok")

    def __init__(self, registry: Registry, source: str) -> None:
        family = registry.counter(
            "jwt_key_refreshes_total", "Looks for an issuer's keys: taken (ok) or not (error).", "source", "result"
        )
        self._ok, self._error = family.labels(source, "ok"), family.labels(source, "error")

    def refreshed(self, ok: bool) -> None:
        """Counts a look."""
        (self._ok if ok else self._error).value += 1
