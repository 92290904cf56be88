"""DNS messages: what is sent, and answers of whatever kind."""

from __future__ import annotations

import struct
import time

import hypothesis
import pytest
from hypothesis import strategies as st

from meshcore.addresses import is_dns_name
from meshcore.resolve.dns_message import (
    AAAA,
    CNAME,
    SRV,
    A,
    BadMessage,
    Srv,
    decode_reply,
    encode_query,
)
from tests.resolve.dns_server import message, name_of, question, record, soa

NAME = "web.test"


def test_a_query_asks_for_recursion_and_tells_how_large_an_answer_may_be() -> None:
    query = encode_query(0x1234, NAME, A)

    assert (0x1234, NAME, A) == question(query)
    assert b"\x01\x00" == query[2:4]
    assert b"\0\0\x29\x04\xd0\0\0\0\0\0\0" == query[-11:]
    assert 11 == len(query) - len(encode_query(0x1234, NAME, A, edns=False))


def test_an_answer_has_its_data_and_the_least_ttl_that_led_there() -> None:
    records = [
        record("WEB.test", CNAME, "cdn.test", 30),
        record("cdn.test", A, "10.0.0.1", 60),
        record("cdn.test", A, "10.0.0.2", 20),
        record("other.test", A, "10.0.0.3", 1),
        record("cdn.test", AAAA, "fd00::1", 1),
        record("cdn.test", A, "10.0.0.9", 1, family=3),
    ]

    reply = decode_reply(message(7, NAME, A, records), 7, "Web.Test.", A)

    assert (("10.0.0.1", "10.0.0.2"), 20) == (reply.data, reply.ttl)


def test_names_may_be_compressed() -> None:
    head = message(7, NAME, SRV, [])[:6] + struct.pack("!HHH", 2, 0, 0)
    body = message(7, NAME, SRV, [])[12:]
    # The owner is the question's name; the second target is the first one's, which ends in the question's.
    first = 12 + len(body) + 2 + 10 + 6
    records = b"\xc0\x0c" + struct.pack("!HHIHHHH", SRV, 1, 9, 6 + 4, 1, 2, 80) + b"\x01a\xc0\x0c"
    records += b"\xc0\x0c" + struct.pack("!HHIHHHH", SRV, 1, 9, 6 + 2, 1, 2, 81) + struct.pack("!H", 0xC000 | first)

    reply = decode_reply(head + body + records, 7, NAME, SRV)

    assert (Srv(1, 2, 80, "a.web.test"), Srv(1, 2, 81, "a.web.test")) == reply.data


def test_a_negative_answer_holds_as_long_as_the_zone_says() -> None:
    nothing = message(7, NAME, A, [], code=3, authority=[soa("test", 600, 42)])

    assert (3, (), 42) == ((reply := decode_reply(nothing, 7, NAME, A)).code, reply.data, reply.ttl)
    assert decode_reply(message(7, NAME, A, [], code=3), 7, NAME, A).ttl is None


def test_a_ttl_that_seems_negative_is_none() -> None:
    told = message(7, NAME, A, [record(NAME, A, "10.0.0.1", 0x80000001)])

    assert 0 == decode_reply(told, 7, NAME, A).ttl


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 12,
        message(8, NAME, A, []),
        message(7, NAME, A, [], flags=0x0100),
        message(7, "other.test", A, []),
        message(7, NAME, AAAA, []),
        message(7, NAME, A, [record(NAME, A, "10.0.0.1", 1)[:-1]]),
        message(7, NAME, A, [name_of(NAME) + struct.pack("!HHIH", A, 1, 1, 3) + b"abc"]),
        message(7, NAME, A, [b"\xff"]),
        message(7, NAME, A, [b"\xff\xff" + b"\0" * 10]),
        message(7, NAME, A, [b"\x80a" + b"\0" * 10]),
        message(7, NAME, A, [b"\x3fcut"]),
        message(7, NAME, CNAME, [name_of(NAME) + struct.pack("!HHIH", CNAME, 1, 1, 9) + b"\x01a\0" + b"rest!!"]),
        # A name of more than 255 bytes.
        message(7, NAME, A, [(b"\x3f" + b"a" * 63) * 4 + b"\0" + struct.pack("!HHIH", 99, 1, 1, 0)]),
        message(7, NAME, A, [record(f"{i}.test", CNAME, f"{i + 1}.test", 1) for i in range(9)]).replace(
            name_of(NAME), name_of("0.test")
        ),
    ],
)
def test_what_is_no_answer_to_the_question_is_told_apart(data: bytes) -> None:
    name = "0.test" if b"\x010\x04test" in data else NAME
    with pytest.raises(BadMessage):
        decode_reply(data, 7, name, CNAME if b"rest!!" in data else A)


