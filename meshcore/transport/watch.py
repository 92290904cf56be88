"""Files that somebody else renews: whether they may have changed since they were last looked at."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["Stamp", "stamp"]

Stamp: TypeAlias = tuple[tuple[object, ...], ...]
"""Compared with another one of the same files: equal if none has changed."""


def stamp(paths: Iterable[Path]) -> Stamp:
    """What the file system says of *paths*: of each name itself and of what it leads to, so that a symbolic link
    that is turned to another file (Kubernetes' way) is noticed as well.  A file that is not there has a stamp, too.
    """
    return tuple((*_facts(path, follow=False), *_facts(path, follow=True)) for path in paths)


def _facts(path: Path, *, follow: bool) -> tuple[object, ...]:
    try:
        found = os.stat(path, follow_symlinks=follow)
    except OSError as error:
        return (error.errno,)
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
