"""Changes to a request's path: the whole of it, or the prefix by which it was matched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.codec.validate import is_path
from meshcore.errors import ConfigError
from meshcore.http.route_table import matches_prefix

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["PathEdit", "prefixes"]


def prefixes(given: Iterable[str]) -> tuple[str, ...]:
    """Prefixes in order."""
    return tuple(given)



class PathEdit:
    """What becomes of a path.

    Args:
        path: the whole new path; None: the old one.
        prefix: what stands for the matched prefix; ``""`` or ``"/"`` takes it away.
        of: the prefixes that it stands for, of which the longest that matches goes, by segments.

    Raises:
        ConfigError: both are given, or something is no path.
    """

    __slots__ = ("_of", "_path", "_prefix")

    def __init__(self, path: str | None = None, prefix: str | None = None, of: Iterable[str] = ()) -> None:
        self._of = sorted((each.rstrip("/").encode() for each in of), key=len, reverse=True)
        self._path = None if path is None else path.encode()
        self._prefix = None if prefix is None else prefix.rstrip("/").encode()
        if self._path is not None and self._prefix is not None:
            raise ConfigError(["a path is replaced as a whole or by its prefix: path and prefix exclude each other"])
        if self._prefix is not None and not self._of:
            raise ConfigError(["there is no prefix to replace: the route has to match one"])
        for each in (self._path, self._prefix or None, *filter(None, self._of)):
            if each is not None and (not is_path(each) or b"?" in each):
                raise ConfigError([f"{each.decode()!r} is not a path: it begins with / and has no query"])

    def __bool__(self) -> bool:
        return self._path is not None or self._prefix is not None

    @property
    def whole(self) -> bool:
        """Whether the whole path is replaced."""
        return self._path is not None

    def apply(self, path: bytes) -> bytes:
        """The new path for *path*, which has no query."""
        if self._path is not None:
            return self._path
        if self._prefix is not None:
            for each in self._of:
                if matches_prefix(path, each):
                    return self._prefix + path[len(each) :] or b"/"
        return path
