"""Requests that two recipients could read differently, each engine's own gaps first; and the limits."""

from __future__ import annotations

import pytest

from meshcore.codec.events import ConnectionClosed, DataReceived, RequestReceived
from meshcore.codec.h1 import client_codec, server_codec
from meshcore.codec.limits import H1Limits
from tests.codec.h1.script import Refused, bytewise, feed, serve

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"

H11_LETS_THROUGH = {
    "content-length beside transfer-encoding": POST
    + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a list of content-lengths": POST + b"Content-Length: 5, 5\r\n\r\nhello",
    "the same content-length twice": POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "a content-length above 2**64": POST + b"Content-Length: 18446744073709551617\r\n\r\n",
    "a content-length of 2**63": POST + b"Content-Length: 9223372036854775808\r\n\r\n",
    "bare LF": b"GET / HTTP/1.1\nHost: a\n\n",
    "bare LF in one line": b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
    "obs-fold": GET + b"X: y\r\n z\r\n\r\n",
    "a first line that is folded": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "a host with a space": b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "a host list": b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
    "a host with user information": b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
    "GET *": b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET host:port": b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "transfer-encoding on HTTP/1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a chunk size of 20 digits": CHUNKED + b"00000000000000000005\r\nhello\r\n0\r\n\r\n",
    "a chunk size above 2**63": CHUNKED + b"8000000000000000\r\n",
    "bare CR in a chunk extension": CHUNKED + b"2;\rxx\r\nab\r\n0\r\n\r\n",
    "content-length in trailers": CHUNKED + b"0\r\nContent-Length: 5\r\n\r\n",
    "transfer-encoding in trailers": CHUNKED + b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "host in trailers": CHUNKED + b"0\r\nHost: b\r\n\r\n",
    "connection in trailers": CHUNKED + b"0\r\nConnection: close\r\n\r\n",
    "a control character in a value": GET + b"X: a\x01b\r\n\r\n",
    "DEL in a value": GET + b"X: a\x7fb\r\n\r\n",
    "vertical tab in a value": GET + b"X: a\x0bb\r\n\r\n",
}

HTTPTOOLS_LETS_THROUGH = {
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "the same host twice": b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "a fragment": b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    "an absolute-form with user information": b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
}

BOTH_REFUSE = {
    "NUL in a value": GET + b"X: a\x00b\r\n\r\n",
    "bare CR in a value": GET + b"X: a\rContent-Length: 5\r\n\r\n",
    "white space before a colon": GET + b"X : y\r\n\r\n",
    "tab before a colon": GET + b"X\t: y\r\n\r\n",
    "no colon": GET + b"X y\r\n\r\n",
    "no name": GET + b": y\r\n\r\n",
    "a name that is no token": GET + b"X@Y: y\r\n\r\n",
    "a name with a byte above 0x7f": GET + b"X\xe9: y\r\n\r\n",
    "CR CR LF": b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n",
    "two spaces in the request line": b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a tab in the request line": b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "white space after the version": b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
    "white space first": b" GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a method that is no token": b"G(ET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a space in the target": b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    "a target above 0x7f": b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
    "a lower-case version": b"GET / http/1.1\r\nHost: a\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "a content-length that is no number": POST + b"Content-Length: five\r\n\r\n",
    "an empty content-length": POST + b"Content-Length:\r\n\r\n",
    "a signed content-length": POST + b"Content-Length: +5\r\n\r\n",
    "xchunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice in two fields": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked not last": POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "chunked after a comma": POST + b"Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n",
    "chunked with a parameter": POST + b"Transfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n",
    "identity": POST + b"Transfer-Encoding: identity\r\n\r\n",
    "no coding": POST + b"Transfer-Encoding:\r\n\r\n",
    "a coding that is no token": POST + b"Transfer-Encoding: g zip, chunked\r\n\r\n",
    "a signed chunk size": CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n",
    "an empty chunk size": CHUNKED + b"\r\nhello\r\n0\r\n\r\n",
    "a chunk size with 0x": CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n",
    "white space after a chunk size": CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n",
    "white space before a chunk size": CHUNKED + b" 5\r\nhello\r\n0\r\n\r\n",
    "bare LF after a chunk size": CHUNKED + b"5\nhello\r\n0\r\n\r\n",
    "bare LF after a chunk": CHUNKED + b"5\r\nhello\n0\r\n\r\n",
    "CR and another byte after a chunk": CHUNKED + b"5\r\nhello\rX0\r\n\r\n",
    "a chunk longer than its size": CHUNKED + b"5\r\nhellooo\r\n0\r\n\r\n",
    "an extension without a name": CHUNKED + b"5;=x\r\nhello\r\n0\r\n\r\n",
    "an open quote in an extension": CHUNKED + b'5;a="b\r\nhello\r\n0\r\n\r\n',
    "NUL in an extension": CHUNKED + b"5;a=\x00\r\nhello\r\n0\r\n\r\n",
    "a folded trailer": CHUNKED + b"0\r\nX: y\r\n z\r\n\r\n",
    "bare LF in trailers": CHUNKED + b"0\r\nX: y\n\r\n",
    "white space before the colon of a trailer": CHUNKED + b"0\r\nX : y\r\n\r\n",
}


