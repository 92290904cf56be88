"""What the codecs write: heads with framing of their own, bodies, trailers."""

from __future__ import annotations

from typing import Any

import pytest

from meshcore.codec.events import PAUSED
from meshcore.codec.h1 import H1Client, H1Server, client_codec, server_codec
from meshcore.errors import LocalProtocolError
from tests.codec.h1.script import feed

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
GET_10 = b"GET / HTTP/1.0\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"


def received(data: bytes) -> H1Server:
    """A server codec that has received *data*."""
    codec = server_codec()
    assert PAUSED is feed(codec, data)[-1]
    return codec


def respond(data: bytes, status: int, *headers: tuple[bytes, bytes], end: bool = False, **how: Any) -> bytes:
    return received(data).send_response(status, [*headers], end_stream=end, **how)


def request(
    *headers: tuple[bytes, bytes], method: bytes = b"GET", target: bytes = b"/", authority: bytes = b"a", **how: Any
) -> bytes:
    how.setdefault("end_stream", True)
    return client_codec().send_request(method, target, authority, [*headers], **how)


# -- responses ----------------------------------------------------------------------------------


def test_a_response_with_a_length_keeps_the_place_of_its_fields() -> None:
    headers = ((b"a", b"b"), (b"content-length", b"2"), (b"c", b""), (b"a", b"d"))
    assert respond(GET, 200, *headers) == b"HTTP/1.1 200 OK\r\na: b\r\ncontent-length: 2\r\nc: \r\na: d\r\n\r\n"


def test_a_padded_content_length_is_sent_in_its_shortest_form() -> None:
    headers = ((b"a", b"b"), (b"content-length", b"007"), (b"c", b"d"))
    assert b"\r\na: b\r\ncontent-length: 7\r\nc: d\r\n\r\n" in respond(GET, 200, *headers)
    assert b"\r\ncontent-length: 0\r\n\r\n" in respond(GET, 200, (b"content-length", b"00"))


def test_a_response_without_a_length_is_chunked_to_http_11() -> None:
    codec = received(GET)
    assert codec.send_response(200, [], end_stream=False) == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    assert codec.send_data(b"hello") == b"5\r\nhello\r\n"
    assert codec.send_data(b"") == b""
    assert codec.send_data(b"0123456789abcdef", end_stream=True) == b"10\r\n0123456789abcdef\r\n0\r\n\r\n"
    assert codec.start_next_cycle()


def test_the_last_chunk_may_come_alone_or_with_trailers() -> None:
    codec = received(GET)
    codec.send_response(200, [], end_stream=False)
    assert codec.send_data(b"", end_stream=True) == b"0\r\n\r\n"
    codec = received(GET)
    codec.send_response(200, [], end_stream=False)
    assert codec.send_trailers([(b"a", b"b"), (b"l5d-x", b"y"), (b"c", b"d")]) == b"0\r\na: b\r\nc: d\r\n\r\n"
    assert codec.start_next_cycle()
    codec = received(GET)
    codec.send_response(200, [], end_stream=False)
    assert codec.send_trailers([]) == b"0\r\n\r\n"


def test_trailers_are_dropped_where_the_framing_has_no_place_for_them() -> None:
    codec = received(GET)
    codec.send_response(200, [(b"content-length", b"2")], end_stream=False)
    assert codec.send_data(b"ok") == b"ok"
    assert codec.send_trailers([(b"a", b"b")]) == b""
    assert codec.start_next_cycle()


@pytest.mark.parity("X-72", "D-34", "X-82")
def test_http_10_is_answered_as_http_10_and_a_body_without_a_length_ends_with_the_connection() -> None:
    codec = received(GET_10)
    assert codec.send_response(200, [], end_stream=False) == b"HTTP/1.0 200 OK\r\nconnection: close\r\n\r\n"
    assert codec.send_data(b"body") == b"body"
    assert codec.send_trailers([(b"a", b"b")]) == b""
    assert not codec.start_next_cycle()


