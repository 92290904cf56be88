"""Transcripts of the server side: bytes in, what the codec says."""

from __future__ import annotations

import pytest

from meshcore.codec.events import (
    NEED_DATA,
    PAUSED,
    ConnectionClosed,
    DataReceived,
    RequestReceived,
    TrailersReceived,
)
from meshcore.codec.h1 import server_codec
from tests.codec.h1.script import Next, Refused, Said, feed, pull, serve


def request(data: bytes, engine: str) -> RequestReceived:
    """The one request in *data*."""
    event = feed(server_codec(engine=engine), data)[0]
    assert isinstance(event, RequestReceived)
    return event


def answered(data: bytes, engine: str) -> Said:
    return serve([data], engine)[-1]


def test_get_is_one_event_and_then_the_codec_waits_for_the_next_cycle(engine: str) -> None:
    codec = server_codec(engine=engine)
    expected = RequestReceived(1, b"GET", b"", b"a.test:80", b"/x?y=z", [(b"accept", b"*/*")], True, 11)
    assert [expected, PAUSED] == feed(codec, b"GET /x?y=z HTTP/1.1\r\nHost: a.test:80\r\nAccept: */*\r\n\r\n")
    assert feed(codec, b"GET /next HTTP/1.1\r\n") == [PAUSED]
    assert codec.send_response(204, [], end_stream=True) == b"HTTP/1.1 204 No Content\r\n\r\n"
    assert codec.start_next_cycle()
    assert pull(codec) == [NEED_DATA]
    assert [RequestReceived(1, b"GET", b"", b"b", b"/next", [], True, 11), PAUSED] == feed(codec, b"Host: b\r\n\r\n")


def test_names_become_lower_case_and_values_lose_outer_white_space(engine: str) -> None:
    event = request(b"GET / HTTP/1.1\r\nHOST: a\r\nX-Odd:\t  b\t c \t \r\nX-Empty:\r\nX-8: \xe9\r\n\r\n", engine)
    assert event.headers == [(b"x-odd", b"b\t c"), (b"x-empty", b""), (b"x-8", b"\xe9")]


def test_fields_keep_their_order_and_repeats(engine: str) -> None:
    event = request(b"GET / HTTP/1.1\r\nB: 1\r\nHost: a\r\nA: 2\r\nB: 3\r\nCookie: x\r\nCookie: y\r\n\r\n", engine)
    assert event.headers == [(b"b", b"1"), (b"a", b"2"), (b"b", b"3"), (b"cookie", b"x"), (b"cookie", b"y")]


