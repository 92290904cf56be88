"""Endpoints from a file that somebody else writes, read anew whenever it changes."""

from __future__ import annotations

import json
import logging
import os
import re
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs
import trio

from meshcore.errors import ConfigError
from meshcore.metrics.feed import Feed
from meshcore.metrics.happenings import tell_discovery
from meshcore.resolve.entry import endpoint_from
from meshcore.transport.target import Backend, Endpoint

__all__ = ["File", "parse_endpoints"]

log = logging.getLogger(__name__)

LARGEST: Final = 4 << 20
"""Bytes of a file at the most."""

MOST: Final = 10_000
"""Endpoints in a file at the most."""

_SHOWN: Final = 10
_table_array: Final = re.compile(r"^[ \t]*\[\[", re.MULTILINE).search

_Signature: TypeAlias = tuple[int, ...]


@attrs.frozen
class File:
    """Publishes the endpoints in the file that ``backend.discover`` names (``file:PATH``), and every change.

    The file is JSON or TOML (:func:`parse_endpoints`).  It is looked at twice a second, through symbolic links, so
    that it may be written in place, replaced by a rename, or be one that Kubernetes projects from a ConfigMap.  A
    file that is missing, half-written or wrong changes nothing: the last good endpoints stay, and a warning says why,
    once.  Endpoints that are in it before and after are equal values, so that whatever is kept for them stays.

    A look is a ``stat`` in the event loop, a few microseconds; a change is read there too, so the file is to be on
    this host, and at most 4 MiB and 10,000 endpoints.

    Attributes:
        template: what endpoints are where their entries do not say it (TLS, protocol, ``mesh_proxy``); a value, or a
            function of the backend.
        interval: seconds between two looks.
        directory: what relative paths are relative to.
        feed: is told when the file cannot be used, and when it can again; None: nobody is.
    """

    template: Endpoint | Callable[[Backend], Endpoint] = attrs.field(default=Endpoint(("", 0)), repr=False)
    interval: float = attrs.field(default=0.5, validator=attrs.validators.gt(0))
    directory: Path = attrs.field(default=Path(), converter=Path, repr=False)
    feed: Feed | None = attrs.field(default=None, repr=False, eq=False)

    async def watch(self, target: Backend, publish: Callable[[Sequence[Endpoint]], None], /) -> None:
        """Publishes the endpoints in the file at once if it is right, and whenever they change; does not return.

        Raises:
            ConfigError: ``target.discover`` is not ``file:PATH``.
        """
        scheme, colon, name = (target.discover or "").partition(":")
        if scheme != "file" or not colon or not name:
            raise ConfigError([f"backend {target.name}: {target.discover!r} is not file:PATH"])
        template = self.template(target) if callable(self.template) else self.template
        watched = _Watched(self.directory / name, template, target.name, self.feed)
        while True:
            endpoints = watched.look()
            if endpoints is not None:
                publish(endpoints)
            await trio.sleep(self.interval)


class _Watched:
    """A file, as it was last seen."""

    def __init__(self, path: Path, template: Endpoint, backend: str, feed: Feed | None) -> None:
        self._path = path
        self._template = template
        self._backend = backend
        self._who = f"backend {backend}"
        self._feed = feed
        self._seen: _Signature | None = None
        # A write in the same tick of the file system's clock as our read leaves no trace, so a file that has changed
        # is read once more.
        self._again = False
        self._data: bytes | None = None
        self._published: tuple[Endpoint, ...] | None = None
        self._problem = ""

    def look(self) -> tuple[Endpoint, ...] | None:
        """The endpoints, if they are others than before."""
        try:
            signature = _signature(os.stat(self._path))
            if signature == self._seen and not self._again:
                return None
            data, signature = _read(self._path)
        except OSError as error:
            self._seen = self._data = None
            self._refuse(error.strerror or str(error))
            return None
        self._again = signature != self._seen
        self._seen = signature
        if data == self._data:
            return None
        self._data = data
        try:
            endpoints = parse_endpoints(data, self._template, suffix=self._path.suffix)
        except ConfigError as error:
            more = len(error.problems) - _SHOWN
            self._refuse("; ".join(error.problems[:_SHOWN]) + (f"; and {more} more" if more > 0 else ""))
            return None
        if self._problem:
            self._problem = ""
            log.info("%s: %s is right again", self._who, self._path)
            tell_discovery(self._feed, self._backend, str(self._path), None)
        if endpoints == self._published:
            return None
        self._published = endpoints
        log.info("%s: %d endpoints in %s", self._who, len(endpoints), self._path)
        return endpoints

    def _refuse(self, problem: str) -> None:
        if problem != self._problem:
            before, self._problem = self._problem, problem
            kept = "there are no endpoints yet" if self._published is None else "the endpoints stay as they were"
            if not before:
                tell_discovery(self._feed, self._backend, str(self._path), problem)
            log.warning("%s: %s: %s; %s", self._who, self._path, problem, kept)


