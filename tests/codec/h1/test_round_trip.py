"""What one side writes, the other reads back as the same message."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from meshcore.codec.events import DataReceived, Fields, RequestReceived, ResponseReceived, TrailersReceived
from meshcore.codec.h1 import ENGINES, client_codec, server_codec
from meshcore.codec.h1.control import SPECIAL
from meshcore.codec.validate import REFUSED_TRAILERS, UNTRUSTED_TRAILERS
from tests.codec.h1.script import feed

TCHAR = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
TEXT = bytes([9, *range(32, 127), *range(128, 256)])


def strings(alphabet: bytes, *, min_size: int = 0) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=min_size, max_size=12).map(lambda data: bytes(alphabet[b % len(alphabet)] for b in data))


taken = SPECIAL | REFUSED_TRAILERS | UNTRUSTED_TRAILERS
names = strings(TCHAR, min_size=1).filter(lambda name: name not in taken)
fields: st.SearchStrategy[Fields] = st.lists(st.tuples(names, strings(TEXT).map(lambda v: v.strip(b" \t"))), max_size=6)
bodies = st.one_of(st.none(), st.lists(st.binary(max_size=40), max_size=4))
engines = st.tuples(st.sampled_from(ENGINES), st.sampled_from(ENGINES))
sizes = st.lists(st.integers(1, 30), min_size=1, max_size=3)


def pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    cut = []
    while data:
        for size in sizes:
            cut.append(data[:size])
            data = data[size:]
    return [piece for piece in cut if piece]


def length(body: list[bytes] | None, fixed: bool) -> Fields:
    return [(b"content-length", b"%d" % sum(map(len, body)))] if body is not None and fixed else []


@settings(max_examples=80)
@given(
    engines,
    st.sampled_from([b"GET", b"POST", b"x-odd"]),
    strings(b"/?&=%;~abc", min_size=0),
    fields,
    bodies,
    st.booleans(),
    fields,
    sizes,
)
def test_requests(
    engines: tuple[str, str],
    method: bytes,
    path: bytes,
    headers: Fields,
    body: list[bytes] | None,
    fixed: bool,
    trailers: Fields,
    sizes: list[int],
) -> None:
    client, server = client_codec(engine=engines[0]), server_codec(engine=engines[1])
    headers = headers + length(body, fixed)
    sent = client.send_request(method, b"/" + path, b"a.test:80", headers, end_stream=body is None)
    if body is not None:
        sent += b"".join(client.send_data(piece) for piece in body) + client.send_trailers(trailers)
    total = None if body is None else b"".join(body)
    no_body = body is None or (fixed and not total)
    declared = len(total) if total is not None and fixed else None
    expected = [RequestReceived(1, method, b"", b"a.test:80", b"/" + path, headers, no_body, 11, declared)]
    check_body(feed(server, *pieces(sent, sizes)), expected, total, no_body, [] if fixed else trailers)


@settings(max_examples=80)
@given(engines, st.sampled_from([200, 206, 404, 599]), fields, bodies, st.booleans(), fields, sizes)
def test_responses(
    engines: tuple[str, str],
    status: int,
    headers: Fields,
    body: list[bytes] | None,
    fixed: bool,
    trailers: Fields,
    sizes: list[int],
) -> None:
    client, server = client_codec(engine=engines[0]), server_codec(engine=engines[1])
    feed(server, client.send_request(b"GET", b"/", b"a", [], end_stream=True))
    headers = headers + length(body, fixed)
    sent = server.send_response(status, headers, end_stream=body is None)
    if body is not None:
        sent += b"".join(server.send_data(piece) for piece in body) + server.send_trailers(trailers)
    total = None if body is None else b"".join(body)
    no_body = body is None or (fixed and not total)
    declared = 0 if body is None else len(total or b"") if fixed else None
    if body is None:
        headers = [*headers, (b"content-length", b"0")]
    expected = [ResponseReceived(1, status, headers, no_body, 11, declared)]
    check_body(feed(client, *pieces(sent, sizes)), expected, total, no_body, [] if fixed else trailers)
    assert client.start_next_cycle()
    assert server.start_next_cycle()


def check_body(
    said: list[object], expected: list[object], total: bytes | None, no_body: bool, trailers: Fields
) -> None:
    if not no_body:
        if total or not trailers:
            expected.append(DataReceived(1, total or b"", 0, not trailers))
        if trailers:
            expected.append(TrailersReceived(1, trailers))
    assert expected == said[:-1]
