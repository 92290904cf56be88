"""Protobuf by hand, judged by Google's, and the messages that are made of it."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
import trio
from hypothesis import strategies as st

from meshcore import Request, Response
from meshcore.errors import GrpcError
from meshcore.grpc.health import ServingStatus, check
from meshcore.grpc.protobuf import entries, fields, nested, number, numbers, strings, text
from meshcore.http.grpc import status_fields
from meshcore.http.headers import Headers
from meshcore.layers.ext_authz.messages import Attributes, Peer, check_request, verdict
from meshcore.layers.ext_authz.verdict import Change, Verdict
from tests.grpc.echo import GRPC, answered, direct, messages_of, over_http2

STRING, BYTES, INT32, INT64, UINT32, ENUM, BOOL, MESSAGE = 9, 12, 5, 3, 13, 14, 8, 11
OPTIONAL, REPEATED = 1, 3

# Envoy's schema, as far as it is used: (message, [(field, number, type or message, repeated)]).
SCHEMA: list[tuple[str, list[tuple[str, int, int | str, int]]]] = [
    ("SocketAddress", [("address", 2, STRING, OPTIONAL), ("port_value", 3, UINT32, OPTIONAL)]),
    ("Address", [("socket_address", 1, "SocketAddress", OPTIONAL)]),
    ("Entry", [("key", 1, STRING, OPTIONAL), ("value", 2, STRING, OPTIONAL)]),
    ("Peer", [("address", 1, "Address", OPTIONAL), ("principal", 4, STRING, OPTIONAL)]),
    ("Timestamp", [("seconds", 1, INT64, OPTIONAL), ("nanos", 2, INT32, OPTIONAL)]),
    ("Http", [("method", 2, STRING, OPTIONAL), ("headers", 3, "Entry", REPEATED), ("path", 4, STRING, OPTIONAL),
              ("host", 5, STRING, OPTIONAL), ("scheme", 6, STRING, OPTIONAL), ("size", 9, INT64, OPTIONAL),
              ("protocol", 10, STRING, OPTIONAL), ("body", 11, STRING, OPTIONAL),
              ("raw_body", 12, BYTES, OPTIONAL)]),
    ("Request", [("time", 1, "Timestamp", OPTIONAL), ("http", 2, "Http", OPTIONAL)]),
    ("Context", [("source", 1, "Peer", OPTIONAL), ("destination", 2, "Peer", OPTIONAL),
                 ("request", 4, "Request", OPTIONAL), ("context_extensions", 10, "Entry", REPEATED)]),
    ("CheckRequest", [("attributes", 1, "Context", OPTIONAL)]),
    ("Status", [("code", 1, INT32, OPTIONAL), ("message", 2, STRING, OPTIONAL)]),
    ("HttpStatus", [("code", 1, INT32, OPTIONAL)]),
    ("Header", [("key", 1, STRING, OPTIONAL), ("value", 2, STRING, OPTIONAL), ("raw_value", 3, BYTES, OPTIONAL)]),
    ("BoolValue", [("value", 1, BOOL, OPTIONAL)]),
    ("Option", [("header", 1, "Header", OPTIONAL), ("append", 2, "BoolValue", OPTIONAL),
                ("append_action", 3, INT32, OPTIONAL), ("keep_empty_value", 4, BOOL, OPTIONAL)]),
    ("Denied", [("status", 1, "HttpStatus", OPTIONAL), ("headers", 2, "Option", REPEATED),
                ("body", 3, STRING, OPTIONAL)]),
    ("Ok", [("headers", 2, "Option", REPEATED), ("dynamic_metadata", 3, "Entry", OPTIONAL),
            ("headers_to_remove", 5, STRING, REPEATED), ("response_headers_to_add", 6, "Option", REPEATED)]),
    ("CheckResponse", [("status", 1, "Status", OPTIONAL), ("denied_response", 2, "Denied", OPTIONAL),
                       ("ok_response", 3, "Ok", OPTIONAL), ("dynamic_metadata", 4, "Entry", OPTIONAL)]),
]  # fmt: skip


@pytest.fixture(scope="module")
def google() -> dict[str, Any]:
    """Google's classes for the schema, by name."""
    pytest.importorskip("google.protobuf")
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="t.proto", package="t", syntax="proto3")
    for name, described in SCHEMA:
        message = file.message_type.add(name=name)
        for field, place, kind, label in described:
            added = message.field.add(name=field, number=place, label=label)
            if isinstance(kind, str):
                added.type, added.type_name = MESSAGE, f".t.{kind}"
            else:
                added.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"t.{name}")) for name, _ in SCHEMA}


