"""Transcripts of the client side: a request out, what the codec says to the answer."""

from __future__ import annotations

import pytest

from meshcore.codec.events import (
    NEED_DATA,
    PAUSED,
    ConnectionClosed,
    DataReceived,
    InformationalReceived,
    ResponseReceived,
    TrailersReceived,
)
from meshcore.codec.h1 import H1Client, client_codec
from meshcore.codec.limits import H1Limits
from meshcore.errors import RemoteProtocolError
from tests.codec.h1.script import Refused, feed, fetch, pull


def asked(engine: str, method: bytes = b"GET", **how: object) -> H1Client:
    """A client codec that has sent a request."""
    codec = client_codec(engine=engine)
    target = b"a:1" if method == b"CONNECT" else b"/"
    codec.send_request(method, target, b"a:1", [], end_stream=True, **how)  # type: ignore[arg-type]
    return codec


def test_a_body_with_a_length_and_the_connection_again(engine: str) -> None:
    codec = asked(engine)
    assert [
        ResponseReceived(1, 200, [(b"content-length", b"2"), (b"x", b"y")], False, 11, 2),
        DataReceived(1, b"ok", 0, True),
        PAUSED,
    ] == feed(codec, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\nX: y\r\n\r\n", b"o", b"k")
    assert codec.start_next_cycle()
    codec.send_request(b"GET", b"/", b"a", [], end_stream=True)
    assert (
        ResponseReceived(1, 404, [(b"content-length", b"0")], True, 11, 0)
        == feed(codec, b"HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n")[0]
    )


def test_a_chunked_body_and_its_trailers(engine: str) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert [
        ResponseReceived(1, 200, [], False, 11),
        DataReceived(1, b"ok", 0, False),
        TrailersReceived(1, [(b"grpc-status", b"0")]),
        PAUSED,
    ] == feed(asked(engine), head, b"2\r\nok\r\n0\r\nGrpc-Status: 0\r\nDate: x\r\n\r\n")


def test_trailers_of_which_none_may_pass_are_an_ordinary_end(engine: str) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert [DataReceived(1, b"", 0, True), PAUSED] == feed(asked(engine), head, b"0\r\nSet-Cookie: a\r\n\r\n")[1:]


@pytest.mark.parity("X-82", "D-34")
@pytest.mark.parametrize("version", [10, 11])
def test_a_body_without_a_length_ends_with_the_connection(engine: str, version: int) -> None:
    codec = asked(engine)
    assert [
        ResponseReceived(1, 200, [], False, version),
        DataReceived(1, b"body", 0, True),
        PAUSED,
    ] == feed(codec, b"HTTP/1.%d 200 OK\r\n\r\nbo" % (version - 10), b"dy", b"")
    assert not codec.start_next_cycle()


@pytest.mark.parity("X-81", "D-34")
@pytest.mark.parametrize(
    ("method", "head", "headers", "length"),
    [
        (b"HEAD", b"200 OK\r\nContent-Length: 9", [(b"content-length", b"9")], 9),
        (b"HEAD", b"200 OK\r\nTransfer-Encoding: chunked", [], None),
        (b"HEAD", b"200 OK", [], None),
        (b"GET", b"304 Not Modified\r\nContent-Length: 9", [(b"content-length", b"9")], 9),
        (b"GET", b"304 Not Modified", [], None),
        (b"GET", b"204 No Content", [], None),
        (b"GET", b"204 No Content\r\nContent-Length: 0", [], None),
    ],
)
def test_responses_without_a_body_whatever_they_declare(
    engine: str, method: bytes, head: bytes, headers: list[tuple[bytes, bytes]], length: int | None
) -> None:
    codec = asked(engine, method)
    said = feed(codec, b"HTTP/1.1 %b\r\n\r\n" % head)
    assert [ResponseReceived(1, int(head[:3]), headers, True, 11, length), PAUSED] == said
    assert codec.start_next_cycle()


@pytest.mark.parametrize("framing", [b"Content-Length: 3", b"Transfer-Encoding: chunked"])
def test_a_204_that_declares_a_body_is_the_connections_last(engine: str, framing: bytes) -> None:
    codec = asked(engine)
    assert [ResponseReceived(1, 204, [], True, 11), PAUSED] == feed(codec, b"HTTP/1.1 204 x\r\n%b\r\n\r\n" % framing)
    assert not codec.start_next_cycle()


@pytest.mark.parametrize("extra", [b"x", b"\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON"])
def test_bytes_beyond_a_response_make_the_connection_unusable(engine: str, extra: bytes) -> None:
    codec = asked(engine)
    said = feed(codec, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + extra)
    assert PAUSED is said[-1]
    assert len(extra) == codec.buffered
    assert not codec.start_next_cycle()


def test_bytes_that_answer_no_request_are_refused(engine: str) -> None:
    codec = client_codec(engine=engine)
    assert pull(codec) == [NEED_DATA]
    assert [Refused(502)] == feed(codec, b"HTTP/1.1 408 Timeout\r\n\r\n")


def test_a_close_between_exchanges_is_told_and_one_inside_is_an_error(engine: str) -> None:
    codec = asked(engine)
    feed(codec, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert codec.start_next_cycle()
    assert [ConnectionClosed()] == feed(codec, b"")
    assert not codec.start_next_cycle()
    assert [Refused(502)] == feed(asked(engine), b"")
    assert [Refused(502)] == feed(asked(engine), b"HTTP/1.1 200", b"")


def test_a_close_with_the_response_makes_the_connection_unusable(engine: str) -> None:
    codec = asked(engine)
    assert PAUSED is feed(codec, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"")[-1]
    assert not codec.start_next_cycle()


@pytest.mark.parametrize(
    ("head", "kept"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive", True),
    ],
)
def test_whether_the_connection_is_kept(engine: str, head: bytes, kept: bool) -> None:
    codec = asked(engine)
    feed(codec, head + b"\r\n\r\n")
    assert kept == codec.start_next_cycle()


@pytest.mark.parity("D-33")
@pytest.mark.parametrize("how", [{"close": True}, {"version": 10}])
def test_a_request_that_wants_no_second_one_gets_none(engine: str, how: dict[str, object]) -> None:
    codec = asked(engine, **how)
    feed(codec, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert not codec.start_next_cycle()


def test_an_answer_before_the_request_has_ended_is_read_and_the_connection_is_not_kept(engine: str) -> None:
    codec = client_codec(engine=engine)
    codec.send_request(b"POST", b"/", b"a", [(b"content-length", b"5")], end_stream=False)
    codec.send_data(b"ab")
    assert [
        getattr(event, "status", event) for event in feed(codec, b"HTTP/1.1 413 x\r\nContent-Length: 0\r\n\r\n")
    ] == [413, PAUSED]
    assert not codec.start_next_cycle()


@pytest.mark.parity("D-29", "X-71")
def test_fields_of_the_connection_are_stripped(engine: str) -> None:
    head = (
        b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\nConnection: upgrade, x-hop, content-length\r\n"
        b"Upgrade: h2c\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\nTE: x\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n"
    )
    headers = [(b"content-length", b"0"), (b"set-cookie", b"a"), (b"set-cookie", b"b")]
    assert ResponseReceived(1, 426, headers, True, 11, 0) == feed(asked(engine), head)[0]


def test_a_padded_content_length_is_sent_on_in_its_shortest_form(engine: str) -> None:
    event = feed(asked(engine), b"HTTP/1.1 200 OK\r\nContent-Length: 02\r\n\r\nok")[0]
    assert ResponseReceived(1, 200, [(b"content-length", b"2")], False, 11, 2) == event


# -- informational responses and tunnels --------------------------------------------------------


def test_informational_responses_come_before_the_final_one(engine: str) -> None:
    assert [
        InformationalReceived(1, 100, []),
        InformationalReceived(1, 103, [(b"link", b"</a>")]),
        ResponseReceived(1, 204, [], True, 11),
        PAUSED,
    ] == feed(
        asked(engine),
        b"HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\nX: y\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    )


def test_informational_responses_are_counted_for_each_request(engine: str) -> None:
    codec = client_codec(H1Limits(informational=2), engine)
    for _ in range(2):
        codec.send_request(b"GET", b"/", b"a", [], end_stream=True)
        assert (
            PAUSED is feed(codec, b"HTTP/1.1 102 x\r\n\r\n" * 2 + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")[-1]
        )
        assert codec.start_next_cycle()
    codec.send_request(b"GET", b"/", b"a", [], end_stream=True)
    assert [event.status for event in feed(codec, b"HTTP/1.1 102 x\r\n\r\n" * 3)] == [102, 102, 502]  # type: ignore[union-attr]


@pytest.mark.parity("X-74", "D-30")
def test_after_a_101_that_was_asked_for_the_bytes_are_the_tunnels(engine: str) -> None:
    codec = asked(engine, upgrade=b"WebSocket")
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\nX: y\r\n\r\n"
    assert [
        ResponseReceived(1, 101, [(b"x", b"y")], False, 11, None, b"websocket"),
        PAUSED,
    ] == feed(codec, head + b"\x81\x00")
    assert codec.trailing_data() == b"\x81\x00"
    assert codec.send_data(b"raw") == b"raw"
    assert not codec.start_next_cycle()


@pytest.mark.parametrize(
    ("upgrade", "head"),
    [
        (None, b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket"),
        (b"websocket", b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: h2c"),
        (b"websocket", b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: other"),
        (b"websocket", b"HTTP/1.1 101 x\r\nConnection: upgrade"),
        (b"websocket", b"HTTP/1.0 101 x\r\nConnection: upgrade\r\nUpgrade: websocket"),
    ],
)
def test_a_101_that_was_not_asked_for_is_refused(engine: str, upgrade: bytes | None, head: bytes) -> None:
    assert [Refused(502)] == feed(asked(engine, upgrade=upgrade), head + b"\r\n\r\n")


def test_a_101_may_leave_the_connection_option_out(engine: str) -> None:
    said = feed(asked(engine, upgrade=b"foo"), b"HTTP/1.1 101 x\r\nUpgrade: foo\r\n\r\n")
    assert [ResponseReceived(1, 101, [], False, 11, None, b"foo"), PAUSED] == said


@pytest.mark.parity("X-77", "D-30")
def test_a_2xx_to_connect_is_a_tunnel_without_framing(engine: str) -> None:
    codec = asked(engine, b"CONNECT")
    assert [ResponseReceived(1, 200, [(b"x", b"y")], False, 11), PAUSED] == feed(
        codec, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\nhello"
    )
    assert codec.trailing_data() == b"hello"
    assert codec.send_data(b"bye", end_stream=True) == b"bye"
    assert not codec.start_next_cycle()
    assert [ResponseReceived(1, 200, [], False, 11), PAUSED] == feed(
        asked(engine, b"CONNECT"), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    )


def test_a_refused_connect_is_an_ordinary_response(engine: str) -> None:
    codec = asked(engine, b"CONNECT")
    assert [DataReceived(1, b"no", 0, True), PAUSED] == feed(codec, b"HTTP/1.1 403 x\r\nContent-Length: 2\r\n\r\nno")[
        1:
    ]
    assert codec.start_next_cycle()


# -- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding:",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2",
        b"HTTP/1.1 200 OK\r\nContent-Length: +2",
        b"HTTP/1.1 200 OK\r\nContent-Length:",
        b"HTTP/1.1 200 OK\r\nHost: a\r\nHost: b",
        b"HTTP/1.1 200 OK\r\nX : y",
        b"HTTP/1.1 200 OK\r\n folded",
        b"HTTP/1.1 200 OK\nX: y",
        b"HTTP/1.1 200 O\x00K",
        b"HTTP/1.1 200OK",
        b"HTTP/1.1 099 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/2.0 200 OK",
        b"HTTP/1.2 200 OK",
        b"HTTP/2 200",
        b"ICY 200 OK",
        b"200 OK",
        b"\r\nHTTP/1.1 200 OK",
    ],
)
def test_responses_that_could_be_read_differently_are_refused(engine: str, head: bytes) -> None:
    assert [Refused(502)] == fetch([head + b"\r\n\r\n"], engine)


def test_an_unsound_codec_stays_so(engine: str) -> None:
    codec = asked(engine)
    feed(codec, b"garbage\r\n\r\n")
    with pytest.raises(RemoteProtocolError, match="status line malformed"):
        codec.next_event()
    assert not codec.start_next_cycle()


def test_statuses_without_a_name_and_reasons_of_any_kind_are_accepted(engine: str) -> None:
    for line in (b"999 ", b"599", b"299 \xc3\xa9\t!"):
        assert int(line[:3]) == feed(asked(engine), b"HTTP/1.1 %b\r\n\r\n" % line)[0].status  # type: ignore[union-attr]
