"""Every limit of one HTTP/2 connection: what is still allowed, and what one more costs."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest

from meshcore.codec.events import (
    ConnectionTerminated,
    DataReceived,
    InformationalReceived,
    RequestReceived,
    ResponseReceived,
    StreamReset,
    TrailersReceived,
)
from meshcore.codec.h2.frames import frame
from meshcore.codec.h2.scanner import BUDGET
from meshcore.codec.h2.verdicts import FORGIVEN
from meshcore.codec.limits import H2Limits
from meshcore.errors import (
    CANCEL,
    COMPRESSION_ERROR,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    NO_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
)
from tests.codec.h2.wire import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENGINES,
    GET,
    GOAWAY,
    HEADERS,
    OK,
    PADDED,
    PING,
    POST,
    PRIORITY,
    RST_STREAM,
    WINDOW_UPDATE,
    Frame,
    Wire,
    client_wire,
    receive,
    server_wire,
    settings,
    word,
)

pytestmark = pytest.mark.parametrize("engine", ENGINES)


def abuse(wire: Wire) -> str | None:
    """The limit that ended the connection, or None while it lives."""
    terminated = wire.terminated
    if terminated is None:
        return None
    assert ENHANCE_YOUR_CALM == terminated.code
    assert ("goaway", ENHANCE_YOUR_CALM) == wire.verdict[-1]
    return terminated.abuse


def test_rapid_resets_have_a_bucket_that_refills(engine: str) -> None:
    wire = server_wire(engine, H2Limits(resets_burst=10, resets_rate=5.0), respond=False)

    def reset_one(stream_id: int) -> None:
        wire.feed(wire.headers(stream_id, GET) + frame(RST_STREAM, 0, stream_id, word(CANCEL)))

    for number in range(10):
        reset_one(1 + 2 * number)
    wire.now = 1.0
    for number in range(10, 15):
        reset_one(1 + 2 * number)
    assert abuse(wire) is None
    reset_one(31)
    assert "rapid_reset" == abuse(wire)


def test_resets_after_the_response_headers_cost_nothing(engine: str) -> None:
    wire = server_wire(engine, H2Limits(resets_burst=2, resets_rate=0.1), respond=False)
    for number in range(50):
        stream_id = 1 + 2 * number
        wire.feed(wire.headers(stream_id, GET))
        wire.codec.send_response(stream_id, 200, [], end_stream=False)
        wire.feed(frame(RST_STREAM, 0, stream_id, word(CANCEL)))
    assert abuse(wire) is None


def test_a_client_does_not_mind_resets(engine: str) -> None:
    wire = client_wire(engine, H2Limits(resets_burst=2, resets_rate=0.1), requests=10)
    for number in range(10):
        wire.feed(frame(RST_STREAM, 0, 1 + 2 * number, word(REFUSED_STREAM)))
    assert abuse(wire) is None


def test_streams_above_the_limit_are_refused_and_take_from_the_reset_bucket(engine: str) -> None:
    wire = server_wire(engine, H2Limits(max_concurrent_streams=2, resets_burst=3, resets_rate=0.1), respond=False)
    for number in range(5):
        wire.feed(wire.headers(1 + 2 * number, GET))
    assert [("reset", 5, REFUSED_STREAM), ("reset", 7, REFUSED_STREAM), ("reset", 9, REFUSED_STREAM)] == wire.verdict
    assert [1, 3] == [event.stream_id for event in wire.events if isinstance(event, RequestReceived)]
    assert 2 == wire.codec.open_streams
    wire.feed(wire.headers(11, GET))
    assert "rapid_reset" == abuse(wire)


def test_a_slot_is_free_as_soon_as_the_frames_of_one_read_say_so(engine: str) -> None:
    wire = server_wire(engine, H2Limits(max_concurrent_streams=1), respond=False)
    wire.feed(wire.headers(1, POST, end_stream=False))
    wire.codec.send_response(1, 200, [], end_stream=True)
    wire.feed(frame(DATA, END_STREAM, 1, b"end") + wire.headers(3, GET) + wire.headers(5, GET))
    assert [("reset", 5, REFUSED_STREAM)] == wire.verdict
    assert 1 == wire.codec.open_streams


def test_refusals_before_the_settings_are_acknowledged_are_forgiven(engine: str) -> None:
    limits = H2Limits(max_concurrent_streams=1, resets_burst=1, resets_rate=0.1)
    wire = server_wire(engine, limits, greet=False, respond=False)
    wire.feed(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings())
    for number in range(20):
        wire.feed(wire.headers(1 + 2 * number, GET))
    assert 19 == len(wire.verdict)
    assert abuse(wire) is None


def test_what_is_forgiven_of_a_client_that_never_acknowledges_is_bounded_within_one_read(engine: str) -> None:
    limits = H2Limits(max_concurrent_streams=1, resets_burst=10, resets_rate=0.1)
    wire = server_wire(engine, limits, greet=False, respond=False)
    wire.feed(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings())
    wire.feed(b"".join([wire.headers(1 + 2 * number, GET) for number in range(1_000)]))
    assert FORGIVEN + 10 == len([each for each in wire.verdict if each[0] == "reset"])
    assert "rapid_reset" == abuse(wire)


def test_informational_responses_without_end_reset_their_stream_and_no_other(engine: str) -> None:
    wire = client_wire(engine, H2Limits(informational=3), requests=2)
    wire.feed(b"".join([wire.headers(1, [(b":status", b"103")], end_stream=False) for _ in range(200)]))
    wire.feed(wire.headers(3, [(b":status", b"200")]))
    said = [event for event in wire.events if isinstance(event, StreamReset | ResponseReceived)]
    assert [(1, ENHANCE_YOUR_CALM), (3, 200)] == [
        (event.stream_id, event.code if isinstance(event, StreamReset) else event.status) for event in said
    ]
    assert 5 == len([event for event in wire.events if isinstance(event, InformationalReceived)])
    assert abuse(wire) is None


def test_streams_that_we_had_to_reset_are_counted(engine: str) -> None:
    wire = server_wire(engine, H2Limits(local_error_resets=10), respond=False)
    for number in range(10):
        stream_id = 1 + 2 * number
        wire.feed(wire.headers(stream_id, GET) + frame(WINDOW_UPDATE, 0, stream_id, word(0)))
    assert 10 == len(wire.verdict) - 1
    assert "error_resets" == abuse(wire)


def test_malformed_messages_are_counted_too(engine: str) -> None:
    wire = server_wire(engine, H2Limits(local_error_resets=5), respond=False)
    wire.feed(b"".join([wire.headers(1 + 2 * number, [*GET, (b"connection", b"x")]) for number in range(8)]))
    assert "error_resets" == abuse(wire)
    wire = server_wire(engine, H2Limits(local_error_resets=5), respond=False)
    wire.feed(b"".join([wire.headers(1 + 2 * number, [*GET, (b"host", b"other")]) for number in range(8)]))
    assert "error_resets" == abuse(wire)


@pytest.mark.parametrize(
    ("bytes_", "kind"),
    [
        (frame(PING, ACK, 0, bytes(8)), "ping"),
        (settings(flags=ACK), "settings"),
        (frame(0x16, 0, 0, b""), "unknown_frame"),
        (frame(PRIORITY, 0, 3, bytes(5)), "priority"),
        (frame(GOAWAY, 0, 0, bytes(8)), "goaway"),
    ],
)
def test_control_frames_have_a_rate(engine: str, bytes_: bytes, kind: str) -> None:
    wire = server_wire(engine, H2Limits(control_rate=10.0))
    wire.now = 5.0
    wire.feed(bytes_ * 10)
    assert abuse(wire) is None
    wire.now = 5.5
    wire.feed(bytes_ * 5)
    assert abuse(wire) is None
    wire.feed(bytes_)
    assert kind == abuse(wire)


def test_frames_on_streams_that_are_over_have_the_same_rate(engine: str) -> None:
    wire = server_wire(engine, H2Limits(control_rate=20.0), respond=False)
    wire.feed(wire.headers(1, POST, end_stream=False) + frame(RST_STREAM, 0, 1, word(8)))
    wire.feed(frame(RST_STREAM, 0, 1, word(8)) * 15)
    assert abuse(wire) is None
    wire.feed(frame(WINDOW_UPDATE, 0, 1, word(1)) * 6)
    assert "closed_stream" == abuse(wire)


def test_acknowledgements_that_nobody_reads_are_few(engine: str) -> None:
    wire = server_wire(engine, H2Limits(pending_acks=10))
    for _ in range(5):
        wire.feed(frame(PING, 0, 0, bytes(8)) * 10)
    assert abuse(wire) is None
    wire.codec.receive_data(frame(PING, 0, 0, bytes(8)) * 10, 0.0)
    wire.feed(frame(PING, 0, 0, bytes(8)))
    assert "ping" == abuse(wire)
    wire = server_wire(engine, H2Limits(pending_acks=10))
    wire.feed(settings() * 11)
    assert "settings" == abuse(wire)


def test_priority_frames_are_bounded_by_streams(engine: str) -> None:
    wire = server_wire(engine, H2Limits(priority_frames=5))
    wire.feed(wire.headers(1, GET) + frame(PRIORITY, 0, 1, bytes(5)) * 10)
    assert abuse(wire) is None
    wire.feed(frame(PRIORITY, 0, 1, bytes(5)))
    assert "priority" == abuse(wire)


def test_window_updates_are_bounded_by_streams_and_data_sent(engine: str) -> None:
    wire = server_wire(engine, H2Limits(window_update_frames=5))
    update = frame(WINDOW_UPDATE, 0, 0, word(1))
    wire.feed(wire.headers(1, GET) + update * (5 + 2 * (1 + 0)))
    assert abuse(wire) is None
    wire.feed(update * 20)  # The answer was one DATA frame.
    assert abuse(wire) is None
    wire.feed(update)
    assert "window_update" == abuse(wire)


def test_empty_data_frames_in_a_row(engine: str) -> None:
    wire = server_wire(engine, H2Limits(empty_data_frames=5), respond=False)
    empty = frame(DATA, 0, 1, b"")
    wire.feed(wire.headers(1, POST, end_stream=False) + empty * 5 + frame(DATA, 0, 1, b"x") + empty * 5)
    wire.feed(frame(DATA, 0, 1, bytes(1_000)) + empty * 5)
    assert abuse(wire) is None
    assert 2 == sum(isinstance(event, DataReceived) for event in wire.events)
    wire.feed(empty)
    assert "empty_data" == abuse(wire)


def test_small_data_frames_that_nobody_consumes(engine: str) -> None:
    limits = H2Limits(tiny_data_budget=256 * 10, stream_window=65_535, connection_window=65_535)
    wire = server_wire(engine, limits, respond=False)
    tiny = frame(DATA, 0, 1, b"x")
    budget = max(256 * 10, 65_535 // 2) // 255
    wire.feed(wire.headers(1, POST, end_stream=False) + tiny * budget)
    assert abuse(wire) is None
    wire.feed(tiny)
    assert "tiny_data" == abuse(wire)


def test_small_data_frames_that_are_consumed_or_among_large_ones(engine: str) -> None:
    limits = H2Limits(stream_window=65_535, connection_window=65_535)
    wire = server_wire(engine, limits, respond=False)
    wire.feed(wire.headers(1, POST, end_stream=False))
    for _ in range(1_000):
        for event in wire.feed(frame(DATA, 0, 1, b"x")):
            assert isinstance(event, DataReceived)
            wire.codec.acknowledge(1, event.flow)
    for _ in range(200):
        wire.feed(frame(DATA, 0, 1, b"x") + frame(DATA, 0, 1, bytes(300)))
    assert abuse(wire) is None


def test_continuation_frames(engine: str) -> None:
    for count in (16, 17):
        wire = server_wire(engine)
        block = wire.encoder.encode(GET)
        data = frame(HEADERS, END_STREAM, 1, block)
        data += frame(CONTINUATION, 0, 1, b"") * (count - 1) + frame(CONTINUATION, END_HEADERS, 1, b"")
        wire.feed(data)
        assert (None if count == 16 else "continuation") == abuse(wire)


def test_an_endless_header_block_is_cut_before_it_ends(engine: str) -> None:
    wire = server_wire(engine, H2Limits(header_list_size=10_000, continuation_frames=1_000))
    wire.feed(frame(HEADERS, 0, 1, bytes(16_384)) + frame(CONTINUATION, 0, 1, bytes(16_384)))
    assert abuse(wire) is None
    wire.feed(frame(CONTINUATION, 0, 1, bytes(16_384)))
    assert "continuation" == abuse(wire)


def test_an_hpack_bomb_ends_the_connection(engine: str) -> None:
    wire = server_wire(engine, H2Limits(header_list_size=10_000))
    wire.feed(wire.headers(1, [*GET, (b"x", b"v" * 4_000)]) + wire.headers(3, [*GET, *[(b"x", b"v" * 4_000)] * 12]))
    assert "header_list" == abuse(wire)
    assert [RequestReceived] == [type(event) for event in wire.events[:-1]]


@pytest.mark.parametrize("end_stream", [True, False])
@pytest.mark.parametrize(
    ("changes", "fields", "status"),
    [
        ({"header_count": 10}, [(b"x", b"y")] * 7, b"431"),
        ({"header_list_size": 400}, [(b"x", b"y" * 300)], b"431"),
        ({"cookie_size": 100}, [(b"cookie", b"c" * 49)] * 3, b"431"),
        ({"path_size": 5}, [], b"414"),
    ],
)
def test_a_request_beyond_header_limits_is_answered_and_its_siblings_live(
    engine: str, changes: dict[str, int], fields: list[tuple[bytes, bytes]], status: bytes, end_stream: bool
) -> None:
    wire = server_wire(engine, attrs.evolve(H2Limits(), **changes))
    path = (b":path", b"/toolong")
    head = [path if name == b":path" and status == b"414" else (name, value) for name, value in GET]
    wire.feed(
        wire.headers(1, [*head, *fields], end_stream=end_stream)
        + (b"" if end_stream else frame(DATA, 0, 1, b"early"))
        + wire.headers(3, GET)
    )
    if not end_stream:
        wire.feed(frame(DATA, END_STREAM, 1, b"late"))
    answers = wire.kinds(HEADERS)
    assert [1, 3] == [answer.stream_id for answer in answers]
    assert END_STREAM | END_HEADERS == answers[0].flags
    assert [(b":status", status), (b"content-length", b"0")] == wire.decoder.decode(answers[0].payload, raw=True)
    assert ([] if end_stream else [("reset", 1, NO_ERROR)]) == wire.verdict
    assert [3] == [event.stream_id for event in wire.events if isinstance(event, RequestReceived)]
    assert 0 == wire.codec.open_streams


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"header_count": 10}, [(b"x", b"y")] * 6),
        ({"header_list_size": 42 + 43 + 38 + 51 + 34}, [(b"x", b"y")]),
        ({"cookie_size": 100, "header_count": 5}, [(b"cookie", b"c" * 49)] * 2),
        ({"path_size": 1}, []),
    ],
)
def test_exactly_the_limit_is_allowed(engine: str, changes: dict[str, int], fields: list[tuple[bytes, bytes]]) -> None:
    wire = server_wire(engine, attrs.evolve(H2Limits(), **changes))
    wire.feed(wire.headers(1, [*GET, *fields]))
    assert [RequestReceived] == [type(event) for event in wire.events]


def test_cookie_crumbs_are_joined_and_not_counted_one_by_one(engine: str) -> None:
    wire = server_wire(engine)
    crumbs = [(b"cookie", b"c%d=v" % number) for number in range(500)]
    wire.feed(wire.headers(1, [*GET, (b"a", b"b"), *crumbs[:250], (b"c", b"d"), *crumbs[250:]]))
    request = wire.events[0]
    assert isinstance(request, RequestReceived)
    joined = (b"cookie", b"; ".join([value for _, value in crumbs]))
    assert [(b"a", b"b"), joined, (b"c", b"d")] == request.headers


def test_trailers_have_the_same_limits(engine: str) -> None:
    wire = server_wire(engine, H2Limits(header_count=10), respond=False)
    for stream_id, count in ((1, 10), (3, 11)):
        wire.feed(wire.headers(stream_id, POST, end_stream=False))
        wire.feed(wire.headers(stream_id, [(b"x", b"y")] * count))
    assert [("reset", 3, CANCEL)] == wire.verdict
    assert isinstance(wire.events[1], TrailersReceived)
    assert StreamReset(3, CANCEL, False, "trailer fields") == wire.events[-1]


def test_a_response_beyond_header_limits_costs_its_stream(engine: str) -> None:
    wire = client_wire(engine, H2Limits(header_count=10, header_list_size=1_000), requests=3)
    wire.feed(wire.headers(1, [*OK, *[(b"x", b"y")] * 10]) + wire.headers(3, [*OK, (b"x", b"y" * 960)]))
    wire.feed(wire.headers(5, OK))
    assert [("reset", 1, CANCEL), ("reset", 3, CANCEL)] == wire.verdict
    assert [StreamReset, StreamReset, ResponseReceived] == [type(event) for event in wire.events]


@pytest.mark.parametrize("padded", [True, False])
def test_a_stream_window_is_enforced(engine: str, padded: bool) -> None:
    wire = server_wire(engine, H2Limits(stream_window=1_000, connection_window=70_000), respond=False)
    payload = b"\x09" + bytes(991) + bytes(9) if padded else bytes(1_001)
    wire.feed(wire.headers(1, POST, end_stream=False) + wire.headers(3, POST, end_stream=False))
    wire.feed(frame(DATA, PADDED if padded else 0, 1, payload) + frame(DATA, 0, 3, bytes(1_000)))
    assert [("reset", 1, FLOW_CONTROL_ERROR)] == wire.verdict
    assert 1_000 == sum(event.flow for event in wire.events if isinstance(event, DataReceived))


def test_the_window_of_the_protocol_counts_until_ours_is_acknowledged(engine: str) -> None:
    wire = server_wire(engine, H2Limits(stream_window=1_000), greet=False, respond=False)
    wire.feed(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings())
    wire.feed(wire.headers(1, POST, end_stream=False) + frame(DATA, 0, 1, bytes(10_000)))
    assert [] == wire.verdict
    wire.feed(settings(flags=ACK) + frame(DATA, 0, 1, b"x"))
    assert [("reset", 1, FLOW_CONTROL_ERROR)] == wire.verdict


def test_the_connection_window_is_enforced(engine: str) -> None:
    limits = H2Limits(stream_window=65_535, connection_window=70_000)
    wire = server_wire(engine, limits, respond=False)
    wire.feed(wire.headers(1, POST, end_stream=False) + wire.headers(3, POST, end_stream=False))
    for stream_id in (1, 3):
        wire.feed(frame(DATA, 0, stream_id, bytes(16_000)) * 2)
    wire.feed(frame(DATA, 0, 1, bytes(6_000)))
    assert [] == wire.verdict
    wire.feed(frame(DATA, 0, 1, b"x"))
    assert [("goaway", FLOW_CONTROL_ERROR)] == wire.verdict
    assert ConnectionTerminated(FLOW_CONTROL_ERROR, "connection window exceeded") == wire.events[-1]


def test_streams_that_are_over_are_remembered_for_a_while(engine: str) -> None:
    wire = server_wire(engine, H2Limits(closed_streams=2))
    for number in range(4):
        wire.feed(wire.headers(1 + 2 * number, GET))
    wire.feed(frame(DATA, 0, 1, b"x"))
    assert ("reset", 1, 5) == wire.verdict[-1]
    wire.feed(wire.headers(3, GET))
    assert ("goaway", PROTOCOL_ERROR) == wire.verdict[-1]


def test_streams_above_our_last_goaway_are_refused(engine: str) -> None:
    wire = server_wire(engine, respond=False)
    wire.feed(wire.headers(1, GET))
    wire.codec.goaway(debug=b"bye")
    wire.feed(wire.headers(3, [*GET, (b"new", b"entry")], end_stream=False) + frame(DATA, 0, 3, b"late"))
    wire.codec.send_response(1, 200, [(b"new", b"entry")], end_stream=True)
    wire.flush()
    assert Frame(GOAWAY, 0, 0, word(1) + word(NO_ERROR) + b"bye") == wire.kinds(GOAWAY)[0]
    assert [("goaway", NO_ERROR), ("reset", 3, REFUSED_STREAM)] == wire.verdict
    assert [1] == [event.stream_id for event in wire.events if isinstance(event, RequestReceived)]


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("rapid_reset", lambda w, n: w.headers(1 + 2 * n, GET) + frame(RST_STREAM, 0, 1 + 2 * n, word(CANCEL))),
        ("ping", lambda w, n: frame(PING, 0, 0, bytes(8))),
        ("settings", lambda w, n: settings((4, 65_535))),
        ("priority", lambda w, n: frame(PRIORITY, 0, 1, bytes(5))),
        ("unknown_frame", lambda w, n: frame(0x77, 0, 0, b"")),
        ("goaway", lambda w, n: frame(GOAWAY, 0, 0, bytes(8))),
        ("window_update", lambda w, n: frame(WINDOW_UPDATE, 0, 0, word(1))),
        ("closed_stream", lambda w, n: (b"" if n else w.headers(1, GET)) + frame(RST_STREAM, 0, 1, word(CANCEL))),
        ("error_resets", lambda w, n: w.headers(1 + 2 * n, [*GET, (b"X", b"")])),
        ("empty_data", lambda w, n: frame(DATA, 0, 1, b"") if n else w.headers(1, POST, end_stream=False)),
        ("tiny_data", lambda w, n: frame(DATA, 0, 1, b"x") if n else w.headers(1, POST, end_stream=False)),
        ("continuation", lambda w, n: frame(CONTINUATION, 0, 1, b"") if n else frame(HEADERS, 0, 1, b"")),
    ],
)
def test_the_defaults_end_every_flood(engine: str, kind: str, make: Callable[[Wire, int], bytes]) -> None:
    wire = server_wire(engine, respond=False)
    for number in range(16_000):
        wire.feed(make(wire, number))
        if wire.terminated:
            break
    assert kind == abuse(wire)
    assert sum(len(sent.payload) for sent in wire.sent) < 100_000


def test_one_call_decodes_so_many_header_blocks_and_the_next_one_goes_on(engine: str) -> None:
    wire = server_wire(engine, H2Limits(max_concurrent_streams=1_000), respond=False)
    data = b"".join([wire.headers(1 + 2 * number, [*GET, (b"x", b"%04d" % number)]) for number in range(500)])
    calls = [wire.codec.receive_data(data, 0.0)]
    while wire.codec.unfinished:
        calls.append(wire.codec.receive_data(b"", 0.0))
    requests = [[event for event in call if isinstance(event, RequestReceived)] for call in calls]
    assert max(map(len, requests)) <= BUDGET // 100 + 1
    assert list(range(1, 1_000, 2)) == [event.stream_id for call in requests for event in call]


def test_one_call_decodes_so_many_bytes_of_header_blocks(engine: str) -> None:
    wire = server_wire(engine, H2Limits(max_concurrent_streams=1_000), respond=False)
    data = b"".join([wire.headers(1 + 2 * number, [*GET, (b"x", b"x" * 6_000)]) for number in range(10)])
    # A part of a frame is waited for whether or not a call has stopped before it.
    calls = [wire.codec.receive_data(data[:-1], 0.0)]
    while wire.codec.unfinished:
        calls.append(wire.codec.receive_data(b"", 0.0))
    assert [2, 2, 2, 2, 1] == [len(call) for call in calls if call]
    assert 1 == len(receive(wire.codec, data[-1:]))


def test_more_may_come_before_a_call_that_stopped_was_gone_on_with(engine: str) -> None:
    wire = server_wire(engine, H2Limits(max_concurrent_streams=1_000), respond=False)
    data = [wire.headers(1 + 2 * number, [*GET, (b"x", b"x" * 6_000)]) for number in range(10)]
    events = wire.codec.receive_data(b"".join(data[:6]), 0.0)
    assert wire.codec.unfinished
    events += receive(wire.codec, b"".join(data[6:]))
    assert list(range(1, 20, 2)) == [event.stream_id for event in events if isinstance(event, RequestReceived)]


def test_frames_that_bring_next_to_nothing_are_so_many_a_call(engine: str) -> None:
    wire = server_wire(engine, H2Limits(control_rate=1e6, window_update_frames=10_000), respond=False)
    wire.feed(wire.headers(1, POST, end_stream=False))
    for data in (frame(0xBE, 0, 1, bytes(5)), frame(WINDOW_UPDATE, 0, 0, word(1)), frame(DATA, 0, 1, b"x")):
        wire.codec.receive_data(data * 1_000, 0.0)
        assert wire.codec.unfinished, data
        receive(wire.codec, b"")
        assert abuse(wire) is None


def test_a_connection_that_was_ended_in_a_call_that_stopped_is_over(engine: str) -> None:
    wire = server_wire(engine, H2Limits(control_rate=10.0), respond=False)
    wire.feed(frame(PING, 0, 0, bytes(8)) * 5_000)
    assert "ping" == abuse(wire)
    assert not wire.codec.unfinished


UPDATES = b"\x20", b"\x3f\xe1\x1f", b"\x3f\x81\x80\x80\x00"
STATIC_GET = b"\x82\x86\x84\x01\x06a.test"


@pytest.mark.parametrize("count", [0, 1, 2])
def test_two_table_size_updates_are_a_change_of_mind(engine: str, count: int) -> None:
    for update in UPDATES:
        wire = server_wire(engine, respond=False)
        for number in range(3):
            wire.feed(frame(HEADERS, END_HEADERS | END_STREAM, 1 + 2 * number, update * count + STATIC_GET))
        assert 3 == len([event for event in wire.events if isinstance(event, RequestReceived)])
        assert [] == wire.verdict


@pytest.mark.parametrize("count", [3, 4, 10_000])
def test_more_table_size_updates_than_two_are_not_decoded(engine: str, count: int) -> None:
    for update in UPDATES:
        block = (update * count)[:16_000] + STATIC_GET
        padded = b"\x02" + block + b"\0\0"
        for data in (
            frame(HEADERS, END_HEADERS | END_STREAM, 1, block),
            frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, padded),
            frame(HEADERS, END_STREAM, 1, block[:1]) + frame(CONTINUATION, END_HEADERS, 1, block[1:]),
        ):
            wire = server_wire(engine, respond=False)
            wire.feed(data)
            assert [("goaway", COMPRESSION_ERROR)] == wire.verdict
            assert [ConnectionTerminated] == [type(event) for event in wire.events]


def test_table_size_updates_of_an_upstream_are_counted_too(engine: str) -> None:
    wire = client_wire(engine, requests=2)
    wire.feed(frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x20\x3f\xe1\x1f\x88"))
    assert [] == wire.verdict
    wire.feed(frame(HEADERS, END_HEADERS | END_STREAM, 3, b"\x20\x20\x20\x88"))
    assert [("goaway", COMPRESSION_ERROR)] == wire.verdict
