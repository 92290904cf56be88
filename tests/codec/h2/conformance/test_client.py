"""What a client must say to a server's frames, section by section of RFC 9113 and RFC 7541, on both engines.

Streams 1 and 3 carry requests that have ended; each case is a list of writes.  A case passes if the verdict is
exactly the one given; an empty one means that the connection lives and answers a PING.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from meshcore.codec.events import (
    ConnectionTerminated,
    DataReceived,
    GoAwayReceived,
    InformationalReceived,
    ResponseReceived,
    StreamReset,
    TrailersReceived,
)
from meshcore.codec.h2 import client_codec
from meshcore.codec.h2.frames import PREFACE, frame
from meshcore.errors import (
    CANCEL,
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
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    OK,
    PADDED,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Wire,
    client_wire,
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


def bytes_of(*writes: bytes) -> Script:
    return lambda w: list(writes)


def answer(*fields: tuple[bytes, bytes], status: bytes = b"200", end_stream: bool = True) -> Script:
    return lambda w: [w.headers(1, [(b":status", status), *fields], end_stream=end_stream)]


def after_head(*writes: bytes) -> Script:
    """With the response's head on stream 1."""
    return lambda w: [w.headers(1, OK, end_stream=False), *writes]


def after_end(*writes: bytes) -> Script:
    """With stream 1 closed on both sides."""
    return lambda w: [w.headers(1, OK), *writes]


def block(payload: bytes, flags: int = END_HEADERS | END_STREAM, stream_id: int = 1) -> bytes:
    return frame(HEADERS, flags, stream_id, payload)


# 4 Frames
case("4.1", "unknown type is ignored", [], bytes_of(frame(0x16, 0, 0, bytes(8))))
case("4.1", "undefined flags are ignored", [], bytes_of(frame(PING, 0x16, 0, bytes(8))))
case("4.1", "reserved bit is ignored", [], bytes_of(frame(PING, 0, 1 << 31, bytes(8))))
case("4.2", "DATA of 2^14", [], after_head(frame(DATA, END_STREAM, 1, bytes(16_384))))
case("4.2", "DATA too large", goaway(FRAME_SIZE_ERROR), after_head(frame(DATA, END_STREAM, 1, bytes(16_385))))
case("4.2", "HEADERS too large", goaway(FRAME_SIZE_ERROR), bytes_of(block(bytes(16_385))))
case("4.3", "block cut inside a field", goaway(COMPRESSION_ERROR), bytes_of(block(b"\x40")))
case(
    "4.3",
    "PRIORITY within a block",
    goaway(PROTOCOL_ERROR),
    bytes_of(block(b"\x88", END_STREAM), frame(PRIORITY, 0, 1, bytes(5))),
)
case(
    "4.3",
    "HEADERS within a block",
    goaway(PROTOCOL_ERROR),
    bytes_of(block(b"\x88", END_STREAM), block(b"\x88", stream_id=3)),
)
# 5 Streams
for kind, payload, name in (
    (DATA, b"test", "DATA"),
    (RST_STREAM, word(8), "RST_STREAM"),
    (WINDOW_UPDATE, word(1), "WINDOW_UPDATE"),
    (CONTINUATION, b"\x88", "CONTINUATION"),
    (HEADERS, b"\x88", "HEADERS"),
):
    case("5.1", f"idle: {name}", goaway(PROTOCOL_ERROR), bytes_of(frame(kind, END_HEADERS, 99, payload)))
    case("5.1", f"idle, even: {name}", goaway(PROTOCOL_ERROR), bytes_of(frame(kind, END_HEADERS, 2, payload)))