def _signature(found: os.stat_result) -> _Signature:
    """What changes whenever a file does, or another one takes its name."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _read(path: Path) -> tuple[bytes, _Signature]:
    """The file's bytes and the signature that they had.

    Raises:
        OSError: it cannot be read, is no regular file, or too large.
    """
    # A pipe would keep the event loop waiting for whoever writes to it.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb", buffering=0) as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError("not a regular file")
        parts: list[bytes] = []
        size = 0
        while part := file.read(LARGEST + 1 - size):
            parts.append(part)
            size += len(part)
            if size > LARGEST:
                raise OSError(f"larger than {LARGEST} bytes")
        return b"".join(parts), _signature(found)


def parse_endpoints(data: bytes, template: Endpoint, *, suffix: str = "") -> tuple[Endpoint, ...]:
    """The endpoints in a file's bytes.

    JSON: a list of entries (:func:`~meshcore.resolve.entry.endpoint_from`), or an object with that list as
    ``endpoints``.  TOML: the key ``endpoints`` with an inline list.  Both have an end that can be seen, so that a file
    which was not written to its end is never taken for a smaller one; TOML's ``[[endpoints]]`` has none and is
    refused, and so is an empty file: no endpoints are ``[]``.

    Args:
        data: UTF-8.
        template: what endpoints are where their entries do not say it.
        suffix: ``".json"`` or ``".toml"``; anything else: what the first character looks like.

    Raises:
        ConfigError: with every problem.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError([f"not UTF-8: {error.reason} at byte {error.start}"]) from error
    if not text.strip():
        raise ConfigError(["empty; no endpoints are written as []"])
    is_toml = suffix == ".toml" or (suffix != ".json" and text.lstrip()[0] not in "[{")
    entries: Any = _toml(text) if is_toml else _json(text)
    if isinstance(entries, dict):
        unknown = [f"unknown key {str(key)[:60]!r}; endpoints is the only one" for key in entries if key != "endpoints"]
        if unknown or "endpoints" not in entries:
            raise ConfigError(unknown or ["endpoints: has to be given"])
        entries = entries["endpoints"]
    if not isinstance(entries, list):
        raise ConfigError([f"a list of endpoints is wanted, not {entries!r:.60}"])
    if len(entries) > MOST:
        raise ConfigError([f"{len(entries)} endpoints are more than {MOST}"])
    return _endpoints(entries, template)


def _endpoints(entries: list[Any], template: Endpoint) -> tuple[Endpoint, ...]:
    problems: list[str] = []
    found: dict[object, Endpoint] = {}
    for index, entry in enumerate(entries):
        try:
            endpoint = endpoint_from(entry, template, f"endpoints[{index}]")
        except ConfigError as error:
            problems += error.problems
            continue
        if endpoint.address in found:
            problems.append(f"endpoints[{index}]: {endpoint} is there twice")
        found[endpoint.address] = endpoint
    if problems:
        raise ConfigError(problems)
    return tuple(found.values())


def _toml(text: str) -> dict[str, Any]:
    if _table_array(text) is not None:
        raise ConfigError(["[[endpoints]] has no end that can be seen; endpoints = [ … ] is wanted"])
    # For those to pay who use it.
    import tomllib

    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise ConfigError([f"not TOML: {str(error) or 'nested too deep'}"]) from error


def _json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except RecursionError as error:
        raise ConfigError(["not JSON: nested too deep"]) from error
    except ValueError as error:
        raise ConfigError([f"not JSON: {error}"]) from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key is there twice")
    return table


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number")
