"""The codec's own HPACK against the reference library, and against RFC 7541's examples."""

from __future__ import annotations

from typing import Any

import hpack
import pytest
from hpack.exceptions import HPACKError
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.huffman_table import decode_huffman
from hypothesis import given
from hypothesis import strategies as st

from meshcore.codec.events import Fields, RequestReceived
from meshcore.codec.h2.engine import EngineFailure
from meshcore.codec.h2.hpack_decoder import HpackDecoder
from meshcore.codec.h2.hpack_encoder import HpackEncoder
from meshcore.codec.h2.huffman import huffman_decode, huffman_encode
from meshcore.codec.h2.message import MessageReader
from meshcore.codec.limits import H2Limits
from meshcore.errors import COMPRESSION_ERROR, ENHANCE_YOUR_CALM, LocalProtocolError
from tests.codec.h2 import wire as w

REFERENCE = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)

names = st.sampled_from(
    [b"x", b"x-a", b"accept", b"cookie", b"authorization", b"content-type", b"etag", b"x-" + b"n" * 90]
)
values = st.sampled_from(
    [b"", b"a", b"b", b"a=b", b"long cookie = " + b"c" * 30, b"\xff\x80", b"v" * 700, b"w" * 3_000]
)
headers = st.lists(st.tuples(names, values), max_size=6)
pseudo = st.sampled_from(
    [
        [(b":status", b"200")],
        [(b":status", b"418")],
        [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a.B/c"), (b":authority", b"a.example")],
        [(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/"), (b":authority", b"b.example")],
        [],
    ]
)


def decoder(most: int = 1 << 20) -> HpackDecoder:
    return HpackDecoder(MessageReader(H2Limits()), most)


def plain(fields: Any) -> Fields:
    return [(bytes(name), bytes(value)) for name, value in fields]


def encoded(encoder: HpackEncoder, first: Fields, rest: Fields) -> bytes:
    encoder.look(rest)
    return encoder.block(first, rest)


@given(st.binary(max_size=80))
def test_huffman_code_is_that_of_the_reference(text: bytes) -> None:
    code = REFERENCE.encode(text)
    assert text == huffman_decode(code)
    assert huffman_encode(text) == (code if len(code) < len(text) else None)


@given(st.binary(max_size=40))
def test_what_is_no_huffman_code_is_refused(data: bytes) -> None:
    try:
        expected: bytes | None = decode_huffman(data)
    except HPACKError:
        expected = None
    try:
        found: bytes | None = huffman_decode(data)
    except IndexError:
        found = None
    assert expected == found


sizes = st.sampled_from([None, None, None, 0, 60, 100, 500, 1_000, 4_096, 9_999])


@given(st.lists(st.tuples(pseudo, headers, sizes), max_size=12))
def test_the_reference_reads_what_is_written(script: list[tuple[Fields, Fields, int | None]]) -> None:
    encoder, reference = HpackEncoder(), hpack.Decoder()
    for first, rest, size in script:
        if size is not None:
            # As a peer does that announces it, and is answered.
            encoder.resize(size)
            reference.max_allowed_table_size = min(size, 4_096)
        assert first + rest == plain(reference.decode(encoded(encoder, first, rest), raw=True))
        assert reference.header_table_size <= 4_096


@given(st.lists(st.tuples(headers, st.booleans(), sizes.filter(lambda size: size != 9_999)), max_size=12))
def test_what_the_reference_writes_is_read(script: list[tuple[Fields, bool, int | None]]) -> None:
    reference, ours = hpack.Encoder(), decoder()
    for fields, huffman, size in script:
        if size is not None:
            reference.header_table_size = size
        assert fields == plain(ours.decode(reference.encode(fields, huffman=huffman)))
        assert len(ours.codes) == len(fields)


@given(st.lists(st.binary(max_size=24), max_size=6))
def test_noise_is_read_or_refused_as_by_the_reference(blocks: list[bytes]) -> None:
    reference, ours = hpack.Decoder(), decoder()
    for block in blocks:
        try:
            expected: Fields | None = plain(reference.decode(block, raw=True))
        except (HPACKError, IndexError, TypeError):
            expected = None
        try:
            found: Fields | None = plain(ours.decode(block))
        except EngineFailure as failure:
            assert failure.code == COMPRESSION_ERROR
            found = None
        assert expected == found
        if found is None:
            return


@pytest.mark.parametrize(
    "blocks",
    [
        ["828684410f7777772e6578616d706c652e636f6d", "828684be58086e6f2d6361636865"],
        ["828684418cf1e3c2e5f23a6ba0ab90f4ff", "828684be5886a8eb10649cbf"],
    ],
)
def test_the_examples_of_the_rfc(blocks: list[str]) -> None:
    """Appendices C.3 and C.4."""
    ours = decoder()
    first, second = (plain(ours.decode(bytes.fromhex(block))) for block in blocks)
    request = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com")]
    assert request == first
    assert [*request, (b"cache-control", b"no-cache")] == second


def test_a_field_that_comes_again_is_one_byte_from_the_third_time_on() -> None:
    encoder = HpackEncoder()
    lengths = [len(encoded(encoder, [], [(b"x-one", b"value")])) for _ in range(4)]
    assert lengths[0] == lengths[1] > 1
    assert [1, 1] == lengths[2:]


def test_fields_that_do_not_come_again_take_no_room() -> None:
    encoder, reference = HpackEncoder(), hpack.Decoder()
    for number in range(300):
        reference.decode(encoded(encoder, [], [(b"x-request-id", b"%d" % number)]))
    assert [] == list(reference.header_table.dynamic_entries)


@pytest.mark.parametrize("field", [(b"authorization", b"secret"), (b"cookie", b"short")])
def test_what_could_be_guessed_is_never_in_a_table(field: tuple[bytes, bytes]) -> None:
    encoder, reference = HpackEncoder(), hpack.Decoder()
    for _ in range(3):
        (found,) = reference.decode(encoded(encoder, [], [field]), raw=True)
        assert isinstance(found, hpack.NeverIndexedHeaderTuple)
    assert [] == list(reference.header_table.dynamic_entries)


def test_what_came_as_never_to_be_in_a_table_goes_on_so() -> None:
    encoder, ours, reference = HpackEncoder(), decoder(), hpack.Decoder()
    for _ in range(3):
        # The same field of another sender, who does not mind.
        reference.decode(encoded(encoder, [], [(b"x-token", b"t")]))
    for _ in range(3):
        fields = ours.decode(hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple(b"x-token", b"t")]))
        (found,) = reference.decode(encoded(encoder, [], fields), raw=True)
        assert isinstance(found, hpack.NeverIndexedHeaderTuple)


@pytest.mark.parametrize("engine", ["direct", "pure"])
@pytest.mark.parametrize("secret", [False, True])
def test_crumbs_of_a_cookie_are_joined_to_one_as_secret_as_they_are(engine: str, secret: bool) -> None:
    wire = w.server_wire(engine, respond=False)
    kind = hpack.NeverIndexedHeaderTuple if secret else hpack.HeaderTuple
    crumbs = [hpack.HeaderTuple(b"cookie", b"a=1234567890"), kind(b"cookie", b"session=1234567890")]
    (request,) = wire.feed(wire.headers(1, [*w.GET, *crumbs]))
    assert isinstance(request, RequestReceived)
    (cookie,) = request.headers
    assert (b"cookie", b"a=1234567890; session=1234567890") == cookie
    assert secret is isinstance(cookie, hpack.NeverIndexedHeaderTuple)


@pytest.mark.parametrize(
    "bad",
    [
        (b"content-length", b"x"),
        (b"connection", b"close"),
        (b"te", b"gzip"),
        (b"a b", b""),
        (b"x", b"\n"),
        (b":path", b"/"),
        (b"transfer-encoding", b""),
        (b"content-length", b""),
        (b":method", b"GET"),
    ],
)
def test_a_field_that_may_not_be_sent_changes_nothing(bad: tuple[bytes, bytes]) -> None:
    encoder, reference = HpackEncoder(), hpack.Decoder()
    good = [(b"x-good", b"1"), (b"x-other", b"2")]
    reference.decode(encoded(encoder, [], good))
    for _ in range(3):
        with pytest.raises(LocalProtocolError):
            encoder.look([*good, bad])
        assert good == plain(reference.decode(encoded(encoder, [], good), raw=True))


@pytest.mark.parametrize("size", [54, 55, 56, 300])
def test_a_traceparent_is_written_out_and_takes_nobodys_place(size: int) -> None:
    encoder, reference = HpackEncoder(), hpack.Decoder()
    known = (b"x-a", b"1")
    for number in range(200):
        parent = (b"traceparent", b"%0*d" % (size, number))
        block = encoded(encoder, [(b":path", b"/")], [known, parent])
        assert [(b":path", b"/"), known, parent] == plain(reference.decode(block, raw=True))
    # What comes again is still in the table.
    assert 2 + len(b"\0\x0btraceparent") + size + 3 > len(block)
    # And one that may not be in a table, or is none, is treated as any other field is.
    secret = hpack.NeverIndexedHeaderTuple(b"traceparent", b"0" * 55)
    (_, found) = reference.decode(encoded(encoder, [(b":path", b"/")], [secret]), raw=True)
    assert not found.indexable
    with pytest.raises(LocalProtocolError):
        encoder.look([(b"traceparent", b"0" * 54 + b"\n")])


def test_content_length_is_told_wherever_it_comes_from() -> None:
    encoder = HpackEncoder()
    for _ in range(4):
        assert 12 == encoder.look([(b"x", b"y"), (b"content-length", b"12")])
        encoder.block([], [(b"x", b"y"), (b"content-length", b"12")])
    assert -1 == encoder.look([(b"x", b"y")])
    with pytest.raises(LocalProtocolError):
        encoder.look([(b"content-length", b"12"), (b"content-length", b"12")])


def test_an_entry_that_has_to_go_within_a_block_is_written_out() -> None:
    encoder, reference = HpackEncoder(), hpack.Decoder()
    encoder.resize(200)
    reference.max_allowed_table_size = 200
    old = (b"x-old", b"o" * 40)
    for _ in range(2):
        assert [old] == plain(reference.decode(encoded(encoder, [], [old]), raw=True))
    new = [(b"x-new-%d" % number, b"n" * 40) for number in range(3)]
    for _ in range(3):
        assert [*new, old] == plain(reference.decode(encoded(encoder, [], [*new, old]), raw=True))


def test_a_block_that_grows_beyond_all_bounds_is_given_up() -> None:
    ours = decoder(most=10_000)
    block = hpack.Encoder().encode([(b"x", b"v" * 1_000)])
    ours.decode(block)
    with pytest.raises(EngineFailure) as failure:
        ours.decode(b"\xbe" * 20)
    assert ENHANCE_YOUR_CALM == failure.value.code
    assert "header_list" == failure.value.abuse


def test_a_table_that_was_to_become_smaller_has_to() -> None:
    ours = decoder()
    ours.decode(b"\x82")
    ours.allow(100)
    with pytest.raises(EngineFailure):
        ours.decode(b"\x82")
    ours = decoder()
    ours.allow(100)
    assert [(b":method", b"GET")] == ours.decode(b"\x3f\x45\x82")