def test_http_10_is_kept_alive_where_it_asked_and_the_length_is_known() -> None:
    asked = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    assert respond(asked, 200, end=True) == b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive\r\n\r\n"
    assert respond(asked, 200) == b"HTTP/1.0 200 OK\r\nconnection: close\r\n\r\n"


@pytest.mark.parity("X-80", "D-34")
def test_content_length_zero_is_kept_and_added_where_an_empty_response_needs_it() -> None:
    expected = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    assert expected == respond(GET, 200, (b"content-length", b"0"), end=True)
    assert expected == respond(GET, 200, (b"content-length", b"0"))
    assert expected == respond(GET, 200, end=True)


@pytest.mark.parity("X-81", "D-34")
@pytest.mark.parametrize(
    ("data", "status", "headers", "expected"),
    [
        (HEAD, 200, [(b"content-length", b"9")], b"200 OK\r\ncontent-length: 9\r\n\r\n"),
        (HEAD, 200, [], b"200 OK\r\n\r\n"),
        (GET, 304, [(b"content-length", b"9")], b"304 Not Modified\r\ncontent-length: 9\r\n\r\n"),
        (GET, 304, [], b"304 Not Modified\r\n\r\n"),
        (GET, 204, [], b"204 No Content\r\n\r\n"),
        (GET, 204, [(b"content-length", b"0")], b"204 No Content\r\n\r\n"),
    ],
)
@pytest.mark.parametrize("end", [True, False])
def test_a_response_without_a_body_gets_no_framing_of_ours(
    data: bytes, status: int, headers: list[tuple[bytes, bytes]], expected: bytes, end: bool
) -> None:
    codec = received(data)
    assert b"HTTP/1.1 " + expected == codec.send_response(status, headers, end_stream=end)
    if not end:
        assert codec.send_data(b"dropped") == b""
        assert codec.send_data(b"", end_stream=True) == b""
    assert codec.start_next_cycle()


def test_close_is_said_where_the_connection_is_not_kept() -> None:
    closing = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert respond(closing, 200, end=True) == b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    codec = received(GET)
    assert b"connection: close\r\n" in codec.send_response(200, [], end_stream=True, close=True)
    assert not codec.start_next_cycle()


def test_fields_of_the_connection_are_not_sent_as_given() -> None:
    given = [
        (name, b"x") for name in (b"connection", b"keep-alive", b"upgrade", b"transfer-encoding", b"http2-settings")
    ]
    assert respond(GET, 200, *given, (b"a", b"b"), end=True) == b"HTTP/1.1 200 OK\r\na: b\r\ncontent-length: 0\r\n\r\n"


def test_a_refusal_can_be_answered_and_is_the_last_word() -> None:
    codec = server_codec()
    feed(codec, b"GET / HTTP/2.0\r\n\r\n")
    assert (
        codec.send_response(505, [], end_stream=True)
    ) == b"HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    assert not codec.start_next_cycle()


def test_a_refusal_after_a_head_request_has_its_body() -> None:
    codec = received(HEAD)
    codec.send_response(200, [], end_stream=True)
    assert codec.start_next_cycle()
    feed(codec, b"garbage\r\n\r\n")
    codec.send_response(400, [(b"content-length", b"3")], end_stream=False)
    assert codec.send_data(b"bad", end_stream=True) == b"bad"


def test_informational_responses_go_to_http_11_only() -> None:
    codec = received(GET)
    assert (
        codec.send_informational(103, [(b"link", b"x"), (b"content-length", b"5")])
        == b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
    )
    assert received(GET_10).send_informational(100, []) == b""


def test_statuses_without_a_name_have_an_empty_reason() -> None:
    assert respond(GET, 599, end=True)[:15] == b"HTTP/1.1 599 \r\n"
    assert respond(GET_10, 299, end=True)[:15] == b"HTTP/1.0 299 \r\n"


UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: foo, bar\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "status", "how"),
    [
        (GET, 101, {"upgrade": b"foo"}),
        (UPGRADE, 101, {}),
        (UPGRADE, 101, {"upgrade": b"baz"}),
        (UPGRADE, 101, {"upgrade": b"foo\r\nx: y"}),
        (UPGRADE, 200, {"upgrade": b"foo"}),
        (GET, 100, {}),
        (GET, 103, {}),
        (GET, 1000, {}),
        (GET, 99, {}),
    ],
)
def test_a_final_response_that_is_none_is_a_mistake_of_ours(data: bytes, status: int, how: dict[str, Any]) -> None:
    with pytest.raises(LocalProtocolError):
        respond(data, status, **how)


@pytest.mark.parametrize("status", [99, 101, 200])
def test_an_informational_response_that_is_none_is_a_mistake_of_ours(status: int) -> None:
    with pytest.raises(LocalProtocolError, match="as informational"):
        received(GET).send_informational(status, [])


def test_there_is_one_response_to_a_request() -> None:
    codec = received(GET)
    codec.send_response(200, [], end_stream=True)
    with pytest.raises(LocalProtocolError, match="already"):
        codec.send_response(200, [], end_stream=True)
    with pytest.raises(LocalProtocolError, match="as informational"):
        codec.send_informational(100, [])


BAD_FIELDS = [
    (b"a", b"b\r\nc: d"),
    (b"a", b"b\n"),
    (b"a", b"b\x00"),
    (b"a", b"b\r"),
    (b"a", b"\x7f"),
    (b"a", b" b"),
    (b"a", b"b\t"),
    (b"A", b"b"),
    (b"", b"b"),
    (b"a b", b"c"),
    (b"a:", b"b"),
    (b":status", b"200"),
    (b"a\r\nb", b"c"),
    (b"content-length", b"x"),
    (b"content-length", b"-1"),
]


@pytest.mark.parametrize("field", BAD_FIELDS)
def test_what_could_not_be_read_back_is_not_sent(field: tuple[bytes, bytes]) -> None:
    with pytest.raises(LocalProtocolError):
        respond(GET, 200, (b"x", b"y"), field)
    with pytest.raises(LocalProtocolError):
        request((b"x", b"y"), field, end_stream=False)
    if field[0] != b"content-length":
        with pytest.raises(LocalProtocolError):
            received(GET).send_informational(103, [field])
    codec = received(GET)
    codec.send_response(200, [], end_stream=False)
    with pytest.raises(LocalProtocolError):
        codec.send_trailers([field])


def test_framing_cannot_hide_in_trailers() -> None:
    codec = received(GET)
    codec.send_response(200, [], end_stream=False)
    with pytest.raises(LocalProtocolError, match="'transfer-encoding'"):
        codec.send_trailers([(b"transfer-encoding", b"chunked")])


def test_a_body_fits_its_content_length() -> None:
    codec = received(GET)
    codec.send_response(200, [(b"content-length", b"3")], end_stream=False)
    assert codec.send_data(b"ab") == b"ab"
    with pytest.raises(LocalProtocolError, match="shorter"):
        codec.send_data(b"", end_stream=True)
    with pytest.raises(LocalProtocolError, match="longer"):
        codec.send_data(b"cd")
    assert not codec.start_next_cycle()


def test_a_head_fits_its_body() -> None:
    with pytest.raises(LocalProtocolError, match="no body"):
        respond(GET, 200, (b"content-length", b"3"), end=True)
    with pytest.raises(LocalProtocolError, match="not one number"):
        respond(GET, 200, (b"content-length", b"3"), (b"content-length", b"3"))
    with pytest.raises(LocalProtocolError, match="no body"):
        request((b"content-length", b"3"))