case("5.1", "closed: DATA", goaway(STREAM_CLOSED), after_end(frame(DATA, END_STREAM, 1, b"test")))
case("5.1", "closed: HEADERS", goaway(STREAM_CLOSED), after_end(block(b"\x88")))
case("5.1", "closed: CONTINUATION", goaway(PROTOCOL_ERROR), after_end(frame(CONTINUATION, END_HEADERS, 1, b"\x88")))
case(
    "5.1",
    "closed: WINDOW_UPDATE, RST_STREAM, PRIORITY",
    [],
    after_end(frame(WINDOW_UPDATE, 0, 1, word(1)), frame(RST_STREAM, 0, 1, word(8)), frame(PRIORITY, 0, 1, bytes(5))),
)
case(
    "5.1",
    "reset by the server: DATA",
    reset(STREAM_CLOSED),
    bytes_of(frame(RST_STREAM, 0, 1, word(8)), frame(DATA, 0, 1, b"test")),
)
case(
    "5.1",
    "reset by the server: HEADERS",
    reset(STREAM_CLOSED),
    bytes_of(frame(RST_STREAM, 0, 1, word(8)), block(b"\x88")),
)
case("5.1.1", "stream 0", goaway(PROTOCOL_ERROR), bytes_of(block(b"\x88", stream_id=0)))
case(
    "5.3.1",
    "HEADERS depends on itself",
    reset(PROTOCOL_ERROR),
    bytes_of(block(word(1) + b"\xff\x88", END_HEADERS | END_STREAM | HAS_PRIORITY)),
)
case("5.4.1", "invalid PING", goaway(PROTOCOL_ERROR), bytes_of(frame(PING, 0, 3, bytes(8))))
case(
    "5.5",
    "unknown frame within a block",
    goaway(PROTOCOL_ERROR),
    bytes_of(block(b"\x88", END_STREAM), frame(0x16, 0, 0, bytes(8))),
)
# 6 Frame definitions
case("6.1", "stream 0", goaway(PROTOCOL_ERROR), bytes_of(frame(DATA, END_STREAM, 0, b"test")))
case("6.1", "before HEADERS", reset(PROTOCOL_ERROR), bytes_of(frame(DATA, END_STREAM, 1, b"test")))
case(
    "6.1",
    "between 1xx and the final response",
    reset(PROTOCOL_ERROR),
    lambda w: [w.headers(1, [(b":status", b"103")], end_stream=False), frame(DATA, 0, 1, b"test")],
)
case("6.1", "padding longer than the frame", goaway(PROTOCOL_ERROR), after_head(frame(DATA, PADDED, 1, b"\x06test")))
case("6.1", "padding", [], after_head(frame(DATA, PADDED | END_STREAM, 1, b"\x02test\0\0")))
case(
    "6.2",
    "padding longer than the block",
    goaway(PROTOCOL_ERROR),
    bytes_of(block(b"\x05\x88", END_HEADERS | END_STREAM | PADDED)),
)
case("6.2", "padding and priority", [], bytes_of(block(b"\1" + word(0) + b"\xff\x88\0", 0x2D)))
case(
    "6.2",
    "nothing but padding before CONTINUATION",
    [],
    bytes_of(block(b"\1\0", END_STREAM | PADDED), frame(CONTINUATION, END_HEADERS, 1, b"\x88")),
)
case("6.3", "stream 0", goaway(PROTOCOL_ERROR), bytes_of(frame(PRIORITY, 0, 0, bytes(5))))
case("6.3", "wrong length", reset(FRAME_SIZE_ERROR), bytes_of(frame(PRIORITY, 0, 1, bytes(4))))
case("6.4", "stream 0", goaway(PROTOCOL_ERROR), bytes_of(frame(RST_STREAM, 0, 0, word(8))))
case("6.4", "wrong length", goaway(FRAME_SIZE_ERROR), bytes_of(frame(RST_STREAM, 0, 1, bytes(3))))
case("6.5", "ACK with a payload", goaway(FRAME_SIZE_ERROR), bytes_of(frame(SETTINGS, ACK, 0, b"\0")))
case("6.5", "on a stream", goaway(PROTOCOL_ERROR), bytes_of(frame(SETTINGS, 0, 1, bytes(6))))
case("6.5", "wrong length", goaway(FRAME_SIZE_ERROR), bytes_of(frame(SETTINGS, 0, 0, bytes(3))))
case("6.5.2", "ENABLE_PUSH 1 from a server", goaway(PROTOCOL_ERROR), bytes_of(settings((2, 1))))
case("6.5.2", "ENABLE_PUSH 0 from a server", [], bytes_of(settings((2, 0))))
case("6.5.2", "INITIAL_WINDOW_SIZE 2^31", goaway(FLOW_CONTROL_ERROR), bytes_of(settings((4, 1 << 31))))
case("6.5.2", "MAX_FRAME_SIZE 2^14-1", goaway(PROTOCOL_ERROR), bytes_of(settings((5, 16_383))))
case("6.5.2", "MAX_FRAME_SIZE 2^24", goaway(PROTOCOL_ERROR), bytes_of(settings((5, 1 << 24))))
case("6.5.2", "ENABLE_CONNECT_PROTOCOL taken back", goaway(PROTOCOL_ERROR), bytes_of(settings((8, 0))))
case("6.5.2", "unknown identifier", [], bytes_of(settings((0xFF, 1))))
case("6.6", "PUSH_PROMISE", goaway(PROTOCOL_ERROR), bytes_of(frame(PUSH_PROMISE, END_HEADERS, 1, word(2) + b"\x82")))
case("6.7", "on a stream", goaway(PROTOCOL_ERROR), bytes_of(frame(PING, 0, 1, bytes(8))))
case("6.7", "wrong length", goaway(FRAME_SIZE_ERROR), bytes_of(frame(PING, 0, 0, bytes(6))))
case("6.7", "unexpected ACK", [], bytes_of(frame(PING, ACK, 0, bytes(8))))
case("6.8", "on a stream", goaway(PROTOCOL_ERROR), bytes_of(frame(GOAWAY, 0, 1, bytes(8))))
case("6.9", "0 on the connection", goaway(PROTOCOL_ERROR), bytes_of(frame(WINDOW_UPDATE, 0, 0, word(0))))
case("6.9", "0 on a stream", reset(PROTOCOL_ERROR), bytes_of(frame(WINDOW_UPDATE, 0, 1, word(0))))
case("6.9", "wrong length", goaway(FRAME_SIZE_ERROR), bytes_of(frame(WINDOW_UPDATE, 0, 0, bytes(3))))
case(
    "6.9.1",
    "overflow of the connection",
    goaway(FLOW_CONTROL_ERROR),
    bytes_of(frame(WINDOW_UPDATE, 0, 0, word(2**31 - 1))),
)
case("6.9.1", "overflow of a stream", reset(FLOW_CONTROL_ERROR), bytes_of(frame(WINDOW_UPDATE, 0, 1, word(2**31 - 1))))
case(
    "6.10",
    "pieces",
    [],
    bytes_of(block(b"", END_STREAM), frame(CONTINUATION, 0, 1, b""), frame(CONTINUATION, END_HEADERS, 1, b"\x88")),
)
case("6.10", "stream 0", goaway(PROTOCOL_ERROR), bytes_of(block(b"\x88", 0), frame(CONTINUATION, 4, 0, b"")))
case("6.10", "after END_HEADERS", goaway(PROTOCOL_ERROR), bytes_of(block(b"\x88", 4), frame(CONTINUATION, 4, 1, b"")))
case("7", "unknown code in RST_STREAM", [], bytes_of(frame(RST_STREAM, 0, 1, word(0xFF))))
case("7", "unknown code in GOAWAY", [], bytes_of(frame(GOAWAY, 0, 0, word(3) + word(0xFF))))
# 8 Messages
case(
    "8.1",
    "second final response",
    reset(PROTOCOL_ERROR),
    lambda w: [w.headers(1, OK, end_stream=False), w.headers(1, OK, end_stream=False)],
)
case(
    "8.1",
    "trailers without END_STREAM",
    reset(PROTOCOL_ERROR),
    lambda w: [w.headers(1, OK, end_stream=False), w.headers(1, [(b"x", b"y")], end_stream=False)],
)
case(
    "8.1",
    "trailers with a pseudo-header field",
    reset(PROTOCOL_ERROR),
    lambda w: [w.headers(1, OK, end_stream=False), w.headers(1, OK)],
)
case("8.1", "1xx with END_STREAM", reset(PROTOCOL_ERROR), answer(status=b"103"))
case(
    "8.1",
    "1xx with content-length",
    reset(PROTOCOL_ERROR),
    answer((b"content-length", b"0"), status=b"103", end_stream=False),
)
case("8.1", "101", reset(PROTOCOL_ERROR), answer(status=b"101", end_stream=False))
case(
    "8.1",
    "1xx without a final response",
    reset(PROTOCOL_ERROR),
    lambda w: [w.headers(1, [(b":status", b"103")], end_stream=False), frame(DATA, END_STREAM, 1, b"")],
)
case(
    "8.1.1",
    "content-length above the body",
    reset(PROTOCOL_ERROR),
    lambda w: [w.headers(1, [*OK, (b"content-length", b"5")], end_stream=False), frame(DATA, END_STREAM, 1, b"test")],
)
case(
    "8.1.1",
    "content-length below the body",
    reset(PROTOCOL_ERROR),
    lambda w: [w.headers(1, [*OK, (b"content-length", b"1")], end_stream=False), frame(DATA, 0, 1, b"test")],
)
case("8.1.1", "content-length without a body", reset(PROTOCOL_ERROR), answer((b"content-length", b"5")))
case("8.1.1", "content-length of a 304", [], answer((b"content-length", b"5"), status=b"304"))
case("8.1.1", "content-length 0 of a 204", [], answer((b"content-length", b"0"), status=b"204"))
case("8.1.1", "content-length 1 of a 204", reset(PROTOCOL_ERROR), answer((b"content-length", b"1"), status=b"204"))
case(
    "8.1.1",
    "body of a 204",
    reset(PROTOCOL_ERROR),
    lambda w: [w.headers(1, [(b":status", b"204")], end_stream=False), frame(DATA, END_STREAM, 1, b"test")],
)
case(
    "8.1.1",
    "body of a 304",
    reset(PROTOCOL_ERROR),
    lambda w: [w.headers(1, [(b":status", b"304")], end_stream=False), frame(DATA, 0, 1, b"test")],
)
case("8.2.1", "uppercase name", reset(PROTOCOL_ERROR), answer((b"X", b"y")))
case("8.2.1", "line break in a value", reset(PROTOCOL_ERROR), answer((b"x", b"a\r\nb: c")))
case("8.2.2", "connection", reset(PROTOCOL_ERROR), answer((b"connection", b"close")))
case("8.2.2", "transfer-encoding", reset(PROTOCOL_ERROR), answer((b"transfer-encoding", b"chunked")))
case("8.3.2", "no :status", reset(PROTOCOL_ERROR), lambda w: [w.headers(1, [(b"x", b"y")])])
case("8.3.2", ":status twice", reset(PROTOCOL_ERROR), lambda w: [w.headers(1, [*OK, *OK])])
case("8.3.2", ":status late", reset(PROTOCOL_ERROR), lambda w: [w.headers(1, [(b"x", b"y"), *OK])])
case(
    "8.3.2",
    ":status after a field that is left out",
    reset(PROTOCOL_ERROR),
    lambda w: [w.headers(1, [(b"http2-settings", b"x"), *OK])],
)
case("8.3.2", "request pseudo-header field", reset(PROTOCOL_ERROR), answer((b":path", b"/")))
for status in (b"", b"20", b"2000", b"abc", b"+20", b"099", b" 200", b"2.0"):
    case("8.3.2", f":status {status!r}", reset(PROTOCOL_ERROR), answer(status=status))
