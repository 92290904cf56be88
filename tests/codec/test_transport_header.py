"""The transport header: every form, every bound, and what is not one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshcore.codec.transport_header import ALPN, MAX_MESSAGE, TransportHeader, decode, encode

PREFACE = b"transport.l5d.io/v1\r\n\r\n"


def framed(message: bytes) -> bytes:
    return PREFACE + len(message).to_bytes(4, "big") + message


def headers() -> st.SearchStrategy[TransportHeader]:
    name = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z0-9]{1,20}){0,4}", fullmatch=True)
    names = st.one_of(st.just(""), name)
    return st.builds(TransportHeader, st.integers(1, 65_535), names, st.sampled_from([None, "http/1", "h2"]))


@pytest.mark.parity("D-19", "D-21", "U-11")
@pytest.mark.parametrize(
    ("header", "message"),
    [
        (TransportHeader(4040), b"\x08\xc8\x1f"),
        (TransportHeader(65_535), b"\x08\xff\xff\x03"),
        (TransportHeader(80, "web.test"), b"\x08\x50\x12\x08web.test"),
        (TransportHeader(80, protocol="http/1"), b"\x08\x50\x1a\x02\x0a\x00"),
        (TransportHeader(80, protocol="h2"), b"\x08\x50\x1a\x02\x12\x00"),
        (TransportHeader(80, "web.test", "h2"), b"\x08\x50\x12\x08web.test\x1a\x02\x12\x00"),
    ],
)
def test_each_form_is_these_bytes(header: TransportHeader, message: bytes) -> None:
    assert framed(message) == encode(header)
    assert (header, len(framed(message))) == decode(framed(message) + b"12345")
    assert "transport.l5d.io/v1" == ALPN


@pytest.mark.parity("D-19", "U-20")
@given(headers(), st.binary(max_size=8))
def test_whole_or_in_pieces_it_comes_back(header: TransportHeader, after: bytes) -> None:
    data = encode(header)

    assert (header, len(data)) == decode(data + after)
    for size in range(len(data)):
        assert decode(data[:size]) is None


@pytest.mark.parametrize(
    ("message", "header"),
    [
        # In another order; the last of a repeated field; a SessionProtocol in two parts.
        (b"\x1a\x02\x12\x00\x12\x01a\x08\x50", TransportHeader(80, "a", "h2")),
        (b"\x08\x51\x12\x01b\x12\x01a\x08\x50", TransportHeader(80, "a")),
        (b"\x08\x50\x1a\x02\x0a\x00\x1a\x00", TransportHeader(80, protocol="http/1")),
        (b"\x08\x50\x1a\x04\x0a\x00\x12\x00", TransportHeader(80, protocol="h2")),
        # An empty name, and a protocol of a kind that is not known: neither is told.
        (b"\x08\x50\x12\x00\x1a\x02\x1a\x00", TransportHeader(80)),
        # Unknown fields of every wire type, groups in groups too, and what a later Http2 may have in it.
        (b"\x20\x7f\x29" + bytes(8) + b"\x32\x02ab\x3d" + bytes(4) + b"\x08\x50", TransportHeader(80)),
        (b"\x23\x08\x01\x2b\x12\x01x\x2c\x24\x08\x50", TransportHeader(80)),
        (b"\x08\x50\x1a\x04\x12\x02\x08\x01", TransportHeader(80, protocol="h2")),
        # A number longer than it has to be.
        (b"\x08\xd0\x80\x00", TransportHeader(80)),
        (b"\x08\xd0\x80\x80\x80\x10", TransportHeader(80)),
    ],
)
def test_what_another_writer_may_write_is_read(message: bytes, header: TransportHeader) -> None:
    assert (header, len(framed(message))) == decode(framed(message))


@pytest.mark.parity("D-22")
@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\n", b"\0", PREFACE[:-1] + b"x", b"transport.l5d.io/v2", PREFACE[:22] + b"\0\0\0\0\2\x08\x50"],
)
def test_no_preface_is_told_by_the_first_wrong_byte(data: bytes) -> None:
    for size in range(1, len(data) + 1):
        if data[:size] != PREFACE[:size]:
            with pytest.raises(ValueError, match="no preface"):
                decode(data[:size])
            return
        assert decode(data[:size]) is None


@pytest.mark.parity("D-22")
def test_a_message_may_have_64_kib_and_no_more() -> None:
    message = b"\x08\x50" + b"\x22\xfa\xff\x03" + bytes(65_530)
    assert len(message) == MAX_MESSAGE

    assert (TransportHeader(80), MAX_MESSAGE + 27) == decode(framed(message))
    with pytest.raises(ValueError, match="exceeds 65536"):
        decode(PREFACE + (MAX_MESSAGE + 1).to_bytes(4, "big"))
    with pytest.raises(ValueError, match="exceeds 65536"):
        decode(PREFACE + b"\xff\xff\xff\xff")


@pytest.mark.parity("D-22")
@pytest.mark.parametrize(
    ("message", "text"),
    [
        (b"", "0 is not a port"),
        (b"\x12\x01a", "0 is not a port"),
        (b"\x08\x80\x80\x04", "65536 is not a port"),
        (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "-1 is not a port"),
        (b"\x08\xd0\x80\x80\x80\x08", "is not a port"),
        (b"\x08\x50\x12\x03a b", "not a host name"),
        (b"\x08\x50\x12\x02a\0", "not a host name"),
        (b"\x08\x50\x12\x03a..", "not a host name"),
        (b"\x08\x50\x12\x01.", "not a host name"),
        (b"\x08\x50\x12\x02\xff\xfe", "not text"),
        (b"\x08\x50\x12\x05ab", "cut off"),
        (b"\x08", "malformed number"),
        (b"\x08" + b"\x80" * 10 + b"\1", "malformed number"),
        (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "malformed number"),
        (b"\x0a\x01\x50", "field 1 has wire type 2"),
        (b"\x0b\x0c", "field 1 has wire type 3"),
        (b"\x08\x50\x1a\x02\x08\x01", "field 1 has wire type 0"),
        (b"\x08\x50\x1a\x04\x12\x02\x12\x05", "cut off"),
        (b"\x08\x50\x29\0", "cut off"),
        (b"\x08\x50\x3d\0", "cut off"),
        (b"\x08\x50\x23\x08\x01", "cut off"),
        (b"\x08\x50\x24", "group ends"),
        (b"\x08\x50\x23\x2c", "group ends"),
        (b"\x23" * 17, "groups in groups"),
        (b"\x08\x50\x26", "unknown wire type"),
        (b"\x00\x00", "field number"),
    ],
)
def test_what_is_wrong_in_the_message_is_refused(message: bytes, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        decode(framed(message))


@pytest.mark.parametrize("name", ["a b", "-a", "a-", "ä", "a" * 64, "a." * 128, "a\n", "."])
def test_a_name_that_no_host_can_have_cannot_be_made(name: str) -> None:
    with pytest.raises(ValueError, match="not a host name"):
        TransportHeader(80, name)
    with pytest.raises(ValueError, match="not a port"):
        TransportHeader(0, "a")
    with pytest.raises(ValueError, match="protocol"):
        TransportHeader(80, protocol="gopher")
    assert TransportHeader(80, "_a.b-c.test.") == TransportHeader(80, "_a.b-c.test.")


@given(headers(), st.lists(st.tuples(st.integers(23, 200), st.integers(0, 255)), min_size=1, max_size=4), st.binary())
def test_a_changed_header_is_read_or_refused_and_in_pieces_the_same(
    header: TransportHeader, changes: list[tuple[int, int]], after: bytes
) -> None:
    data = bytearray(encode(header) + after)
    for place, byte in changes:
        data[place % len(data)] = byte

    def outcome(size: int) -> object:
        try:
            return decode(bytes(data[:size]))
        except ValueError as error:
            return str(error)

    final = outcome(len(data))
    if isinstance(final, tuple):
        assert decode(encode(final[0])) == (final[0], len(encode(final[0])))
        assert outcome(final[1]) == final
        assert all(outcome(size) is None for size in range(final[1]))
    seen = [each for size in range(len(data)) if (each := outcome(size)) is not None]
    assert all(each == final for each in seen)


@given(st.binary(max_size=80))
def test_any_message_is_judged(message: bytes) -> None:
    try:
        decode(framed(message))
    except ValueError as error:
        assert str(error).startswith("transport header: ")
