"""Where an issuer's keys come from, and what is kept of them: the last good ones, always."""

from __future__ import annotations

import logging
import random
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import attrs
import trio

from meshcore._wakeup import Wakeup
from meshcore.errors import ConfigError, MeshError
from meshcore.metrics.jwt import KeyCounts
from meshcore.transport.backoff import Backoff
from meshcore.transport.watch import Stamp, stamp

if TYPE_CHECKING:
    from meshcore.layers.jwt.keys import KeySet
    from meshcore.metrics.registry import Registry

__all__ = ["FetchedKeys", "FileKeys", "KeySource", "Keys"]

log = logging.getLogger(__name__)

_COOLDOWN = 10.0
"""Seconds between two looks that tokens of unknown keys may cause."""


class Keys:
    """The keys that are in use, and who tells them; for as many stacks as need them, so that one that is built anew has
    them at once.

    Attributes:
        source: tells them.
        current: the last good ones; None: there have not been any yet.
        generation: a number that changes with them.
        on_demand: whether the source looks when it is woken.
        wakeup: wakes it: somebody wants newer keys.
    """

    __slots__ = (
        "_began",
        "_counts",
        "_looked",
        "_nurseries",
        "_turn",
        "current",
        "generation",
        "on_demand",
        "source",
        "wakeup",
    )

    def __init__(self, source: KeySource, registry: Registry | None = None) -> None:
        self.source = source
        self.current: KeySet | None = None
        self.generation = 0
        self.on_demand = False
        self.wakeup = Wakeup()
        self._counts = None if registry is None else KeyCounts(registry, str(source))
        self._began = -_COOLDOWN
        # Set and replaced when a look is over.
        self._looked = trio.Event()
        self._nurseries: weakref.WeakSet[trio.Nursery] = weakref.WeakSet()
        self._turn = trio.Lock()

    def __repr__(self) -> str:
        return f"<Keys {self}>"

    def __str__(self) -> str:
        return str(self.source)

    def load(self) -> None:
        """Has the keys there, if they can be had at once and are not yet.

        Raises:
            ConfigError: they can never be had like this.
        """
        if self.current is None:
            self.source.load(self)

    def start(self, nursery: trio.Nursery) -> None:
        """Keeps the keys new for as long as *nursery* lives; of several, one at a time does."""
        if nursery not in self._nurseries:
            self._nurseries.add(nursery)
            nursery.start_soon(self._run, nursery, name="jwt keys")

    async def _run(self, nursery: trio.Nursery) -> None:
        try:
            # When it is over in one nursery, the next one takes its turn.
            async with self._turn:
                await self.source.run(self)
        finally:
            self._nurseries.discard(nursery)

    def begin(self) -> None:
        """A look begins."""
        self._began = trio.current_time()

    def publish(self, keys: KeySet) -> None:
        """A look has found keys."""
        if keys != self.current:
            self.current = keys
            self.generation += 1
        if self._counts is not None:
            self._counts.refreshed(True)
        self._over()

    def refuse(self, reason: str) -> None:
        """A look has found none: the old ones stay."""
        log.warning("keys: %s; %s", reason, "the old ones stay" if self.current is not None else "there are none yet")
        if self._counts is not None:
            self._counts.refreshed(False)
        self._over()

    def _over(self) -> None:
        looked, self._looked = self._looked, trio.Event()
        looked.set()

    async def wait(self, seconds: float) -> KeySet | None:
        """The keys; waits for the first ones, at most so long."""
        if self.current is None:
            with trio.move_on_after(seconds):
                while self.current is None:
                    await self._looked.wait()
        return self.current

    async def look_again(self, seconds: float) -> bool:
        """Has the source look for newer keys, and waits for that, at most so long; False, at once, if it does not do
        so, or has just looked: what tokens say must not make it look for ever."""
        if not self.on_demand or trio.current_time() - self._began < _COOLDOWN:
            return False
        self.wakeup.wake()
        with trio.move_on_after(seconds):
            await self._looked.wait()
        return True