def test_nothing_is_sent_before_a_head_or_after_the_end() -> None:
    codec = received(GET)
    for send in (lambda: codec.send_data(b"x"), lambda: codec.send_trailers([])):
        with pytest.raises(LocalProtocolError, match="before a head"):
            send()
    codec.send_response(200, [], end_stream=True)
    assert codec.send_data(b"", end_stream=True) == b""
    assert codec.send_trailers([]) == b""
    with pytest.raises(LocalProtocolError, match="after its end"):
        codec.send_data(b"x")


# -- requests -----------------------------------------------------------------------------------


def test_a_request_begins_with_its_host() -> None:
    assert request((b"b", b"c"), target=b"/x", authority=b"a:1") == b"GET /x HTTP/1.1\r\nhost: a:1\r\nb: c\r\n\r\n"


@pytest.mark.parity("D-32", "X-73")
def test_a_host_that_differs_is_sent_as_it_is() -> None:
    sent = request((b"host", b"b"), target=b"http://a/x", authority=b"a")
    assert sent == b"GET http://a/x HTTP/1.1\r\nhost: b\r\n\r\n"


@pytest.mark.parity("X-63", "X-67")
def test_a_request_without_authority() -> None:
    assert request(authority=b"", version=10) == b"GET / HTTP/1.0\r\n\r\n"
    assert request(authority=b"") == b"GET / HTTP/1.1\r\nhost: \r\n\r\n"


@pytest.mark.parity("X-79", "D-34")
@pytest.mark.parametrize("method", [b"GET", b"DELETE", b"POST", b"PUT", b"OPTIONS", b"PATCH"])
def test_a_request_without_a_body_gets_no_framing(method: bytes) -> None:
    assert method + b" / HTTP/1.1\r\nhost: a\r\n\r\n" == request(method=method)


@pytest.mark.parity("X-78", "X-80")
def test_framing_of_requests() -> None:
    assert b"host: a\r\ncontent-length: 0\r\n\r\n" in request((b"content-length", b"0"))
    assert b"host: a\r\ncontent-length: 5\r\n\r\n" in request((b"content-length", b"5"), end_stream=False)
    assert b"host: a\r\ntransfer-encoding: chunked\r\n\r\n" in request(end_stream=False)


def test_a_request_body_is_sent_as_it_was_framed() -> None:
    codec = client_codec()
    codec.send_request(b"POST", b"/", b"a", [], end_stream=False)
    assert codec.send_data(b"ab") == b"2\r\nab\r\n"
    assert codec.send_trailers([(b"x", b"y")]) == b"0\r\nx: y\r\n\r\n"
    codec = client_codec()
    codec.send_request(b"POST", b"/", b"a", [(b"content-length", b"2")], end_stream=False)
    assert codec.send_data(b"ab", end_stream=True) == b"ab"


def test_options_of_the_connection_are_in_one_field() -> None:
    assert b"expect: 100-continue\r\n" in request(end_stream=False, expect_continue=True)
    assert b"expect" not in request(expect_continue=True)
    assert b"\r\nconnection: close\r\n" in request(close=True)
    sent = request((b"te", b"trailers"), (b"upgrade", b"x"), (b"expect", b"x"), upgrade=b"websocket", close=True)
    assert (
        sent
        == b"GET / HTTP/1.1\r\nhost: a\r\nte: trailers\r\nupgrade: websocket\r\nconnection: te, upgrade, close\r\n\r\n"
    )


@pytest.mark.parity("X-77")
def test_connect_has_no_framing() -> None:
    sent = request((b"content-length", b"5"), method=b"CONNECT", target=b"a:443", authority=b"a:443", end_stream=False)
    assert sent == b"CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n"


