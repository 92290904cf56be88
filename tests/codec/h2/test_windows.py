"""Flow control: no byte of the connection's window is ever lost, whatever becomes of streams."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshcore.codec.events import DataReceived, SettingsChanged, StreamReset, WindowUpdated
from meshcore.codec.h2 import server_codec
from meshcore.codec.h2.connection import Connection
from meshcore.codec.h2.frames import frame
from meshcore.codec.limits import H2Limits
from meshcore.errors import CANCEL, LocalProtocolError
from meshcore.errors import StreamReset as StreamResetError
from tests.codec.h2.wire import (
    DATA,
    END_STREAM,
    ENGINES,
    GET,
    HEADERS,
    OK,
    PADDED,
    POST,
    RST_STREAM,
    WINDOW_UPDATE,
    Wire,
    client_wire,
    server_wire,
    settings,
    word,
)

WINDOW = 70_000
SMALL = H2Limits(stream_window=65_535, connection_window=WINDOW, local_error_resets=10_000)


def returned(wire: Wire, stream_id: int = 0) -> int:
    """Credit that the peer got back by WINDOW_UPDATE."""
    updates = [sent for sent in wire.kinds(WINDOW_UPDATE) if sent.stream_id == stream_id]
    return sum(int.from_bytes(sent.payload, "big") for sent in updates)


def kept(wire: Wire) -> int:
    """Credit that is being saved up for the next WINDOW_UPDATE of the connection."""
    assert isinstance(wire.codec, Connection)
    return wire.codec._credit


actions = st.lists(
    st.sampled_from(
        [
            "small",
            "large",
            "padded",
            "padding",
            "empty",
            "excess",
            "malformed",
            "reset",
            "refuse",
            "late",
            "abandon",
            "end",
        ]
    ),
    min_size=1,
    max_size=25,
)


@pytest.mark.parametrize("engine", ENGINES)
@given(script=actions)
def test_the_connection_window_is_whole_again_when_all_streams_are_gone(engine: str, script: list[str]) -> None:
    wire = server_wire(engine, SMALL, respond=False)
    sent = 0
    stream_id = -1
    unread: list[DataReceived] = []

    def data(flags: int, payload: bytes) -> None:
        nonlocal sent
        if sent - returned(wire) + len(payload) > WINDOW:
            return
        sent += len(payload)
        unread.extend([e for e in wire.feed(frame(DATA, flags, stream_id, payload)) if isinstance(e, DataReceived)])

    def consume() -> None:
        for event in unread:
            wire.codec.acknowledge(event.stream_id, event.flow)
        unread.clear()
        wire.flush()

    for action in script:
        stream_id += 2
        declared = [(b"content-length", b"5")] if action == "excess" else []
        bad = [(b"connection", b"x")] if action == "malformed" else []
        wire.feed(wire.headers(stream_id, [*POST, *declared, *bad], end_stream=False))
        if action == "refuse":
            wire.codec.reset_stream(stream_id, CANCEL)
        data(0, b"12345")
        if action == "large":
            for _ in range(3):
                data(0, bytes(15_000))
                consume()
        elif action == "padded":
            data(PADDED, b"\x64" + bytes(300))
        elif action == "padding":
            data(PADDED, b"\xff" + bytes(255))
        elif action == "empty":
            data(0, b"")
        elif action == "excess":
            data(0, bytes(600))
            data(END_STREAM, bytes(600))
        elif action == "reset":
            wire.feed(frame(RST_STREAM, 0, stream_id, word(CANCEL)))
            data(0, bytes(600))
        elif action == "late":
            wire.codec.reset_stream(stream_id, CANCEL)
            data(0, bytes(600))
        elif action == "abandon":
            data(0, bytes(20_000)[:16_000])
            wire.codec.reset_stream(stream_id, CANCEL)
            consume()
        data(END_STREAM, b"end")
        wire.codec.reset_stream(stream_id, CANCEL)
    consume()
    assert wire.terminated is None
    assert sent == returned(wire) + kept(wire)
    assert kept(wire) * 2 < WINDOW
    assert 0 == wire.codec.open_streams


@pytest.mark.parametrize("engine", ENGINES)
def test_credit_goes_back_by_halves_of_a_window(engine: str) -> None:
    wire = server_wire(engine, H2Limits(stream_window=65_535, connection_window=200_000), respond=False)
    wire.feed(wire.headers(1, POST, end_stream=False) + frame(DATA, 0, 1, bytes(16_000)) * 4)
    assert not wire.codec.acknowledge(1, 16_000)
    assert not wire.codec.acknowledge(1, 16_000)
    assert wire.codec.acknowledge(1, 16_000)
    wire.flush()
    assert (0, 48_000) == (returned(wire), returned(wire, 1))
    wire.feed(frame(DATA, 0, 1, bytes(16_000)) * 3)
    for _ in range(4):
        wire.codec.acknowledge(1, 16_000)
    wire.flush()
    assert (112_000, 96_000) == (returned(wire), returned(wire, 1))


@pytest.mark.parametrize("engine", ENGINES)
def test_after_the_end_of_a_stream_only_the_connection_gets_credit(engine: str) -> None:
    wire = server_wire(engine, SMALL, respond=False)
    wire.feed(wire.headers(1, POST, end_stream=False) + frame(DATA, 0, 1, bytes(16_000)) * 3)
    wire.feed(frame(DATA, END_STREAM, 1, b""))
    for _ in range(3):
        wire.codec.acknowledge(1, 16_000)
    wire.flush()
    assert (48_000, 0) == (returned(wire), returned(wire, 1))


@pytest.mark.parametrize("engine", ENGINES)
def test_padding_is_returned_without_being_asked_for(engine: str) -> None:
    wire = server_wire(engine, SMALL, respond=False)
    wire.feed(wire.headers(1, POST, end_stream=False))
    events = wire.feed(frame(DATA, PADDED, 1, b"\xff" + b"data" + bytes(255)))
    assert [DataReceived(1, b"data", 4, False)] == events
    assert 256 == kept(wire)


@pytest.mark.parametrize("engine", ENGINES)
def test_more_than_the_engines_own_window_passes(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshcore.codec.h2.bodies._SETTLE_AT", 100_000)
    wire = server_wire(engine, H2Limits(stream_window=1 << 20), respond=False)
    for stream_id in (1, 3):
        wire.feed(wire.headers(stream_id, POST, end_stream=False))
    chunk = frame(DATA, 0, 1, bytes(16_000)) + frame(DATA, 0, 3, bytes(16_000))
    total = 0
    for _ in range(100):
        for event in wire.feed(chunk):
            assert isinstance(event, DataReceived)
            total += event.flow
            wire.codec.acknowledge(event.stream_id, event.flow)
    wire.feed(frame(DATA, END_STREAM, 3, bytes(10)))
    assert [] == wire.verdict
    assert 3_200_000 == total
    windows = [int.from_bytes(sent.payload, "big") for sent in wire.kinds(WINDOW_UPDATE)]
    assert windows
    assert all(window < 1 << 27 for window in windows)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_announced_connection_window_holds_every_stream(engine: str) -> None:
    wire = server_wire(engine, H2Limits(max_concurrent_streams=7, stream_window=100_000), greet=False)
    wire.flush()
    assert 7 * 100_000 - 65_535 == returned(wire)
    wire = server_wire(engine, H2Limits(stream_window=2**31 - 1), greet=False)
    wire.flush()
    assert 2**31 - 1 - 65_535 == returned(wire)


# -- what this side sends


@pytest.mark.parametrize("engine", ENGINES)
def test_the_window_is_the_smaller_of_two_and_never_negative(engine: str) -> None:
    wire = server_wire(engine, respond=False)
    wire.feed(settings((4, 10)) + wire.headers(1, GET) + wire.headers(3, GET))
    codec = wire.codec
    assert 10 == codec.window(1)
    codec.send_response(1, 200, [], end_stream=False)
    codec.send_data(1, b"12345678", end_stream=False)
    with pytest.raises(LocalProtocolError):
        codec.send_data(1, b"123", end_stream=False)
    wire.feed(settings((4, 5)))
    assert 0 == codec.window(1)
    wire.feed(frame(WINDOW_UPDATE, 0, 1, word(4)))
    assert 1 == codec.window(1)
    wire.feed(settings((4, 100_000)))
    assert 65_535 - 8 == codec.window(3)
    wire.feed(frame(WINDOW_UPDATE, 0, 0, word(1_000_000)))
    assert 100_000 == codec.window(3)
    assert 0 == codec.window(5)
    assert [SettingsChanged(), WindowUpdated(1), SettingsChanged(), WindowUpdated(0)] == wire.events[3:]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("by_peer", [True, False])
def test_a_body_that_was_queued_when_its_stream_was_reset_does_not_cost_the_window(engine: str, by_peer: bool) -> None:
    wire = server_wire(engine, respond=False)
    wire.feed(wire.headers(1, GET) + wire.headers(3, GET))
    wire.codec.send_response(1, 200, [], end_stream=False)
    wire.codec.send_data(1, bytes(40_000), end_stream=False)
    if by_peer:
        wire.feed(frame(RST_STREAM, 0, 1, word(CANCEL)))
    else:
        wire.codec.reset_stream(1, CANCEL)
    wire.flush()
    passed = sum(len(sent.payload) for sent in wire.kinds(DATA))
    assert 65_535 - passed == wire.codec.window(3)
    wire.codec.send_response(3, 200, [], end_stream=False)
    wire.codec.send_data(3, bytes(wire.codec.window(3)), end_stream=True)
    wire.flush()
    assert 65_535 == sum(len(sent.payload) for sent in wire.kinds(DATA))


@pytest.mark.parametrize("engine", ENGINES)
def test_bodies_are_split_as_the_peer_allows(engine: str) -> None:
    wire = server_wire(engine, respond=False)
    wire.feed(settings((5, 20_000)) + wire.headers(1, GET))
    wire.codec.send_response(1, 200, [], end_stream=False)
    wire.codec.send_data(1, bytes(60_000), end_stream=True)
    frames = [sent for sent in wire.flush() if sent.kind == DATA]
    assert 60_000 == sum(len(sent.payload) for sent in frames)
    assert all(len(sent.payload) <= 20_000 for sent in frames)
    assert [0] * (len(frames) - 1) + [END_STREAM] == [sent.flags for sent in frames]


@pytest.mark.parametrize("engine", ENGINES)
def test_large_header_blocks_are_split(engine: str) -> None:
    wire = client_wire(engine)
    wire.codec.send_request(
        b"GET", b"http", b"a", b"/", [(b"x-%d" % n, b"v" * 4_000) for n in range(12)], end_stream=True
    )
    frames = wire.flush()
    assert [HEADERS] + [9] * (len(frames) - 1) == [sent.kind for sent in frames]
    assert len(frames) > 1
    assert all(len(sent.payload) <= 16_384 for sent in frames)
    assert 16 == len(wire.decoder.decode(b"".join([sent.payload for sent in frames]), raw=True))


@pytest.mark.parametrize("engine", ENGINES)
def test_max_concurrent_streams_may_change(engine: str) -> None:
    wire = client_wire(engine, requests=2)
    wire.feed(settings((3, 2)))
    assert not wire.codec.can_open
    with pytest.raises(LocalProtocolError):
        wire.codec.send_request(b"GET", b"http", b"a", b"/", [], end_stream=True)
    wire.feed(settings((3, 1)))
    wire.feed(wire.headers(1, OK))
    assert not wire.codec.can_open
    wire.feed(wire.headers(3, OK))
    assert wire.codec.can_open
    assert 1 == wire.codec.peer_max_streams


@pytest.mark.parametrize("engine", ENGINES)
def test_sending_on_a_stream_that_is_over_raises_and_resetting_it_does_nothing(engine: str) -> None:
    wire = server_wire(engine, respond=False)
    wire.feed(wire.headers(1, POST, end_stream=False) + frame(RST_STREAM, 0, 1, word(CANCEL)))
    assert StreamReset(1, CANCEL, True) == wire.events[-1]
    codec = wire.codec
    sends: list[Any] = [
        lambda: codec.send_informational(1, 103, []),
        lambda: codec.send_response(1, 200, [], end_stream=True),
        lambda: codec.send_data(1, b"x", end_stream=False),
        lambda: codec.send_data(1, b"", end_stream=True),
        lambda: codec.send_trailers(1, []),
    ]
    for send in sends:
        with pytest.raises(StreamResetError):
            send()
    codec.reset_stream(1, CANCEL)
    codec.acknowledge(1, 0)
    assert [] == wire.flush()
    assert 0 == codec.window(1)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_closed_codec_lets_its_engine_go_at_once_and_does_nothing_more(engine: str) -> None:
    codec = server_codec(H2Limits(), engine)
    codec.start()

    codec.close()
    codec.close()

    assert codec._engine is None  # type: ignore[attr-defined]
    assert codec.receive_data(b"x" * 100, 0.0) == []
    assert codec.data_to_send() == b""
    assert codec.window(1) == 0
    codec.reset_stream(1, 8)
    codec.goaway()
    codec.ping(b"12345678")
    assert codec.acknowledge(1, 10) is False
    assert codec.data_to_send() == b""
