"""The other end of an HTTP/2 connection in a test: a codec that the test drives frame by frame."""

from __future__ import annotations

from typing import Any, TypeVar

import trio

from meshcore.codec import events
from meshcore.codec.events import DataReceived, Event, ResponseReceived, StreamReset, TrailersReceived
from meshcore.codec.h2 import client_codec, server_codec
from meshcore.codec.limits import H2Limits
from meshcore.errors import ConnectionLost
from meshcore.transport.connection import Connection

__all__ = ["Answer", "CodecPeer"]

E = TypeVar("E")


class Answer:
    """What came on a stream so far."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.informational: list[int] = []
        self.body = b""
        self.trailers: list[tuple[bytes, bytes]] | None = None
        self.reset: StreamReset | None = None
        self.ended = False

    @property
    def over(self) -> bool:
        return self.ended or self.reset is not None


class CodecPeer:
    """Always the reference engine, so that the side under test meets a peer that is not itself.

    ``acknowledge`` says whether window credit is returned as data comes; False makes a peer that never reads.
    """

    def __init__(
        self, connection: Connection, *, server: bool = False, limits: H2Limits | None = None, acknowledge: bool = True
    ) -> None:
        make = server_codec if server else client_codec
        self.codec = make(limits or H2Limits(), "pure")
        self.connection = connection
        self.acknowledge = acknowledge
        self.events: list[Event] = []
        self.answers: dict[int, Answer] = {}
        self.reads = 0
        self.eof = False
        self.codec.start()

    async def flush(self) -> None:
        data = self.codec.data_to_send()
        if data:
            await self.connection.send_all(data)

    async def read(self) -> list[Event]:
        """One read, its events noted; an end sets ``eof``."""
        data = await self.connection.receive_some()
        self.reads += 1
        if not data:
            self.eof = True
            return []
        found = self.codec.receive_data(data, trio.current_time())
        while self.codec.unfinished:
            found += self.codec.receive_data(b"", trio.current_time())
        self.events += found
        for event in found:
            self._note(event)
        try:
            await self.flush()
        except ConnectionLost:
            # It has closed after what was read.
            pass
        return found

    def _note(self, event: Event) -> None:
        stream_id: int = getattr(event, "stream_id", 0)
        if not stream_id:
            return
        answer = self.answers.setdefault(stream_id, Answer())
        if isinstance(event, ResponseReceived):
            answer.status = event.status
            answer.headers = event.headers
            answer.ended = event.end_stream
        elif isinstance(event, events.InformationalReceived):
            answer.informational.append(event.status)
        elif isinstance(event, DataReceived):
            answer.body += event.data
            answer.ended = event.end_stream
            if self.acknowledge and event.flow:
                self.codec.acknowledge(stream_id, event.flow)
        elif isinstance(event, TrailersReceived):
            answer.trailers = event.headers
            answer.ended = True
        elif isinstance(event, StreamReset):
            answer.reset = event

    def send(
        self,
        method: bytes = b"GET",
        path: bytes = b"/",
        headers: list[tuple[bytes, bytes]] | None = None,
        *,
        authority: bytes = b"a.test",
        end: bool = True,
        protocol: bytes | None = None,
    ) -> int:
        """Queues a request's head."""
        stream_id = self.codec.send_request(
            method, b"http", authority, path, headers or [], end_stream=end, protocol=protocol
        )
        self.answers[stream_id] = Answer()
        return stream_id

    async def answer(self, stream_id: int) -> Answer:
        """Reads until the stream is over."""
        await self.flush()
        while not self.answers[stream_id].over and not self.eof:
            await self.read()
        return self.answers[stream_id]

    async def ask(self, *args: Any, body: bytes | None = None, **options: Any) -> Answer:
        """A whole exchange."""
        stream_id = self.send(*args, end=body is None, **options)
        if body is not None:
            self.codec.send_data(stream_id, body, end_stream=True)
        return await self.answer(stream_id)

    async def wait_for(self, kind: type[E], count: int = 1) -> E:
        """Reads until so many events of a kind have come; the last of them."""
        await self.flush()
        while True:
            found = [event for event in self.events if isinstance(event, kind)]
            if len(found) >= count:
                return found[count - 1]
            assert not self.eof, f"the connection ended before {kind.__name__}"
            await self.read()

    async def until_eof(self) -> None:
        await self.flush()
        while not self.eof:
            await self.read()