@pytest.mark.parametrize("data", [*H11_LETS_THROUGH.values()], ids=[*H11_LETS_THROUGH])
def test_what_h11_lets_through_is_refused(engine: str, data: bytes) -> None:
    assert Refused(400) == serve([data], engine)[-1]


@pytest.mark.parametrize("data", [*HTTPTOOLS_LETS_THROUGH.values()], ids=[*HTTPTOOLS_LETS_THROUGH])
def test_what_httptools_lets_through_is_refused(engine: str, data: bytes) -> None:
    assert Refused(400) == serve([data], engine)[-1]


@pytest.mark.parametrize("data", [*BOTH_REFUSE.values()], ids=[*BOTH_REFUSE])
def test_what_both_engines_refuse_is_refused_with_the_same_status(engine: str, data: bytes) -> None:
    assert Refused(400) == serve([data], engine)[-1]
    assert Refused(400) == serve(bytewise(data), engine)[-1]


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET / HTTP/2.0", 505),
        (b"GET / HTTP/1.2", 505),
        (b"GET / HTTP/0.9", 505),
        (b"GET / HTTP/1.10", 505),
        (b"PRI * HTTP/2.0", 505),
        (b"GET / HTTP/3", 505),
        (b"GET / HTTP/x", 400),
        (b"A" * 64 + b" / HTTP/1.1", None),
        (b"A" * 65 + b" / HTTP/1.1", 501),
    ],
)
def test_versions_and_methods_that_are_not_served_have_a_status_of_their_own(
    engine: str, line: bytes, status: int | None
) -> None:
    said = serve([line + b"\r\nHost: a\r\n\r\n"], engine)
    assert (ConnectionClosed() if status is None else Refused(status)) == said[-1]


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"GZIP , Chunked", b"deflate, gzip, chunked"])
def test_codings_beyond_chunked_are_not_implemented(engine: str, coding: bytes) -> None:
    assert [Refused(501)] == serve([POST + b"Transfer-Encoding: %b\r\n\r\n0\r\n\r\n" % coding], engine)


def test_a_line_without_cr_is_refused_before_the_head_has_ended(engine: str) -> None:
    assert [Refused(400)] == feed(server_codec(engine=engine), b"GET / HTTP/1.1\n")
    assert [Refused(400)] == feed(server_codec(engine=engine), b"GET / HTTP/1.1\r\nHost: a\n")


def test_every_target_that_the_rules_allow_passes_the_engine(engine: str) -> None:
    printable = bytes(byte for byte in range(0x21, 0x7F) if byte != 0x23)
    for target in (b"/" + printable, b"/?" + printable, b"http://a/" + printable, b"http://a?" + printable):
        event = serve([b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % target], engine)[0]
        assert isinstance(event, RequestReceived)
        assert target.removeprefix(b"http://a").removeprefix(b"/") == event.path.removeprefix(b"/")


@pytest.mark.parametrize("host", [b"a-z.0_9~", b"!$&'()*+;=", b"%41%5a", b"[::1]", b"[fe80::1%eth0]"])
def test_every_authority_that_the_rules_allow_passes_the_engine(engine: str, host: bytes) -> None:
    for authority in (host + b":80", host):
        for target in (b"/", b"http://%b/" % authority):
            event = serve([b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target, authority)], engine)[0]
            assert isinstance(event, RequestReceived)
            assert authority == event.authority
    event = serve([b"CONNECT %b:80 HTTP/1.1\r\nHost: %b:80\r\n\r\n" % (host, host)], engine)[0]
    assert isinstance(event, RequestReceived)


# -- limits -------------------------------------------------------------------------------------

