"""What a peer may do to a connection: the numbers, their defaults, and the counters that watch them.

Defaults and reasons: ``hostile-world.md`` §1.  Everything can be set; times down to 50 ms.
"""

from __future__ import annotations

import attrs

from meshcore._repr import changes

__all__ = ["H1Limits", "H2Limits"]


@attrs.frozen(repr=False)
class H1Limits:
    """Bounds of one HTTP/1 connection, in bytes and counts.

    Attributes:
        head_size: of a whole head, or of a trailer section: 431 beyond it.
        request_line: of the first line alone: 414 beyond it.
        header_count: fields in a head, trailers counted too: 431 beyond it.
        informational: 1xx responses before a final one.
        chunk_line: of a chunk's size line, extensions included.
    """

    head_size: int = 65_536
    request_line: int = 8_192
    header_count: int = 100
    informational: int = 16
    chunk_line: int = 256

    __repr__ = changes


@attrs.frozen(repr=False)
class H2Limits:
    """Bounds of one HTTP/2 connection: bytes, counts, and counts a second.

    Attributes:
        max_concurrent_streams: announced; a stream above it is refused (REFUSED_STREAM).
        stream_window: announced for each stream, bytes.
        connection_window: bytes; None: streams × stream window, so that a slow reader never starves
            its siblings.
        max_frame_size: announced.
        header_list_size: announced and enforced, bytes as RFC 9113 §6.5.2 counts them.
        header_count: fields in a block, cookie crumbs apart.
        cookie_size: all cookie crumbs of a block together, bytes.
        path_size: of ``:path``.
        continuation_frames: after one HEADERS.
        informational: 1xx responses on a stream: its header blocks beyond so many, a final one and trailers reset it.
        resets_burst, resets_rate: the peer's resets before our response headers: bucket and refill a second.
        local_error_resets: resets that we sent for the peer's errors before GOAWAY.
        control_rate: PING, SETTINGS, PRIORITY and unknown frames a second.
        empty_data_frames: DATA frames without bytes and without END_STREAM, in a row.
        tiny_data_budget: bytes; DATA frames below 64 bytes that are not a stream's last take from it what
            they lack of 256; larger frames, and consumption, fill it up again (the h2 crate's form).
            Half the connection's window if that is more.
        priority_frames, window_update_frames: Envoy's formulas: 100 × (1 + streams) and
            5 + 2 × (streams + 10 × DATA sent).
        pending_acks: PING and SETTINGS acknowledgements queued and not yet taken by ``data_to_send``.
        closed_streams: ids remembered of streams that are over.
        hpack_table: the size of our dynamic table, bytes.
        extended_connect: whether the server side announces RFC 8441.
    """

    max_concurrent_streams: int = 100
    stream_window: int = 65_535
    connection_window: int | None = None
    max_frame_size: int = 16_384
    header_list_size: int = 65_536
    header_count: int = 100
    cookie_size: int = 16_384
    path_size: int = 8_192
    continuation_frames: int = 16
    informational: int = 16
    resets_burst: int = 1_000
    resets_rate: float = 200.0
    local_error_resets: int = 100
    control_rate: float = 1_000.0
    empty_data_frames: int = 100
    tiny_data_budget: int = 25_600
    priority_frames: int = 100
    window_update_frames: int = 5
    pending_acks: int = 100
    closed_streams: int = 1_024
    hpack_table: int = 4_096
    extended_connect: bool = True

    __repr__ = changes