TEXT = st.text(max_size=12)
PAIRS = st.lists(st.tuples(TEXT, TEXT), max_size=4).map(tuple)
PEERS = st.builds(Peer, TEXT, st.integers(0, 65_535), TEXT)


@hypothesis.given(
    st.builds(
        Attributes,
        source=PEERS,
        destination=PEERS,
        time=st.floats(0, 1e10),
        method=TEXT,
        scheme=TEXT,
        host=TEXT,
        path=TEXT,
        headers=PAIRS,
        size=st.integers(-1, 1 << 62),
        protocol=TEXT,
        body=st.one_of(st.binary(max_size=8), TEXT.map(str.encode)),
        extensions=PAIRS,
    )
)
def test_a_question_is_read_by_googles_protobuf_as_it_was_meant(google: dict[str, Any], asked: Attributes) -> None:
    found = google["CheckRequest"].FromString(check_request(asked)).attributes

    for peer, meant in ((found.source, asked.source), (found.destination, asked.destination)):
        if meant.host:
            there = peer.address.socket_address
            assert (meant.host, meant.port) == (there.address, there.port_value)
        assert meant.principal == peer.principal
    time = found.request.time
    assert asked.time == pytest.approx(time.seconds + time.nanos / 1e9)
    assert 0 <= time.nanos < 1_000_000_000
    http = found.request.http
    assert (asked.method, asked.scheme, asked.host, asked.path, asked.size, asked.protocol) == (
        http.method, http.scheme, http.host, http.path, http.size, http.protocol,
    )  # fmt: skip
    assert asked.headers == tuple((entry.key, entry.value) for entry in http.headers)
    assert asked.body in (http.body.encode(), http.raw_body)
    assert not (http.body and http.raw_body)
    assert asked.extensions == tuple((entry.key, entry.value) for entry in found.context_extensions)


NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,6}", fullmatch=True).map(lambda name: f"x-{name}")
VALUES = st.from_regex(r"[!-~]{1,8}", fullmatch=True)
OPTIONS = st.lists(st.tuples(NAMES, VALUES, st.sampled_from([None, True, False]), st.integers(0, 4)), max_size=4)


def options(google: dict[str, Any], given: list[Any]) -> list[Any]:
    made = []
    for name, value, append, action in given:
        option = google["Option"](header={"key": name, "value": value}, append_action=action)
        if append is not None:
            option.append.value = append
        made.append(option)
    return made


def changes(given: list[Any]) -> tuple[Change, ...]:
    how: dict[int, Any] = {1: "if-absent", 3: "if-present"}
    return tuple(
        Change(name.lower().encode(), value.encode(), "append" if append else how.get(action, "set")
               if append is None else "set")
        for name, value, append, action in given
    )  # fmt: skip


@hypothesis.given(OPTIONS, OPTIONS, st.lists(NAMES, max_size=3), TEXT)
def test_leave_is_read_as_googles_protobuf_wrote_it(
    google: dict[str, Any], sets: list[Any], adds: list[Any], removes: list[str], message: str
) -> None:
    ok = google["Ok"](
        headers=options(google, sets), headers_to_remove=removes, response_headers_to_add=options(google, adds)
    )
    ok.dynamic_metadata.key = "skipped"
    written = google["CheckResponse"](status={"code": 0, "message": message}, ok_response=ok)

    assert Verdict(True, changes(sets), tuple(name.lower().encode() for name in removes), changes(adds)) == verdict(
        written.SerializeToString()
    )


