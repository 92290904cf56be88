"""What this side may not send, and what becomes of a codec that has ended."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from meshcore.codec.events import RequestReceived
from meshcore.codec.h2 import client_codec, default_engine, server_codec
from meshcore.codec.h2.engine_h2 import H2Engine
from meshcore.codec.h2.frames import frame
from meshcore.codec.limits import H2Limits
from meshcore.compiled import is_compiled
from meshcore.errors import CANCEL, LocalProtocolError, StreamReset
from tests.codec.h2.wire import (
    ENGINES,
    GET,
    HEADERS,
    PING,
    POST,
    RST_STREAM,
    Wire,
    client_wire,
    server_wire,
    settings,
    word,
)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "field",
    [
        (b"X", b"y"),
        (b"", b"y"),
        (b":status", b"200"),
        (b"a b", b"y"),
        (b"x", b"a\r\nb"),
        (b"x", b"a\0"),
        (b"x", b" a"),
        (b"connection", b"close"),
        (b"transfer-encoding", b"chunked"),
        (b"upgrade", b"h2c"),
        (b"http2-settings", b""),
        (b"te", b"gzip"),
        (b"content-length", b"+1"),
    ],
)
def test_fields_are_validated_on_the_way_out(engine: str, field: tuple[bytes, bytes]) -> None:
    client = client_wire(engine)
    with pytest.raises(LocalProtocolError):
        client.codec.send_request(b"POST", b"http", b"a", b"/", [field], end_stream=False)
    server = server_wire(engine, respond=False)
    server.feed(server.headers(1, GET))
    with pytest.raises(LocalProtocolError):
        server.codec.send_informational(1, 103, [field])
    with pytest.raises(LocalProtocolError):
        server.codec.send_response(1, 200, [field], end_stream=False)
    server.codec.send_response(1, 200, [], end_stream=False)
    with pytest.raises(LocalProtocolError):
        server.codec.send_trailers(1, [field])
    assert [] == client.flush()
    assert [HEADERS] == [sent.kind for sent in server.flush()]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("method", "scheme", "authority", "path", "more"),
    [
        (b"G T", b"http", b"a", b"/", {}),
        (b"GET", b"http", b"a", b"", {}),
        (b"GET", b"http", b"a", b"x", {}),
        (b"GET", b"http", b"a", b"*", {}),
        (b"GET", b"http", b"a", b"/ b", {}),
        (b"GET", b"http", b"u@a", b"/", {}),
        (b"GET", b"", b"a", b"/", {}),
        (b"GET", b"ht tp", b"a", b"/", {}),
        (b"CONNECT", b"", b"a", b"", {}),
        (b"CONNECT", b"http", b"a:1", b"/", {}),
        (b"GET", b"http", b"a", b"/", {"protocol": b"websocket"}),
        (b"CONNECT", b"http", b"a", b"/", {"protocol": b"web socket"}),
    ],
)
def test_control_data_is_validated_on_the_way_out(
    engine: str, method: bytes, scheme: bytes, authority: bytes, path: bytes, more: dict[str, Any]
) -> None:
    wire = client_wire(engine)
    with pytest.raises(LocalProtocolError):
        wire.codec.send_request(method, scheme, authority, path, [], end_stream=False, **more)
    assert 0 == wire.codec.open_streams


@pytest.mark.parametrize("engine", ENGINES)
def test_extended_connect_needs_the_peers_word(engine: str) -> None:
    wire = client_wire(engine, greet=False)
    wire.feed(settings())
    assert not wire.codec.extended_connect
    with pytest.raises(LocalProtocolError):
        wire.codec.send_request(b"CONNECT", b"http", b"a", b"/", [], end_stream=False, protocol=b"websocket")
    server = server_wire(engine, H2Limits(extended_connect=False))
    server.feed(server.headers(1, [(b":method", b"CONNECT"), *GET[1:], (b":protocol", b"websocket")], end_stream=False))
    assert [("reset", 1, 1)] == server.verdict


@pytest.mark.parametrize("engine", ENGINES)
def test_bodies_are_held_to_their_content_length(engine: str) -> None:
    client = client_wire(engine)
    two = [(b"content-length", b"2")]
    with pytest.raises(LocalProtocolError):
        client.codec.send_request(b"POST", b"http", b"a", b"/", two, end_stream=True)
    with pytest.raises(LocalProtocolError):
        client.codec.send_request(b"POST", b"http", b"a", b"/", two * 2, end_stream=False)
    client.codec.send_request(b"POST", b"http", b"a", b"/", two, end_stream=False)
    with pytest.raises(LocalProtocolError):
        client.codec.send_data(1, b"abc", end_stream=False)
    server = server_wire(engine, respond=False)
    server.feed(server.headers(1, GET) + server.headers(3, [(b":method", b"HEAD"), *GET[1:]]))
    with pytest.raises(LocalProtocolError):
        server.codec.send_response(1, 200, two, end_stream=True)
    server.codec.send_response(3, 200, two, end_stream=True)
    server.codec.send_response(1, 200, two, end_stream=False)
    server.codec.send_data(1, b"a", end_stream=False)
    server.codec.send_data(1, b"", end_stream=False)
    with pytest.raises(LocalProtocolError):
        server.codec.send_trailers(1, [])
    with pytest.raises(LocalProtocolError):
        server.codec.send_data(1, b"", end_stream=True)


@pytest.mark.parametrize("engine", ENGINES)
def test_messages_are_sent_in_order(engine: str) -> None:
    wire = server_wire(engine, respond=False)
    wire.feed(wire.headers(1, GET))
    codec = wire.codec
    with pytest.raises(LocalProtocolError):
        codec.send_data(1, b"x", end_stream=False)
    with pytest.raises(LocalProtocolError):
        codec.send_trailers(1, [])
    for status in (99, 100, 101, 1000):
        with pytest.raises(LocalProtocolError):
            codec.send_response(1, status, [], end_stream=False)
    for status in (99, 101, 200):
        with pytest.raises(LocalProtocolError):
            codec.send_informational(1, status, [])
    codec.send_response(1, 200, [], end_stream=False)
    with pytest.raises(LocalProtocolError):
        codec.send_response(1, 200, [], end_stream=False)
    with pytest.raises(LocalProtocolError):
        codec.send_informational(1, 103, [])
    with pytest.raises(LocalProtocolError):
        codec.ping(b"short")
    codec.send_trailers(1, [])
    with pytest.raises(StreamReset):
        codec.send_trailers(1, [])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_codec_that_has_ended_is_silent(engine: str) -> None:
    wire = server_wire(engine, respond=False)
    wire.feed(wire.headers(1, POST, end_stream=False))
    wire.codec.send_response(1, 200, [], end_stream=False)
    wire.codec.send_data(1, b"before", end_stream=False)
    wire.feed(frame(PING, 0, 9, bytes(8)))
    assert [1, 0, 7] == [sent.kind for sent in wire.sent]
    assert wire.terminated is not None
    codec = wire.codec
    assert [] == codec.receive_data(frame(PING, 0, 0, bytes(8)), 0.0)
    codec.ping(bytes(8))
    codec.goaway()
    codec.shutdown_notice()
    codec.reset_stream(1, CANCEL)
    assert not codec.acknowledge(1, 5)
    assert (0, False) == (codec.window(1), codec.can_open)
    with pytest.raises(StreamReset):
        codec.send_data(1, b"x", end_stream=False)
    assert [] == codec.drain_events()
    assert b"" == codec.data_to_send()


@pytest.mark.parametrize("engine", ENGINES)
def test_the_same_header_block_means_the_same_request_until_the_table_changes(engine: str) -> None:
    wire = server_wire(engine, respond=False)
    fields = [*GET, (b"x-a", b"1"), (b"content-length", b"0")]
    stream_id = -1

    def ask(fields: list[tuple[bytes, bytes]], *, end_stream: bool = True) -> RequestReceived:
        nonlocal stream_id
        stream_id += 2
        event = wire.feed(wire.headers(stream_id, fields, end_stream=end_stream))[0]
        assert isinstance(event, RequestReceived)
        return event

    for _ in range(4):
        request = ask(fields)
        assert [(b"x-a", b"1"), (b"content-length", b"0")] == request.headers
        assert 0 == request.content_length
        request.headers.append((b"mine", b"only"))
    assert not ask(fields, end_stream=False).end_stream
    assert ask(fields).end_stream
    ask([*GET, (b"x-b", b"2")])
    assert [(b"x-a", b"1"), (b"content-length", b"0")] == ask(fields).headers
    assert [(b"x-b", b"2")] == ask([*GET, (b"x-b", b"2")]).headers
    assert stream_id == ask([*GET, (b"x-b", b"2")]).stream_id


@pytest.mark.parametrize("engine", ENGINES)
def test_streams_without_an_authority_among_others_with_dynamic_entries(engine: str) -> None:
    wire = server_wire(engine, respond=False)
    heads = [
        [*GET[:3], (b"host", b"h.example")],
        GET[:3],
        [*GET, (b"x" * 20, b"y" * 5_000)],
        [*GET[:3], (b"x-long", b"\xf9" * 3_000)],
        [*GET[:3], (b":authority", b"b" * 200)],
        GET[:3],
        [*GET[:3], *[(b"x-%d" % n, b"z" * 200) for n in range(30)]],
        GET,
        [*GET[:3], (b"host", b"h.example")],
    ]
    expected = [b"h.example", b"", b"a.example", b"", b"b" * 200, b"", b"", b"a.example", b"h.example"]
    for round_ in range(3):
        for number, head in enumerate(heads):
            stream_id = 1 + 2 * (number + round_ * len(heads))
            more = b"".join(
                [frame(RST_STREAM, 0, stream_id, word(8))]  # Keeps the number of open streams low.
            )
            wire.feed(wire.headers(stream_id, head) + more)
    requests = [event for event in wire.events if isinstance(event, RequestReceived)]
    assert expected * 3 == [request.authority for request in requests]
    assert all(b"host" not in dict(request.headers) for request in requests)


def test_engines_are_chosen_by_name_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MESHCORE_ENGINE", raising=False)
    assert ("direct" if is_compiled() else "ngh2") == default_engine()
    monkeypatch.setenv("MESHCORE_ENGINE", "pure")
    assert "pure" == default_engine()
    for codec in (server_codec(), client_codec()):
        assert isinstance(codec._engine, H2Engine)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="unknown HTTP/2 engine"):
        server_codec(engine="other")
    monkeypatch.delenv("MESHCORE_ENGINE")
    monkeypatch.setitem(sys.modules, "ngh2", None)
    import meshcore.codec.h2 as package

    package._fast_is_there.cache_clear()
    try:
        assert ("direct" if is_compiled() else "pure") == default_engine()
    finally:
        package._fast_is_there.cache_clear()


def test_the_helper_for_tests_answers() -> None:
    wire: Wire = server_wire("pure")
    wire.feed(wire.headers(1, GET))
    assert [1, 0] == [sent.kind for sent in wire.sent]