def test_a_pointer_to_itself_or_forward_is_refused() -> None:
    empty = message(7, NAME, A, [])
    for pointer in (len(empty), len(empty) + 2):
        with pytest.raises(BadMessage, match="forward"):
            decode_reply(message(7, NAME, A, [struct.pack("!H", 0xC000 | pointer) + b"\0" * 10]), 7, NAME, A)


def test_aliases_that_go_round_come_to_an_end() -> None:
    records = [record(NAME, CNAME, "b.test", 1), record("b.test", CNAME, NAME, 1)]

    with pytest.raises(BadMessage, match="aliases"):
        decode_reply(message(7, NAME, A, records), 7, NAME, A)


def test_a_truncated_answer_says_so_whatever_is_left_of_it() -> None:
    told = bytearray(message(7, NAME, A, [record(NAME, A, "10.0.0.1", 1)], flags=0x8380))[:-2]

    assert decode_reply(bytes(told), 7, NAME, A).truncated


def test_a_dot_inside_of_a_label_is_no_border() -> None:
    odd = message(7, "a.b", A, []).replace(name_of("a.b"), b"\x03a.b\0")

    with pytest.raises(BadMessage, match="another question"):
        decode_reply(odd, 7, "a.b", A)


def test_the_largest_answer_of_pointers_costs_little() -> None:
    # Each name is a label and a pointer to the one before: read again each time, it would be quadratic.
    chain = b"".join([name_of("x" * 60 + ".test"), *[]])
    records = [chain + struct.pack("!HHIH", 99, 1, 1, 0)]
    records += [b"\xc0\x0c" + struct.pack("!HHIH", 99, 1, 1, 0)] * 3_900
    began = time.perf_counter()

    decode_reply(message(7, NAME, A, records), 7, NAME, A)

    assert time.perf_counter() - began < 0.5
    with pytest.raises(BadMessage, match="4000"):
        decode_reply(message(7, NAME, A, records + records[-1:] * 200), 7, NAME, A)


GOOD = message(
    7,
    NAME,
    A,
    [record(NAME, CNAME, "cdn.test", 30), record("cdn.test", A, "10.0.0.1", 60)],
    authority=[soa("test", 600, 42)],
    additional=[record("cdn.test", AAAA, "fd00::1", 5)],
)


@hypothesis.given(st.binary(max_size=600), st.integers(0, len(GOOD)), st.integers(0, len(GOOD)))
def test_any_bytes_are_an_answer_or_refused(noise: bytes, start: int, end: int) -> None:
    for data in (noise, GOOD[:12] + noise, GOOD[:start] + noise + GOOD[end:]):
        try:
            decode_reply(data, 7, NAME, A)
        except BadMessage:
            pass


@hypothesis.given(
    st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**31 - 1)), min_size=1, max_size=40),
)
def test_what_was_written_is_read(addresses: list[tuple[int, int]]) -> None:
    from ipaddress import IPv4Address

    records = [record(NAME, A, str(IPv4Address(number)), ttl) for number, ttl in addresses]

    reply = decode_reply(message(7, NAME, A, records), 7, NAME, A)

    assert tuple(dict.fromkeys(str(IPv4Address(number)) for number, _ in addresses)) == reply.data
    assert min(ttl for _, ttl in addresses) == reply.ttl


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("web", True),
        ("web.test.", True),
        ("_http._tcp.web-1.test", True),
        ("", False),
        (".", False),
        ("a..b", False),
        ("a b", False),
        ("ä.test", False),
        ("a" * 64, False),
        (".".join(["a" * 63] * 4), False),
    ],
)
def test_names_that_can_be_asked_for(name: str, right: bool) -> None:
    assert right == is_dns_name(name)