case("8.3.2", ":status 999", [], answer(status=b"999"))
# RFC 7541
case("7541 2.3.3", "index beyond both tables", goaway(COMPRESSION_ERROR), bytes_of(block(b"\x88\xfe")))
case("7541 4.2", "size update at the end", goaway(COMPRESSION_ERROR), bytes_of(block(b"\x88\x20")))
case(
    "7541 5.2",
    "Huffman string with EOS",
    goaway(COMPRESSION_ERROR),
    bytes_of(block(b"\x88\x00\x85\xf2\xb2\x4a\x84\xff\x87\x49\x51\xff\xff\xff\xfa\x7f")),
)
case("7541 6.1", "index 0", goaway(COMPRESSION_ERROR), bytes_of(block(b"\x80")))
case("7541 6.3", "size update above the setting", goaway(COMPRESSION_ERROR), bytes_of(block(b"\x3f\xe2\x1f\x88")))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("script", "verdict"), CASES)
def test_a_client_gives_the_verdict_of_the_rfc(engine: str, script: Script, verdict: Verdict) -> None:
    wire = client_wire(engine, requests=2)
    for write in script(wire):
        wire.feed(write)
    assert verdict == wire.verdict
    if verdict and verdict[0][0] == "goaway":
        assert ConnectionTerminated is type(wire.events[-1])
    else:
        if verdict:  # Whoever waits for the response hears of it.
            over = [event for event in wire.events if isinstance(event, StreamReset) and event.stream_id == 1]
            assert 1 == len(over)
        wire.sent.clear()
        wire.feed(frame(PING, 0, 0, b"are you?"))
        assert [(PING, ACK, b"are you?")] == [(sent.kind, sent.flags, sent.payload) for sent in wire.sent]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("script", "verdict"), CASES)
