"""An application as the proxy's child: started once the proxy is ready, told of signals, waited for."""

from __future__ import annotations

import logging
import os
import signal
import sys
from functools import partial
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meshcore.transport.drain import Drain

__all__ = ["CANNOT_RUN", "NOT_FOUND", "NOT_STARTED", "run_command"]

log = logging.getLogger(__name__)

NOT_STARTED = 1
"""Exit code where the proxy was told to end before the application was started."""
CANNOT_RUN = 126
NOT_FOUND = 127
"""Exit codes that shells use for what cannot be run, and for what is not there."""

_FORWARDED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


async def run_command(command: Sequence[str], *, ready: trio.Event, drain: Drain, grace: float = 120.0) -> int:
    """Runs an application in front of which the proxy stands, and starts the drain once it has ended.

    While it runs, signals go to it instead of to the proxy; so this is called in the main thread, with whatever
    else listens to signals (:func:`~meshcore.server.serve.drain_on_signal`) started before it.  A signal
    that ends, or a drain that somebody else started (then it gets a SIGTERM), gives it the grace period; after that it
    is killed.

    Args:
        command: the program and its arguments; looked up in ``PATH``.
        ready: set once the proxy serves; the application is started then.
        drain: started when the application has ended.
        grace: seconds that it may take to end.

    Returns:
        Its exit code; 128 and the number of the signal that ended it; 127 or 126 if it could not be started;
        1 if the drain began before it was started.
    """
    if not await _ready(ready, drain):
        log.warning("%s was not started: %s", command[0], drain.reason or "the proxy ends")
        return NOT_STARTED
    code = 0
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(*_FORWARDED) as signals:
            start = partial(trio.run_process, list(command), stdin=None, check=False)
            try:
                process: trio.Process = await nursery.start(partial(start, deliver_cancel=_stop))
            except OSError as error:
                code = NOT_FOUND if isinstance(error, FileNotFoundError) else CANNOT_RUN
                log.error("%s cannot be started: %s", command[0], (error.strerror or str(error)).lower())
            else:
                log.info("%s started, pid %d", command[0], process.pid)
                child = _Child(process, grace)
                nursery.start_soon(child.forward, signals)
                nursery.start_soon(child.end_with, drain)
                nursery.start_soon(child.limit)
                status = await process.wait()
                code = status if status >= 0 else 128 - status
                log.info("%s ended with %d", command[0], code)
            nursery.cancel_scope.cancel()
    drain.start("the application has ended")
    return code


async def _ready(ready: trio.Event, drain: Drain) -> bool:
    """Whether the proxy became ready before it was to end."""
    async with trio.open_nursery() as nursery:

        async def until_drain() -> None:
            await drain.wait_started()
            nursery.cancel_scope.cancel()

        nursery.start_soon(until_drain)
        await ready.wait()
        nursery.cancel_scope.cancel()
    return not drain.started


class _Child:
    """The running application."""

    def __init__(self, process: trio.Process, grace: float) -> None:
        self._process = process
        self._grace = grace
        self._ending = trio.Event()

    async def forward(self, signals: object) -> None:
        """Passes on what comes; to be cancelled."""
        async for number in signals:  # type: ignore[attr-defined]
            which = signal.Signals(number)
            if which in (signal.SIGINT, signal.SIGQUIT) and _typed():
                log.info("%s: the application has it from the terminal", which.name)
            else:
                log.info("%s: passed on to the application", which.name)
                self._send(which)
            if which in _ENDING:
                self._ending.set()

    async def end_with(self, drain: Drain) -> None:
        """Ends it when the proxy is to end for another reason."""
        await drain.wait_started()
        log.info("the drain began: SIGTERM to the application")
        self._send(signal.SIGTERM)
        self._ending.set()

    async def limit(self) -> None:
        """Kills it when its grace period is over."""
        await self._ending.wait()
        await trio.sleep(self._grace)
        log.warning("the application did not end within %g s: SIGKILL", self._grace)
        self._process.kill()

    def _send(self, which: signal.Signals) -> None:
        if self._process.poll() is None:
            self._process.send_signal(which)


def _typed() -> bool:
    """Whether a terminal sends its signals to the application itself, which is in the same process group."""
    try:
        return sys.stdin is not None and os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


async def _stop(process: trio.Process) -> None:
    """The proxy itself was cancelled: the application goes with it, after a short time to end."""
    try:
        process.terminate()
        await trio.sleep(5)
    finally:
        if process.returncode is None:
            process.kill()