LIMITS = H1Limits(head_size=200, request_line=50, header_count=4, chunk_line=20)


@pytest.mark.parametrize("cut", ["whole", "byte by byte"])
@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"x" * 36), None),
        (b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"x" * 37), 414),
        (b"GET /" + b"x" * 60, 414),
        (GET + b"X: %b\r\n\r\n" % (b"y" * 168), None),
        (GET + b"X: %b\r\n\r\n" % (b"y" * 169), 431),
        (GET + b"X: " + b"y" * 300, 431),
        (GET + b"A:\r\nB:\r\nC:\r\n\r\n", None),
        (GET + b"A:\r\nB:\r\nC:\r\nD:\r\n\r\n", 431),
        (GET + b"A:\r\nB:\r\nC:\r\nD:\r\nE", 431),
        (b"\x16\x03" + b"x" * 60, 414),
        (CHUNKED + b"0\r\nA: b\r\nC: d\r\n\r\n", None),
        (CHUNKED + b"0\r\nA: b\r\nC: d\r\nE: f\r\n\r\n", 431),
        (CHUNKED + b"0\r\nA: %b\r\n\r\n" % (b"b" * 193), None),
        (CHUNKED + b"0\r\nA: %b\r\n\r\n" % (b"b" * 194), 431),
        (CHUNKED + b"1;%b\r\nx\r\n0\r\n\r\n" % (b"a" * 16), None),
        (CHUNKED + b"1;%b\r\nx\r\n0\r\n\r\n" % (b"a" * 17), 400),
        (CHUNKED + b"1;" + b"a" * 40, 400),
        (CHUNKED + b"1;%b\r\nx\r\n" % (b"a" * 15) * 12 + b"0\r\n\r\n", None),
        (CHUNKED + b"1;%b\r\nx\r\n" % (b"a" * 15) * 13 + b"0\r\n\r\n", 400),
    ],
)
def test_limits_hold_to_the_byte_however_the_bytes_are_cut(
    engine: str, data: bytes, status: int | None, cut: str
) -> None:
    said = serve([data] if cut == "whole" else bytewise(data), engine, LIMITS)
    assert (ConnectionClosed() if status is None else Refused(status)) == said[-1]


def test_a_whole_head_of_70000_bytes_obeys_the_limit(engine: str) -> None:
    assert [Refused(431)] == serve([GET + b"X: %b\r\n\r\n" % (b"y" * 70_000)], engine)


def test_the_first_line_counts_towards_the_head(engine: str) -> None:
    limits = H1Limits(head_size=15)
    assert [Refused(431)] == serve([GET + b"\r\n"], engine, limits)
    assert [Refused(431)] == serve(bytewise(GET + b"\r\n"), engine, limits)


def test_limits_hold_for_responses_too(engine: str) -> None:
    for data in (
        b"HTTP/1.1 200 %b\r\n\r\n" % (b"x" * 60),
        b"HTTP/1.1 200 %b" % (b"x" * 60),
        b"HTTP/1.1 200 OK\r\nX: %b\r\n\r\n" % (b"x" * 200),
        b"HTTP/1.1 200 OK\r\nA:\r\nB:\r\nC:\r\nD:\r\nE:\r\n\r\n",
    ):
        codec = client_codec(LIMITS, engine)
        codec.send_request(b"GET", b"/", b"a", [], end_stream=True)
        assert [Refused(502)] == feed(codec, data)


@pytest.mark.parametrize("filler", [b" ", b"\t", b"a ", b","])
@pytest.mark.parametrize(
    "head", [GET + b"X: ", GET + b"Content-Length: ", GET + b"Connection: ", CHUNKED + b"0\r\nX: "]
)
def test_no_head_takes_more_time_than_its_length_warrants(engine: str, head: bytes, filler: bytes) -> None:
    # Quadratic work on these would take many seconds: the suite would be seen to hang.
    value = b"a" + filler * (60_000 // len(filler)) + b"a"
    assert len(serve([head + value + b"\r\n\r\n"], engine)) <= 3


def test_a_long_chunk_is_read_piece_by_piece_and_never_kept(engine: str) -> None:
    codec = server_codec(engine=engine)
    feed(codec, CHUNKED + b"7fffffffffffffff\r\n")
    for _ in range(10):
        assert DataReceived(1, b"x" * 1_000, 0, False) == feed(codec, b"x" * 1_000)[0]
        assert codec.buffered == 0
