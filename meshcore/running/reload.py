"""Reloads: what asks for one, what came of it, and who is told."""

from __future__ import annotations

import logging
import signal
from typing import TYPE_CHECKING, Any, Literal

import attrs
import trio

from meshcore.config.changes import differences
from meshcore.errors import ConfigError
from meshcore.metrics.happenings import tell_config

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from meshcore.config import ConfigFile, MeshConfig
    from meshcore.metrics.feed import Feed
    from meshcore.metrics.registry import Registry
    from meshcore.running.live import Live

__all__ = ["Reloaded", "Reloader", "reload_on_signal"]

log = logging.getLogger(__name__)

LOOK = 0.5
"""Seconds between two looks at the file; one that has changed is read at the look at which it has stayed as it is."""


@attrs.frozen
class Reloaded:
    """What came of a reload.

    Attributes:
        result: ``"applied"``; ``"unchanged"``, where there was nothing to do; ``"failed"``: the old configuration
            stays.
        version: of the configuration that runs now: 1 is what the proxy began with.
        changes: what is other than before, in words.
        problems: why it failed, a line each.
        cause: who asked for it.
    """

    result: Literal["applied", "unchanged", "failed"]
    version: int
    changes: str = ""
    problems: tuple[str, ...] = ()
    cause: str = ""


class Reloader:
    """Takes configurations while the proxy runs, one after the other.

    Attributes:
        source: the file; None: configurations come from the embedder alone.
        version: of what runs.
        loaded: when that was taken, seconds since the epoch.
        last: what came of the last reload; None before the first.
    """

    def __init__(
        self,
        live: Live,
        registry: Registry,
        clock: Callable[[], float],
        *,
        source: ConfigFile | None = None,
        applied: Callable[[MeshConfig], object] | None = None,
        feed: Feed | None = None,
    ) -> None:
        self.source = source
        self.version = 1
        self.loaded = clock()
        self.last: Reloaded | None = None
        self._live = live
        self._clock = clock
        self._applied = applied
        self._feed = feed
        self._turn = trio.Lock()
        self._seen = source.began if source is not None else None
        results = registry.counter("config_reload_total", "Total count of reloads of the configuration", "result")
        self._results = {name: results.labels(name) for name in ("applied", "unchanged", "failed")}
        # Held here, so that they are never forgotten.
        version = registry.gauge("config_version", "Version of the configuration that runs: 1 at the start").labels()
        loaded = registry.gauge(
            "config_loaded_timestamp_seconds",
            "Time that the configuration that runs was taken (in seconds since the UNIX epoch)",
        ).labels()
        good = registry.gauge("config_last_reload_successful", "Whether the last reload did not fail").labels()

        def collect() -> None:
            version.value = self.version
            loaded.value = self.loaded
            good.value = int(self.last is None or self.last.result != "failed")

        registry.collect(collect)

    def value(self) -> dict[str, Any]:
        """What ``/config`` says of it."""
        last = self.last
        return {
            "file": str(self.source.path) if self.source is not None else None,
            "version": self.version,
            "age_seconds": round(max(self._clock() - self.loaded, 0.0), 3),
            "last": None if last is None else attrs.asdict(last),
        }

    async def take(self, config: MeshConfig, cause: str = "") -> Reloaded:
        """Runs *config* from now on.

        Raises:
            ConfigError: it cannot be used; nothing has changed.
        """
        async with self._turn:
            return await self._take(config, cause)

    async def reload(self, cause: str) -> Reloaded:
        """Reads the file, and runs what it has; what is wrong with it is logged, counted and told, not raised."""
        source = self.source
        assert source is not None
        async with self._turn:
            self._seen = source.stamp()
            try:
                loaded = source.load(self._live.config)
                assert loaded.config is not None
                for warning in loaded.warnings:
                    log.warning("%s", warning)
                return await self._take(loaded.config, cause)
            except ConfigError as error:
                return self._failed(error.problems, cause)
            except Exception as error:
                # A layer of somebody else's, say: what runs is not to end for that.
                log.error("crash in a reload", exc_info=error)
                return self._failed([f"{source.path}: {type(error).__name__}: {error}"], cause)

    async def _take(self, config: MeshConfig, cause: str) -> Reloaded:
        old = self._live.config
        changed = await self._live.apply(config)
        changes = differences(old, config)
        if changed:
            self.version += 1
            self.loaded = self._clock()
            log.info("config v%d: %s (%s)", self.version, changes or "files that it names", cause)
            tell_config(self._feed, self.version, changes, (), cause)
            if self._applied is not None:
                self._applied(config)
        else:
            log.info("config v%d: nothing has changed (%s)", self.version, cause)
        return self._done(Reloaded("applied" if changed else "unchanged", self.version, changes, (), cause))

    def _failed(self, problems: Sequence[str], cause: str) -> Reloaded:
        for problem in problems:
            log.error("config refused: %s", problem)
        log.error("config v%d stays as it is (%s)", self.version, cause)
        tell_config(self._feed, self.version, "", problems, cause)
        return self._done(Reloaded("failed", self.version, "", tuple(problems), cause))

    def _done(self, reloaded: Reloaded) -> Reloaded:
        self.last = reloaded
        self._results[reloaded.result].value += 1
        return reloaded

    async def watch(self) -> None:
        """Reloads whenever the file changes; to be cancelled.

        Who writes a file in pieces is waited for until it stays as it is from one look to the next.
        """
        source = self.source
        assert source is not None
        before = self._seen
        while True:
            await trio.sleep(LOOK)
            found = source.stamp()
            if found != self._seen and found == before:
                await self.reload(f"{source.path} has changed")
            before = found


async def reload_on_signal(
    reloader: Callable[[], Reloader | None], task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Reloads at each SIGHUP; to be cancelled, and to be started in the main thread.

    Args:
        reloader: who does it; None: not yet, the proxy has not begun.
        task_status: started once the signal is caught.
    """
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        task_status.started()
        async for _ in signals:
            found = reloader()
            if found is None:
                log.info("SIGHUP: nothing is served yet; the file is looked at then")
            else:
                await found.reload("SIGHUP")