class KeySource(Protocol):
    """Tells keys."""

    def load(self, keys: Keys, /) -> None:
        """Publishes the keys if they can be had at once; called when the stack is built.

        Raises:
            ConfigError: they can never be had like this.
        """

    async def run(self, keys: Keys, /) -> None:
        """Publishes, or refuses, keys until cancelled.  It does not raise for what the source does."""


@attrs.frozen
class FileKeys:
    """Keys in a file, read again whenever it changes.

    Attributes:
        path: a JSON Web Key Set.
        interval: seconds between two looks at it.
    """

    path: Path
    interval: float = attrs.field(default=1.0, repr=False)

    def __str__(self) -> str:
        return f"file:{self.path}"

    def load(self, keys: Keys, /) -> None:
        """See :class:`KeySource`."""
        try:
            keys.publish(self._read())
        except ValueError as error:
            raise ConfigError([str(error)]) from error

    async def run(self, keys: Keys, /) -> None:
        """See :class:`KeySource`."""
        seen: Stamp | None = None
        while True:
            now = stamp((self.path,))
            if now != seen:
                seen = now
                keys.begin()
                try:
                    keys.publish(self._read())
                except ValueError as error:
                    keys.refuse(str(error))
            await trio.sleep(self.interval)

    def _read(self) -> KeySet:
        from meshcore.layers.jwt.keys import MAX_SET, KeySet

        try:
            with self.path.open("rb") as file:
                data = file.read(MAX_SET + 1)
        except OSError as error:
            raise ValueError(f"{self.path}: {(error.strerror or str(error)).lower()}") from error
        try:
            return KeySet.parse(data)
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from error


@attrs.frozen
class FetchedKeys:
    """Keys that are fetched, and fetched again now and then; sooner where a token names a key that is not known.

    Attributes:
        url: where they are, for messages.
        fetch: gets them, a JSON Web Key Set.
        refresh: seconds between two fetches, a tenth more or less.
        timeout: seconds that one may take.
        backoff: how long to wait after one that failed.
        rng: where chance comes from.
    """

    url: str
    fetch: Callable[[], Awaitable[bytes]] = attrs.field(repr=False)
    refresh: float = attrs.field(default=300.0, validator=attrs.validators.gt(0))
    timeout: float = attrs.field(default=10.0, validator=attrs.validators.gt(0), repr=False)
    backoff: Backoff = attrs.field(default=Backoff(1.0, 60.0), repr=False)
    rng: random.Random = attrs.field(factory=random.Random, repr=False, eq=False)

    def __str__(self) -> str:
        return self.url

    def load(self, keys: Keys, /) -> None:
        """Nothing can be had at once."""
        keys.on_demand = True

    async def run(self, keys: Keys, /) -> None:
        """See :class:`KeySource`."""
        failures = 0
        while True:
            keys.wakeup.clear()
            keys.begin()
            problem = await self._look(keys)
            if problem is None:
                failures = 0
                delay = self.refresh * self.rng.uniform(0.9, 1.1)
            else:
                failures += 1
                keys.refuse(f"{self.url}: {problem}")
                delay = min(self.backoff.delay(failures, self.rng), self.refresh)
            with trio.move_on_after(delay):
                await keys.wakeup.wait()

    async def _look(self, keys: Keys) -> str | None:
        """Publishes what could be fetched, or says what was wrong."""
        from meshcore.layers.jwt.keys import KeySet

        try:
            with trio.fail_after(self.timeout):
                data = await self.fetch()
            keys.publish(KeySet.parse(data))
        except trio.TooSlowError:
            return f"timed out after {self.timeout:g} s"
        except (MeshError, OSError, ValueError) as error:
            return str(error)
        except Exception as error:
            # Whatever it is, requests are served on with the keys that are there.
            log.warning("crash while fetching keys: %s", error, exc_info=error)
            return type(error).__name__
        return None
