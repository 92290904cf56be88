"""What a server must say to frames, section by section of RFC 9113 and RFC 7541, on both engines.

Each case is a list of writes; the server answers finished requests between them.  A case passes if the
verdict (GOAWAY and RST_STREAM codes in order) is exactly the one given; an empty one means that
the connection lives and answers a PING.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from meshcore.codec.h2.frames import PREFACE, frame
from meshcore.errors import (
    COMPRESSION_ERROR,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
)
from tests.codec.h2.wire import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENGINES,
    GET,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    PADDED,
    PING,
    POST,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Wire,
    server_wire,
    settings,
    word,
)

Verdict = list[tuple[Any, ...]]
Script = Callable[[Wire], list[bytes]]

CASES: list[Any] = []


def goaway(code: int) -> Verdict:
    return [("goaway", code)]


def reset(code: int, stream_id: int = 1) -> Verdict:
    return [("reset", stream_id, code)]


def case(section: str, name: str, verdict: Verdict, script: Script) -> None:
    CASES.append(pytest.param(script, verdict, id=f"{section} {name}"))


def request(*more: tuple[bytes, bytes], drop: bytes = b"", **changed: bytes) -> Script:
    """One request with fields added, dropped or changed."""
    fields = [(n, changed.get(n[1:].decode(), v)) for n, v in GET if n != drop]
    return lambda w: [w.headers(1, [*fields, *more])]


def bytes_of(*writes: bytes) -> Script:
    return lambda w: list(writes)


def after_open(*writes: bytes) -> Script:
    """With stream 1 open."""
    return lambda w: [w.headers(1, POST, end_stream=False), *writes]


def after_end(*writes: bytes) -> Script:
    """With stream 1 closed on both sides."""
    return lambda w: [w.headers(1, GET), *writes]


def block(payload: bytes, flags: int = END_HEADERS | END_STREAM, stream_id: int = 1) -> bytes:
    return frame(HEADERS, flags, stream_id, payload)


GET_BLOCK = bytes((0x82, 0x86, 0x84, 0x01, 1)) + b"a"

# 4.1 Frame format
case("4.1", "unknown type is ignored", [], bytes_of(frame(0x16, 0, 0, bytes(8))))
case("4.1", "unknown type on an idle stream is ignored", [], bytes_of(frame(0xFF, 0xFF, 77, bytes(8))))
case("4.1", "undefined flags are ignored", [], bytes_of(frame(PING, 0x16, 0, bytes(8))))
case("4.1", "reserved bit is ignored", [], bytes_of(frame(PING, 0, 1 << 31, bytes(8))))
case("4.1", "reserved bit of a stream id is ignored", [], lambda w: [w.headers(1 | 1 << 31, GET)])
# 4.2 Frame size
case("4.2", "DATA of 2^14", [], after_open(frame(DATA, END_STREAM, 1, bytes(16_384))))
case("4.2", "DATA too large", goaway(FRAME_SIZE_ERROR), after_open(frame(DATA, END_STREAM, 1, bytes(16_385))))
case("4.2", "HEADERS too large", goaway(FRAME_SIZE_ERROR), bytes_of(block(bytes(16_385))))
case("4.2", "unknown frame too large", goaway(FRAME_SIZE_ERROR), bytes_of(frame(0x16, 0, 0, bytes(16_385))))
case("4.2", "only the header of a frame too large", goaway(FRAME_SIZE_ERROR), bytes_of(b"\xff\xff\xff\0\0\0\0\0\1"))
# 4.3 Header compression
case("4.3", "block cut inside a field", goaway(COMPRESSION_ERROR), bytes_of(block(b"\x40")))
case(
    "4.3",
    "PRIORITY within a block",
    goaway(PROTOCOL_ERROR),
    bytes_of(block(GET_BLOCK, END_STREAM), frame(PRIORITY, 0, 1, word(0) + b"\0"), frame(CONTINUATION, 4, 1, b"")),
)
case(
    "4.3",
    "HEADERS of another stream within a block",
    goaway(PROTOCOL_ERROR),
    bytes_of(block(GET_BLOCK, END_STREAM), block(GET_BLOCK, stream_id=3)),
)
case(
    "4.3",
    "unknown frame within a block",
    goaway(PROTOCOL_ERROR),
    bytes_of(block(GET_BLOCK, END_STREAM), frame(0x16, 0, 0, b""), frame(CONTINUATION, 4, 1, b"")),
)
case(
    "4.3",
    "bad block on a closed stream",
    reset(STREAM_CLOSED) + goaway(COMPRESSION_ERROR),
    lambda w: [w.headers(1, POST, end_stream=False), frame(RST_STREAM, 0, 1, word(8)), block(b"\x40")],
)
# 5.1 Stream states
case("5.1", "idle: DATA", goaway(PROTOCOL_ERROR), bytes_of(frame(DATA, END_STREAM, 1, b"test")))
case("5.1", "idle: RST_STREAM", goaway(PROTOCOL_ERROR), bytes_of(frame(RST_STREAM, 0, 1, word(8))))
case("5.1", "idle: WINDOW_UPDATE", goaway(PROTOCOL_ERROR), bytes_of(frame(WINDOW_UPDATE, 0, 1, word(100))))
case("5.1", "idle: CONTINUATION", goaway(PROTOCOL_ERROR), bytes_of(frame(CONTINUATION, END_HEADERS, 1, GET_BLOCK)))
case("5.1", "idle, even: DATA", goaway(PROTOCOL_ERROR), lambda w: [w.headers(3, GET), frame(DATA, 0, 2, b"test")])
case(
    "5.1",
    "idle, even: WINDOW_UPDATE",
    goaway(PROTOCOL_ERROR),
    lambda w: [w.headers(3, GET), frame(WINDOW_UPDATE, 0, 2, word(1))],
)


def half_closed(*writes: bytes) -> Script:
    def script(w: Wire) -> list[bytes]:
        w.respond = False
        return [w.headers(1, GET), *writes]

    return script


case("5.1", "half-closed: DATA", reset(STREAM_CLOSED), half_closed(frame(DATA, END_STREAM, 1, b"test")))
case("5.1", "half-closed: HEADERS", reset(STREAM_CLOSED), half_closed(block(GET_BLOCK)))
case("5.1", "half-closed: CONTINUATION", goaway(PROTOCOL_ERROR), half_closed(frame(CONTINUATION, 4, 1, GET_BLOCK)))
case("5.1", "half-closed: WINDOW_UPDATE", [], half_closed(frame(WINDOW_UPDATE, 0, 1, word(1))))
case("5.1", "half-closed: PRIORITY", [], half_closed(frame(PRIORITY, 0, 1, word(0) + b"\0")))
case("5.1", "half-closed: RST_STREAM", [], half_closed(frame(RST_STREAM, 0, 1, word(8))))
case(
    "5.1",
    "reset by the peer: DATA",
    reset(STREAM_CLOSED),
    after_open(frame(RST_STREAM, 0, 1, word(8)), frame(DATA, END_STREAM, 1, b"test")),
)
case(
    "5.1",
    "reset by the peer: HEADERS",
    reset(STREAM_CLOSED),
    after_open(frame(RST_STREAM, 0, 1, word(8)), block(GET_BLOCK)),
)
case(
    "5.1",
    "reset by the peer: CONTINUATION",
    goaway(PROTOCOL_ERROR),
    after_open(frame(RST_STREAM, 0, 1, word(8)), frame(CONTINUATION, END_HEADERS, 1, GET_BLOCK)),
)
case(
    "5.1",
    "reset by the peer: WINDOW_UPDATE, RST_STREAM, PRIORITY",
    [],
    after_open(
        frame(RST_STREAM, 0, 1, word(8)),
        frame(WINDOW_UPDATE, 0, 1, word(1)),
        frame(RST_STREAM, 0, 1, word(8)),
        frame(PRIORITY, 0, 1, word(0) + b"\0"),
    ),
)
case("5.1", "closed: DATA", goaway(STREAM_CLOSED), after_end(frame(DATA, END_STREAM, 1, b"test")))
case("5.1", "closed: HEADERS", goaway(STREAM_CLOSED), after_end(block(GET_BLOCK)))
case("5.1", "closed: CONTINUATION", goaway(PROTOCOL_ERROR), after_end(frame(CONTINUATION, END_HEADERS, 1, GET_BLOCK)))
case("5.1", "closed: WINDOW_UPDATE", [], after_end(frame(WINDOW_UPDATE, 0, 1, word(1))))
case("5.1", "closed: RST_STREAM", [], after_end(frame(RST_STREAM, 0, 1, word(8))))
case("5.1", "closed: PRIORITY", [], after_end(frame(PRIORITY, 0, 1, word(0) + b"\0")))
case(
    "5.1",
    "reset by us: DATA, WINDOW_UPDATE and trailers are ignored",
    reset(PROTOCOL_ERROR),
    lambda w: [
        w.headers(1, [*POST, (b"content-length", b"1")], end_stream=False),
        frame(DATA, 0, 1, b"four"),
        frame(DATA, 0, 1, b"late"),
        frame(WINDOW_UPDATE, 0, 1, word(1)),
        w.headers(1, [(b"x-new", b"entry")]),
        w.headers(3, [*GET, (b"x-new", b"entry")]),
    ],
)
# 5.1.1 Stream identifiers
case("5.1.1", "even", goaway(PROTOCOL_ERROR), lambda w: [w.headers(2, GET)])
case("5.1.1", "lower than one seen", goaway(PROTOCOL_ERROR), lambda w: [w.headers(5, GET), w.headers(3, GET)])
case("5.1.1", "gaps are allowed", [], lambda w: [w.headers(5, GET), w.headers(99, GET)])
case("5.1.1", "stream 0", goaway(PROTOCOL_ERROR), lambda w: [w.headers(0, GET)])
# 5.1.2 Concurrency


def crowd(w: Wire) -> list[bytes]:
    w.respond = False
    return [w.headers(1 + 2 * n, GET) for n in range(101)]


case("5.1.2", "one stream too many", reset(REFUSED_STREAM, 201), crowd)
# 5.3.1 Stream dependencies
case(
    "5.3.1",
    "HEADERS depends on itself",
    reset(PROTOCOL_ERROR),
    lambda w: [block(word(1) + b"\xff" + w.encoder.encode(GET), END_HEADERS | END_STREAM | HAS_PRIORITY)],
)
case(
    "5.3.1",
    "exclusive HEADERS with padding depends on itself",
    reset(PROTOCOL_ERROR),
    lambda w: [
        block(
            b"\2" + word(1 | 1 << 31) + b"\xff" + w.encoder.encode(GET) + b"\0\0",
            END_HEADERS | END_STREAM | HAS_PRIORITY | PADDED,
        ),
        w.headers(3, GET),
    ],
)
case(
    "5.3.1",
    "PRIORITY of an idle stream depends on itself",
    goaway(PROTOCOL_ERROR),
    bytes_of(frame(PRIORITY, 0, 1, word(1) + b"\0")),
)
case(
    "5.3.1",
    "PRIORITY of an open stream depends on itself",
    reset(PROTOCOL_ERROR),
    after_open(frame(PRIORITY, 0, 1, word(1) + b"\0")),
)
case(
    "5.3.1",
    "HEADERS and PRIORITY depend on others",
    [],
    lambda w: [frame(PRIORITY, 0, 7, word(9) + b"\0"), block(word(3) + b"\xff" + w.encoder.encode(GET), 0x25)],
)
# 5.4.1 Connection errors
case(
    "5.4.1",
    "frames after a connection error are not answered",
    goaway(PROTOCOL_ERROR),
    bytes_of(frame(PING, 0, 3, bytes(8)), frame(PING, 0, 0, bytes(8)), frame(PING, 0, 3, bytes(8))),
)
# 5.5 Extensions
case("5.5", "unknown extension frame", [], bytes_of(frame(0x16, 0xFF, 1, b"anything")))
# 6.1 DATA
case("6.1", "stream 0", goaway(PROTOCOL_ERROR), bytes_of(frame(DATA, END_STREAM, 0, b"test")))
case(
    "6.1",
    "padding longer than the frame",
    goaway(PROTOCOL_ERROR),
    after_open(frame(DATA, END_STREAM | PADDED, 1, b"\x06test")),
)
case(
    "6.1",
    "padding exactly as long as the frame",
    goaway(PROTOCOL_ERROR),
    after_open(frame(DATA, END_STREAM | PADDED, 1, b"\x05test")),
)
case("6.1", "padded without a length", goaway(FRAME_SIZE_ERROR), after_open(frame(DATA, PADDED, 1, b"")))
case("6.1", "nothing but padding", [], after_open(frame(DATA, END_STREAM | PADDED, 1, b"\x04test")))
case("6.1", "padding", [], after_open(frame(DATA, END_STREAM | PADDED, 1, b"\x02test\0\0")))
# 6.2 HEADERS
case(
    "6.2",
    "padding longer than the block",
    goaway(PROTOCOL_ERROR),
    bytes_of(block(bytes((len(GET_BLOCK) + 2,)) + GET_BLOCK, END_HEADERS | END_STREAM | PADDED)),
)
case("6.2", "padded without a length", goaway(FRAME_SIZE_ERROR), bytes_of(block(b"", END_HEADERS | PADDED)))
case("6.2", "priority cut short", goaway(FRAME_SIZE_ERROR), bytes_of(block(b"\0\0\0", END_HEADERS | HAS_PRIORITY)))
case(
    "6.2",
    "padding reaches into the priority",
    goaway(PROTOCOL_ERROR),
    bytes_of(block(b"\x04" + bytes(5), END_HEADERS | HAS_PRIORITY | PADDED)),
)
case(
    "6.2",
    "padding and priority",
    [],
    lambda w: [block(b"\3" + word(0) + b"\x10" + w.encoder.encode(GET) + bytes(3), 0x2D)],
)
case("6.2", "priority", [], lambda w: [block(word(0) + b"\x10" + w.encoder.encode(GET), 0x25)])
case(
    "6.2",
    "nothing but padding before CONTINUATION",
    [],
    bytes_of(block(b"\x02\0\0", END_STREAM | PADDED), frame(CONTINUATION, END_HEADERS, 1, GET_BLOCK)),
)
case(
    "6.2", "nothing but padding as trailers", [], after_open(block(b"\x02\0\0", END_HEADERS | END_STREAM | PADDED))
)
case(
    "6.2",
    "nothing but padding on a stream that is over",
    goaway(STREAM_CLOSED),
    after_end(block(b"\x02\0\0", END_HEADERS | PADDED)),
)
# 6.3 PRIORITY
case("6.3", "stream 0", goaway(PROTOCOL_ERROR), bytes_of(frame(PRIORITY, 0, 0, word(1) + b"\0")))
case("6.3", "wrong length on an open stream", reset(FRAME_SIZE_ERROR), after_open(frame(PRIORITY, 0, 1, word(2))))
case("6.3", "wrong length on an idle stream", goaway(FRAME_SIZE_ERROR), bytes_of(frame(PRIORITY, 0, 1, word(2))))
# 6.4 RST_STREAM
case("6.4", "stream 0", goaway(PROTOCOL_ERROR), bytes_of(frame(RST_STREAM, 0, 0, word(8))))
case("6.4", "wrong length", goaway(FRAME_SIZE_ERROR), after_open(frame(RST_STREAM, 0, 1, b"\0\0\0")))
# 6.5 SETTINGS
case("6.5", "ACK with a payload", goaway(FRAME_SIZE_ERROR), bytes_of(frame(SETTINGS, ACK, 0, b"\0")))
case("6.5", "on a stream", goaway(PROTOCOL_ERROR), bytes_of(frame(SETTINGS, 0, 1, b"\0\3\0\0\0\x64")))
case("6.5", "wrong length", goaway(FRAME_SIZE_ERROR), bytes_of(frame(SETTINGS, 0, 0, b"\0\3\0")))
case("6.5.2", "ENABLE_PUSH 2", goaway(PROTOCOL_ERROR), bytes_of(settings((2, 2))))
case("6.5.2", "ENABLE_PUSH 1", [], bytes_of(settings((2, 1))))
case("6.5.2", "INITIAL_WINDOW_SIZE 2^31", goaway(FLOW_CONTROL_ERROR), bytes_of(settings((4, 1 << 31))))
case("6.5.2", "MAX_FRAME_SIZE 2^14-1", goaway(PROTOCOL_ERROR), bytes_of(settings((5, 16_383))))
case("6.5.2", "MAX_FRAME_SIZE 2^24", goaway(PROTOCOL_ERROR), bytes_of(settings((5, 1 << 24))))
case("6.5.2", "ENABLE_CONNECT_PROTOCOL 2", goaway(PROTOCOL_ERROR), bytes_of(settings((8, 2))))
case("6.5.2", "ENABLE_CONNECT_PROTOCOL taken back", goaway(PROTOCOL_ERROR), bytes_of(settings((8, 1), (8, 0))))
case("6.5.2", "unknown identifier", [], bytes_of(settings((0xFF, 1), (9, 77))))
case(
    "6.5.2",
    "every known value",
    [],
    bytes_of(settings((1, 0), (1, 65_536), (2, 0), (3, 0), (4, 100_000), (5, 1 << 20), (6, 0), (8, 1))),
)
case("6.5.3", "ACK that nobody waits for", [], bytes_of(settings(flags=ACK)))
# 6.6 PUSH_PROMISE, 8.4
case(
    "6.6",
    "from a client",
    goaway(PROTOCOL_ERROR),
    lambda w: [w.headers(1, GET), frame(PUSH_PROMISE, END_HEADERS, 1, word(3) + GET_BLOCK)],
)
# 6.7 PING
case("6.7", "unexpected ACK", [], bytes_of(frame(PING, ACK, 0, b"nobody's")))
case("6.7", "on a stream", goaway(PROTOCOL_ERROR), bytes_of(frame(PING, 0, 1, bytes(8))))
case("6.7", "wrong length", goaway(FRAME_SIZE_ERROR), bytes_of(frame(PING, 0, 0, bytes(6))))
# 6.8 GOAWAY
case("6.8", "on a stream", goaway(PROTOCOL_ERROR), bytes_of(frame(GOAWAY, 0, 1, bytes(8))))
case("6.8", "too short", goaway(FRAME_SIZE_ERROR), bytes_of(frame(GOAWAY, 0, 0, bytes(7))))
case("6.8", "the connection lives on", [], lambda w: [frame(GOAWAY, 0, 0, bytes(8)), w.headers(1, GET)])
case("6.8", "twice, with debug data", [], bytes_of(frame(GOAWAY, 0, 0, bytes(8)) * 2 + frame(GOAWAY, 0, 0, bytes(99))))
# 6.9 WINDOW_UPDATE
case("6.9", "0 on the connection", goaway(PROTOCOL_ERROR), bytes_of(frame(WINDOW_UPDATE, 0, 0, word(0))))
case("6.9", "0 on a stream", reset(PROTOCOL_ERROR), after_open(frame(WINDOW_UPDATE, 0, 1, word(0))))
case("6.9", "0 but for the reserved bit", reset(PROTOCOL_ERROR), after_open(frame(WINDOW_UPDATE, 0, 1, word(1 << 31))))
case("6.9", "wrong length", goaway(FRAME_SIZE_ERROR), bytes_of(frame(WINDOW_UPDATE, 0, 0, b"\0\0\1")))
case(
    "6.9.1",
    "overflow of the connection",
    goaway(FLOW_CONTROL_ERROR),
    bytes_of(*[frame(WINDOW_UPDATE, 0, 0, word(2**31 - 1))] * 2),
)
case(
    "6.9.1",
    "overflow of a stream",
    reset(FLOW_CONTROL_ERROR),
    after_open(*[frame(WINDOW_UPDATE, 0, 1, word(2**31 - 1))] * 2),
)
case("6.9.1", "exactly the largest window", [], after_open(frame(WINDOW_UPDATE, 0, 1, word(2**31 - 1 - 65_535))))
case(
    "6.9.2",
    "window of a stream overflows by SETTINGS",
    goaway(FLOW_CONTROL_ERROR),
    after_open(frame(WINDOW_UPDATE, 0, 1, word(2**31 - 1 - 65_535)), settings((4, 65_536))),
)
case("6.9.2", "windows become negative", [], after_open(settings((4, 0)), settings((4, 65_535))))
# 6.10 CONTINUATION
case(
    "6.10",
    "three pieces",
    [],
    lambda w: [
        block(GET_BLOCK[:2], END_STREAM),
        frame(CONTINUATION, 0, 1, GET_BLOCK[2:4]),
        frame(CONTINUATION, END_HEADERS, 1, GET_BLOCK[4:]),
    ],
)
case(
    "6.10",
    "followed by DATA",
    goaway(PROTOCOL_ERROR),
    bytes_of(block(GET_BLOCK, 0), frame(CONTINUATION, 0, 1, b""), frame(DATA, END_STREAM, 1, b"test")),
)
case(
    "6.10",
    "stream 0",
    goaway(PROTOCOL_ERROR),
    bytes_of(block(GET_BLOCK, END_STREAM), frame(CONTINUATION, END_HEADERS, 0, b"")),
)
case(
    "6.10",
    "another stream",
    goaway(PROTOCOL_ERROR),
    bytes_of(block(GET_BLOCK, END_STREAM), frame(CONTINUATION, END_HEADERS, 3, b"")),
)
case(
    "6.10",
    "after END_HEADERS",
    goaway(PROTOCOL_ERROR),
    bytes_of(block(GET_BLOCK, END_HEADERS), frame(CONTINUATION, END_HEADERS, 1, b"")),
)
case(
    "6.10",
    "after CONTINUATION with END_HEADERS",
    goaway(PROTOCOL_ERROR),
    bytes_of(block(GET_BLOCK, 0), frame(CONTINUATION, 4, 1, b""), frame(CONTINUATION, 4, 1, b"")),
)
case(
    "6.10", "after DATA", goaway(PROTOCOL_ERROR), after_open(frame(DATA, 0, 1, b"test"), frame(CONTINUATION, 0, 1, b""))
)
case(
    "6.10",
    "too large",
    goaway(FRAME_SIZE_ERROR),
    bytes_of(block(GET_BLOCK, END_STREAM), frame(CONTINUATION, END_HEADERS, 1, bytes(16_385))),
)
# 7 Error codes
case("7", "unknown code in GOAWAY", [], bytes_of(frame(GOAWAY, 0, 0, word(0) + word(0xFF))))
case("7", "unknown code in RST_STREAM", [], after_open(frame(RST_STREAM, 0, 1, word(0xFF))))
# 8.1 Message framing
case(
    "8.1",
    "second HEADERS without END_STREAM",
    reset(PROTOCOL_ERROR),
    lambda w: [
        w.headers(1, POST, end_stream=False),
        frame(DATA, 0, 1, b"test"),
        w.headers(1, [(b"x", b"y")], end_stream=False),
    ],
)
case(
    "8.1",
    "trailers",
    [],
    lambda w: [w.headers(1, POST, end_stream=False), frame(DATA, 0, 1, b"test"), w.headers(1, [(b"x", b"y")])],
)
case(
    "8.1", "trailers without a body", [], lambda w: [w.headers(1, POST, end_stream=False), w.headers(1, [(b"x", b"y")])]
)
# 8.1.1 Malformed messages
case(
    "8.1.1",
    "content-length above the body",
    reset(PROTOCOL_ERROR),
    lambda w: [w.headers(1, [*POST, (b"content-length", b"5")], end_stream=False), frame(DATA, END_STREAM, 1, b"test")],
)
case(
    "8.1.1",
    "content-length below the body",
    reset(PROTOCOL_ERROR),
    lambda w: [w.headers(1, [*POST, (b"content-length", b"1")], end_stream=False), frame(DATA, END_STREAM, 1, b"test")],
)
case(
    "8.1.1",
    "content-length below the body in pieces",
    reset(PROTOCOL_ERROR),
    lambda w: [
        w.headers(1, [*POST, (b"content-length", b"1")], end_stream=False),
        frame(DATA, 0, 1, b"test") + frame(DATA, END_STREAM, 1, b"test"),
    ],
)
case("8.1.1", "content-length without a body", reset(PROTOCOL_ERROR), request((b"content-length", b"5")))
case("8.1.1", "content-length 0 without a body", [], request((b"content-length", b"0")))
case(
    "8.1.1",
    "content-length above a body that trailers end",
    reset(PROTOCOL_ERROR),
    lambda w: [
        w.headers(1, [*POST, (b"content-length", b"5")], end_stream=False),
        frame(DATA, 0, 1, b"abc"),
        w.headers(1, [(b"x", b"y")]),
    ],
)
case(
    "8.1.1",
    "content-length of an empty body ended by DATA",
    [],
    lambda w: [w.headers(1, [*POST, (b"content-length", b"0")], end_stream=False), frame(DATA, END_STREAM, 1, b"")],
)
for value in (b"", b"+0", b"-1", b"0x1", b"1 ", b"1,1", b"9" * 30, "\u0661".encode()):
    case("8.1.1", f"content-length {value!r}", reset(PROTOCOL_ERROR), request((b"content-length", value)))
case(
    "8.1.1",
    "content-length twice",
    reset(PROTOCOL_ERROR),
    request((b"content-length", b"0"), (b"content-length", b"0")),
)
case(
    "8.1.1", "two content-lengths", reset(PROTOCOL_ERROR), request((b"content-length", b"0"), (b"content-length", b"1"))
)
case(
    "8.1.1",
    "the next stream lives",
    reset(PROTOCOL_ERROR),
    lambda w: [w.headers(1, [*GET, (b"X", b"new")]) + w.headers(3, [*GET, (b"X-", b"-")][:-1])],
)
# 8.2.1 Field validity
for name in (b"X-Test", b"", b"a b", b"a:b", b"a\0b", b"a\nb", b"\x80", b"a\x7f", b'a"', b"a(", b"a/"):
    case("8.2.1", f"field name {name!r}", reset(PROTOCOL_ERROR), request((name, b"v")))
for value in (b"a\r\nb", b"a\0", b"\n", b"\r", b" a", b"a ", b"\ta", b"a\t", b"a\x01b", b"a\x7f"):
    case("8.2.1", f"field value {value!r}", reset(PROTOCOL_ERROR), request((b"x", value)))
for value in (b"", b"a b", b"a\tb", b"\xff\x80", b'a,b;c="d"'):
    case("8.2.1", f"field value {value!r} is fine", [], request((b"x", value)))
# 8.2.2 Connection-specific fields
for name, value in (
    (b"connection", b"keep-alive"),
    (b"connection", b""),
    (b"proxy-connection", b"close"),
    (b"keep-alive", b"1"),
    (b"transfer-encoding", b"chunked"),
    (b"upgrade", b"h2c"),
    (b"te", b"trailers, deflate"),
    (b"te", b"gzip"),
    (b"te", b""),
):
    case("8.2.2", f"{name.decode()}: {value.decode()}", reset(PROTOCOL_ERROR), request((name, value)))
case("8.2.2", "te: trailers", [], request((b"te", b"trailers")))
case("8.2.2", "te: Trailers", [], request((b"te", b"Trailers")))
case(
    "8.2.2",
    "in trailers",
    reset(PROTOCOL_ERROR),
    lambda w: [w.headers(1, POST, end_stream=False), w.headers(1, [(b"connection", b"x")])],
)
case(
    "8.2.2",
    "content-length in trailers",
    reset(PROTOCOL_ERROR),
    lambda w: [w.headers(1, POST, end_stream=False), w.headers(1, [(b"content-length", b"0")])],
)
# 8.3 Control data
case("8.3", "unknown pseudo-header field", reset(PROTOCOL_ERROR), request((b":test", b"ok")))
case("8.3", ":status in a request", reset(PROTOCOL_ERROR), lambda w: [w.headers(1, [*GET, (b":status", b"200")])])
case(
    "8.3",
    "pseudo-header field in trailers",
    reset(PROTOCOL_ERROR),
    lambda w: [w.headers(1, POST, end_stream=False), frame(DATA, 0, 1, b"test"), w.headers(1, [(b":method", b"POST")])],
)
case(
    "8.3",
    "pseudo-header field after a regular one",
    reset(PROTOCOL_ERROR),
    lambda w: [w.headers(1, [*GET[:3], (b"x", b"y"), GET[3]])],
)
case(
    "8.3",
    "pseudo-header field after a cookie",
    reset(PROTOCOL_ERROR),
    lambda w: [w.headers(1, [*GET[:3], (b"cookie", b"y"), GET[3]])],
)
# 8.3.1 Request control data
for missing in (b":method", b":scheme", b":path"):
    case("8.3.1", f"no {missing.decode()}", reset(PROTOCOL_ERROR), request(drop=missing))
for name, value in GET:
    case("8.3.1", f"{name.decode()} twice", reset(PROTOCOL_ERROR), lambda w, f=(name, value): [w.headers(1, [f, *GET])])
case("8.3.1", "no :authority", [], request(drop=b":authority"))
case("8.3.1", "no :authority but host", [], request((b"host", b"a.example"), drop=b":authority"))
case("8.3.1", "host equal to :authority", [], request((b"host", b"A.example")))
case("8.3.1", "host differs from :authority", reset(PROTOCOL_ERROR), request((b"host", b"b.example")))
case("8.3.1", "host twice", reset(PROTOCOL_ERROR), request((b"host", b"a.example"), (b"host", b"a.example")))
case(
    "8.3.1",
    "host twice without :authority",
    reset(PROTOCOL_ERROR),
    request((b"host", b"a.example"), (b"host", b"a.example"), drop=b":authority"),
)
for value in (b"", b"a b", b"u@h", b"a/b", b"a#", b"\xc3\xa9", b"a:b:c", b"[::1", b"a:99999", b"a,b"):
    case("8.3.1", f":authority {value!r}", reset(PROTOCOL_ERROR), request(authority=value))
    case("8.3.1", f"host {value!r}", reset(PROTOCOL_ERROR), request((b"host", value), drop=b":authority"))
for value in (b"[::1]:80", b"a_b", b"a%20b", b"127.0.0.1", b"a:"):
    case("8.3.1", f":authority {value!r} is fine", [], request(authority=value))
for value in (b"", b"a", b"/a b", b"/\x7f", b"/\0", b"/#x", b"http://x/", b"*", b"/\xc3\xa9", b"/a\r\nb"):
    case("8.3.1", f":path {value!r}", reset(PROTOCOL_ERROR), request(path=value))
for value in (b"//x", b"/?a=b&c=%00", b'/[]{}|\\^`"<>'):
    case("8.3.1", f":path {value!r} is fine", [], request(path=value))
case("8.3.1", "asterisk-form of OPTIONS", [], request(method=b"OPTIONS", path=b"*"))
for value in (b"", b"G T", b"GET /x", b"G/", b"G\0", b"\xff"):
    case("8.3.1", f":method {value!r}", reset(PROTOCOL_ERROR), request(method=value))
for value in (b"get", b"PROPFIND", b"X-1!"):
    case("8.3.1", f":method {value!r} is fine", [], request(method=value))
for value in (b"", b"h t", b"1a", b"http:", b"\xff", b"http\n"):
    case("8.3.1", f":scheme {value!r}", reset(PROTOCOL_ERROR), request(scheme=value))
# 8.5 CONNECT, RFC 8441
for fields, verdict, name in (
    ([(b":method", b"CONNECT"), (b":authority", b"a:1")], [], "plain"),
    ([(b":method", b"CONNECT")], reset(PROTOCOL_ERROR), "without :authority"),
    ([(b":method", b"CONNECT"), (b":authority", b"a")], reset(PROTOCOL_ERROR), "without a port"),
    ([(b":method", b"CONNECT"), *GET[1:]], reset(PROTOCOL_ERROR), "with :scheme and :path"),
    ([(b":method", b"CONNECT"), (b":authority", b"a:1"), (b":path", b"/")], reset(PROTOCOL_ERROR), "with :path"),
    ([(b":method", b"CONNECT"), *GET[1:], (b":protocol", b"websocket")], [], "extended"),
    (
        [(b":method", b"CONNECT"), (b":authority", b"a:1"), (b":protocol", b"websocket")],
        reset(PROTOCOL_ERROR),
        "extended without :scheme and :path",
    ),
    ([(b":method", b"CONNECT"), *GET[1:3], (b":protocol", b"x")], reset(PROTOCOL_ERROR), "extended without :authority"),
    ([(b":method", b"CONNECT"), *GET[1:], (b":protocol", b"a b")], reset(PROTOCOL_ERROR), "protocol with a space"),
    ([(b":method", b"CONNECT"), *GET[1:], (b":protocol", b"x"), (b":protocol", b"x")], reset(PROTOCOL_ERROR), "twice"),
    ([*GET, (b":protocol", b"websocket")], reset(PROTOCOL_ERROR), "protocol of a GET"),
):
    case("8.5", name, verdict, lambda w, fields=fields: [w.headers(1, fields, end_stream=False)])

# RFC 7541
case("7541 2.3.3", "index beyond both tables", goaway(COMPRESSION_ERROR), bytes_of(block(b"\x82\x86\x84\xfe")))
case(
    "7541 2.3.3",
    "literal with an index beyond both tables",
    goaway(COMPRESSION_ERROR),
    bytes_of(block(b"\x82\x86\x84\x7f\x81\x01\x01a")),
)
case("7541 4.2", "size update at the end of a block", goaway(COMPRESSION_ERROR), bytes_of(block(GET_BLOCK + b"\x20")))
case("7541 4.2", "size updates at the beginning", [], bytes_of(block(b"\x20\x3f\xe1\x1f" + GET_BLOCK)))
case("7541 5.1", "integer without an end", goaway(COMPRESSION_ERROR), bytes_of(block(b"\xff" + b"\xff" * 12)))
case(
    "7541 5.2",
    "Huffman padding of more than 7 bits",
    goaway(COMPRESSION_ERROR),
    bytes_of(block(GET_BLOCK + b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff")),
)
case(
    "7541 5.2",
    "Huffman padding of zeroes",
    goaway(COMPRESSION_ERROR),
    bytes_of(block(GET_BLOCK + b"\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90")),
)
case(
    "7541 5.2",
    "Huffman string with EOS",
    goaway(COMPRESSION_ERROR),
    bytes_of(block(GET_BLOCK + b"\x00\x85\xf2\xb2\x4a\x84\xff\x87\x49\x51\xff\xff\xff\xfa\x7f")),
)
case("7541 5.2", "string longer than the block", goaway(COMPRESSION_ERROR), bytes_of(block(b"\x82\x00\x7fabc")))
case("7541 6.1", "index 0", goaway(COMPRESSION_ERROR), bytes_of(block(b"\x80")))
case(
    "7541 6.3", "size update above the setting", goaway(COMPRESSION_ERROR), bytes_of(block(b"\x3f\xe2\x1f" + GET_BLOCK))
)


def play(engine: str, script: Script) -> Wire:
    wire = server_wire(engine)
    for write in script(wire):
        wire.feed(write)
    return wire


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("script", "verdict"), CASES)
def test_a_server_gives_the_verdict_of_the_rfc(engine: str, script: Script, verdict: Verdict) -> None:
    wire = play(engine, script)
    assert verdict == wire.verdict
    terminated = wire.terminated
    if verdict and verdict[-1][0] == "goaway":
        assert terminated is not None
        assert verdict[-1][1] == terminated.code
        assert [] == wire.feed(frame(PING, 0, 0, bytes(8)))
    else:
        assert terminated is None
        wire.sent.clear()
        wire.feed(frame(PING, 0, 0, b"are you?"))
        assert [(PING, ACK, b"are you?")] == [(sent.kind, sent.flags, sent.payload) for sent in wire.sent]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("script", "verdict"), CASES)
def test_the_verdict_is_the_same_byte_by_byte(engine: str, script: Script, verdict: Verdict) -> None:
    wire = server_wire(engine)
    for write in script(wire):
        size = 1 if len(write) <= 2_000 else 1_000
        for at in range(0, len(write), size):
            wire.feed(write[at : at + size])
    assert verdict == wire.verdict


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "start",
    [
        b"INVALID CONNECTION PREFACE\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"P",
        PREFACE[:-1] + b"x",
        PREFACE + frame(PING, 0, 0, bytes(8)),
        PREFACE + settings(flags=ACK),
        PREFACE + frame(HEADERS, 5, 1, GET_BLOCK),
        PREFACE + frame(SETTINGS, 0, 1, b""),
    ],
)
def test_3_4_another_preface_ends_the_connection(engine: str, start: bytes) -> None:
    wire = server_wire(engine, greet=False)
    for at in range(len(start)):
        wire.feed(start[at : at + 1])
    assert (start != b"P") == bool(wire.verdict)
    whole = server_wire(engine, greet=False)
    whole.feed(start)
    assert wire.verdict == whole.verdict
    assert all(code == PROTOCOL_ERROR for _, code in wire.verdict)


@pytest.mark.parametrize("engine", ENGINES)
def test_3_4_a_server_sends_settings_first_and_acknowledges_the_clients(engine: str) -> None:
    wire = server_wire(engine, greet=False)
    wire.feed(PREFACE + settings((3, 7)))
    assert [(SETTINGS, 0), (WINDOW_UPDATE, 0), (SETTINGS, ACK)] == [(sent.kind, sent.flags) for sent in wire.sent]
    assert 7 == wire.codec.peer_max_streams
