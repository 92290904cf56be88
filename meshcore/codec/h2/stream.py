"""What the codec knows about one stream, whichever engine runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from meshcore.codec.h2.authority import Recall

__all__ = ["Stream"]

ENDED: Final = 1
"""Both sides sent END_STREAM."""
RESET_HERE: Final = 2
"""This side sent RST_STREAM: what was under way is ignored."""
RESET_THERE: Final = 3
"""The peer sent RST_STREAM."""


class Stream:
    """One stream that is open for either side.

    Attributes:
        readable: the peer may still send on it, as far as the frames *scanned* so far say.
        local_closed: this side has sent END_STREAM.
        counted: it takes one of the concurrent streams.
        refuse: an error code to reset it with as soon as its header block has been decoded, or -1.
        heads: header blocks scanned.
        delivered: its request, or final response, has become an event.
        answered: this side has sent its final response, or its request.
        injected: its header block was given a stand-in for the authority it lacks.
        method: of its request.
        recall: what is known of its request's header block.
        length: what the peer's content-length leaves to come, -1 without one.
        send_length: what our content-length leaves to send, -1 without one.
        recv_window, send_window: flow-control windows, bytes.
        credit: bytes consumed and not yet returned by WINDOW_UPDATE.
        fed: body bytes the engine saw since the last settlement.
        passed_by: body bytes received that the engine was not shown.
        end_passed_by: nor has it seen the END_STREAM after them.
        sent: body bytes sent through the engine since its window was last made wide.
    """

    __slots__ = (
        "answered",
        "counted",
        "credit",
        "delivered",
        "end_passed_by",
        "fed",
        "heads",
        "id",
        "injected",
        "length",
        "local_closed",
        "method",
        "passed_by",
        "readable",
        "recall",
        "recv_window",
        "refuse",
        "send_length",
        "send_window",
        "sent",
    )

    def __init__(self, stream_id: int, recv_window: int, send_window: int) -> None:
        self.id = stream_id
        self.recv_window = recv_window
        self.send_window = send_window
        self.readable = True
        self.local_closed = False
        self.counted = True
        self.refuse = -1
        self.heads = 1
        self.delivered = False
        self.answered = False
        self.injected = False
        self.method = b""
        self.recall: Recall | None = None
        self.length = -1
        self.send_length = -1
        self.credit = 0
        self.fed = 0
        self.passed_by = 0
        self.end_passed_by = False
        self.sent = 0