@pytest.mark.parametrize("method", [b"PROPFIND", b"M-SEARCH", b"SETUP", b"PRI", b"get", b"x!#$%&'*+.^_`|~9"])
def test_any_token_is_a_method(engine: str, method: bytes) -> None:
    assert method == request(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n", engine).method


def test_one_empty_line_before_a_request_is_ignored_and_no_more(engine: str) -> None:
    codec = server_codec(engine=engine)
    assert feed(codec, b"\r") == [NEED_DATA]
    assert feed(codec, b"\n") == [NEED_DATA]
    assert feed(codec, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")[0].path == b"/"  # type: ignore[union-attr]
    assert [Refused(400)] == feed(server_codec(engine=engine), b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")


# -- targets and hosts --------------------------------------------------------------------------


@pytest.mark.parity("D-32", "X-73")
@pytest.mark.parametrize(
    ("target", "host", "expected"),
    [
        (b"http://a/b?c", b"a", (b"http", b"a", b"/b?c", [])),
        (b"HTTPS://A:1/b", b"other:2", (b"https", b"A:1", b"/b", [(b"host", b"other:2")])),
        (b"http://a", b"", (b"http", b"a", b"/", [])),
        (b"http://a?b", b"a", (b"http", b"a", b"/?b", [])),
        (b"http://[::1]:80/", b"[::1]:80", (b"http", b"[::1]:80", b"/", [])),
    ],
)
def test_absolute_form_gives_the_authority_and_keeps_a_host_that_differs(
    engine: str, target: bytes, host: bytes, expected: tuple[object, ...]
) -> None:
    event = request(b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target, host), engine)
    assert expected == (event.scheme, event.authority, event.path, event.headers)
    assert event.absolute_form


def test_origin_form_says_no_scheme_and_takes_the_authority_from_host(engine: str) -> None:
    event = request(b"GET //b/?? HTTP/1.1\r\nHost: a\r\n\r\n", engine)
    assert (
        event.scheme,
        event.authority,
        event.path,
        event.headers,
        event.absolute_form,
    ) == (b"", b"a", b"//b/??", [], False)


def test_options_takes_an_asterisk_and_an_absolute_form_without_a_path_means_it_too(engine: str) -> None:
    assert request(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", engine).path == b"*"
    assert request(b"OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n", engine).path == b"*"
    assert request(b"OPTIONS http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", engine).path == b"/"


@pytest.mark.parity("X-63", "D-33")
def test_http_10_needs_no_host(engine: str) -> None:
    event = request(b"GET / HTTP/1.0\r\n\r\n", engine)
    assert (event.authority, event.version) == (b"", 10)


def test_an_empty_host_is_a_host(engine: str) -> None:
    codec = server_codec(engine=engine)
    assert feed(codec, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")[0].authority == b"a"  # type: ignore[union-attr]
    codec.send_response(200, [], end_stream=True)
    assert codec.start_next_cycle()
    assert feed(codec, b"GET / HTTP/1.1\r\nHost:\r\n\r\n")[0].authority == b""  # type: ignore[union-attr]


@pytest.mark.parity("D-31", "X-77")
@pytest.mark.parametrize(
    "head",
    [
        b"CONNECT /path HTTP/1.1\r\nHost: a:1",
        b"CONNECT http://a:1/ HTTP/1.1\r\nHost: a:1",
        b"CONNECT a HTTP/1.1\r\nHost: a",
        b"CONNECT a: HTTP/1.1\r\nHost: a",
        b"CONNECT u@a:1 HTTP/1.1\r\nHost: a",
        b"CONNECT a:1 HTTP/1.0\r\nHost: a:1",
        b"CONNECT * HTTP/1.1\r\nHost: a:1",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 5",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nTransfer-Encoding: chunked",
        b"CONNECT a:1 HTTP/1.1",
        b"GET a:1 HTTP/1.1\r\nHost: a:1",
        b"GET * HTTP/1.1\r\nHost: a",
        b"GET a HTTP/1.1\r\nHost: a",
        b"GET ftp://a/ HTTP/1.1\r\nHost: a",
        b"GET http://u:p@a/ HTTP/1.1\r\nHost: a",
        b"GET http:///x HTTP/1.1\r\nHost: a",
        b"GET http://a,b/ HTTP/1.1\r\nHost: a",
        b"GET http://a:99999/ HTTP/1.1\r\nHost: a",
    ],
)
def test_a_target_that_does_not_fit_its_method_is_refused(engine: str, head: bytes) -> None:
    assert [Refused(400)] == serve([head + b"\r\n\r\n"], engine)


@pytest.mark.parametrize(
    "host", [b"a b", b"a, b", b"a,b", b"u@a", b"a/b", b"a:b", b"a:99999", b"[::1", b"::1", b"\xff", b"a?b", b"%zz"]
)
def test_a_host_that_is_none_is_refused(engine: str, host: bytes) -> None:
    assert [Refused(400)] == serve([b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host], engine)


def test_http_11_has_exactly_one_host_and_http_10_at_most_one(engine: str) -> None:
    assert [Refused(400)] == serve([b"GET / HTTP/1.1\r\n\r\n"], engine)
    assert [Refused(400)] == serve([b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"], engine)
    assert [Refused(400)] == serve([b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"], engine)
    assert [Refused(400)] == serve([b"GET http://a/ HTTP/1.1\r\n\r\n"], engine)


# -- bodies -------------------------------------------------------------------------------------


@pytest.mark.parity("X-78", "D-34")
def test_a_body_with_a_content_length(engine: str) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
    expected = RequestReceived(1, b"POST", b"", b"a", b"/", [(b"content-length", b"5")], False, 11, 5)
    assert [expected, DataReceived(1, b"hello", 0, True), PAUSED] == feed(
        server_codec(engine=engine), head, b"hel", b"lo"
    )


@pytest.mark.parity("X-78")
def test_a_chunked_body_and_its_trailers(engine: str) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n"
    body = b'3;ext="a;b\\""\r\nabc\r\n0A ; x\r\n0123456789\r\n0\r\n'
    body += b"X-Sum: 1\r\nAuthorization: y\r\nL5d-Client-Id: z\r\n\r\n"
    assert [
        RequestReceived(1, b"POST", b"", b"a", b"/", [], False, 11),
        DataReceived(1, b"abc0123456789", 0, False),
        TrailersReceived(1, [(b"x-sum", b"1")]),
        PAUSED,
    ] == feed(server_codec(engine=engine), head, body)


def test_chunks_that_came_together_are_one_event_and_the_end_is_told_with_them(engine: str) -> None:
    codec = server_codec(engine=engine)
    codec.receive_data(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\nrest"
    )
    assert [DataReceived(1, b"ab", 0, True), PAUSED] == pull(codec)[1:]
    assert codec.buffered == 4


def test_what_one_event_costs_does_not_depend_on_how_small_the_chunks_are(engine: str) -> None:
    codec = server_codec(engine=engine)
    codec.receive_data(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 150 + b"0\r\n\r\n"
    )
    sizes = [(len(event.data), event.end_stream) for event in pull(codec) if isinstance(event, DataReceived)]
    assert sizes == [(64, False), (64, False), (22, True)]


def test_trailers_in_a_read_of_their_own(engine: str) -> None:
    codec = server_codec(engine=engine)
    feed(codec, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
    assert [TrailersReceived(1, [(b"x", b"y")]), PAUSED] == feed(codec, b"0\r\nX: y\r\n\r\n")


@pytest.mark.parity("X-80", "D-34")
def test_content_length_zero_is_kept_and_nothing_follows(engine: str) -> None:
    event = request(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", engine)
    assert (event.headers, event.end_stream, event.content_length) == ([(b"content-length", b"0")], True, 0)


def test_a_padded_content_length_is_sent_on_in_its_shortest_form(engine: str) -> None:
    event = request(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0010\r\nX: y\r\n\r\n", engine)
    assert (event.headers, event.content_length) == ([(b"content-length", b"10"), (b"x", b"y")], 10)


def test_a_request_body_is_never_delimited_by_the_end_of_the_connection(engine: str) -> None:
    said = serve([b"POST / HTTP/1.0\r\n\r\nbody"], engine)
    assert [RequestReceived(1, b"POST", b"", b"", b"/", [], True, 10), Next(False)] == said


@pytest.mark.parametrize(
    "data", [b"G", b"GET / HTTP/1.1\r\nHost: a\r\n", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na"]
)
def test_the_end_inside_a_message_is_an_error(engine: str, data: bytes) -> None:
    assert Refused(400) == serve([data], engine)[-1]


def test_the_end_inside_a_chunk_is_an_error(engine: str) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    for body in (b"", b"5", b"5\r\n", b"5\r\nabc", b"5\r\nabcde", b"5\r\nabcde\r", b"0\r\n", b"0\r\nX: y\r\n"):
        assert Refused(400) == serve([head + body], engine)[-1]


def test_the_end_between_messages_is_the_end(engine: str) -> None:
    codec = server_codec(engine=engine)
    assert [ConnectionClosed()] == feed(codec, b"")
    assert ConnectionClosed() == serve([b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\r\n"], engine)[-1]


def test_what_was_decoded_before_a_mistake_is_told_before_it(engine: str) -> None:
    codec = server_codec(engine=engine)
    codec.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcXX")
    said = pull(codec)
    assert [DataReceived(1, b"abc", 0, False), Refused(400)] == said[1:]
    assert [Refused(400)] == pull(codec)


# -- persistence --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "kept"),
    [
        (b"GET / HTTP/1.1\r\nHost: a", True),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Keep-Alive", True),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Close", False),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: keep-alive, close", False),
        (b"GET / HTTP/1.0\r\nHost: a", False),
        (b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive", True),
        (b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive, close", False),
        (b"GET / HTTP/1.0\r\nHost: a\r\nProxy-Connection: keep-alive", False),
    ],
)
def test_who_may_use_the_connection_again(engine: str, head: bytes, kept: bool) -> None:
    assert (ConnectionClosed() if kept else Next(False)) == answered(head + b"\r\n\r\n", engine)


def test_pipelined_requests_come_one_a_cycle_in_order(engine: str) -> None:
    data = b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(50))
    said = serve([data], engine)
    assert [b"/%d" % number for number in range(50)] == [e.path for e in said if isinstance(e, RequestReceived)]
    assert ConnectionClosed() == said[-1]


def test_a_request_whose_body_was_not_read_ends_the_connection(engine: str) -> None:
    codec = server_codec(engine=engine)
    feed(codec, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")
    codec.send_response(200, [], end_stream=True)
    assert not codec.start_next_cycle()


# -- fields of the connection -------------------------------------------------------------------


@pytest.mark.parity("D-29", "X-71")
def test_fields_of_the_connection_are_stripped(engine: str) -> None:
    event = request(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Hop\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\n"
        b"Upgrade: websocket\r\nX-Hop: 1\r\nX-Kept: 2\r\nTE: gzip\r\nTrailer: x\r\n\r\n",
        engine,
    )
    assert event.headers == [(b"x-kept", b"2"), (b"trailer", b"x")]
    assert event.protocol is None


@pytest.mark.parametrize("name", [b"Host", b"Content-Length", b"transfer-encoding"])
def test_a_connection_that_names_framing_or_routing_is_refused(engine: str, name: bytes) -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, %b\r\n\r\n" % name
    assert [Refused(400)] == serve([head], engine)


@pytest.mark.parametrize(
    "name", [b"l5d-client-id", b"x-meshcore-error", b"authorization", b"x-forwarded-for", b"cookie"]
)
def test_a_connection_cannot_strip_fields_that_others_rely_on(engine: str, name: bytes) -> None:
    event = request(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: %b\r\n%b: x\r\n\r\n" % (name, name), engine)
    assert [(name, b"x")] == event.headers


def test_thousands_of_connection_options_cost_no_more_than_their_bytes(engine: str) -> None:
    options = b",".join(b"o%d" % number for number in range(8_000))
    event = request(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: %b\r\nO7: x\r\nP: y\r\n\r\n" % options, engine)
    assert event.headers == [(b"p", b"y")]


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        (b"TE: trailers\r\nConnection: TE", [(b"te", b"trailers")]),
        (b"TE: trailers", [(b"te", b"trailers")]),
        (b"TE: trailers, gzip", []),
        (b"TE: gzip\r\nTE: trailers", []),
        (b"TE:", []),
    ],
)
def test_te_stays_where_it_is_exactly_trailers(engine: str, fields: bytes, kept: list[tuple[bytes, bytes]]) -> None:
    assert kept == request(b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % fields, engine).headers


# -- expectations -------------------------------------------------------------------------------


def test_expectation_of_a_100_is_told_and_stripped(engine: str) -> None:
    event = request(b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\n", engine)
    assert (event.expect_continue, event.headers) == (True, [(b"content-length", b"1")])


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue",
        b"PUT / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1",
        b"PUT / HTTP/1.0\r\nExpect: what\r\nContent-Length: 1",
    ],
)
def test_expectation_means_nothing_without_a_body_or_on_http_10(engine: str, head: bytes) -> None:
    event = request(head + b"\r\n\r\n", engine)
    assert not event.expect_continue
    assert b"expect" not in dict(event.headers)


@pytest.mark.parametrize("value", [b"100-continue, x", b"y 100-continue", b"what"])
def test_another_expectation_cannot_be_met(engine: str, value: bytes) -> None:
    assert [Refused(417)] == serve([b"GET / HTTP/1.1\r\nHost: a\r\nExpect: %b\r\n\r\n" % value], engine)


def test_a_final_answer_without_100_closes_unless_the_body_came_anyway(engine: str) -> None:
    head = b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"
    codec = server_codec(engine=engine)
    feed(codec, head)
    assert b"connection: close\r\n" in codec.send_response(403, [], end_stream=True)
    codec = server_codec(engine=engine)
    feed(codec, head, b"x")
    assert b"connection" not in codec.send_response(200, [], end_stream=True)
    assert codec.start_next_cycle()
    codec = server_codec(engine=engine)
    feed(codec, head)
    assert codec.send_informational(100, []) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert b"connection" not in codec.send_response(200, [], end_stream=True)


# -- upgrades and tunnels -----------------------------------------------------------------------

UPGRADE = (
    b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.mark.parity("X-74", "D-30")
def test_after_a_101_the_bytes_are_the_tunnels(engine: str) -> None:
    codec = server_codec(engine=engine)
    expected = RequestReceived(
        1, b"GET", b"", b"a", b"/chat", [(b"sec-websocket-version", b"13")], True, 11, None, b"websocket"
    )
    assert [expected, PAUSED] == feed(codec, UPGRADE + b"GET /not-a-request")
    assert (
        codec.send_response(101, [(b"sec-websocket-accept", b"x")], end_stream=False, upgrade=b"websocket")
        == b"HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: x\r\n"
        b"connection: upgrade\r\nupgrade: websocket\r\n\r\n"
    )
    assert pull(codec) == [PAUSED]
    assert codec.buffered == 18
    assert codec.trailing_data() == b"GET /not-a-request"
    assert codec.buffered == 0
    codec.receive_data(b"more")
    assert codec.trailing_data() == b"more"
    assert codec.send_data(b"raw") == b"raw"
    assert codec.send_data(b"", end_stream=True) == b""
    assert not codec.start_next_cycle()


def test_an_upgrade_that_is_not_taken_leaves_http(engine: str) -> None:
    assert [
        event.path
        for event in serve([UPGRADE + b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"], engine)
        if isinstance(event, RequestReceived)
    ] == [b"/chat", b"/next"]


@pytest.mark.parity("X-76", "D-29")
@pytest.mark.parametrize(
    ("fields", "protocol"),
    [
        (b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__", None),
        (b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__", None),
        (b"Connection: upgrade\r\nUpgrade: H2C, Foo/1", b"foo/1"),
        (b"Connection: upgrade\r\nUpgrade: a\r\nUpgrade: b", b"a, b"),
        (b"Connection: upgrade\r\nUpgrade: a b, c@d", None),
        (b"Connection: upgrade", None),
        (b"Upgrade: websocket", None),
        (b"HTTP2-Settings: AAMAAABkAAQAAP__", None),
    ],
)
def test_h2c_is_never_offered_on_and_upgrade_needs_both_fields(
    engine: str, fields: bytes, protocol: bytes | None
) -> None:
    event = request(b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % fields, engine)
    assert (protocol, []) == (event.protocol, event.headers)


def test_http_10_cannot_upgrade(engine: str) -> None:
    event = request(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", engine)
    assert (event.protocol, event.headers) == (None, [])


def test_the_body_of_a_request_that_asks_for_h2c_is_read(engine: str) -> None:
    data = (
        b"POST /java HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nContent-Length: 5\r\nHost: a\r\n"
        b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\nUpgrade: h2c\r\n"
        b"User-Agent: Java-http-client\r\n\r\nhello"
    )
    headers = [(b"content-length", b"5"), (b"user-agent", b"Java-http-client")]
    assert [
        RequestReceived(1, b"POST", b"", b"a", b"/java", headers, False, 11, 5),
        DataReceived(1, b"hello", 0, True),
        PAUSED,
    ] == feed(server_codec(engine=engine), data)


def test_a_tunnel_begins_after_the_body_of_its_request(engine: str) -> None:
    codec = server_codec(engine=engine)
    head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: foo\r\nContent-Length: 3\r\n\r\n"
    feed(codec, head, b"a")
    codec.send_response(101, [], end_stream=False, upgrade=b"foo")
    assert [DataReceived(1, b"bc", 0, True), PAUSED] == feed(codec, b"bcraw")
    assert codec.trailing_data() == b"raw"


@pytest.mark.parity("X-77", "D-30")
def test_a_2xx_to_connect_is_a_tunnel_and_has_no_framing(engine: str) -> None:
    codec = server_codec(engine=engine)
    event = RequestReceived(1, b"CONNECT", b"", b"a.test:443", b"", [(b"x", b"y")], True, 11)
    assert [event, PAUSED] == feed(
        codec, b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\nX: y\r\n\r\nclient hello"
    )
    assert codec.send_response(200, [(b"content-length", b"5")], end_stream=False) == b"HTTP/1.1 200 OK\r\n\r\n"
    assert codec.trailing_data() == b"client hello"
    assert codec.send_data(b"server hello") == b"server hello"
    assert not codec.start_next_cycle()


def test_connect_keeps_a_host_that_differs_and_drops_an_empty_length(engine: str) -> None:
    head = b"CONNECT a:443 HTTP/1.1\r\nHost: b\r\nContent-Length: 0\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
    event = request(head, engine)
    assert (
        event.headers,
        event.authority,
        event.content_length,
        event.protocol,
    ) == ([(b"host", b"b")], b"a:443", None, None)


def test_a_refused_connect_ends_the_connection_since_tunnel_bytes_are_no_request(engine: str) -> None:
    codec = server_codec(engine=engine)
    feed(codec, b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"connection: close\r\n" in codec.send_response(405, [], end_stream=True)
    assert not codec.start_next_cycle()
