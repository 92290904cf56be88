"""Feeds scripts to HTTP/1 codecs and writes down what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from meshcore.codec.events import NEED_DATA, PAUSED, ConnectionClosed, DataReceived, Event, Sentinel
from meshcore.codec.h1 import client_codec, server_codec
from meshcore.codec.limits import H1Limits
from meshcore.errors import RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshcore.codec.h1 import H1Client, H1Server


@attrs.frozen
class Refused:
    """A RemoteProtocolError with this status."""

    status: int


@attrs.frozen
class Next:
    """What ``start_next_cycle`` said."""

    ready: bool


Said = Event | Sentinel | Refused | Next


def pull(codec: H1Server | H1Client) -> list[Said]:
    """Everything that the codec says up to, and with, NEED_DATA, PAUSED, the end or an error."""
    said: list[Said] = []
    while True:
        try:
            event = codec.next_event()
        except RemoteProtocolError as error:
            return [*said, Refused(error.status)]
        said.append(event)
        if event is NEED_DATA or event is PAUSED or isinstance(event, ConnectionClosed):
            return said


def feed(codec: H1Server | H1Client, *pieces: bytes) -> list[Said]:
    """What the codec says to these bytes; where one piece was followed by another, NEED_DATA is left out."""
    said: list[Said] = []
    for piece in pieces:
        if said and said[-1] is NEED_DATA:
            said.pop()
        codec.receive_data(piece)
        said += pull(codec)
        if isinstance(said[-1], Refused):
            break
    return merged(said)


def merged(said: Iterable[Said]) -> list[Said]:
    """The same with neighbouring pieces of a body made one: they depend on how the bytes were cut."""
    result: list[Said] = []
    for event in said:
        last = result[-1] if result else None
        if isinstance(event, DataReceived) and isinstance(last, DataReceived):
            result[-1] = DataReceived(1, last.data + event.data, 0, event.end_stream)
        else:
            result.append(event)
    return result


def bytewise(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def serve(pieces: Iterable[bytes], engine: str, limits: H1Limits | None = None) -> list[Said]:
    """What a server codec says to a whole connection, every request answered by an empty 200."""
    codec = server_codec(limits or H1Limits(), engine)
    said: list[Said] = []
    for piece in [*pieces, b""]:
        codec.receive_data(piece)
        while True:
            said += pull(codec)
            last = said.pop()
            if last is NEED_DATA:
                break
            if last is not PAUSED:
                return merged([*said, last])
            codec.send_response(200, [], end_stream=True)
            if not codec.start_next_cycle():
                return merged([*said, Next(False)])
    raise AssertionError("the codec neither ended nor failed at the end of the bytes")


def fetch(pieces: Iterable[bytes], engine: str, *, method: bytes = b"GET", eof: bool = True) -> list[Said]:
    """What a client codec says to the bytes that follow one request, to PAUSED or the end."""
    codec = client_codec(engine=engine)
    codec.send_request(method, b"a:1" if method == b"CONNECT" else b"/", b"a:1", [], end_stream=True)
    said: list[Said] = []
    for piece in [*pieces, b""] if eof else pieces:
        codec.receive_data(piece)
        said += pull(codec)
        last = said.pop()
        if last is not NEED_DATA:
            return merged([*said, last])
    return merged([*said, NEED_DATA])
