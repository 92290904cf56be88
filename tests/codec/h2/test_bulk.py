"""Large reads whose DATA is taken where it lies say and count the same as reads that make events of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshcore.codec.events import DataReceived
from meshcore.codec.h2.connection import Connection
from meshcore.codec.h2.frames import frame
from meshcore.codec.limits import H2Limits
from tests.codec.h2.wire import (
    CONTINUATION,
    DATA,
    END_STREAM,
    ENGINES,
    FAST,
    HEADERS,
    OK,
    PADDED,
    PING,
    RST_STREAM,
    WINDOW_UPDATE,
    Frame,
    Wire,
    client_wire,
    server_wire,
    settings,
    split,
    word,
)

STREAMS = (1, 3)
SIZES = {"data": 5_000, "large": 16_384, "tiny": 20, "padded": 317, "last": 1_000}
LIMITS = H2Limits(stream_window=70_000, connection_window=100_000)

frames = st.lists(
    st.tuples(
        st.sampled_from(STREAMS),
        st.sampled_from(
            ["data"] * 8
            + ["large", "tiny", "empty", "padded", "last", "reset", "ping", "trailers", "open block", "long"]
        ),
    ),
    max_size=25,
)


def written(wire: Wire, script: list[tuple[int, str]]) -> bytes:
    """The frames of the script, behind the responses' heads, as far as the windows allow them at once; the second
    stream has a content-length."""
    parts = []
    room = {0: 100_000, 1: 70_000, 3: 70_000}
    for index, (stream_id, what) in enumerate(script):
        fill = b"%d" % (index % 10)
        room[0] -= SIZES.get(what, 0)
        room[stream_id] -= SIZES.get(what, 0)
        if min(room.values()) < 0:
            break
        parts.append(
            {
                "data": frame(DATA, 0, stream_id, fill * 5_000),
                "large": frame(DATA, 0, stream_id, fill * 16_384),
                "tiny": frame(DATA, 0, stream_id, fill * 20),
                "empty": frame(DATA, 0, stream_id),
                "padded": frame(DATA, PADDED, stream_id, b"\x10" + fill * 300 + bytes(16)),
                "last": frame(DATA, END_STREAM, stream_id, fill * 1_000),
                "reset": frame(RST_STREAM, 0, stream_id, word(8)),
                "ping": frame(PING, 0, 0, b"12345678"),
                "trailers": wire.headers(stream_id, [(b"a", b"b")]),
                "open block": wire.headers(stream_id, [(b"a", b"b")], flags=0),
                "long": frame(DATA, 0, stream_id, fill * 16_385),
            }[what]
        )
    return b"".join(parts)


def begun(engine: str) -> Wire:
    wire = client_wire(engine, LIMITS, requests=2)
    wire.feed(
        wire.headers(1, OK, end_stream=False)
        + wire.headers(3, [*OK, (b"content-length", b"60000")], end_stream=False)
    )
    wire.events.clear()
    wire.sent.clear()
    return wire


class Bulk:
    """Feeds a codec by large reads, with takers that take until *decide* says no."""

    def __init__(self, wire: Wire, decide: Callable[[], bool]) -> None:
        self.wire = wire
        self.decide = decide
        self.heard: list[tuple[Any, ...]] = []
        self.taken = 0

    def taker(self, stream_id: int) -> Callable[[memoryview], bool]:
        def take(view: memoryview) -> bool:
            if not self.decide():
                return False
            assert len(view) - 9 == int.from_bytes(view[:3], "big")
            self.heard.append((stream_id, bytes(view[9:])))
            self.taken += 1
            # What is written over is nobody else's.
            view[:] = b"#" * len(view)
            return True

        return take

    def feed(self, data: bytes) -> None:
        codec = self.wire.codec
        begun = codec.take_partial()
        takers = {stream_id: self.taker(stream_id) for stream_id in STREAMS}
        events = codec.receive_bulk(memoryview(bytearray(begun + data)), 0.0, takers)
        heard(self.wire, events, self.heard)


def heard(wire: Wire, events: list[Any], into: list[tuple[Any, ...]]) -> None:
    for event in events:
        if isinstance(event, DataReceived):
            into.append((event.stream_id, event.data))
            if event.end_stream:
                into.append((event.stream_id, "end"))
            wire.codec.acknowledge(event.stream_id, event.flow)
        else:
            into.append((getattr(event, "stream_id", 0), event))
    wire.flush()


def by_stream(found: list[tuple[Any, ...]]) -> dict[int, list[Any]]:
    """What was heard of each stream, neighbouring bytes joined."""
    streams: dict[int, list[Any]] = {}
    for stream_id, what in found:
        seen = streams.setdefault(stream_id, [])
        if isinstance(what, bytes) and seen and isinstance(seen[-1], bytes):
            seen[-1] += what
        elif what != b"":
            seen.append(what)
    return streams


def wire_ended(wire: Wire) -> bool:
    return any(what == "goaway" for what, *_ in wire.verdict)


def windows(wire: Wire) -> tuple[Any, ...]:
    """Credit that has not gone back yet may have been saved up in another order."""
    codec = wire.codec
    assert isinstance(codec, Connection)
    streams = sorted((each.id, each.recv_window + each.credit, each.length) for each in codec._streams.values())
    return codec._recv_window + codec._credit, codec._unread, streams


@pytest.mark.parametrize("engine", ENGINES)
@given(
    script=frames, cuts=st.lists(st.integers(0, 150_000), max_size=4), refusals=st.lists(st.booleans(), max_size=20)
)
def test_taken_or_told_a_peer_sees_no_difference(
    engine: str, script: list[tuple[int, str]], cuts: list[int], refusals: list[bool]
) -> None:
    plain, bulk = begun(engine), begun(engine)
    data = written(plain, script)
    assert data == written(bulk, script)
    answers = iter(refusals)
    reader = Bulk(bulk, lambda: next(answers, True))
    told: list[tuple[Any, ...]] = []
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, stop in itertools.pairwise(edges):
        heard(plain, plain.codec.receive_data(data[start:stop], 0.0), told)
        reader.feed(data[start:stop])
    assert by_stream(told) == by_stream(reader.heard)
    if not wire_ended(plain):
        assert windows(plain) == windows(bulk)
    assert plain.verdict == bulk.verdict


@pytest.mark.parametrize("engine", FAST)
@pytest.mark.parametrize(("count", "verdict"), [(5, [("reset", 1, 3)]), (7, [("reset", 1, 3), ("goaway", 3)])])
def test_a_window_holds_within_one_read_whoever_takes_what_comes(
    count: int, verdict: list[tuple[Any, ...]], engine: str
) -> None:
    data = frame(DATA, 0, 1, b"x" * 16_384) * count
    plain, bulk = begun(engine), begun(engine)
    heard(plain, plain.codec.receive_data(data, 0.0), [])
    Bulk(bulk, lambda: True).feed(data)
    assert verdict == plain.verdict
    assert verdict == bulk.verdict


@pytest.mark.parametrize("engine", FAST)
def test_what_is_taken_makes_no_event(engine: str) -> None:
    wire = begun(engine)
    reader = Bulk(wire, lambda: True)
    reader.feed(written(wire, [(1, "data"), (3, "data"), (1, "data")]))
    assert (3, []) == (reader.taken, wire.events)


@pytest.mark.parametrize("engine", FAST)
def test_nothing_is_taken_inside_a_header_block(engine: str) -> None:
    wire = begun(engine)
    reader = Bulk(wire, lambda: True)
    reader.feed(frame(HEADERS, END_STREAM, 3, b"") + frame(DATA, 0, 1, b"x" * 500) + frame(CONTINUATION, 4, 3, b""))
    assert 0 == reader.taken
    assert [("goaway", 1)] == wire.verdict


@pytest.mark.parametrize("engine", FAST)
def test_a_frame_that_comes_in_two_reads_is_taken_whole(engine: str) -> None:
    wire = begun(engine)
    reader = Bulk(wire, lambda: True)
    data = frame(DATA, 0, 1, b"x" * 500)
    reader.feed(data[:200])
    assert 0 == reader.taken
    reader.feed(data[200:])
    assert [(1, b"x" * 500)] == reader.heard


# -- sending ------------------------------------------------------------------------------------


def answering(engine: str, fields: list[tuple[bytes, bytes]] | None = None) -> Wire:
    wire = server_wire(engine, respond=False)
    wire.feed(wire.headers(1, [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a")]))
    wire.codec.send_response(1, 200, fields or [], end_stream=False)
    wire.flush()
    wire.sent.clear()
    return wire


@pytest.mark.parametrize("engine", ENGINES)
def test_a_frame_is_forwarded_under_the_number_of_its_new_stream(engine: str) -> None:
    wire = answering(engine)
    assert wire.codec.forward(1, memoryview(bytearray(frame(DATA, 0, 77, b"x" * 3_000))))
    assert [Frame(DATA, 0, 1, b"x" * 3_000)] == split(b"".join(wire.codec.take_parts()))
    assert 65_535 - 3_000 == wire.codec.window(1)
    assert b"" == b"".join(wire.codec.take_parts())


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_forwarded_keeps_its_place_among_what_is_sent(engine: str) -> None:
    wire = answering(engine)
    wire.codec.send_data(1, b"first", end_stream=False)
    assert wire.codec.forward(1, memoryview(bytearray(frame(DATA, 0, 5, b"y" * 100))))
    wire.codec.send_data(1, b"last", end_stream=True)
    data = b"".join(each.payload for each in split(b"".join(wire.codec.take_parts())))
    assert b"first" + b"y" * 100 + b"last" == data


@pytest.mark.parametrize("engine", ENGINES)
def test_a_frame_that_cannot_be_sent_is_left_alone(engine: str) -> None:
    def view(size: int) -> memoryview:
        return memoryview(bytearray(frame(DATA, 0, 5, b"x" * size)))

    wire = answering(engine, [(b"content-length", b"50")])
    untouched = view(100)
    # Longer than its content-length, of a stream that there is not, larger than the peer's frames.
    assert not wire.codec.forward(1, untouched)
    assert bytes(view(100)) == bytes(untouched)
    assert not wire.codec.forward(3, view(100))
    wire = answering(engine)
    assert not wire.codec.forward(1, view(16_385))
    # Beyond the window; after the end.
    for _ in range(4):
        assert wire.codec.forward(1, view(16_000))
    assert not wire.codec.forward(1, view(16_000))
    wire.feed(settings((4, 200_000)) + frame(WINDOW_UPDATE, 0, 0, word(100_000)))
    assert wire.codec.forward(1, view(16_000))
    codec = wire.codec
    codec.send_data(1, b"", end_stream=True)
    assert not wire.codec.forward(1, view(100))
    codec.close()
    assert not wire.codec.forward(1, view(100))
    assert [] == codec.take_parts()