@hypothesis.given(OPTIONS, st.integers(-5, 700), TEXT, st.integers(1, 20), TEXT)
def test_a_refusal_is_read_as_googles_protobuf_wrote_it(
    google: dict[str, Any], adds: list[Any], status: int, body: str, code: int, message: str
) -> None:
    denied = google["Denied"](status={"code": status}, headers=options(google, adds), body=body)
    written = google["CheckResponse"](status={"code": code, "message": message}, denied_response=denied)

    assert Verdict(
        False, answer=changes(adds), status=status if 200 <= status <= 599 else 0, body=body.encode(), reason=message
    ) == verdict(written.SerializeToString())


@hypothesis.given(st.binary(max_size=200))
def test_any_bytes_are_a_verdict_or_an_error(message: bytes) -> None:
    try:
        assert isinstance(verdict(message), Verdict)
    except ValueError:
        pass


def test_no_bytes_are_leave_as_they_are_for_everybody_who_reads_protobuf() -> None:
    assert Verdict(True) == verdict(b"")
    assert Verdict(False) == verdict(nested(1, number(1, 7)))


@pytest.mark.parametrize("name", [b"host", b":path", b"content-length", b"connection", b"l5d-client-id", b"a b", b""])
def test_an_answer_may_not_set_what_is_not_its_own(name: bytes) -> None:
    option = nested(2, nested(1, text(1, name) + text(2, b"1")))
    with pytest.raises(ValueError, match="must not"):
        verdict(nested(3, option))
    assert Verdict(False) == verdict(nested(1, number(1, 7)) + nested(2, option))
    assert Verdict(True) == verdict(nested(3, text(5, name)))


def test_fields_are_written_and_read() -> None:
    message = number(1, 300) + text(2, "ü") + nested(3, b"") + number(4, -1) + entries(5, [("a", "")])
    assert [(1, 300), (2, "ü".encode()), (3, b""), (4, (1 << 64) - 1), (5, b"\x0a\x01a")] == list(fields(message))
    assert b"" == number(1, 0) + text(1, "")
    assert ({1: 5}, {2: b"x"}) == (numbers(number(1, 4) + number(1, 5)), strings(text(2, "x")))
    # Fixed-width fields are skipped.
    assert [(3, 1)] == list(fields(b"\x09" + bytes(8) + b"\x15" + bytes(4) + number(3, 1)))


@pytest.mark.parametrize(
    "message",
    [b"\x08", b"\x0a\x05x", b"\x00\x00", b"\x0b", b"\x0c", b"\x0f", b"\x09\x00", b"\x0d\x00", b"\x08" + b"\xff" * 10,
     b"\x08" + b"\x80" * 11 + b"\x00", b"\xff" * 10],
)  # fmt: skip
def test_what_is_no_message_is_an_error(message: bytes) -> None:
    with pytest.raises(ValueError):
        list(fields(message))


@pytest.mark.parametrize("reach", [direct, over_http2])
async def test_a_service_is_asked_for_its_health(reach: Any) -> None:
    states = {b"": 1, b"a.Well": 1, b"a.Sick": 2, b"a.Lost": 3, b"a.New": 9}

    async def health(request: Request) -> Response:
        assert b"/grpc.health.v1.Health/Check" == request.path
        (message,) = await messages_of(request)
        name = strings(message).get(1, b"")
        if name not in states:
            return Response(200, Headers([GRPC, *status_fields(5)]))
        return answered(number(1, states[name]))

    async with reach(health) as service:
        names = ["", "a.Well", "a.Sick", "a.Lost", "a.New", "a.Nobody"]
        assert [True, True, False, False, False, False] == [await check(service, name) for name in names]


async def test_health_that_cannot_be_asked_for_is_an_error(autojump_clock: object) -> None:
    async def none(request: Request) -> Response:
        return Response(200, Headers([GRPC, *status_fields(12)]))

    async def hang(request: Request) -> Response:
        await trio.sleep_forever()
        raise AssertionError

    with pytest.raises(GrpcError, match="unimplemented"):
        await check(none)
    with pytest.raises(GrpcError, match="deadline exceeded"):
        await check(hang)
    assert ServingStatus.SERVING == 1
