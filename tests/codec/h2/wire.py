"""A peer made of bytes: writes any frame, sane or not, and reads what the codec answers."""

from __future__ import annotations

from struct import unpack
from typing import Any

import attrs
from hpack import Decoder, Encoder

from meshcore.codec.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    Fields,
    RequestReceived,
    TrailersReceived,
)
from meshcore.codec.h2 import H2Codec, client_codec, server_codec
from meshcore.codec.h2.frames import PREFACE, frame
from meshcore.codec.limits import H2Limits

FAST = ("ngh2", "direct")
"""Those that bodies pass by."""

ENGINES = (*FAST, "pure")

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, HAS_PRIORITY = 1, 1, 4, 8, 32

GET: Fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a.example")]
POST: Fields = [(b":method", b"POST"), *GET[1:]]
OK: Fields = [(b":status", b"200")]


def receive(codec: H2Codec, data: bytes, now: float = 0.0) -> list[Event]:
    """Everything that *data* brings, in as many calls as the codec wants."""
    events = codec.receive_data(data, now)
    while codec.unfinished:
        events += codec.receive_data(b"", now)
    return events


def word(value: int) -> bytes:
    return value.to_bytes(4, "big")


def settings(*pairs: tuple[int, int], flags: int = 0) -> bytes:
    payload = b"".join(key.to_bytes(2, "big") + word(value) for key, value in pairs)
    return frame(SETTINGS, flags, 0, payload)


@attrs.frozen
class Frame:
    """One frame that the codec sent."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes


def split(data: bytes) -> list[Frame]:
    """The frames of *data*, which must be whole."""
    frames = []
    if data.startswith(PREFACE):
        data = data[len(PREFACE) :]
    while data:
        length = int.from_bytes(data[:3], "big")
        kind, flags, stream_id = unpack(">BBI", data[3:9])
        assert len(data) >= 9 + length
        frames.append(Frame(kind, flags, stream_id, data[9 : 9 + length]))
        data = data[9 + length :]
    return frames


@attrs.define
class Wire:
    """One codec and the peer that torments it.

    ``verdict`` is what the peer sees of errors: ``("goaway", code)`` and ``("reset", stream, code)``.
    """

    codec: H2Codec
    server: bool
    respond: bool = True
    now: float = 0.0
    events: list[Event] = attrs.Factory(list)
    sent: list[Frame] = attrs.Factory(list)
    encoder: Encoder = attrs.Factory(Encoder)
    decoder: Decoder = attrs.Factory(Decoder)

    def feed(self, data: bytes) -> list[Event]:
        """Gives *data* to the codec, answers finished requests, and collects what it sends."""
        events = receive(self.codec, data, self.now)
        self.events += events
        if self.server and self.respond:
            for event in events:
                ended = isinstance(event, TrailersReceived) or (
                    isinstance(event, RequestReceived | DataReceived) and event.end_stream
                )
                if isinstance(event, DataReceived):
                    self.codec.acknowledge(event.stream_id, event.flow)
                if ended and self.codec.window(event.stream_id) >= 2:
                    self.codec.send_response(event.stream_id, 200, [], end_stream=False)
                    self.codec.send_data(event.stream_id, b"ok", end_stream=True)
        self.flush()
        return events

    def flush(self) -> list[Frame]:
        frames = split(self.codec.data_to_send())
        self.sent += frames
        return frames

    def headers(self, stream_id: int, fields: Fields, *, end_stream: bool = True, flags: int = END_HEADERS) -> bytes:
        return frame(HEADERS, flags | (END_STREAM if end_stream else 0), stream_id, self.encoder.encode(fields))

    @property
    def verdict(self) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = []
        for sent in self.sent:
            if sent.kind == GOAWAY:
                found.append(("goaway", int.from_bytes(sent.payload[4:8], "big")))
            elif sent.kind == RST_STREAM:
                found.append(("reset", sent.stream_id, int.from_bytes(sent.payload, "big")))
        return found

    @property
    def terminated(self) -> ConnectionTerminated | None:
        last = self.events[-1] if self.events else None
        return last if isinstance(last, ConnectionTerminated) else None

    def kinds(self, kind: int) -> list[Frame]:
        return [sent for sent in self.sent if sent.kind == kind]


def server_wire(engine: str, limits: H2Limits | None = None, *, greet: bool = True, respond: bool = True) -> Wire:
    """A server codec, whose client has sent preface and SETTINGS and acknowledged ours."""
    wire = Wire(server_codec(limits or H2Limits(), engine), True, respond)
    wire.codec.start()
    if greet:
        wire.feed(PREFACE + settings() + settings(flags=ACK))
        wire.events.clear()
        wire.sent.clear()
    return wire


def client_wire(
    engine: str, limits: H2Limits | None = None, *, greet: bool = True, requests: int = 0, body: bool = False
) -> Wire:
    """A client codec, whose server has sent SETTINGS and acknowledged ours, with *requests* under way."""
    wire = Wire(client_codec(limits or H2Limits(), engine), False)
    wire.codec.start()
    if greet:
        wire.feed(settings((8, 1)) + settings(flags=ACK))
        wire.events.clear()
    for _ in range(requests):
        wire.codec.send_request(b"POST", b"http", b"a.example", b"/", [], end_stream=not body)
    wire.flush()
    wire.sent.clear()
    return wire