def test_the_verdict_is_the_same_byte_by_byte(engine: str, script: Script, verdict: Verdict) -> None:
    wire = client_wire(engine, requests=2)
    for write in script(wire):
        size = 1 if len(write) < 2_000 else 1_000
        for at in range(0, len(write), size):
            wire.feed(write[at : at + size])
    assert verdict == wire.verdict


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "start", [b"HTTP/1.1 400 Bad Request\r\n\r\n", frame(PING, 0, 0, bytes(8)), settings(flags=ACK), block(b"\x88")]
)
def test_3_4_a_server_that_does_not_begin_with_settings_is_left(engine: str, start: bytes) -> None:
    wire = client_wire(engine, greet=False)
    wire.feed(start)
    assert "goaway" == wire.verdict[0][0]


@pytest.mark.parametrize("engine", ENGINES)
def test_3_4_a_client_begins_with_the_preface_and_settings_that_forbid_push(engine: str) -> None:
    codec = client_codec(engine=engine)
    codec.start()
    data = codec.data_to_send()
    assert data.startswith(PREFACE)
    assert data[24:].startswith(frame(SETTINGS, 0, 0, b"\0\2\0\0\0\0\0\6\0\1\0\0"))


@pytest.mark.parametrize("engine", ENGINES)
def test_informational_final_body_and_trailers_arrive_in_order(engine: str) -> None:
    wire = client_wire(engine, requests=1)
    wire.feed(
        wire.headers(1, [(b":status", b"103"), (b"link", b"x")], end_stream=False)
        + wire.headers(1, [(b":status", b"100")], end_stream=False)
        + wire.headers(1, [*OK, (b"content-length", b"4")], end_stream=False)
        + frame(DATA, 0, 1, b"te")
        + frame(DATA, 0, 1, b"")
        + frame(DATA, PADDED, 1, b"\x01st\0")
        + wire.headers(1, [(b"grpc-status", b"0")])
    )
    assert wire.events == [
        InformationalReceived(1, 103, [(b"link", b"x")]),
        InformationalReceived(1, 100, []),
        ResponseReceived(1, 200, [(b"content-length", b"4")], False, 20, 4),
        DataReceived(1, b"te", 2, False),
        DataReceived(1, b"st", 2, False),
        TrailersReceived(1, [(b"grpc-status", b"0")]),
    ]
    assert 0 == wire.codec.open_streams


