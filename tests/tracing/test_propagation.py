"""Trace contexts read and written: W3C, grpc-trace-bin, B3."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshcore.http.headers import Headers
from meshcore.tracing.propagation import B3, B3_SINGLE, FORMATS, GRPC, ORDER, W3C, Link, read, trace_state

TRACE, SPAN = b"0af7651916cd43dd8448eb211c80319c", b"b7ad6b7169203331"
OTHER = b"11111111111111112222222222222222"
PARENT = b"00-%b-%b-01" % (TRACE, SPAN)
BINARY = base64.b64encode(bytes.fromhex(f"0000{TRACE.decode()}01{SPAN.decode()}0201"))

Told = tuple[bytes, bytes, bool | None, int]


def told(*fields: tuple[bytes, bytes], order: tuple[str, ...] = ORDER) -> Told | None:
    link = read(list(fields), order)
    return None if link is None else (link.trace, link.span, link.sampled, link.formats)


def many(trace: bytes = TRACE, span: bytes = SPAN, **more: bytes) -> list[tuple[bytes, bytes]]:
    fields = [(b"x-b3-traceid", trace), (b"x-b3-spanid", span)]
    return fields + [(b"x-b3-" + name.encode(), value) for name, value in more.items()]


@pytest.mark.parametrize(
    ("value", "sampled"),
    [
        (PARENT, True),
        (PARENT[:-2] + b"00", False),
        (PARENT[:-2] + b"03", True),
        (PARENT[:-2] + b"fe", False),
        (b"01" + PARENT[2:], True),
        (b"cc" + PARENT[2:] + b"-what-may-come", True),
    ],
)
@pytest.mark.parity("M-17")
def test_a_traceparent_is_read(value: bytes, sampled: bool) -> None:
    assert (TRACE, SPAN, sampled, W3C) == told((b"traceparent", value))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00",
        PARENT[:-1],
        PARENT + b"0",
        PARENT + b"-00",
        b"ff" + PARENT[2:],
        b"0" + PARENT,
        b"cc" + PARENT[2:] + b"x",
        PARENT.upper(),
        b"00-" + b"0" * 32 + PARENT[35:],
        PARENT[:36] + b"0" * 16 + b"-01",
        PARENT.replace(b"-", b"_"),
        PARENT[:-2] + b"0x",
        b" " + PARENT,
        b"00-%b-%b-01" % (TRACE[:-1] + b"g", SPAN),
        b"00-%b-%b-01" % (TRACE[:-2] + "ü".encode(), SPAN),
    ],
)
def test_a_traceparent_that_is_none_is_as_good_as_absent(value: bytes) -> None:
    assert told((b"traceparent", value)) is None
    assert (TRACE, SPAN, None, B3_SINGLE) == told((b"traceparent", value), (b"b3", TRACE + b"-" + SPAN))


@pytest.mark.parametrize(
    ("value", "sampled"),
    [
        (BINARY, True),
        (BINARY.rstrip(b"="), True),
        (base64.b64encode(base64.b64decode(BINARY)[:-1] + b"\0"), False),
        # Without its options it says nothing of sampling: not.
        (base64.b64encode(base64.b64decode(BINARY)[:-2]), False),
    ],
)
@pytest.mark.parity("M-17")
def test_a_grpc_trace_is_read(value: bytes, sampled: bool) -> None:
    assert (TRACE, SPAN, sampled, GRPC) == told((b"grpc-trace-bin", value))


def binary(text: str) -> bytes:
    return base64.b64encode(bytes.fromhex(text))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"!",
        b"AAA",
        BINARY + b"AAAA",
        BINARY[:-8],
        BINARY.replace(b"A", b"\xff", 1),
        binary(f"0100{TRACE.decode()}01{SPAN.decode()}0201"),
        binary(f"0001{TRACE.decode()}01{SPAN.decode()}0201"),
        binary(f"0000{TRACE.decode()}02{SPAN.decode()}0201"),
        binary(f"0000{TRACE.decode()}01{SPAN.decode()}0301"),
        binary(f"0000{'0' * 32}01{SPAN.decode()}0201"),
        binary(f"0000{TRACE.decode()}01{'0' * 16}0201"),
        b"A" * 5_000,
    ],
)
def test_a_grpc_trace_that_is_none_is_as_good_as_absent(value: bytes) -> None:
    assert told((b"grpc-trace-bin", value)) is None


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        (many(sampled=b"1"), (TRACE, SPAN, True, B3)),
        (many(sampled=b"true"), (TRACE, SPAN, True, B3)),
        (many(sampled=b"0"), (TRACE, SPAN, False, B3)),
        (many(), (TRACE, SPAN, None, B3)),
        (many(flags=b"1"), (TRACE, SPAN, True, B3)),
        (many(TRACE.upper(), SPAN.upper(), sampled=b"1"), (TRACE, SPAN, True, B3)),
        (many(TRACE[16:], sampled=b"1"), (b"0" * 16 + TRACE[16:], SPAN, True, B3)),
        (many(TRACE[:-1]), None),
        (many(TRACE, SPAN + b"0"), None),
        (many(b"0" * 32), None),
        (many(TRACE, b"0" * 16), None),
        (many(TRACE, b"nonsense"), None),
        ([(b"x-b3-traceid", TRACE)], None),
        ([(b"x-b3-spanid", SPAN), (b"x-b3-sampled", b"1")], None),
        ([(b"x-b3-sampled", b"1")], (b"", b"", True, B3)),
        ([(b"x-b3-sampled", b"0")], (b"", b"", False, B3)),
        ([(b"x-b3-sampled", b"maybe")], None),
        ([(b"x-b3-flags", b"1")], (b"", b"", True, B3)),
        ([(b"b3", TRACE + b"-" + SPAN + b"-1")], (TRACE, SPAN, True, B3_SINGLE)),
        ([(b"b3", TRACE + b"-" + SPAN + b"-0-" + SPAN)], (TRACE, SPAN, False, B3_SINGLE)),
        ([(b"b3", TRACE + b"-" + SPAN + b"-d")], (TRACE, SPAN, True, B3_SINGLE)),
        ([(b"b3", TRACE[16:] + b"-" + SPAN)], (b"0" * 16 + TRACE[16:], SPAN, None, B3_SINGLE)),
        ([(b"b3", b"0")], (b"", b"", False, B3_SINGLE)),
        ([(b"b3", b"1")], (b"", b"", True, B3_SINGLE)),
        ([(b"b3", b"2")], None),
        ([(b"b3", TRACE)], None),
        ([(b"b3", TRACE + b"-" + SPAN + b"-x")], None),
        ([(b"b3", TRACE + b"-" + SPAN + b"-1-" + SPAN[:-1])], None),
        ([(b"b3", b"0" * 32 + b"-" + SPAN + b"-1")], None),
        # The one field before the many; either goes on.
        ([(b"b3", OTHER + b"-" + SPAN + b"-1"), *many(sampled=b"0")], (OTHER, SPAN, True, B3 | B3_SINGLE)),
        ([(b"b3", b"0"), *many(sampled=b"1")], (TRACE, SPAN, True, B3)),
    ],
)
@pytest.mark.parity("M-17")
def test_b3_is_read_in_one_field_and_in_many(fields: list[tuple[bytes, bytes]], found: Told | None) -> None:
    assert found == told(*fields)


@pytest.mark.parity("M-17")
def test_the_first_format_in_order_counts_and_the_others_go_on_with_it() -> None:
    grpc = (b"grpc-trace-bin", BINARY)
    w3c = (b"traceparent", b"00-%b-%b-00" % (OTHER, SPAN))
    b3 = many(sampled=b"1")
    assert (OTHER, SPAN, False, W3C | GRPC | B3) == told(*b3, grpc, w3c)
    assert (TRACE, SPAN, True, GRPC | B3) == told(*b3, grpc)
    assert (TRACE, SPAN, True, W3C | B3) == told(*b3, w3c, order=("b3", "w3c"))
    assert told(grpc, order=("w3c", "b3")) is None


def test_a_field_that_is_there_twice_is_not_believed() -> None:
    assert told((b"traceparent", PARENT), (b"traceparent", PARENT)) is None
    assert told((b"b3", b"1"), (b"b3", b"0")) is None
    assert told(*many(), (b"x-b3-traceid", TRACE)) is None


def test_a_request_without_one_has_no_link() -> None:
    assert read([(b"host", b"a"), (b"tracestate", b"a=1"), (b"x-b3-parentspanid", SPAN)]) is None


def test_a_tracestate_is_one_text_unless_it_is_too_long() -> None:
    assert "" == trace_state([(b"a", b"b")])
    assert "a=1,b=2" == trace_state([(b"tracestate", b"a=1"), (b"x", b""), (b"tracestate", b"b=2")])
    assert "" == trace_state([(b"tracestate", b"a=" + b"1" * 511)])


def test_every_format_is_written_over_what_came_and_the_traceparent_is_last() -> None:
    headers = Headers([(b"a", b"1"), (b"traceparent", PARENT), *many(TRACE[16:], sampled=b"1"), (b"z", b"2")])
    link = read(headers.raw)
    assert link is not None
    Link(link.trace, b"1" * 16, True, link.formats).write(headers, link.span)
    assert [
        (b"a", b"1"),
        (b"x-b3-traceid", TRACE),
        (b"x-b3-spanid", b"1" * 16),
        (b"x-b3-sampled", b"1"),
        (b"z", b"2"),
        (b"x-b3-parentspanid", SPAN),
        (b"traceparent", b"00-%b-1111111111111111-01" % TRACE),
    ] == headers.raw


@pytest.mark.parametrize(
    "fields",
    [
        [(b"b3", TRACE[16:] + b"-" + SPAN + b"-1")],
        [(b"b3", TRACE + b"-" + SPAN + b"-d-" + SPAN)],
        many(TRACE[16:], sampled=b"0", parentspanid=SPAN),
        many(flags=b"1"),
        many(),
        [(b"traceparent", PARENT[:-2] + b"03")],
    ],
)
def test_what_is_written_again_is_what_came(fields: list[tuple[bytes, bytes]]) -> None:
    link = read(fields)
    assert link is not None
    parent = any(SPAN + b"-d-" in value or name.endswith(b"parentspanid") for name, value in fields)
    headers = Headers(list(fields))
    link.write(headers, SPAN if parent else b"")
    assert fields == headers.raw


ids = st.binary(min_size=16, max_size=16).filter(any).map(lambda data: data.hex().encode())
spans = st.binary(min_size=8, max_size=8).filter(any).map(lambda data: data.hex().encode())
formats = st.sets(st.sampled_from([W3C, GRPC, B3, B3_SINGLE]), min_size=1).map(sum)


@given(ids, spans, st.booleans(), formats)
def test_what_is_written_is_read_as_it_was(trace: bytes, span: bytes, sampled: bool, form: int) -> None:
    headers = Headers()
    Link(trace, span, sampled, form).write(headers)
    assert (trace, span, sampled, form) == told(*headers.raw)
    for _, value in headers.raw:
        assert re.fullmatch(rb"[\w+/=-]+", value)


VALUES = st.one_of(
    st.binary(max_size=120),
    st.text("0123456789abcdef-d", max_size=70).map(str.encode),
    st.sampled_from([PARENT, BINARY, TRACE, SPAN, b"1", b"0", b"d", TRACE + b"-" + SPAN]),
    st.tuples(
        st.sampled_from([PARENT, BINARY, TRACE + b"-" + SPAN + b"-1"]), st.integers(0, 60), st.binary(max_size=3)
    ).map(lambda made: made[0][: made[1]] + made[2] + made[0][made[1] + 1 :]),
)
SINGLE = [b"traceparent", b"tracestate", b"grpc-trace-bin", b"b3"]
NAMES = st.sampled_from([*SINGLE, b"x-b3-traceid", b"x-b3-spanid", b"x-b3-sampled", b"x-b3-flags"])


@given(st.lists(st.tuples(NAMES, VALUES), max_size=6), st.permutations(list(FORMATS)))
def test_whatever_comes_is_refused_or_whole(fields: list[tuple[bytes, bytes]], order: list[str]) -> None:
    link = read(fields, order)
    trace_state(fields)
    if link is None:
        return
    if not link.trace:
        assert (link.span, link.sampled in (True, False)) == (b"", True)
        return
    assert re.fullmatch(rb"[0-9a-f]{32}", link.trace)
    assert re.fullmatch(rb"[0-9a-f]{16}", link.span)
    assert link.trace.strip(b"0")
    assert link.span.strip(b"0")
    headers = Headers(list(fields))
    link.write(headers)
    again = read(headers.raw, order)
    assert again is not None
    assert (link.trace, link.span, link.sampled) == (again.trace, again.span, again.sampled)
