"""All engines get the same bytes, valid and mutated: the verdicts and what was accepted must be the same."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshcore.codec.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    Fields,
    RequestReceived,
    StreamReset,
    TrailersReceived,
)
from meshcore.codec.h2 import client_codec, server_codec
from meshcore.codec.h2.frames import PREFACE, frame
from meshcore.codec.h2.frames import without_goaway as _without_goaway
from meshcore.codec.limits import H2Limits
from meshcore.errors import MeshError
from tests.codec.h2 import wire as w
from tests.codec.h2.wire import GET, OK, POST, Wire, receive, split, word

LIMITS = H2Limits(
    max_concurrent_streams=3,
    stream_window=70_000,
    connection_window=100_000,
    header_list_size=2_000,
    header_count=20,
    path_size=100,
    resets_burst=12,
    control_rate=40.0,
    local_error_resets=12,
)

# Steps are values; each side of a comparison has its own encoder and makes its own bytes of them.
ids = st.sampled_from([1, 1, 3, 3, 5, 7, 9, 2, 0])
tokens = st.sampled_from(
    [b"x", b"y-z", b"te", b"cookie", b"host", b"content-length", b"priority", b"expect", b"X", b"a b"]
)
values = st.sampled_from(
    [b"", b"1", b"trailers", b"a.example", b"a=b", b"0", b"4", b"100-continue", b"v" * 300, b" x", b"\r"]
)
extras = st.lists(st.tuples(tokens, values), max_size=3)
bases = st.sampled_from(
    [
        GET,
        GET,
        POST,
        POST,
        GET[:3],
        [*GET, (b"connection", b"close")],
        [(b":method", b"CONNECT"), (b":authority", b"a:1")],
        [*POST, (b"content-length", b"4")],
        [GET[0], *GET],
        [(b"t", b"v")],
        [(b"t", b"v")],
        [],
    ]
)
answers = st.sampled_from(
    [
        OK,
        OK,
        [(b":status", b"103")],
        [(b":status", b"204")],
        [(b":status", b"304"), (b"content-length", b"4")],
        [*OK, (b"content-length", b"4")],
        [(b":status", b"101")],
        [(b"t", b"v")],
        [*OK, *OK],
    ]
)
flags = st.sampled_from([4, 5, 5, 4, 0, 1, 0x0C, 0x2D])


def steps(heads: st.SearchStrategy[Fields]) -> st.SearchStrategy[list[Any]]:
    """Scripts of frames; most of them make sense."""
    return st.lists(
        st.one_of(
            st.tuples(st.just("headers"), ids, heads, extras, st.sampled_from([4, 5, 5, 4, 4, 5, 0x24, 0x25, 0x0D])),
            st.tuples(st.just("continued"), ids, heads, extras, st.sampled_from([0, 1])),
            st.tuples(st.just("data"), ids, st.integers(0, 9), st.sampled_from([0, 1, 0, 1, 8, 9])),
            st.tuples(st.just("data"), ids, st.sampled_from([4, 4, 16_384, 16_385]), st.sampled_from([0, 1])),
            st.tuples(
                st.just("frame"), st.sampled_from([0, 0, 4, 3, 6, 7, 8, 2, 5, 9, 99]), flags, ids, st.binary(max_size=9)
            ),
            st.tuples(
                st.just("frame"), st.just(8), st.just(0), ids, st.sampled_from([word(1), word(0), word(2**31 - 1)])
            ),
            st.tuples(st.just("frame"), st.just(3), st.just(0), ids, st.just(word(8))),
            st.tuples(
                st.just("settings"), st.sampled_from([(1, 0), (1, 9_999), (4, 0), (4, 100_000), (5, 20_000), (3, 1)])
            ),
            st.tuples(st.just("send"), ids, st.integers(0, 30)),
            st.tuples(st.just("reset"), ids),
            st.just(("flush",)),
        ),
        max_size=14,
    )


class Player:
    """Plays a script on one codec."""

    def __init__(self, engine: str, server: bool) -> None:
        make = server_codec if server else client_codec
        self.wire = Wire(make(LIMITS, engine), server, respond=False)
        self.codec = self.wire.codec
        self.server = server
        self.pending = b""
        self.log: list[Any] = []
        self.codec.start()
        self.feed((PREFACE if server else b"") + w.settings() + w.settings(flags=1))
        if not server:
            for _ in range(4):
                self.codec.send_request(b"POST", b"http", b"a", b"/", [], end_stream=False)

    def feed(self, data: bytes) -> None:
        self.wire.events += receive(self.codec, data)

    def step(self, step: Any) -> None:
        kind = step[0]
        if kind == "headers":
            _, stream_id, head, more, flag = step
            block = self.wire.encoder.encode([*head, *more])
            if flag & 8:
                block = b"\x02" + block + b"\0\0"
            if flag & 0x20:
                block = word(stream_id if len(more) == 3 else 11) + b"\x07" + block
            self.pending += frame(1, flag, stream_id, block)
        elif kind == "continued":
            _, stream_id, head, more, flag = step
            block = self.wire.encoder.encode([*head, *more])
            half = len(block) // 2
            self.pending += frame(1, flag, stream_id, block[:half]) + frame(9, 4, stream_id, block[half:])
        elif kind == "data":
            _, stream_id, size, flag = step
            self.pending += frame(0, flag, stream_id, bytes(size))
        elif kind == "frame":
            self.pending += frame(*step[1:])
        elif kind == "settings":
            self.pending += w.settings(step[1])
        else:
            self.deliver()
            if kind == "send":
                self.send(step[1], step[2])
            elif kind == "reset":
                self.codec.reset_stream(step[1], 8)

    def deliver(self) -> None:
        data, self.pending = self.pending, b""
        if data:
            self.feed(data)

    def send(self, stream_id: int, size: int) -> None:
        try:
            if self.server:
                self.codec.send_response(stream_id, 200, [], end_stream=False)
        except MeshError as error:
            self.log.append(("head", type(error), str(error)))
        window = self.codec.window(stream_id)
        self.log.append(("window", window))
        try:
            self.codec.send_data(stream_id, bytes(min(size, window)), end_stream=size > 20)
        except MeshError as error:
            self.log.append(("body", type(error), str(error)))

    def play(self, script: list[Any]) -> None:
        for step in script:
            self.step(step)
        self.deliver()
        self.wire.flush()

    def by_stream(self) -> dict[int, list[Event]]:
        """Accepted messages, in order on each stream."""
        found: dict[int, list[Event]] = {}
        for event in self.wire.events:
            stream_id = getattr(event, "stream_id", -1)
            if isinstance(event, ConnectionTerminated):
                found.setdefault(-2, []).append(ConnectionTerminated(event.code, "", event.abuse))
            else:
                found.setdefault(stream_id, []).append(event)
        return {key: [strip(event) for event in events] for key, events in found.items()}

    def accepted(self) -> dict[int, list[Event]]:
        """The same without the resets that this side made."""
        return {
            key: kept
            for key, events in self.by_stream().items()
            if (kept := [event for event in events if not isinstance(event, StreamReset) or event.remote])
        }

    def verdicts(self) -> list[tuple[Any, ...]]:
        return final(self.wire)

    def said(self) -> tuple[Any, ...]:
        """Everything sent; header blocks compress differently, and DATA frames may be merged."""
        bodies: dict[int, bytes] = {}
        others = []
        for sent in self.wire.sent:
            if sent.kind == 0:
                bodies[sent.stream_id] = bodies.get(sent.stream_id, b"") + sent.payload
                others += [(0, 1, sent.stream_id, b"")] * (sent.flags & 1)
            else:
                others.append((sent.kind, sent.flags, sent.stream_id, sent.payload if sent.kind not in (1, 7) else b""))
        return {key: value for key, value in bodies.items() if value}, sorted(others)

    def returned(self) -> int:
        """Credit of the connection that went back to the peer."""
        return sum(
            int.from_bytes(sent.payload, "big") for sent in self.wire.sent if sent.kind == 8 and sent.stream_id == 0
        )


def final(wire: Wire) -> list[tuple[Any, ...]]:
    """The verdicts; the fast engine says nothing of single streams once header compression has failed."""
    goaways = [verdict for verdict in wire.verdict if verdict[0] == "goaway"]
    return goaways or sorted(wire.verdict)


def strip(event: Event) -> Event:
    """Without the reason, which only logs see."""
    if hasattr(event, "reason"):
        event.reason = ""
    return event


def compare(script: list[Any], server: bool) -> None:
    players = [Player(engine, server) for engine in w.ENGINES]
    for player in players:
        player.play(script)
    *others, pure = players
    for other in others:
        agree(other, pure)


def agree(fast: Player, pure: Player) -> None:
    assert fast.verdicts() == pure.verdicts()
    if fast.wire.terminated:
        assert fast.accepted() == pure.accepted()
        return
    assert fast.by_stream() == pure.by_stream()
    assert fast.log == pure.log
    assert fast.returned() == pure.returned()
    assert fast.codec.open_streams == pure.codec.open_streams
    assert fast.said() == pure.said()


@given(steps(bases))
@settings(max_examples=80)
def test_servers_agree(script: list[Any]) -> None:
    compare(script, True)


@given(steps(answers))
@settings(max_examples=80)
def test_clients_agree(script: list[Any]) -> None:
    compare(script, False)


def sensible() -> bytes:
    """A conversation with something of everything."""
    wire = w.server_wire("pure", respond=False)
    return b"".join(
        [
            wire.headers(1, [*POST, (b"content-length", b"8"), (b"cookie", b"a=b")], end_stream=False),
            frame(0, 0, 1, b"four"),
            frame(8, 0, 0, word(100)),
            wire.headers(3, GET),
            frame(0, 8, 1, b"\x03four" + bytes(3)),
            frame(6, 0, 0, b"pingping"),
            wire.headers(1, [*[(b"trailer", b"x")][:0], (b"x-sum", b"1")]),
            frame(2, 0, 9, bytes(5)),
            wire.headers(5, [*GET, (b"x", b"y")]),
            frame(3, 0, 5, word(8)),
            w.settings((4, 1_000)),
        ]
    )


SENSIBLE = sensible()


def play_bytes(engine: str, pieces: list[bytes]) -> Wire:
    wire = w.server_wire(engine, respond=False)
    for piece in pieces:
        wire.feed(piece)
    return wire


def outcome(wire: Wire) -> tuple[Any, ...]:
    events = [event for event in wire.events if isinstance(event, RequestReceived | DataReceived | TrailersReceived)]
    return final(wire), sorted(events, key=lambda event: event.stream_id)


@pytest.mark.parametrize("engine", w.ENGINES)
@given(cuts=st.lists(st.integers(0, len(SENSIBLE)), max_size=12))
def test_pieces_change_nothing(engine: str, cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(SENSIBLE)]
    pieces = [SENSIBLE[a:b] for a, b in itertools.pairwise(edges)]
    assert outcome(play_bytes(engine, [SENSIBLE])) == outcome(play_bytes(engine, pieces))


@given(
    edits=st.lists(st.tuples(st.integers(0, len(SENSIBLE) - 1), st.integers(0, 255)), min_size=1, max_size=3),
    cut=st.integers(0, len(SENSIBLE)),
)
@settings(max_examples=200)
def test_mutated_bytes_get_the_same_verdict(edits: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(SENSIBLE)
    for at, value in edits:
        data[at] = value
    pieces = [bytes(data[:cut]), bytes(data[cut:])]
    fast, direct, pure = [play_bytes(engine, pieces) for engine in w.ENGINES]
    assert outcome(fast) == outcome(pure)
    assert outcome(direct) == outcome(pure)


@given(st.binary(max_size=60))
def test_noise_gets_the_same_verdict(noise: bytes) -> None:
    fast, direct, pure = [play_bytes(engine, [noise]) for engine in w.ENGINES]
    assert outcome(fast) == outcome(pure)
    assert outcome(direct) == outcome(pure)


def test_goaway_is_taken_out_of_whole_frames() -> None:
    ping = frame(6, 0, 0, bytes(8))
    assert ping * 2 == _without_goaway(ping + frame(7, 0, 0, bytes(8)) + ping)
    assert [] == split(_without_goaway(b""))
