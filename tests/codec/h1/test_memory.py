"""What the codec remembers changes nothing but the time it takes."""

from __future__ import annotations

from typing import Any

import pytest

from meshcore.codec.events import NEED_DATA, PAUSED, DataReceived, RequestReceived, ResponseReceived
from meshcore.codec.h1 import client_codec, server_codec
from meshcore.codec.h1.memory import remember, written_requests
from meshcore.codec.limits import H1Limits
from meshcore.codec.validate import VOUCHED
from meshcore.errors import LocalProtocolError, RemoteProtocolError

pytestmark = pytest.mark.usefixtures("engine")

REQUEST = b"POST /memory HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nX-One: 1\r\nContent-Length: 2\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nX-One: 1\r\nContent-Length: 2\r\n\r\n"


def test_a_request_head_means_the_same_every_time_and_its_fields_are_its_own() -> None:
    for _ in range(3):
        codec = server_codec()
        codec.receive_data(REQUEST + b"hi" + REQUEST)
        event = codec.next_event()
        assert event == RequestReceived(
            1, b"POST", b"", b"a", b"/memory", [(b"x-one", b"1"), (b"content-length", b"2")], False, 11, 2
        )
        assert isinstance(event, RequestReceived)
        event.headers.clear()
        assert codec.next_event() == DataReceived(1, b"hi", 0, True)
        assert codec.next_event() is PAUSED
        assert codec.send_response(204, [], end_stream=True) == b"HTTP/1.1 204 No Content\r\n\r\n"
        assert codec.start_next_cycle()
        again = codec.next_event()
        assert isinstance(again, RequestReceived)
        assert again.headers == [(b"x-one", b"1"), (b"content-length", b"2")]


def test_a_response_head_means_the_same_every_time_and_its_fields_are_its_own() -> None:
    for _ in range(3):
        codec = client_codec()
        codec.send_request(b"GET", b"/", b"a", [], end_stream=True)
        codec.receive_data(RESPONSE + b"hi")
        event = codec.next_event()
        assert event == ResponseReceived(1, 200, [(b"x-one", b"1"), (b"content-length", b"2")], False, 11, 2)
        assert isinstance(event, ResponseReceived)
        event.headers.clear()
        assert codec.next_event() == DataReceived(1, b"hi", 0, True)
        assert codec.start_next_cycle()


def test_a_remembered_response_still_answers_its_own_request() -> None:
    for method, ended in ((b"GET", False), (b"HEAD", True), (b"GET", False), (b"HEAD", True)):
        codec = client_codec()
        codec.send_request(method, b"/", b"a", [], end_stream=True)
        codec.receive_data(RESPONSE)
        event = codec.next_event()
        assert isinstance(event, ResponseReceived)
        assert event.end_stream is ended
    codec = client_codec()
    codec.receive_data(RESPONSE)
    with pytest.raises(RemoteProtocolError):
        codec.next_event()


def test_what_other_limits_allowed_is_not_allowed_here() -> None:
    for _ in range(2):
        assert isinstance(_first(H1Limits()), RequestReceived)
        with pytest.raises(RemoteProtocolError) as caught:
            _first(H1Limits(header_count=2))
        assert caught.value.status == 431


def _first(limits: H1Limits) -> object:
    codec = server_codec(limits)
    codec.receive_data(REQUEST)
    return codec.next_event()


def test_a_remembered_head_is_found_in_pieces_too() -> None:
    for _ in range(2):
        codec = server_codec()
        for byte in REQUEST[:-1]:
            codec.receive_data(bytes([byte]))
            assert codec.next_event() is NEED_DATA
        codec.receive_data(REQUEST[-1:])
        assert isinstance(codec.next_event(), RequestReceived)


