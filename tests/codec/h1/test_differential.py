"""Both engines, fed the same scripts whole and in pieces, say the same."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meshcore.codec.h1 import ENGINES
from tests.codec.h1.script import bytewise, fetch, serve

METHODS = [b"GET", b"HEAD", b"POST", b"OPTIONS", b"CONNECT", b"PRI", b"SETUP", b"get", b"M-SEARCH", b"G(T", b""]
TARGETS = [
    b"/",
    b"/a?b=c",
    b"*",
    b"a:1",
    b"[::1]:80",
    b"http://a",
    b"HTTPS://a:1/b?c",
    b"http://u@a/",
    b"http://?",
    b"ftp://a/",
    b"/a#b",
    b"/\xff",
    b'/<>"{}|\\^`',
    b"//",
    b"/ /",
    b"",
]
VERSIONS = [b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.2", b"HTTP/0.9", b"HTTP/11", b"http/1.1", b""]
FIELDS = [
    b"Host: a",
    b"Host: a:1",
    b"host:",
    b"HOST: a, b",
    b"Host: [::1]",
    b"Content-Length: 3",
    b"Content-Length: 0",
    b"content-length: 03",
    b"Content-Length: 3, 3",
    b"Content-Length: +3",
    b"Content-Length: 99999999999999999999",
    b"Content-Length:",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: Chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding:",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Connection: Upgrade, TE",
    b"Connection: x-a, host",
    b"Connection: X-A",
    b"Connection: ,,",
    b"Upgrade: websocket",
    b"Upgrade: h2c, foo/1",
    b"HTTP2-Settings: AAMAAABkAAQAAP__",
    b"Expect: 100-continue",
    b"TE: trailers",
    b"TE: gzip",
    b"X-A: b",
    b"X-A:",
    b"X-A: \t b \t ",
    b"X-A: \xe9\xff",
    b"X-A: a\x00b",
    b"X-A: a\x7fb",
    b"X-A : b",
    b" folded",
    b": b",
    b"no colon",
    b"X@A: b",
    b"X-A: a\rb",
    b"X-A: a\nb",
    b"Proxy-Connection: keep-alive",
    b"Keep-Alive: timeout=5",
]
GOOD_FIELDS = [
    b"Content-Length: 3",
    b"Transfer-Encoding: chunked",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Connection: Upgrade, TE",
    b"Upgrade: websocket",
    b"TE: trailers",
    b"X-A: \t b \t ",
    b"X-A:",
]
ENDS = [b"\r\n", b"\n", b"\r", b"\r\r\n"]
BODIES = [
    b"",
    b"abc",
    b"3\r\nabc\r\n0\r\n\r\n",
    b'3;a=b;c="d\\""\r\nabc\r\n3\r\ndef\r\n0\r\nX-T: 1\r\nCookie: a\r\n\r\n',
    b"3\r\nabc\r\n0\r\nContent-Length: 5\r\n\r\n",
    b"3\r\nabcXX0\r\n\r\n",
    b"03 \r\nabc\r\n",
    b"-1\r\n",
    b"ffffffffffffffff\r\nabc",
    b"00000000000000003\r\nabc\r\n0\r\n\r\n",
    b"2;\rxx\r\nab\r\n0\r\n\r\n",
    b"0\r\n folded\r\n\r\n",
    b"\r\n",
]
STATUS_LINES = [
    b"HTTP/1.1 200 OK",
    b"HTTP/1.1 200 OK",
    b"HTTP/1.0 200 OK",
    b"HTTP/1.1 204 No Content",
    b"HTTP/1.1 304 Not Modified",
    b"HTTP/1.1 100 Continue",
    b"HTTP/1.1 103 Early Hints",
    b"HTTP/1.1 101 Switching Protocols",
    b"HTTP/1.1 999 \xe9",
    b"HTTP/1.1 200",
    b"HTTP/1.1 200 ",
    b"HTTP/1.1  200 OK",
    b"HTTP/1.1 20 OK",
    b"HTTP/2 200 OK",
    b"ICY 200 OK",
]


def often(first: bytes, rest: list[bytes]) -> st.SearchStrategy[bytes]:
    return st.one_of(st.just(first), st.just(first), st.sampled_from(rest))


def heads(first_line: st.SearchStrategy[bytes], host: list[bytes]) -> st.SearchStrategy[bytes]:
    def put(line: bytes, fields: list[bytes], end: bytes) -> bytes:
        return end.join([line, *host, *fields, b"", b""])

    fields = st.one_of(st.sampled_from(GOOD_FIELDS), st.sampled_from(FIELDS))
    return st.builds(put, first_line, st.lists(fields, max_size=4), often(b"\r\n", ENDS))


request_lines = st.builds(
    lambda *parts: b" ".join(parts), often(b"GET", METHODS), often(b"/", TARGETS), often(b"HTTP/1.1", VERSIONS)
)
requests = st.one_of(heads(request_lines, [b"Host: a"]), heads(request_lines, []))
responses = heads(st.sampled_from(STATUS_LINES), [])


@st.composite
def scripts(draw: st.DrawFn, messages: st.SearchStrategy[bytes]) -> tuple[bytes, list[int]]:
    """Messages in a row, perhaps with one byte changed, and where to cut them."""
    parts = draw(st.lists(st.tuples(messages, st.sampled_from(BODIES)), min_size=1, max_size=3))
    data = b"".join(head + body for head, body in parts)
    if draw(st.booleans()):
        at = draw(st.integers(0, len(data) - 1))
        data = (
            data[:at]
            + draw(st.sampled_from([b"", b"\x00", b"\r", b"\n", b" ", b"\t", b":", b"\x80", b"0"]))
            + data[at + 1 :]
        )
    return data, draw(st.lists(st.integers(0, len(data)), max_size=6))


def cuts(data: bytes, places: list[int]) -> list[list[bytes]]:
    edges = [0, *sorted(set(places)), len(data)]
    random = [data[a:b] for a, b in itertools.pairwise(edges) if a < b]
    return [[data], random, bytewise(data)]


@settings(max_examples=200)
@given(scripts(requests))
@example((b"GET / HTTP/1.0\r\nHost: b\r\nContent-Length: 3, 3\r\n\r\nabc", []))
@example((b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n\r\n\r\n", [1, 2]))
def test_server_codecs_agree_on_every_script(script: tuple[bytes, list[int]]) -> None:
    data, places = script
    first, *others = [serve(pieces, engine) for engine in ENGINES for pieces in cuts(data, places) if data]
    for other in others:
        assert first == other


@settings(max_examples=200)
@example((b"HTTP/1.1 101 \r\nUpgrade: a\r\n\r\n", []), b"GET")
@given(scripts(responses), st.sampled_from([b"GET", b"HEAD", b"CONNECT"]))
def test_client_codecs_agree_on_every_script(script: tuple[bytes, list[int]], method: bytes) -> None:
    data, places = script
    first, *others = [
        fetch(pieces, engine, method=method) for engine in ENGINES for pieces in cuts(data, places) if data
    ]
    for other in others:
        assert first == other


@settings(max_examples=100)
@given(st.binary(min_size=1, max_size=200), st.lists(st.integers(0, 200), max_size=4))
def test_nothing_but_a_protocol_error_comes_of_any_bytes(data: bytes, places: list[int]) -> None:
    for engine in ENGINES:
        for pieces in cuts(data, places):
            serve(pieces, engine)
            fetch(pieces, engine)


@pytest.mark.skipif(len(ENGINES) < 2, reason="the extra `fast` is not installed")
def test_there_are_two_engines_to_compare() -> None:
    assert ENGINES == ("h11", "httptools")
