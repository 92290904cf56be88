"""A proxy as a process: in a Trio of its own, ended by signals, around an application if there is one."""

from __future__ import annotations

import gc
from functools import partial
from typing import TYPE_CHECKING

import trio

from meshcore.errors import ConfigError, leaves
from meshcore.proxy import Proxy, run
from meshcore.running import reload_on_signal
from meshcore.server.serve import drain_on_signal
from meshcore.transport.drain import Drain
from meshcore.wrap import run_command

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from meshcore.config import ConfigFile, MeshConfig, ProxyConfig
    from meshcore.log_levels import LogLevels

__all__ = ["main", "main_mesh"]

_THRESHOLDS = (10_000, 10, 20)
"""New objects after which the youngest are looked through, and how often that is done before older ones are."""


def main(config: ProxyConfig, *, levels: LogLevels | None = None) -> int:
    """Runs a proxy in a Trio of its own until a signal has drained it; the exit code.  *levels* is that of
    :func:`~meshcore.proxy.run`.

    Raises:
        ConfigError: see :func:`~meshcore.proxy.run`.
    """
    return _main(partial(run, config, levels=levels), None, config.grace_period)


def main_mesh(
    config: MeshConfig,
    command: Sequence[str] | None = None,
    *,
    file: ConfigFile | None = None,
    reloaded: Callable[[MeshConfig], object] | None = None,
    levels: LogLevels | None = None,
    resource: Mapping[str, str] | None = None,
) -> int:
    """Runs a config file in a Trio of its own, until a signal has drained it or *command*, started once it is ready,
    has ended; the exit code.  *file*, *reloaded*, *levels* and *resource* are those of
    :func:`~meshcore.proxy.run`; SIGHUP reloads as
    well, unless there is a *command*, which has the signals then.

    Raises:
        ConfigError: see :func:`~meshcore.proxy.run`.
    """
    start = partial(run, config, file=file, reloaded=reloaded, levels=levels, resource=resource)
    return _main(start, command, config.proxy.grace_period, reloads=file is not None)


def _main(
    start: Callable[..., Awaitable[None]], command: Sequence[str] | None, grace: float, *, reloads: bool = False
) -> int:
    refused: list[ConfigError] = []
    codes: list[int] = []

    async def until_signal() -> None:
        drain, ready = Drain(), trio.Event()
        running: list[Proxy] = []

        async def wrap() -> None:
            if command:
                codes.append(await run_command(command, ready=ready, drain=drain, grace=grace))

        async def serving() -> None:
            try:
                async with trio.open_nursery() as serving_nursery:
                    running.append(await serving_nursery.start(partial(start, drain=drain)))
                    ready.set()
                    _collect_less()
            except* ConfigError as group:
                refused.extend(error for error in leaves(group) if isinstance(error, ConfigError))
                drain.start("refused")

        async with trio.open_nursery() as nursery:
            await nursery.start(partial(drain_on_signal, drain))
            if reloads:
                await nursery.start(reload_on_signal, lambda: running[0].reloader if running else None)
            async with trio.open_nursery() as work:
                work.start_soon(wrap)
                work.start_soon(serving)
            nursery.cancel_scope.cancel()

    trio.run(until_signal)
    if refused:
        raise refused[0]
    return codes[0] if codes else 0


def _collect_less() -> None:
    """For a process that does nothing but proxy: what exists once it is ready stays, and is not looked at again by the
    garbage collector; what a request leaves is freed by its reference counts, so that looking for cycles among a few
    hundred new objects, again and again, is mostly in vain (it was 8 % of a small request)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
