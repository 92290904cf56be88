"""What differs between two configurations: in a line for the log, and what only a restart can change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from meshcore.config.document import dotted

if TYPE_CHECKING:
    from meshcore.config.mesh import MeshConfig
    from meshcore.config.toml_lines import KeyPath

__all__ = ["differences", "restart_needed"]

_NOUNS = {"listen": "listener", "to": "destination"}
"""What is counted, where the table's name is not its singular or plural."""
_PLURALS = {"policy": "policies"}
_COUNTED = ("endpoints", "route", "policy", "layer", "certificates")
"""Lists whose items come and go; other lists are settings."""
_MOST = 5
"""Settings that are named one by one."""

_RESTART: tuple[KeyPath, ...] = (
    ("admin", "listen"),
    ("admin", "tls"),
    ("identity",),
    ("metrics",),
    ("proxy", "engine"),
    ("proxy", "layer_accounting"),
)


def restart_needed(old: MeshConfig, new: MeshConfig) -> list[tuple[KeyPath, str]]:
    """The keys whose change no running proxy can take, each with what is to be said of it."""
    text = "cannot be changed by a reload; restart the proxy"
    found = [(path, text) for path in _RESTART if _at(old, path) != _at(new, path)]
    if not found and new.identity is not None and old.own_name != new.own_name:
        found.append((("service",), "the identity's name follows from it, which a reload cannot change; restart"))
    return found


def _at(value: Any, path: KeyPath) -> Any:
    for key in path:
        value = getattr(value, str(key), None)
    return value


def differences(old: MeshConfig, new: MeshConfig) -> str:
    """What has changed, as in ``+1 route, -2 endpoints, changed: proxy.access_log``; ``""``: nothing."""
    changes = _Changes()
    changes.compare(old, new, ())
    return str(changes)


class _Changes:
    def __init__(self) -> None:
        self._added: Counter[str] = Counter()
        self._removed: Counter[str] = Counter()
        self._settings: list[str] = []

    def __str__(self) -> str:
        parts = []
        for noun in dict.fromkeys((*self._added, *self._removed)):
            for sign, count in (("+", self._added[noun]), ("-", self._removed[noun])):
                if count:
                    parts.append(f"{sign}{count} {noun if count == 1 else _PLURALS.get(noun, noun + 's')}")
        if self._settings:
            more = len(self._settings) - _MOST
            named = ", ".join(self._settings[:_MOST])
            parts.append(f"changed: {named}{f' and {more} more' if more > 0 else ''}")
        return ", ".join(parts)

    def compare(self, old: Any, new: Any, path: KeyPath) -> None:
        if old == new:
            return
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            self._added[_noun(path)] += len(new.keys() - old.keys())
            self._removed[_noun(path)] += len(old.keys() - new.keys())
            for key in old.keys() & new.keys():
                self.compare(old[key], new[key], (*path, str(key)))
            if old.keys() == new.keys() and list(old) != list(new):
                self._settings.append(f"order of {dotted(path)}")
        elif isinstance(old, tuple) and isinstance(new, tuple) and path[-1] in _COUNTED:
            self._lists(old, new, path)
        elif attrs.has(type(old)) and type(old) is type(new):
            for field in attrs.fields(type(old)):
                self.compare(getattr(old, field.name), getattr(new, field.name), (*path, field.name))
        else:
            self._settings.append(dotted(path))

    def _lists(self, old: tuple[Any, ...], new: tuple[Any, ...], path: KeyPath) -> None:
        gone = [item for item in old if item not in new]
        come = [item for item in new if item not in old]
        for item in list(come):
            # The same one with other settings: an endpoint's weight.
            name = _name(item)
            known = next((each for each in gone if name is not None and _name(each) == name), None)
            if known is not None:
                gone.remove(known)
                come.remove(item)
                self.compare(known, item, (*path, new.index(item)))
        self._added[_noun(path)] += len(come)
        self._removed[_noun(path)] += len(gone)
        if not gone and not come and len(old) == len(new) and any(map(_moved, old, new)):
            self._settings.append(f"order of {dotted(path)}")


def _name(item: Any) -> Any:
    """What makes it the same item as before."""
    return getattr(item, "address", None) or getattr(item, "name", None) or getattr(item, "match", None)


def _moved(old: Any, new: Any) -> bool:
    return bool(old != new and (_name(old) is None or _name(old) != _name(new)))


def _noun(path: KeyPath) -> str:
    name = str(path[-1]) if path else "key"
    return _NOUNS.get(name, name.removesuffix("s"))
