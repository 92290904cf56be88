"""Client against server over every pair of engines."""

from __future__ import annotations

import pytest

from meshcore.codec.events import (
    DataReceived,
    Event,
    InformationalReceived,
    PingAcknowledged,
    RequestReceived,
    ResponseReceived,
    SettingsChanged,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from meshcore.codec.h2 import H2Codec, client_codec, server_codec
from meshcore.codec.limits import H2Limits
from meshcore.errors import CANCEL, NO_ERROR, REFUSED_STREAM
from tests.codec.h2.wire import ENGINES, receive

BODY = bytes(range(256)) * 1172  # 300,032 bytes


class Pair:
    """A client and a server codec with an ideal network between; bodies are consumed as they arrive."""

    def __init__(self, client: str, server: str, limits: H2Limits | None = None) -> None:
        limits = limits or H2Limits()
        self.client = client_codec(limits, client)
        self.server = server_codec(limits, server)
        self.client.start()
        self.server.start()
        self.at_client: list[Event] = []
        self.at_server: list[Event] = []
        self.pump()
        self.at_client.clear()
        self.at_server.clear()

    def pump(self) -> None:
        moved = True
        while moved:
            moved = False
            for source, target, events in (
                (self.client, self.server, self.at_server),
                (self.server, self.client, self.at_client),
            ):
                data = source.data_to_send()
                if data:
                    moved = True
                    for event in receive(target, data):
                        events.append(event)
                        if isinstance(event, DataReceived):
                            target.acknowledge(event.stream_id, event.flow)

    def send_body(self, codec: H2Codec, stream_id: int, body: bytes, *, end_stream: bool) -> None:
        rounds = 0
        while body:
            size = min(codec.window(stream_id), len(body))
            codec.send_data(stream_id, body[:size], end_stream=end_stream and size == len(body))
            body = body[size:]
            self.pump()
            rounds += 1
            assert rounds < 1_000


def body_of(events: list[Event], stream_id: int) -> bytes:
    return b"".join([e.data for e in events if isinstance(e, DataReceived) and e.stream_id == stream_id])


def without_windows(events: list[Event]) -> list[Event]:
    return [event for event in events if not isinstance(event, WindowUpdated | SettingsChanged)]


@pytest.fixture(params=[(c, s) for c in ENGINES for s in ENGINES], ids="-".join)
def engines(request: pytest.FixtureRequest) -> tuple[str, str]:
    pair: tuple[str, str] = request.param
    return pair


@pytest.fixture
def pair(engines: tuple[str, str]) -> Pair:
    return Pair(*engines)


def test_large_bodies_both_ways_with_103_and_trailers(pair: Pair) -> None:
    stream_id = pair.client.send_request(
        b"POST", b"http", b"a.example:80", b"/x?y", [(b"content-length", b"%d" % len(BODY))], end_stream=False
    )
    pair.send_body(pair.client, stream_id, BODY, end_stream=False)
    pair.client.send_trailers(stream_id, [(b"x-sum", b"1")])
    pair.pump()
    pair.server.send_informational(stream_id, 103, [(b"link", b"</a>")])
    pair.server.send_response(stream_id, 200, [(b"server", b"meshcore")], end_stream=False)
    pair.send_body(pair.server, stream_id, BODY, end_stream=False)
    pair.server.send_trailers(stream_id, [(b"grpc-status", b"0")])
    pair.pump()
    at_server, at_client = without_windows(pair.at_server), without_windows(pair.at_client)
    length = len(BODY)
    assert at_server[0] == RequestReceived(
        1, b"POST", b"http", b"a.example:80", b"/x?y", [(b"content-length", b"%d" % length)], False, 20, length
    )
    assert BODY == body_of(at_server, 1)
    assert TrailersReceived(1, [(b"x-sum", b"1")]) == at_server[-1]
    assert InformationalReceived(1, 103, [(b"link", b"</a>")]) == at_client[0]
    assert ResponseReceived(1, 200, [(b"server", b"meshcore")], False, 20) == at_client[1]
    assert BODY == body_of(at_client, 1)
    assert TrailersReceived(1, [(b"grpc-status", b"0")]) == at_client[-1]
    assert (0, 0) == (pair.client.open_streams, pair.server.open_streams)


def test_a_hundred_streams_at_once_and_no_more(pair: Pair) -> None:
    assert 100 == pair.client.peer_max_streams
    ids = []
    while pair.client.can_open:
        ids.append(pair.client.send_request(b"GET", b"http", b"a", b"/", [(b"n", b"%d" % len(ids))], end_stream=True))
    assert list(range(1, 200, 2)) == ids
    pair.pump()
    assert 100 == pair.server.open_streams
    for stream_id in ids:
        pair.server.send_response(stream_id, 200, [(b"n", b"%d" % stream_id)], end_stream=False)
        pair.server.send_data(stream_id, b"%d" % stream_id, end_stream=True)
    pair.pump()
    assert [b"%d" % i for i in ids] == [body_of(pair.at_client, i) for i in ids]
    assert (0, 0) == (pair.client.open_streams, pair.server.open_streams)
    assert pair.client.can_open


def test_extended_connect_is_a_tunnel(pair: Pair) -> None:
    assert pair.client.extended_connect
    stream_id = pair.client.send_request(
        b"CONNECT", b"https", b"a.example", b"/chat", [], end_stream=False, protocol=b"websocket"
    )
    pair.pump()
    pair.server.send_response(stream_id, 200, [], end_stream=False)
    pair.pump()
    pair.client.send_data(stream_id, b"ping", end_stream=False)
    pair.server.send_data(stream_id, b"pong", end_stream=False)
    pair.pump()
    pair.client.send_data(stream_id, b"", end_stream=True)
    pair.server.send_data(stream_id, b"", end_stream=True)
    pair.pump()
    assert without_windows(pair.at_server) == [
        RequestReceived(1, b"CONNECT", b"https", b"a.example", b"/chat", [], False, 20, None, b"websocket"),
        DataReceived(1, b"ping", 4, False),
        DataReceived(1, b"", 0, True),
    ]
    assert without_windows(pair.at_client) == [
        ResponseReceived(1, 200, [], False, 20),
        DataReceived(1, b"pong", 4, False),
        DataReceived(1, b"", 0, True),
    ]


def test_plain_connect_and_asterisk_form(pair: Pair) -> None:
    pair.client.send_request(b"CONNECT", b"", b"a.example:443", b"", [], end_stream=False)
    pair.client.send_request(b"OPTIONS", b"http", b"a.example", b"*", [], end_stream=True)
    pair.pump()
    assert without_windows(pair.at_server) == [
        RequestReceived(1, b"CONNECT", b"", b"a.example:443", b"", [], False, 20),
        RequestReceived(3, b"OPTIONS", b"http", b"a.example", b"*", [], True, 20),
    ]


@pytest.mark.parity("X-67")
def test_a_request_without_an_authority_arrives(pair: Pair) -> None:
    for number in range(3):
        pair.client.send_request(b"GET", b"http", b"", b"/%d" % number, [(b"x", b"y")], end_stream=True)
        pair.client.send_request(b"GET", b"http", b"a", b"/%d" % number, [(b"x", b"y")], end_stream=True)
    pair.pump()
    requests = without_windows(pair.at_server)
    assert [b"", b"a"] * 3 == [r.authority for r in requests if isinstance(r, RequestReceived)]
    assert [[(b"x", b"y")]] * 6 == [r.headers for r in requests if isinstance(r, RequestReceived)]


@pytest.mark.parity("X-68")
def test_resets_arrive_with_their_code(pair: Pair) -> None:
    for _ in range(2):
        pair.client.send_request(b"POST", b"http", b"a", b"/", [], end_stream=False)
    pair.pump()
    pair.client.reset_stream(1, CANCEL)
    pair.server.reset_stream(3, REFUSED_STREAM)
    pair.client.reset_stream(1, CANCEL)
    pair.pump()
    assert StreamReset(1, CANCEL, True) == without_windows(pair.at_server)[-1]
    assert StreamReset(3, REFUSED_STREAM, True, "", False) == without_windows(pair.at_client)[-1]
    assert (0, 0) == (pair.client.open_streams, pair.server.open_streams)


def test_a_response_before_the_end_of_the_request_and_a_reset_without_error(pair: Pair) -> None:
    pair.client.send_request(b"POST", b"http", b"a", b"/", [], end_stream=False)
    pair.pump()
    pair.server.send_response(1, 413, [], end_stream=False)
    pair.server.send_data(1, b"too much", end_stream=True)
    pair.server.reset_stream(1, NO_ERROR)
    pair.pump()
    assert without_windows(pair.at_client) == [
        ResponseReceived(1, 413, [], False, 20),
        DataReceived(1, b"too much", 8, True),
        StreamReset(1, NO_ERROR, True),
    ]


def test_pings_are_answered(pair: Pair) -> None:
    pair.client.ping(b"12345678")
    pair.server.ping(b"abcdefgh")
    pair.pump()
    assert [PingAcknowledged(b"12345678")] == pair.at_client
    assert [PingAcknowledged(b"abcdefgh")] == pair.at_server


def test_a_drain_refuses_new_streams_and_finishes_the_old(pair: Pair) -> None:
    pair.client.send_request(b"GET", b"http", b"a", b"/", [], end_stream=True)
    pair.pump()
    pair.server.shutdown_notice()
    stream_id = pair.client.send_request(b"GET", b"http", b"a", b"/late", [], end_stream=True)
    pair.pump()
    assert not pair.client.can_open
    pair.server.goaway()
    for open_id in (1, stream_id):
        pair.server.send_response(open_id, 204, [], end_stream=True)
    pair.pump()
    statuses = [event.status for event in pair.at_client if isinstance(event, ResponseReceived)]
    assert [204, 204] == statuses
    assert (0, 0) == (pair.client.open_streams, pair.server.open_streams)


@pytest.mark.parametrize("window", [1_000, 65_535, 1_000_000])
def test_bodies_pass_through_windows_of_any_size(engines: tuple[str, str], window: int) -> None:
    pair = Pair(*engines, H2Limits(stream_window=window, connection_window=window, max_frame_size=20_000))
    pair.client.send_request(b"POST", b"http", b"a", b"/", [], end_stream=False)
    pair.send_body(pair.client, 1, BODY, end_stream=True)
    pair.server.send_response(1, 200, [], end_stream=False)
    pair.send_body(pair.server, 1, BODY, end_stream=True)
    assert BODY == body_of(pair.at_server, 1)
    assert BODY == body_of(pair.at_client, 1)


@pytest.mark.parametrize("table", [0, 100, 4_096, 65_536])
def test_header_tables_of_any_size(engines: tuple[str, str], table: int) -> None:
    pair = Pair(*engines, H2Limits(hpack_table=table))
    for number in range(20):
        fields = [(b"x-%d" % (number % 7), b"v" * (number * 9)), (b"same", b"value")]
        stream_id = pair.client.send_request(
            b"GET", b"http", b"a%d" % (number % 3), b"/%d" % number, fields, end_stream=True
        )
        pair.pump()
        request = pair.at_server[-1]
        assert isinstance(request, RequestReceived)
        assert fields == request.headers
        pair.server.send_response(stream_id, 200, fields, end_stream=True)
        pair.pump()
        response = pair.at_client[-1]
        assert isinstance(response, ResponseReceived)
        assert fields == response.headers