def test_heads_are_written_the_same_every_time() -> None:
    fields = [(b"x-one", b"1"), (b"content-length", b"2")]
    for _ in range(3):
        codec = client_codec()
        assert (
            codec.send_request(b"POST", b"/", b"a", fields, end_stream=False)
            == b"POST / HTTP/1.1\r\nhost: a\r\nx-one: 1\r\ncontent-length: 2\r\n\r\n"
        )
        assert codec.send_data(b"hi", end_stream=True) == b"hi"
        codec = client_codec()
        with pytest.raises(LocalProtocolError):
            codec.send_request(b"POST", b"/", b"a", fields, end_stream=True)
        server = server_codec()
        server.receive_data(REQUEST + b"hi")
        server.next_event()
        server.next_event()
        assert (
            server.send_response(200, fields, end_stream=False)
            == b"HTTP/1.1 200 OK\r\nx-one: 1\r\ncontent-length: 2\r\n\r\n"
        )
        with pytest.raises(LocalProtocolError):
            server.send_data(b"h", end_stream=True)


def test_a_full_memory_is_emptied() -> None:
    memory: dict[int, int] = {}
    for number in range(513):
        remember(memory, number, number)
    assert memory == {512: 512}


def test_field_lines_that_differ_each_time_do_not_pile_up() -> None:
    codec = server_codec()
    for number in range(10_000):
        codec.receive_data(b"GET / HTTP/1.1\r\nhost: a\r\nx-trace: %d\r\n\r\n" % number)
        event = codec.next_event()
        assert isinstance(event, RequestReceived)
        assert event.headers == [(b"x-trace", b"%d" % number)]
        codec.send_response(204, [(b"x-trace", b"%d" % number)], end_stream=True)
        assert codec.start_next_cycle()
    from meshcore.codec.h1 import _httptools, memory, write

    for known in (_httptools._request_lines, write._written, memory.written_responses):
        assert len(known) <= 4_096


@pytest.mark.parametrize("fields", [[], [(b"accept", b"*/*")], [(b"content-length", b"5")], [(b"host", b"b.test")]])
@pytest.mark.parametrize("end_stream", [True, False])
def test_a_traceparent_does_not_make_another_head_of_the_rest(
    fields: list[tuple[bytes, bytes]], end_stream: bool
) -> None:
    end_stream = end_stream and (b"content-length", b"5") not in fields
    written_requests.clear()
    heads = []
    for number in range(3):
        codec = client_codec()
        traced = [*fields, (b"traceparent", b"00-%032d-%016d-00" % (number, number))]
        head = codec.send_request(b"GET", b"/", b"a.test", traced, end_stream=end_stream)
        assert head.endswith(b"\r\ntraceparent: 00-%032d-%016d-00\r\n\r\n" % (number, number))
        assert 1 == head.count(b"\r\n\r\n")
        heads.append(head[:-72])
    plain = client_codec().send_request(b"GET", b"/", b"a.test", fields, end_stream=end_stream)
    assert {plain[:-2]} == set(heads)
    # One for all that have one, and one for those without.
    assert len(written_requests) <= 2


def test_a_traceparent_that_was_made_here_is_not_judged_again() -> None:
    # So wrong that nobody who looked would let it pass; compiled, too, where tuples are taken apart.
    field: Any = (b"traceparent", b"not looked at: \x00")
    headers: list[Any] = [(b"x-a", b"1"), field]
    VOUCHED.vouch(field, field[1])
    try:
        for _ in range(2):
            head = client_codec().send_request(b"GET", b"/vouched", b"a.test", headers, end_stream=True)
            assert head.endswith(b"\r\nx-a: 1\r\ntraceparent: not looked at: \x00\r\n\r\n")
            assert [(b"x-a", b"1"), field] == headers
        VOUCHED.vouch(None, b"")
        with pytest.raises(LocalProtocolError):
            client_codec().send_request(b"GET", b"/vouched", b"a.test", headers, end_stream=True)
    finally:
        VOUCHED.vouch(None, b"")


def test_a_traceparent_that_is_no_value_is_refused() -> None:
    with pytest.raises(LocalProtocolError):
        client_codec().send_request(b"GET", b"/", b"a.test", [(b"traceparent", b"00\r\nx: y")], end_stream=True)
