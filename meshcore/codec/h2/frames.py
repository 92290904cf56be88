"""Frame types, flags, settings and the small frames that the codec writes itself (RFC 9113 §4, §6)."""

from __future__ import annotations

from struct import Struct
from typing import Final

__all__ = [
    "MAX_ID",
    "MAX_WINDOW",
    "PREFACE",
    "frame",
    "goaway_frame",
    "header_block",
    "reset_frame",
    "settings_frame",
    "window_update_frame",
    "without_goaway",
]

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MAX_WINDOW: Final = 2**31 - 1
MAX_ID: Final = 2**31 - 1

DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

ACK: Final = 0x1
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
HAS_PRIORITY: Final = 0x20

HEADER_TABLE_SIZE: Final = 0x1
ENABLE_PUSH: Final = 0x2
MAX_CONCURRENT_STREAMS: Final = 0x3
INITIAL_WINDOW_SIZE: Final = 0x4
MAX_FRAME_SIZE: Final = 0x5
MAX_HEADER_LIST_SIZE: Final = 0x6
ENABLE_CONNECT_PROTOCOL: Final = 0x8

# Length and type share the first four bytes; then flags; then the reserved bit and the stream.
HEADER: Final = Struct(">IBI")
SETTING: Final = Struct(">HI")
TWO_WORDS: Final = Struct(">II")
HEADER_AND_WORD: Final = Struct(">IBII")
HEADER_AND_TWO_WORDS: Final = Struct(">IBIII")

SETTINGS_ACK: Final = HEADER.pack(SETTINGS, ACK, 0)


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return HEADER.pack(len(payload) << 8 | kind, flags, stream_id) + payload


def window_update_frame(stream_id: int, increment: int) -> bytes:
    """WINDOW_UPDATE (RFC 9113 §6.9)."""
    return HEADER_AND_WORD.pack(4 << 8 | WINDOW_UPDATE, 0, stream_id, increment)


def reset_frame(stream_id: int, code: int) -> bytes:
    """RST_STREAM (RFC 9113 §6.4)."""
    return HEADER_AND_WORD.pack(4 << 8 | RST_STREAM, 0, stream_id, code)


def goaway_frame(last_stream_id: int, code: int, debug: bytes = b"") -> bytes:
    """GOAWAY (RFC 9113 §6.8)."""
    return HEADER_AND_TWO_WORDS.pack(8 + len(debug) << 8 | GOAWAY, 0, 0, last_stream_id, code) + debug


def settings_frame(settings: list[tuple[int, int]]) -> bytes:
    """SETTINGS with the given identifiers and values, in order (RFC 9113 §6.5)."""
    return frame(SETTINGS, 0, 0, b"".join([SETTING.pack(key, value) for key, value in settings]))


def header_block(data: bytes, pos: int, stop: int) -> bytes:
    """The header block of the HEADERS at *pos* and its CONTINUATIONs up to *stop*; padding and priority are valid."""
    word, flags, _ = HEADER.unpack_from(data, pos)
    pos += 9
    last = pos + (word >> 8)
    if flags & PADDED:
        end = last - data[pos]
        pos += 1
    else:
        end = last
    if flags & HAS_PRIORITY:
        pos += 5
    if last == stop:
        return data[pos:end]
    parts = [data[pos:end]]
    while last < stop:
        pos = last + 9
        last = pos + (HEADER.unpack_from(data, last)[0] >> 8)
        parts.append(data[pos:last])
    return b"".join(parts)


def without_goaway(data: bytes) -> bytes:
    """Whole frames, without the GOAWAY among them."""
    kept = []
    pos = 0
    while pos < len(data):
        word, _, _ = HEADER.unpack_from(data, pos)
        stop = pos + 9 + (word >> 8)
        if word & 0xFF != GOAWAY:
            kept.append(data[pos:stop])
        pos = stop
    return b"".join(kept)
