"""Client hellos: of a real library and by hand, whole, in pieces, in records, cut and changed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshcore.codec.client_hello import (
    MAX_HELLO,
    MAX_RECORDS,
    NOT_TLS,
    ClientHello,
    Incomplete,
    Parsed,
    parse,
)
from tests.codec.hellos import extension, message, padded, protocols, real, records, server_name, vector

HELLO = ClientHello("web.test", ("h2", "http/1.1"))
EXTENSIONS = (extension(43, b"\2\3\4"), server_name(b"web.test"), protocols(b"h2", b"http/1.1"))


def outcome(data: bytes) -> Parsed | str:
    try:
        return parse(data)
    except ValueError as error:
        return str(error)


def in_pieces(data: bytes) -> tuple[Parsed | str, int, int]:
    """What it is found to be by looking again whenever there is as much as was wanted; at how many bytes; the looks."""
    size, looks = 0, 0
    while True:
        looks += 1
        found = outcome(data[:size])
        if not isinstance(found, Incomplete):
            return found, size, looks
        assert size < found.wanted <= MAX_HELLO
        if found.wanted > len(data):
            return found, size, looks
        size = found.wanted


@pytest.mark.parity("D-11", "D-12")
@pytest.mark.parametrize(
    ("name", "alpn"),
    [("web.test", ()), (None, ("h2",)), ("a.default.serviceaccount.identity.test", ("transport.l5d.io/v1",))],
)
def test_a_real_hello_is_read(name: str | None, alpn: tuple[str, ...]) -> None:
    assert ClientHello(name, alpn) == parse(real(name, alpn))


@pytest.mark.parity("D-11")
@pytest.mark.parametrize("version", [1, 3])
def test_a_hello_made_by_hand_is_read_and_what_comes_after_it_does_not_matter(version: int) -> None:
    data = records(message(*EXTENSIONS), version=version)

    assert HELLO == parse(data)
    assert HELLO == parse(data + b"\x14\3\3\0\1\1")
    assert HELLO == parse(data + b"anything")
    assert ClientHello() == parse(records(message()))
    assert ClientHello() == parse(records(message(extension(43, b""))))
    # Something behind the hello in its own record: the library's business.
    assert HELLO == parse(records(message(*EXTENSIONS) + b"\x0e\0\0\0"))


@pytest.mark.parity("D-11")
@pytest.mark.parametrize(
    ("data", "size"),
    [
        (b"GET / HTTP/1.1\r\n", 1),
        (b"\x17\3\1", 1),
        (b"\x16\2\1", 2),
        (b"\x16\3\0", 3),
        (b"\x16\3\2", 3),
        (b"\x16\3\4", 3),
        (b"\x16\3\1\0\0", 5),
        (b"\x16\3\1\x40\1", 5),
        (b"\x16\3\1\xff\xff", 5),
        (b"\x16\3\1\0\4\2", 6),
        (b"\x16\3\1\0\4\0", 6),
    ],
)
def test_the_first_byte_that_no_hello_has_there_decides(data: bytes, size: int) -> None:
    assert (NOT_TLS, size) == in_pieces(data)[:2]
    assert Incomplete(size) == parse(data[: size - 1])
    assert NOT_TLS == parse(data + b"\1\0\0\0")


@pytest.mark.parity("D-11")
def test_a_hello_byte_by_byte_costs_a_handful_of_looks() -> None:
    data = real("web.test", ["h2"])

    assert (ClientHello("web.test", ("h2",)), len(data), 9) == in_pieces(data)


@pytest.mark.parametrize("cuts", [(1,), (3,), (4,), (5, 1), (20,), (1, 1, 1, 1), (60,), (20, 20, 20)])
def test_a_hello_in_several_records_is_read(cuts: tuple[int, ...]) -> None:
    data = records(message(*EXTENSIONS), *cuts)

    found, size, looks = in_pieces(data)
    assert (HELLO, len(data)) == (found, size)
    assert looks <= 9 + 2 * len(cuts)


def test_a_hello_of_the_largest_size_is_read_and_a_larger_one_refused_as_soon_as_it_says_so() -> None:
    fits = records(padded(MAX_HELLO - 5, *EXTENSIONS))
    larger = records(padded(MAX_HELLO - 4, *EXTENSIONS))

    assert HELLO == parse(fits)
    assert HELLO == parse(fits + b"more")
    assert (f"TLS hello larger than {MAX_HELLO} bytes", 9) == in_pieces(larger)[:2]
    # The records' own bytes count.
    assert f"TLS hello larger than {MAX_HELLO} bytes" == outcome(records(padded(MAX_HELLO - 5, *EXTENSIONS), 100))
    assert f"TLS hello larger than {MAX_HELLO} bytes" == outcome(b"\x16\3\1\0\4\1\xff\xff\xff")


def test_crumbs_are_refused() -> None:
    whole = message(*EXTENSIONS)
    assert HELLO == parse(records(whole, *[1] * (MAX_RECORDS - 1)))
    found, _, looks = in_pieces(records(whole, *[1] * MAX_RECORDS))
    assert f"TLS hello in more than {MAX_RECORDS} records" == found
    assert looks <= 9 + 2 * MAX_RECORDS


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (records(message(*EXTENSIONS), 20)[:25] + b"\x17\3\3\0\1\0", "interrupted"),
        (records(message(*EXTENSIONS), 20)[:25] + b"\x16\2\3\0\1\0", "interrupted"),
        (records(message(*EXTENSIONS), 20)[:25] + b"\x16\3\3\0\0", "interrupted"),
        (records(b"\1\0\0\0"), "empty"),
        (records(message(*EXTENSIONS, tail=b"\0")), "malformed"),
        (records(b"\1" + vector(3, b"\3\3" + bytes(10))), "malformed"),
        (records(message(server_name(b"a.test"), server_name(b"b.test"))), "names its server twice"),
        (records(message(protocols(b"h2"), protocols(b"h2"))), "lists its protocols twice"),
        (records(message(protocols())), "malformed"),
        (records(message(protocols(b"h2", b""))), "malformed"),
        (records(message(extension(16, b"\0\3\2h2x"))), "malformed"),
        (records(message(extension(16, b"\0\4\2h2"))), "malformed"),
        (records(message(extension(0, b""))), "malformed"),
        (records(message(server_name(b""))), "server name that cannot be one"),
        (records(message(server_name(b"a.test\0.evil"))), "server name that cannot be one"),
        (records(message(server_name("bücher.test".encode()))), "server name that cannot be one"),
        (records(message(server_name(b"a b"))), "server name that cannot be one"),
        (records(message(server_name(b"a" * 256))), "server name that cannot be one"),
        (records(message(server_name(b"a.test", kind=1))), "server name that cannot be one"),
        (records(message(extension(0, b"\0\x0c\0\0\1a\0\0\5b.org"))), "server name that cannot be one"),
        (records(message(extension(0, b"\0\4\0\0\1ax"))), "server name that cannot be one"),
    ],
)
def test_what_is_no_hello_to_rely_on_is_refused_and_not_taken_for_something_else(data: bytes, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        parse(data)


cut_points = st.lists(st.integers(1, 40), max_size=12)


@given(
    name=st.one_of(st.none(), st.from_regex(r"[a-z0-9-]{1,20}(\.[a-z0-9]{1,10}){0,3}", fullmatch=True)),
    alpn=st.lists(st.text(st.characters(max_codepoint=255), min_size=1, max_size=20), max_size=4),
    cuts=cut_points,
    after=st.binary(max_size=10),
)
def test_whole_or_in_pieces_or_in_records_it_is_the_same_hello(
    name: str | None, alpn: list[str], cuts: list[int], after: bytes
) -> None:
    extensions = [server_name(name.encode())] if name is not None else []
    if alpn:
        extensions.append(protocols(*(each.encode("latin-1") for each in alpn)))
    whole = message(*extensions)
    while cuts and sum(cuts) >= len(whole):
        cuts.pop()
    data = records(whole, *cuts)

    assert ClientHello(name, tuple(alpn)) == parse(data + after)
    for size in range(len(data)):
        assert isinstance(parse(data[:size]), Incomplete)
    assert (ClientHello(name, tuple(alpn)), len(data)) == in_pieces(data + after)[:2]


@given(
    cuts=cut_points,
    changes=st.lists(st.tuples(st.integers(0, 150), st.integers(0, 255)), max_size=4),
    drop=st.integers(0, 100),
)
def test_a_changed_hello_is_judged_the_same_in_pieces_and_never_crashes(
    cuts: list[int], changes: list[tuple[int, int]], drop: int
) -> None:
    whole = message(*EXTENSIONS)
    while cuts and sum(cuts) >= len(whole):
        cuts.pop()
    data = bytearray(records(whole, *cuts))
    for place, byte in changes:
        data[place % len(data)] = byte
    changed = bytes(data[: len(data) - drop])

    found, size, _ = in_pieces(changed)
    if isinstance(found, Incomplete):
        assert found == outcome(changed)
    else:
        # Nothing that comes later changes it.
        for more in range(size, len(changed) + 1):
            assert type(found) is type(outcome(changed[:more]))
            if not isinstance(found, str):
                assert found == outcome(changed[:more])


@given(st.binary(max_size=60))
def test_any_bytes_are_judged(data: bytes) -> None:
    for start in (b"", b"\x16\3\1\0\x30\1", b"\x16\3\1\0\x30\1\0\0\x2c\3\3" + bytes(32)):
        outcome(start + data)
