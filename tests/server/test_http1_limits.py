"""What ends an accepted HTTP/1 connection from outside: limits, hang-ups, drains, faults."""

from __future__ import annotations

import contextlib
import socket

import pytest
import trio
import trio.testing

from meshcore import Headers, Request, Response, Timeouts
from meshcore.errors import ConnectionLost, StreamTimeout
from meshcore.http.body import Chunks, Full, read_all
from meshcore.server.http1 import serve_http1
from meshcore.server.options import ServerOptions
from meshcore.testing import explore_schedules, memory_stream_pair, mock_service, response
from meshcore.transport.socket import SocketConnection
from meshcore.transport.stream import StreamConnection
from tests.http1_peers import Owner, Peer, serving, settle

GET = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"

# ----- limits -----


@pytest.mark.parametrize("pieces", [1, 5])
async def test_a_head_that_takes_too_long_is_answered_408(pieces: int, autojump_clock: object) -> None:
    async with serving(mock_service(200)) as served:
        for _ in range(pieces):
            # However steadily it drips, its time runs from the first byte.
            await served.client.send(b"GET")
            await trio.sleep(1.5)
        assert (
            await served.client.rest() == b"HTTP/1.1 408 Request Timeout\r\n"
            b"x-meshcore-error: bad-request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        )
        assert 10 <= trio.current_time() <= 11


async def test_a_connection_without_a_byte_is_closed_silently(autojump_clock: object) -> None:
    async with serving(mock_service(200)) as served:
        await served.client.expect_end()
        assert 10 <= trio.current_time() <= 11


async def test_an_idle_connection_is_closed_after_the_idle_timeout(autojump_clock: object) -> None:
    async with serving(mock_service(200), options=ServerOptions(idle_timeout=60.0)) as served:
        await trio.sleep(5)
        await served.client.send(GET)
        await served.client.expect(OK)
        await trio.sleep(50)
        await served.client.send(GET)
        await served.client.expect(OK)
        since = trio.current_time()
        await served.client.expect_end()
        assert 60 <= trio.current_time() - since <= 90


async def test_a_second_head_has_the_same_time_as_the_first(autojump_clock: object) -> None:
    async with serving(mock_service(200)) as served:
        await served.client.send(GET)
        await served.client.expect(OK)
        await trio.sleep(100)
        await served.client.send(b"GET / HT")
        since = trio.current_time()
        assert (await served.client.rest()).startswith(b"HTTP/1.1 408 ")
        assert 10 <= trio.current_time() - since <= 11


async def test_a_service_may_take_its_time(autojump_clock: object) -> None:
    async with serving(mock_service(150.0, 200)) as served:
        await served.client.send(GET)
        with trio.move_on_after(151):
            await served.client.expect(OK)
        assert trio.current_time() == 150


@pytest.mark.parity("R-17", "R-18", "U-09")
@pytest.mark.parametrize("limit", ["request", "response", "idle", "option"])
async def test_a_response_that_exceeds_a_limit_after_its_head_is_cut(limit: str, autojump_clock: object) -> None:
    body = Chunks()

    async def service(request: Request) -> Response:
        if limit != "option":
            request.timeouts = Timeouts(**{limit: 2.0})
        return Response(200, Headers(), body)

    options = ServerOptions(body_idle_timeout=2.0 if limit == "option" else None)
    async with serving(service, options=options) as served:
        await served.client.send(GET)
        await served.client.head()
        await served.client.expect_reset()
        assert 2.0 <= trio.current_time() <= 4.0
    assert body.end is not None
    assert isinstance(body.end.error, StreamTimeout)


@pytest.mark.parity("R-17")
async def test_bytes_in_either_direction_put_the_idle_limit_off(autojump_clock: object) -> None:
    body = Chunks()

    async def service(request: Request) -> Response:
        request.timeouts = Timeouts(idle=2.0)
        return Response(200, Headers(), body)

    async with serving(service) as served:
        await served.client.send(GET)
        await served.client.head()
        for _ in range(10):
            await trio.sleep(1.0)
            body.push(b"x")
            await served.client.expect(b"1\r\nx\r\n")
        body.push_end()
        await served.client.expect(b"0\r\n\r\n")
        # What limited that response does not limit the connection.
        await trio.sleep(100)
        await served.client.send(b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n")
        await served.client.head()


class Endless(Chunks):
    """A body that has always more."""

    def receive_nowait(self) -> bytes:
        return bytes(60_000)


async def test_a_client_that_does_not_read_is_cut_by_the_idle_limit(autojump_clock: object) -> None:
    body = Endless()
    service = mock_service(lambda _: Response(200, Headers(), body))
    async with serving(service, options=ServerOptions(body_idle_timeout=5.0)) as served:
        await served.client.send(GET)
        await served.over.wait()
        assert 5 <= trio.current_time() <= 10
    assert body.end is not None


@pytest.mark.parametrize("limit", ["request", "response", "idle"])
async def test_a_client_that_does_not_take_an_answer_that_is_all_there_is_cut_by_its_limits(
    limit: str, autojump_clock: object
) -> None:
    async def service(request: Request) -> Response:
        request.timeouts = Timeouts(**{limit: 2.0})
        size = 10 if request.path == b"/small" else 10_000_000
        return Response(200, Headers([(b"content-length", b"%d" % size)]), Full(bytes(size)))

    async with serving(service) as served:
        await served.client.send(b"GET /small HTTP/1.1\r\nhost: a\r\n\r\n")
        await served.client.head()
        await served.client.expect(bytes(10))
        # What did not wait leaves nothing behind that is enforced.
        await trio.sleep(100)
        await served.client.send(GET)
        await served.over.wait()
        assert 102 <= trio.current_time() <= 104


@pytest.mark.parametrize("timeouts", [None, Timeouts(idle=3_600.0)])
async def test_a_client_that_does_not_take_its_answer_is_cut_by_default(
    autojump_clock: object, timeouts: Timeouts | None
) -> None:
    body = Endless()

    async def service(request: Request) -> Response:
        request.timeouts = timeouts
        return Response(200, Headers(), body)

    async with serving(service, options=ServerOptions(idle_timeout=None, header_timeout=None)) as served:
        await served.client.send(GET)
        await served.over.wait()
        assert 300 <= trio.current_time() <= 330
    assert body.end is not None
    assert isinstance(body.end.error, StreamTimeout)


async def test_a_client_that_takes_a_little_now_and_then_is_not_cut(autojump_clock: object) -> None:
    service = mock_service(lambda _: Response(200, Headers(), Endless()))
    async with serving(service, options=ServerOptions(write_timeout=10.0)) as served:
        await served.client.send(GET)
        for _ in range(20):
            await trio.sleep(9)
            taken = 0
            while taken < 40_000:
                taken += len(await served.client.more())
        assert not served.over.is_set()
        await served.over.wait()


async def test_an_answer_of_which_nothing_comes_is_not_the_clients_doing(autojump_clock: object) -> None:
    body = Chunks()
    async with serving(mock_service(lambda _: Response(200, Headers(), body))) as served:
        await served.client.send(GET)
        await served.client.head()
        await trio.sleep(80_000)
        body.push(b"x")
        await served.client.expect(b"1\r\nx\r\n")
        body.push_end()
        await served.client.expect(b"0\r\n\r\n")


async def test_answers_to_pipelined_requests_that_nobody_takes_are_cut(autojump_clock: object) -> None:
    service = mock_service(lambda _: Response(200, Headers(), Full(bytes(60_000))))
    async with serving(service, options=ServerOptions(write_timeout=10.0)) as served:
        await served.client.send(GET * 20)
        await served.over.wait()
        assert 10 <= trio.current_time() <= 15


async def _read(request: Request) -> Response:
    await read_all(request.body)
    return response(200)


async def test_a_body_that_makes_no_progress_is_answered_408(autojump_clock: object) -> None:
    async with serving(_read, options=ServerOptions(body_idle_timeout=5.0)) as served:
        await served.client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc")
        assert (await served.client.rest()).startswith(b"HTTP/1.1 408 ")
        assert 5 <= trio.current_time() <= 10


async def test_a_body_that_drips_is_answered_408_where_a_rate_is_wanted(autojump_clock: object) -> None:
    async with serving(_read, options=ServerOptions(min_body_rate=100.0)) as served:
        await served.client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9000\r\n\r\n")
        async with trio.open_nursery() as nursery:

            async def drip() -> None:
                while True:
                    await trio.sleep(0.5)
                    await served.client.send(b"x")

            nursery.start_soon(drip)
            assert (await served.client.rest()).startswith(b"HTTP/1.1 408 ")
            nursery.cancel_scope.cancel()
        assert 10 <= trio.current_time() <= 30


async def test_a_body_that_is_quick_enough_is_read_where_a_rate_is_wanted(autojump_clock: object) -> None:
    async with serving(_read, options=ServerOptions(min_body_rate=100.0)) as served:
        await served.client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9000\r\n\r\n")
        for _ in range(90):
            await trio.sleep(0.5)
            await served.client.send(bytes(100))
        await served.client.expect(OK)


async def test_an_old_connection_is_closed_when_idle_and_told_so_when_busy(autojump_clock: object) -> None:
    options = ServerOptions(max_age=60.0)
    async with serving(mock_service(200), options=options) as served:
        for _ in range(50):
            await served.client.send(GET)
            await served.client.expect(OK)
            await trio.sleep(1)
        await served.client.expect_end()
        assert 60 <= trio.current_time() <= 80
    begun = trio.current_time()
    async with serving(mock_service(200, 100.0, 200), options=options) as served:
        await served.client.send(GET)
        await served.client.expect(OK)
        await served.client.send(GET)
        assert await served.client.rest() == b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        assert trio.current_time() - begun >= 100


async def test_limits_can_be_switched_off(autojump_clock: object) -> None:
    options = ServerOptions(header_timeout=None, idle_timeout=None)
    async with serving(mock_service(200), options=options) as served:
        await trio.sleep(10_000)
        await served.client.send(b"GET / HTTP/1.1\r\n")
        await trio.sleep(10_000)
        await served.client.send(b"host: a\r\n\r\n")
        await served.client.expect(OK)


# ----- hang-ups (trap 9) -----


async def test_a_client_that_hangs_up_cancels_the_call() -> None:
    service = mock_service(lambda _: trio.sleep_forever())  # type: ignore[arg-type,return-value]
    async with serving(service, "socket") as served:
        await served.client.send(GET)
        await settle()
        assert service.in_flight == 1
        served.client.close()
        with trio.fail_after(60):
            await served.over.wait()
    assert service.cancelled == 1


async def test_a_half_closed_client_is_taken_for_gone_by_default() -> None:
    service = mock_service(lambda _: trio.sleep_forever())  # type: ignore[arg-type,return-value]
    async with serving(service, "socket") as served:
        await served.client.send(GET)
        await settle()
        await served.client.eof()
        with trio.fail_after(60):
            await served.client.expect_end()
    assert service.cancelled == 1


async def test_a_half_closed_client_is_answered_where_the_option_says_so() -> None:
    go = trio.Event()

    async def service(request: Request) -> Response:
        await go.wait()
        return response(200)

    async with serving(service, "socket", ServerOptions(half_close=True)) as served:
        await served.client.send(GET)
        await settle()
        await served.client.eof()
        await settle()
        go.set()
        assert await served.client.rest() == OK


async def test_a_client_that_hangs_up_aborts_the_body() -> None:
    body = Chunks()
    async with serving(mock_service(lambda _: Response(200, Headers(), body)), "socket") as served:
        await served.client.send(GET)
        await served.client.head()
        served.client.close()
        with trio.fail_after(60):
            await served.over.wait()
    assert body.end is not None


@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
@pytest.mark.parametrize("before", [0, 9])
async def test_a_hang_up_that_comes_with_the_request_is_not_forgotten(how: str, before: int) -> None:
    in_flight = 0

    async def service(request: Request) -> Response:
        nonlocal in_flight
        if request.path == b"/hang":
            in_flight += 1
            try:
                await trio.sleep_forever()
            finally:
                in_flight -= 1
        return response(200)

    hang = GET.replace(b" / ", b" /hang ")
    async with serving(service, "socket") as served:
        served.connection.poll_with(served.connection.sweeper.poller)  # type: ignore[union-attr]
        await served.client.send(GET)
        await served.client.expect(OK)
        await settle()
        if before:
            await served.client.send(hang[:before])
            await settle()
        connection = served.client.connection
        assert isinstance(connection, SocketConnection)
        connection.send_nowait(hang[before:])
        if how == "close":
            connection.close()
        elif how == "reset":
            connection.reset()
        else:
            connection.socket.shutdown(socket.SHUT_WR)
        with trio.fail_after(60):
            await served.over.wait()
    assert in_flight == 0


async def test_a_hang_up_while_idle_frees_the_descriptor_at_once() -> None:
    async with serving(mock_service(200), "socket") as served:
        await served.client.send(GET)
        await served.client.expect(OK)
        served.client.close()
        with trio.fail_after(60):
            await served.over.wait()
        assert served.connection.fileno() == -1


# ----- drain -----


@pytest.mark.parity("X-39")
@pytest.mark.parametrize("kind", ["socket", "memory", "stream"])
async def test_a_drain_closes_idle_connections_at_once(kind: str) -> None:
    async with serving(mock_service(200), kind) as served:
        await served.client.send(GET)
        await served.client.expect(OK)
        await settle()
        served.drain.start()
        await served.client.expect_end()
        await served.over.wait()


@pytest.mark.parity("X-39")
async def test_a_drain_lets_a_request_in_flight_finish_and_closes_then() -> None:
    go = trio.Event()

    async def service(request: Request) -> Response:
        await go.wait()
        return response(200)

    async with serving(service) as served:
        await served.client.send(GET)
        await settle()
        served.drain.start()
        await settle()
        go.set()
        assert await served.client.rest() == b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


async def test_a_drain_in_the_middle_of_a_response_closes_after_it() -> None:
    body = Chunks()
    async with serving(mock_service(lambda _: Response(200, Headers(), body))) as served:
        await served.client.send(GET)
        await served.client.head()
        served.drain.start()
        body.push(b"abc")
        body.push_end()
        assert await served.client.rest() == b"3\r\nabc\r\n0\r\n\r\n"


async def test_a_request_that_has_arrived_when_the_drain_starts_is_answered() -> None:
    async with serving(mock_service(200), "socket") as served:
        await served.client.send(GET)
        await served.client.expect(OK)
        await settle()
        await served.client.send(GET)
        served.drain.start()
        assert await served.client.rest() == b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


async def test_a_connection_accepted_after_the_drain_has_started_is_closed() -> None:
    async with serving(mock_service(200)) as served:
        served.drain.start()
        await served.client.expect_end()


@pytest.mark.parity("D-30")
async def test_a_tunnel_holds_the_drain() -> None:
    body = Chunks()
    async with serving(mock_service(lambda _: Response(200, Headers(), body))) as served:
        await served.client.send(b"CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n")
        await served.client.expect(b"HTTP/1.1 200 OK\r\n\r\n")
        served.drain.start()
        await settle()
        body.push(b"more")
        await served.client.expect(b"more")
        assert not served.over.is_set()


# ----- faults -----


class Fault(Exception):
    pass


class FaultyConnection(StreamConnection):
    """A connection whose wait number *number* raises what nobody expects."""

    number = 0
    hit = False

    def _wait(self) -> None:
        self.number -= 1
        if self.number == -1:
            self.hit = True
            raise Fault

    async def receive_some(self, max_bytes: int = 65_536) -> bytes:
        self._wait()
        return await super().receive_some(max_bytes)

    async def send_all(self, data: bytes) -> None:
        self._wait()
        await super().send_all(data)

    async def send_eof(self) -> None:
        self._wait()
        await super().send_eof()


@pytest.mark.parametrize("number", range(12))
async def test_an_exception_at_any_wait_ends_its_connection_alone(number: int) -> None:
    bodies: list[Chunks] = []

    async def service(request: Request) -> Response:
        await read_all(request.body)
        body = Chunks()
        bodies.append(body)
        body.push(b"abc")
        return Response(200, Headers(), body)

    a, b = memory_stream_pair()
    ours, client = FaultyConnection(a), Peer(StreamConnection(b))
    ours.number = number
    ours.owner = owner = Owner()
    raised: list[BaseException] = []

    async def run() -> None:
        try:
            await serve_http1(ours, service, ServerOptions())
        except Fault as error:
            raised.append(error)

    async def talk() -> None:
        with contextlib.suppress(ConnectionLost):
            for _ in range(3):
                await client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nab")
                await settle()
                await client.send(b"c")
                await settle()
                if bodies:
                    bodies[-1].push_end()
            await client.send(b"BAD\r\n\r\n")
            await client.rest()
        client.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await talk()
    assert ours.closed
    assert all(body.end is not None for body in bodies)
    assert len(raised) + len(owner.crashes) == ours.hit


@explore_schedules(20)
async def test_a_response_and_a_drain_at_the_same_time_never_lose_an_answer() -> None:
    async def service(request: Request) -> Response:
        await trio.lowlevel.checkpoint()
        return response(200)

    async with serving(service) as served, trio.open_nursery() as nursery:

        async def drain() -> None:
            await trio.lowlevel.checkpoint()
            served.drain.start()

        await served.client.send(GET)
        await trio.lowlevel.checkpoint()
        nursery.start_soon(drain)
        answer = await served.client.rest()
        assert answer in (OK, OK[:-2] + b"connection: close\r\n\r\n")