@pytest.mark.parametrize("engine", ENGINES)
def test_a_goaway_resets_the_streams_above_it_unprocessed_and_the_others_go_on(engine: str) -> None:
    wire = client_wire(engine, requests=3)
    wire.feed(frame(GOAWAY, 0, 0, word(1) + word(0) + b"bye"))
    assert wire.events == [
        GoAwayReceived(1, 0, b"bye"),
        StreamReset(3, REFUSED_STREAM, False, "goaway", False),
        StreamReset(5, REFUSED_STREAM, False, "goaway", False),
    ]
    assert not wire.codec.can_open
    assert 1 == wire.codec.open_streams
    wire.events.clear()
    wire.feed(wire.headers(1, OK, end_stream=False) + frame(DATA, END_STREAM, 1, b"ok"))
    assert [ResponseReceived(1, 200, [], False, 20), DataReceived(1, b"ok", 2, True)] == wire.events
    assert [] == wire.verdict


@pytest.mark.parametrize("engine", ENGINES)
def test_a_second_goaway_lowers_the_last_stream_and_never_raises_it(engine: str) -> None:
    wire = client_wire(engine, requests=3)
    wire.feed(frame(GOAWAY, 0, 0, word(2**31 - 1) + word(0)))
    assert [GoAwayReceived(2**31 - 1, 0, b"")] == wire.events
    wire.feed(frame(GOAWAY, 0, 0, word(4) + word(0)))
    assert [GoAwayReceived(4, 0, b""), StreamReset(5, REFUSED_STREAM, False, "goaway", False)] == wire.events[1:]
    wire.feed(frame(GOAWAY, 0, 0, word(9) + word(0)))
    assert [GoAwayReceived(4, 0, b"")] == wire.events[3:]
    wire.feed(wire.headers(3, OK))
    assert [ResponseReceived(3, 200, [], True, 20)] == wire.events[4:]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("code", "processed"), [(REFUSED_STREAM, False), (CANCEL, True)])
