"""What watches requests and changes nothing of them, where they come in: the same on every side of a proxy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshcore.layers.access_log import AccessLog
from meshcore.layers.metrics import Metrics
from meshcore.pipeline.tracing import served

if TYPE_CHECKING:
    from meshcore.abc import NewAccept, NewHttp
    from meshcore.pipeline.runtime import Runtime
    from meshcore.stack import Stack
    from meshcore.tracing.tracer import Tracer
    from meshcore.transport.target import Accepted

__all__ = ["observed"]


def observed(
    top: Stack[NewHttp[Accepted], NewAccept[Accepted]],
    runtime: Runtime,
    *,
    access_log: Any,
    counted: str | None = None,
    tracer: Tracer | None = None,
    direction: str = "inbound",
) -> Stack[NewHttp[Accepted], NewAccept[Accepted]]:
    """*top*, which makes requests of a connection, with what sees each of them as its client does, refusals included;
    so: above ``Rescue``.

    Args:
        top: what is above.
        runtime: what the process gives.
        access_log: the format of the lines; ``"off"``: there are none.
        counted: the role of what counts requests here; None: they are counted elsewhere.
        tracer: records requests; None: nobody does.
        direction: of its spans.
    """
    if counted is not None:
        top = top.then(Metrics(runtime.registry, "inbound", name=counted))
    # The access log tells of the trace, so: above it.
    top = served(top, tracer, direction)
    if access_log != "off":
        # A line tells the status that the client got.
        top = top.then(AccessLog(runtime.write, format=access_log, clock=runtime.clock))
    return top