@pytest.mark.parametrize(
    "how",
    [
        {"method": b"G T"},
        {"method": b""},
        {"method": b"GET\r\nX:"},
        {"method": b"A" * 65},
        {"target": b""},
        {"target": b"/ x"},
        {"target": b"/\r\n"},
        {"target": b"/#"},
        {"target": b"x"},
        {"target": b"*"},
        {"target": b"ftp://a/"},
        {"target": b"http://a b/"},
        {"method": b"CONNECT", "target": b"/"},
        {"authority": b"a b"},
        {"authority": b"a\r\nx: y"},
        {"authority": b"u@a"},
        {"version": 20},
        {"version": 10, "end_stream": False},
        {"upgrade": b""},
        {"upgrade": b"h2c"},
        {"upgrade": b"a b"},
        {"upgrade": b"foo", "version": 10},
    ],
)
def test_a_request_that_could_be_read_differently_is_not_sent(how: dict[str, Any]) -> None:
    with pytest.raises(LocalProtocolError):
        request(**how)


@pytest.mark.parametrize(
    "headers", [[(b"host", b"a"), (b"host", b"a")], [(b"host", b"a b")], [(b"te", b"gzip")], [(b"te", b"")]]
)
def test_fields_that_route_or_negotiate_are_checked(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(LocalProtocolError):
        request(*headers)


def test_a_connection_has_one_request_at_a_time_and_none_after_the_end() -> None:
    def refuses(codec: H1Client) -> None:
        with pytest.raises(LocalProtocolError, match="not ready"):
            codec.send_request(b"GET", b"/", b"a", [], end_stream=True)

    codec = client_codec()
    codec.send_request(b"GET", b"/", b"a", [], end_stream=True)
    refuses(codec)
    codec = client_codec()
    codec.receive_data(b"x")
    refuses(codec)
    codec = client_codec()
    codec.receive_data(b"")
    refuses(codec)


# -- past the codec -------------------------------------------------------------------------------


def test_bytes_sent_past_the_codec_count_towards_the_length() -> None:
    codec = received(GET)
    assert 0 == codec.left_to_send
    codec.send_response(200, [(b"content-length", b"100")], end_stream=False)
    codec.send_data(b"x" * 10)
    assert 90 == codec.left_to_send
    codec.sent_past(80)
    assert codec.cut_shows
    with pytest.raises(LocalProtocolError):
        codec.sent_past(11)
    assert b"x" * 10 == codec.send_data(b"x" * 10, end_stream=True)
    assert 0 == codec.left_to_send
    assert codec.start_next_cycle()


def test_nothing_is_sent_past_the_codec_where_bytes_are_framed_or_there_is_no_body() -> None:
    for data, headers in ((GET, []), (HEAD, [(b"content-length", b"100")]), (GET_10, [])):
        codec = received(data)
        codec.send_response(200, headers, end_stream=False)
        assert 0 == codec.left_to_send
        with pytest.raises(LocalProtocolError):
            codec.sent_past(1)


def test_bytes_read_past_the_codec_count_towards_the_length() -> None:
    codec = client_codec()
    codec.send_request(b"GET", b"/", b"a", [], end_stream=True)
    assert 0 == codec.left_to_read
    codec.receive_data(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n0123456789")
    codec.next_event()
    # What has been received and not been told yet is nobody else's to read.
    assert 0 == codec.left_to_read
    codec.next_event()
    assert 90 == codec.left_to_read
    codec.read_past(80)
    with pytest.raises(LocalProtocolError):
        codec.read_past(10)
    assert [b"x" * 10, True] == [getattr(each, "data", True) for each in feed(codec, b"x" * 10)]
    assert codec.start_next_cycle()


def test_nothing_is_read_past_the_codec_where_the_bytes_to_come_are_not_counted() -> None:
    for framing in (b"transfer-encoding: chunked", b"connection: close"):
        codec = client_codec()
        codec.send_request(b"GET", b"/", b"a", [], end_stream=True)
        codec.receive_data(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % framing)
        codec.next_event()
        assert 0 == codec.left_to_read
        with pytest.raises(LocalProtocolError):
            codec.read_past(1)