def test_a_reset_says_whether_the_request_was_processed(engine: str, code: int, processed: bool) -> None:
    wire = client_wire(engine, requests=1)
    wire.feed(frame(RST_STREAM, 0, 1, word(code)))
    assert [StreamReset(1, code, True, "", processed)] == wire.events


@pytest.mark.parametrize("engine", ENGINES)
def test_the_response_to_head_has_its_content_length_and_no_body(engine: str) -> None:
    wire = client_wire(engine)
    wire.codec.send_request(b"HEAD", b"http", b"a.example", b"/", [], end_stream=True)
    wire.codec.send_request(b"HEAD", b"http", b"a.example", b"/", [], end_stream=True)
    wire.flush()
    wire.feed(wire.headers(1, [*OK, (b"content-length", b"5")]))
    assert [ResponseReceived(1, 200, [(b"content-length", b"5")], True, 20, 5)] == wire.events
    wire.feed(wire.headers(3, [*OK, (b"content-length", b"5")], end_stream=False) + frame(DATA, 1, 3, b"12345"))
    assert reset(PROTOCOL_ERROR, 3) == wire.verdict


@pytest.mark.parametrize("engine", ENGINES)
def test_a_response_to_connect_has_no_content_length(engine: str) -> None:
    wire = client_wire(engine)
    wire.codec.send_request(b"CONNECT", b"", b"a.example:1", b"", [], end_stream=False)
    wire.flush()
    wire.feed(wire.headers(1, [*OK, (b"content-length", b"5")], end_stream=False) + frame(DATA, 0, 1, b"raw bytes"))
    assert [ResponseReceived(1, 200, [], False, 20), DataReceived(1, b"raw bytes", 9, False)] == wire.events
