"""What watches requests and changes nothing of them, where they come in: the same on every side of a proxy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.layers.access_log import AccessLog
from meshcore.layers.metrics import Metrics
from meshcore.layers.tap import Tap
from meshcore.pipeline.tracing import served

if TYPE_CHECKING:
    from meshcore.abc import NewAccept, NewHttp
    from meshcore.config.access_log import AccessLogConfig
    from meshcore.pipeline.runtime import Runtime
    from meshcore.stack import Stack
    from meshcore.tracing.tracer import Tracer
    from meshcore.transport.target import Accepted

__all__ = ["observed"]


def observed(
    top: Stack[NewHttp[Accepted], NewAccept[Accepted]],
    runtime: Runtime,
    *,
    side: str,
    access_log: AccessLogConfig | None,
    counted: str | None = None,
    tracer: Tracer | None = None,
) -> Stack[NewHttp[Accepted], NewAccept[Accepted]]:
    """*top*, which makes requests of a connection, with what sees each of them as its client does, refusals included;
    so: above ``Rescue``.

    Args:
        top: what is above.
        runtime: what the process gives.
        side: ``"inbound"``, ``"outbound"`` or ``"gateway"``.
        access_log: what is written of requests; None: nothing.
        counted: the role of what counts requests here; None: they are counted elsewhere.
        tracer: records requests; None: nobody does.
    """
    if counted is not None:
        top = top.then(Metrics(runtime.registry, "inbound", name=counted, authority=runtime.authority_labels))
    direction = "outbound" if side == "outbound" else "inbound"
    # The access log tells of the trace, so: above it.
    top = served(top, tracer, direction)
    if access_log is not None and side in access_log.sides:
        # A line tells the status that the client got.
        top = top.then(_lines(access_log, side, runtime))
    if runtime.tap is not None:
        # Shows what the client gets, so: above Rescue; costs nothing while nobody looks.
        top = top.then(Tap(runtime.tap, direction))
    return top


def _lines(told: AccessLogConfig, side: str, runtime: Runtime) -> AccessLog:
    return AccessLog(
        runtime.write,
        told.format or "text",
        runtime.clock,
        told.capacity,
        to=told.to,
        template=told.template or "",
        fields=told.fields or {},
        reveal=told.reveal,
        max_line=told.max_line,
        sample=told.sample,
        statuses=told.statuses,
        slower_than=told.slower_than,
        direction=side,
        registry=runtime.registry,
    )
