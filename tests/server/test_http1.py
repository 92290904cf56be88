"""The accepted side of HTTP/1: what a client sees of a service, byte by byte."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
import trio.testing

from meshcore import Body, Empty, Full, Headers, Request, Response
from meshcore.errors import LoadShedError, RequestBodyError
from meshcore.http.body import Chunks, read_all
from meshcore.server.options import ServerOptions
from meshcore.testing import mock_service, response
from tests.http1_peers import KINDS, serving, settle

pytestmark = pytest.mark.usefixtures("engine")

GET = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n"
OK_HI = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def say_hi(request: Request) -> Response:
    return response(200, b"hi", [(b"content-length", b"2")])


async def echo(request: Request) -> Response:
    data = await read_all(request.body)
    end = request.body.end
    assert end is not None
    return Response(200, Headers([(b"content-length", b"%d" % len(data))]), Full(data))


def with_body(body: Body, *fields: tuple[bytes, bytes]) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        return Response(200, Headers(fields), body)

    return answer


async def test_requests_on_one_connection_are_answered_in_order(kind: str) -> None:
    service = mock_service(lambda request: response(200, request.path, [(b"content-length", b"2")]))
    async with serving(service, kind) as served:
        for number in range(3):
            await served.client.send(b"GET /%d HTTP/1.1\r\nhost: a.test\r\n\r\n" % number)
            await served.client.expect(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n/%d" % number)


async def test_a_request_has_what_the_client_said(kind: str) -> None:
    service = mock_service(204)
    async with serving(service, kind) as served:
        await served.client.send(b"GET /a?b HTTP/1.1\r\nHost: a.test:80\r\nX-One: 1\r\nAccept: */*\r\nX-One: 2\r\n\r\n")
        await served.client.expect(b"HTTP/1.1 204 No Content\r\n\r\n")
    request = service.requests[0]
    assert (request.method, request.scheme, request.authority, request.path) == (b"GET", b"http", b"a.test:80", b"/a?b")
    assert request.headers.raw == [(b"x-one", b"1"), (b"accept", b"*/*"), (b"x-one", b"2")]
    assert (request.version, request.body.end is not None, request.connection) == (11, True, served.connection)


async def test_pipelined_requests_are_answered_in_order_and_leave_others_their_turn() -> None:
    turns: list[int] = []

    async def other() -> None:
        while True:
            turns.append(served.connection.bytes_written)
            await trio.lowlevel.checkpoint()

    async with serving(say_hi) as served, trio.open_nursery() as nursery:
        await served.client.send(GET * 100)
        nursery.start_soon(other)
        await served.client.expect(OK_HI * 100)
        nursery.cancel_scope.cancel()
    # The other task ran in the middle of it, not only before and after.
    assert len({count for count in turns if 0 < count < 100 * len(OK_HI)}) > 2


async def test_a_request_in_single_bytes_is_a_request(kind: str) -> None:
    async with serving(echo, kind) as served:
        for byte in b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc":
            await served.client.send(bytes([byte]))
        await served.client.expect(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc")


async def test_a_chunked_request_body_is_read_with_its_trailers(kind: str) -> None:
    seen: list[object] = []

    async def service(request: Request) -> Response:
        seen.append(await read_all(request.body))
        seen.append(request.body.end)
        return response(204)

    async with serving(service, kind) as served:
        await served.client.send(
            b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
            b"3\r\nabc\r\n2\r\nde\r\n0\r\nx-sum: 1\r\n\r\n"
        )
        await served.client.expect(b"HTTP/1.1 204 No Content\r\n\r\n")
        await served.client.send(GET)
        await served.client.expect(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert seen[0] == b"abcde"
    assert seen[1].trailers == [(b"x-sum", b"1")]  # type: ignore[attr-defined]


async def test_a_body_is_read_only_when_the_service_reads_it() -> None:
    go = trio.Event()

    async def service(request: Request) -> Response:
        await go.wait()
        return await echo(request)

    async with serving(service) as served:
        await served.client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\n\r\n")
        await settle()
        await served.client.send(b"abcdef")
        await settle()
        before = served.connection.bytes_read
        go.set()
        await served.client.expect(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabcdef")
        assert served.connection.bytes_read - before == 6


async def test_head_and_a_body_that_is_there_go_out_in_one_write() -> None:
    writes: list[bytes] = []
    async with serving(say_hi) as served:
        send = served.connection.stream.send_nowait  # type: ignore[attr-defined]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                served.connection.stream,  # type: ignore[attr-defined]
                "send_nowait",
                lambda data: (writes.append(bytes(data)), send(data))[1],
            )
            await served.client.send(GET)
            await served.client.expect(OK_HI)
    assert writes == [OK_HI]


async def test_a_streamed_body_is_flushed_whenever_it_has_to_be_waited_for(kind: str) -> None:
    body = Chunks()
    async with serving(mock_service(with_body(body)), kind) as served:
        await served.client.send(GET)
        await served.client.expect(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        body.push(b"one")
        await served.client.expect(b"3\r\none\r\n")
        body.push(b"two")
        body.push_end([(b"x-sum", b"9")])
        await served.client.expect(b"3\r\ntwo\r\n0\r\nx-sum: 9\r\n\r\n")
        await served.client.send(GET)
        await served.client.expect(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parity("D-34", "X-81")
async def test_answers_that_have_no_body_get_none(kind: str) -> None:
    async def service(request: Request) -> Response:
        status = int(request.path[1:])
        return Response(status, Headers([(b"content-length", b"5")]), Full(b"hello"))

    async with serving(service, kind) as served:
        await served.client.send(b"HEAD /200 HTTP/1.1\r\nhost: a\r\n\r\n")
        await served.client.expect(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")
        await served.client.send(b"GET /304 HTTP/1.1\r\nhost: a\r\n\r\n")
        await served.client.expect(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n")
        await served.client.send(b"GET /204 HTTP/1.1\r\nhost: a\r\n\r\n")
        await served.client.expect(b"HTTP/1.1 204 No Content\r\n\r\n")
        await served.client.send(b"GET /200 HTTP/1.1\r\nhost: a\r\n\r\n")
        await served.client.expect(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")


async def test_an_answer_to_http10_is_http10_and_ends_with_the_connection(kind: str) -> None:
    body = Chunks()
    body.push(b"abc")
    body.push_end()
    async with serving(mock_service(with_body(body)), kind) as served:
        await served.client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert await served.client.rest() == b"HTTP/1.0 200 OK\r\nconnection: close\r\n\r\nabc"


async def test_connection_close_is_obeyed_and_told(kind: str) -> None:
    async with serving(say_hi, kind) as served:
        await served.client.send(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        assert await served.client.rest() == b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi"


async def test_a_response_may_close_the_connection(kind: str) -> None:
    async def service(request: Request) -> Response:
        return Response(200, Headers([(b"content-length", b"0")]), close=True)

    async with serving(service, kind) as served:
        await served.client.send(GET)
        assert await served.client.rest() == b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


# ----- requests that are none -----


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"400 Bad Request"),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: \x01\r\n\r\n", b"400 Bad Request"),
        (b"GET /%s HTTP/1.1\r\nhost: a\r\n\r\n" % (b"a" * 9_000), b"414 URI Too Long"),
        (b"GET / HTTP/1.1\r\nhost: a\r\n%s\r\n" % (b"x: y\r\n" * 101), b"431 Request Header Fields Too Large"),
        (b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n", b"501 Not Implemented"),
        (b"GET / HTTP/2.0\r\nhost: a\r\n\r\n", b"505 HTTP Version Not Supported"),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", b"400 Bad Request"),
    ],
)
async def test_what_is_no_request_is_refused_and_the_connection_closed(
    kind: str, request_: bytes, status: bytes
) -> None:
    service = mock_service(200)
    async with serving(service, kind) as served:
        await served.client.send(request_ + GET)
        answer = await served.client.rest()
    rest = b"x-meshcore-error: bad-request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    assert answer == b"HTTP/1.1 " + _reason(status, answer) + b"\r\n" + rest
    assert service.requests == []


def _reason(status: bytes, answer: bytes) -> bytes:
    """The code counts; how Python's version calls it does not."""
    assert answer.split(b" ", 2)[1] == status.split(b" ", 1)[0]
    return answer.split(b"\r\n", 1)[0].split(b" ", 1)[1]


async def test_a_bad_request_after_good_ones_is_refused_in_its_turn(kind: str) -> None:
    async with serving(say_hi, kind) as served:
        await served.client.send(GET + GET + b"BAD\r\n\r\n")
        await served.client.expect(OK_HI * 2)
        assert (await served.client.rest()).startswith(b"HTTP/1.1 400 ")


async def test_a_connection_that_ends_without_a_request_is_closed_silently(kind: str) -> None:
    async with serving(say_hi, kind) as served:
        await served.client.eof()
        await served.client.expect_end()
        await served.over.wait()


async def test_a_connection_that_ends_inside_a_head_is_told_400(kind: str) -> None:
    async with serving(say_hi, kind) as served:
        await served.client.send(b"GET / HT")
        await served.client.eof()
        assert (await served.client.rest()).startswith(b"HTTP/1.1 400 ")


# ----- bodies that nobody wants, or that break -----


async def test_a_small_unread_body_is_discarded_and_the_connection_kept(kind: str) -> None:
    async with serving(say_hi, kind) as served:
        await served.client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n01234")
        await served.client.expect(OK_HI)
        await served.client.send(b"56789" + GET)
        await served.client.expect(OK_HI)


async def test_bytes_of_an_unread_body_are_never_a_request(kind: str) -> None:
    service = mock_service(lambda request: response(200, b"hi", [(b"content-length", b"2")]))
    smuggled = b"GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"
    async with serving(service, kind) as served:
        await served.client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % len(smuggled) + smuggled)
        await served.client.expect(OK_HI)
        await served.client.send(GET)
        await served.client.expect(OK_HI)
    assert [request.path for request in service.requests] == [b"/", b"/"]


async def test_a_large_unread_body_closes_the_connection_after_the_answer(kind: str) -> None:
    async with serving(say_hi, kind) as served:
        await served.client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n" + bytes(1_000))
        await served.client.expect(OK_HI)
        # The client is still sending: it sees the answer and the end, and no reset.
        await served.client.send(bytes(10_000))
        await served.client.expect_end()
        await served.client.eof()


async def test_a_body_of_unknown_length_is_discarded_up_to_a_bound() -> None:
    options = ServerOptions(drain_body=1_000)
    async with serving(say_hi, "memory", options) as served:
        await served.client.send(
            b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        )
        await served.client.expect(OK_HI)
        await served.client.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
        await served.client.expect(OK_HI)
        await served.client.send(b"400\r\n" + bytes(1_024) + b"\r\n")
        await served.client.expect_end()


async def test_an_unread_body_that_does_not_come_closes_the_connection_in_time(autojump_clock: object) -> None:
    async with serving(say_hi, "memory", ServerOptions(linger_timeout=2.0)) as served:
        await served.client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nab")
        await served.client.expect(OK_HI)
        await served.client.expect_end()
        assert trio.current_time() < 5


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabcX\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc", b"400"),
    ],
)
async def test_a_broken_request_body_raises_and_is_answered_400(kind: str, sent: bytes, status: bytes) -> None:
    errors: list[BaseException] = []

    async def service(request: Request) -> Response:
        try:
            return await echo(request)
        except RequestBodyError as error:
            errors.append(error)
            with pytest.raises(RequestBodyError):
                await request.body.receive_some()
            with pytest.raises(RequestBodyError):
                request.body.receive_nowait()
            assert request.body.end is not None
            assert request.body.end.error is error
            raise

    async with serving(service, kind, ServerOptions(half_close=True)) as served:
        await served.client.send(sent)
        await served.client.eof()
        answer = await served.client.rest()
    assert answer.startswith(b"HTTP/1.1 %s " % status)
    assert b"x-meshcore-error: request-body\r\n" in answer
    assert len(errors) == 1


# ----- 1xx -----


async def test_a_client_that_waits_is_asked_to_continue_when_the_body_is_read(kind: str) -> None:
    async with serving(echo, kind) as served:
        await served.client.send(b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n")
        await served.client.expect(b"HTTP/1.1 100 Continue\r\n\r\n")
        await served.client.send(b"abc")
        await served.client.expect(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc")
        await served.client.send(GET)
        await served.client.expect(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")


async def test_a_client_that_waits_may_be_answered_instead(kind: str) -> None:
    async with serving(mock_service(417), kind) as served:
        await served.client.send(b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n")
        # Whether the body comes nobody knows, so the connection cannot be used again.
        assert (
            await served.client.rest()
            == b"HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        )


async def test_informational_answers_are_passed_on_before_the_final_one(kind: str) -> None:
    async def service(request: Request) -> Response:
        assert request.informational is not None
        request.informational(103, [(b"link", b"</a>")])
        request.informational(103, [(b"link", b"</b>")])
        await trio.lowlevel.checkpoint()
        return response(204)

    async with serving(service, kind) as served:
        await served.client.send(GET)
        await served.client.expect(
            b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </b>\r\n\r\n"
            b"HTTP/1.1 204 No Content\r\n\r\n"
        )


async def test_an_upstreams_continue_is_not_said_twice(kind: str) -> None:
    async def service(request: Request) -> Response:
        assert request.expect_continue
        assert request.informational is not None
        request.informational(100, [])
        return await echo(request)

    async with serving(service, kind) as served:
        await served.client.send(b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n")
        await served.client.expect(b"HTTP/1.1 100 Continue\r\n\r\n")
        await served.client.send(b"abc")
        await served.client.expect(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc")


async def test_an_informational_answer_after_the_final_one_is_dropped() -> None:
    late: list[Request] = []

    async def service(request: Request) -> Response:
        late.append(request)
        return response(204)

    async with serving(service) as served:
        await served.client.send(GET)
        await served.client.expect(b"HTTP/1.1 204 No Content\r\n\r\n")
        assert late[0].informational is not None
        late[0].informational(103, [])
        await served.client.send(GET)
        await served.client.expect(b"HTTP/1.1 204 No Content\r\n\r\n")


# ----- errors -----


async def test_an_error_that_nobody_rescued_is_answered_with_its_hint_and_closes(kind: str) -> None:
    async with serving(mock_service(LoadShedError()), kind) as served:
        await served.client.send(GET)
        assert (
            await served.client.rest()
            == b"HTTP/1.1 503 Service Unavailable\r\nx-meshcore-error: load-shed\r\ncontent-length: 0\r\n"
            b"connection: close\r\n\r\n"
        )


async def test_an_unexpected_exception_of_a_service_is_counted_and_answered_500(kind: str) -> None:
    error = ValueError("a bug")
    async with serving(mock_service(error), kind, crashes=True) as served:
        await served.client.send(GET)
        answer = await served.client.rest()
    assert answer.startswith(b"HTTP/1.1 500 Internal Server Error\r\nx-meshcore-error: internal\r\n")
    assert served.owner.crashes == [(error, "service")]


async def test_a_head_that_cannot_be_sent_is_a_crash_and_answered_500(kind: str) -> None:
    body = Full(b"hi")
    async with serving(mock_service(with_body(body, (b"x", b"a\r\nb"))), kind, crashes=True) as served:
        await served.client.send(GET)
        answer = await served.client.rest()
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"a\r\nb" not in answer
    assert len(served.owner.crashes) == 1
    assert body.end is not None


async def test_a_body_that_broke_before_the_head_is_told_as_an_error(kind: str) -> None:
    body = Chunks()
    body.push_error(LoadShedError())
    async with serving(mock_service(with_body(body)), kind) as served:
        await served.client.send(GET)
        assert (await served.client.rest()).startswith(b"HTTP/1.1 503 ")


@pytest.mark.parametrize("fields", [[], [(b"content-length", b"100")]])
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_a_body_that_breaks_is_cut_and_never_ends_cleanly(
    kind: str, version: bytes, fields: list[tuple[bytes, bytes]]
) -> None:
    body = Chunks()
    async with serving(mock_service(with_body(body, *fields)), kind) as served:
        await served.client.send(b"GET / HTTP/%b\r\nhost: a\r\n\r\n" % version)
        await served.client.head()
        body.push(b"part")
        chunked = version == b"1.1" and not fields
        await served.client.expect(b"4\r\npart\r\n" if chunked else b"part")
        body.push_error(LoadShedError())
        if fields or version == b"1.1":
            # What is missing shows, and what came is not to be lost by a reset.
            await served.client.expect_end()
        elif kind != "socket":
            assert await served.client.expect_reset() == b""
        else:
            # Unix sockets know no reset.
            await served.client.expect_end()


async def test_what_there_was_of_a_body_that_broke_is_sent(kind: str) -> None:
    class Breaking(Chunks):
        def receive_nowait(self) -> bytes:
            if not self._chunks:
                self.push_error(LoadShedError())
            return Chunks.receive_nowait(self)

    body = Breaking()
    body.push(b"part")
    async with serving(mock_service(with_body(body, (b"content-length", b"10"))), kind) as served:
        await served.client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody")
        assert await served.client.rest() == b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\npart"


async def test_a_body_that_broke_after_all_its_bytes_does_not_seem_complete() -> None:
    body = Chunks()
    async with serving(mock_service(with_body(body, (b"content-length", b"4")))) as served:
        await served.client.send(GET)
        await served.client.head()
        body.push(b"part")
        await served.client.expect(b"part")
        body.push_error(LoadShedError())
        assert await served.client.expect_reset() == b""


async def test_a_crash_inside_a_body_ends_the_connection_and_is_counted() -> None:
    class Broken(Chunks):
        async def receive_some(self) -> bytes:
            raise ValueError("a bug")

    body = Broken()
    async with serving(mock_service(with_body(body)), crashes=True) as served:
        await served.client.send(GET)
        await served.client.head()
        await served.client.expect_end()
    assert [where for _, where in served.owner.crashes] == ["response body"]
    assert body.end is not None


async def test_a_body_longer_than_it_said_is_cut(kind: str) -> None:
    body = Chunks()
    async with serving(mock_service(with_body(body, (b"content-length", b"3"))), kind) as served:
        await served.client.send(GET)
        await served.client.expect(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n")
        body.push(b"abcd")
        await served.over.wait()
    assert body.end is not None


async def test_whoever_is_not_sent_is_aborted() -> None:
    body = Chunks()
    async with serving(mock_service(with_body(body))) as served:
        await served.client.send(b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n")
        await served.client.expect(b"HTTP/1.1 200 OK\r\n")
        await settle()
        assert body.end is not None
        assert body.end.error is not None


async def test_a_client_that_does_not_read_holds_the_body_back() -> None:
    taken = 0

    class Endless(Chunks):
        def receive_nowait(self) -> bytes:
            nonlocal taken
            taken += 1
            return bytes(60_000)

    async with serving(mock_service(with_body(Endless()))) as served:
        await served.client.send(GET)
        await settle()
        before = taken
        await settle()
        assert taken == before
        assert taken < 200


async def test_cancelling_the_server_releases_everything_at_once() -> None:
    body = Chunks()
    with trio.CancelScope() as scope:
        async with serving(mock_service(with_body(body))) as served:
            await served.client.send(GET)
            await served.client.head()
            scope.cancel()
            await trio.sleep_forever()
    assert served.connection.closed
    assert body.end is not None


# ----- tunnels -----


WEBSOCKET = (
    b"GET /chat HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def test_an_upgrade_becomes_a_tunnel_only_when_it_is_agreed_to(kind: str) -> None:
    body = Chunks()
    got: list[bytes] = []
    service = mock_service(lambda _: Response(101, Headers(), body, protocol=b"websocket"))
    async with serving(service, kind) as served, trio.open_nursery() as nursery:
        # Bytes that come at once are not lost, and nobody sees them before the switch.
        await served.client.send(WEBSOCKET + b"early")
        await served.client.expect(
            b"HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
            b"connection: upgrade\r\nupgrade: websocket\r\n\r\n"
        )
        request = service.requests[0]
        assert request.protocol == b"websocket"

        async def consume() -> None:
            while chunk := await request.body.receive_some():
                got.append(chunk)

        nursery.start_soon(consume)
        body.push(b"from upstream")
        await served.client.expect(b"from upstream")
        await served.client.send(b" and late")
        await settle()
        await served.client.eof()
        await settle()
        assert request.body.end is not None
        assert request.body.end.error is None
        # Half-closed: the other direction goes on.
        body.push(b"still")
        await served.client.expect(b"still")
        body.push_end()
        await served.client.expect_end()
        await served.over.wait()
    assert b"".join(got) == b"early and late"


async def test_an_upgrade_that_is_refused_leaves_the_bytes_behind_it_alone(kind: str) -> None:
    service = mock_service(lambda request: response(200, request.path, [(b"content-length", b"5")]))
    async with serving(service, kind) as served:
        await served.client.send(WEBSOCKET + b"GET /next HTTP/1.1\r\nhost: a\r\n\r\n")
        await served.client.expect(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n/chat")
        await served.client.expect(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n/next")
    assert service.requests[0].body.end is not None


async def test_an_upgrade_with_a_body_is_an_ordinary_request() -> None:
    service = mock_service(echo)
    async with serving(service) as served:
        await served.client.send(
            b"POST / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: foo\r\ncontent-length: 3\r\n\r\nabc"
        )
        await served.client.expect(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc")
    assert service.requests[0].protocol is None


async def test_connect_makes_a_tunnel(kind: str) -> None:
    body = Chunks()
    service = mock_service(lambda _: Response(200, Headers([(b"content-length", b"9")]), body))
    async with serving(service, kind) as served:
        await served.client.send(b"CONNECT a.test:443 HTTP/1.1\r\nhost: a.test:443\r\n\r\n")
        await served.client.expect(b"HTTP/1.1 200 OK\r\n\r\n")
        await served.client.send(b"ping")
        request = service.requests[0]
        assert (request.method, request.authority, request.path) == (b"CONNECT", b"a.test:443", b"")
        assert await request.body.receive_some() == b"ping"
        body.push(b"pong")
        await served.client.expect(b"pong")


async def test_tunnels_can_be_forbidden() -> None:
    service = mock_service(200)
    options = ServerOptions(allow_connect=False, allow_upgrade=False)
    async with serving(service, options=options) as served:
        await served.client.send(WEBSOCKET)
        await served.client.expect(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await served.client.send(b"CONNECT a.test:443 HTTP/1.1\r\nhost: a.test:443\r\n\r\n")
        assert (await served.client.rest()).startswith(b"HTTP/1.1 405 ")
    assert [(request.protocol, request.body.end is not None) for request in service.requests] == [(None, True)]


async def test_a_tunnel_whose_upstream_breaks_is_cut(kind: str) -> None:
    body = Chunks()
    service = mock_service(lambda _: Response(200, Headers(), body))
    async with serving(service, kind) as served:
        await served.client.send(b"CONNECT a.test:443 HTTP/1.1\r\nhost: a.test:443\r\n\r\n")
        await served.client.head()
        body.push_error(LoadShedError())
        await served.over.wait()
    assert service.requests[0].body.end is not None


async def test_a_tunnel_whose_client_breaks_aborts_both_bodies() -> None:
    body = Chunks()
    service = mock_service(lambda _: Response(200, Headers(), body))
    async with serving(service) as served:
        await served.client.send(b"CONNECT a.test:443 HTTP/1.1\r\nhost: a.test:443\r\n\r\n")
        await served.client.head()
        served.client.connection.reset()
        body.push(b"lost")
        await served.over.wait()
        assert body.end is not None
        assert service.requests[0].body.end is not None


async def test_empty_is_a_body_too() -> None:
    async with serving(mock_service(lambda _: Response(200, Headers(), Empty([(b"x-t", b"1")])))) as served:
        await served.client.send(GET)
        await served.client.expect(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx-t: 1\r\n\r\n")


async def test_bodies_can_be_read_without_waiting_and_break_the_same_way() -> None:
    seen: list[object] = []

    async def service(request: Request) -> Response:
        body = request.body
        with pytest.raises(trio.WouldBlock):
            body.receive_nowait()
        await settle()
        if request.expect_continue:
            # Nobody has asked the client for it yet.
            with pytest.raises(trio.WouldBlock):
                body.receive_nowait()
            seen.append(await body.receive_some())
        else:
            seen.append(body.receive_nowait())
        seen.append(body.receive_nowait())
        return response(204)

    async with serving(service) as served:
        await served.client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n")
        await trio.lowlevel.checkpoint()
        await served.client.send(b"abc")
        await served.client.expect(b"HTTP/1.1 204 No Content\r\n\r\n")
        await served.client.send(b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n")
        await served.client.expect(b"HTTP/1.1 100 Continue\r\n\r\n")
        await served.client.send(b"abc")
        await served.client.expect(b"HTTP/1.1 204 No Content\r\n\r\n")
        await served.client.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
        await trio.lowlevel.checkpoint()
        await served.client.send(b"zz\r\n")
        assert (await served.client.rest()).startswith(b"HTTP/1.1 400 ")
    assert seen == [b"abc", b"", b"abc", b""]


async def test_a_body_given_up_by_the_service_is_not_taken_for_read() -> None:
    async def service(request: Request) -> Response:
        if request.method == b"GET":
            return response(200)
        assert await request.body.receive_some() == b"abc"
        request.body.abort(LoadShedError())
        with pytest.raises(LoadShedError):
            await request.body.receive_some()
        with pytest.raises(LoadShedError):
            request.body.receive_nowait()
        return response(204)

    async with serving(service) as served:
        await served.client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\n\r\nabc")
        await served.client.expect(b"HTTP/1.1 204 No Content\r\n\r\n")
        # The rest of it is no request.
        await served.client.send(b"def" + GET)
        await served.client.expect(b"HTTP/1.1 200 OK\r\n")


async def test_a_tunnel_that_was_not_asked_for_is_a_crash() -> None:
    body = Chunks()
    service = mock_service(lambda _: Response(101, Headers(), body, protocol=b"other"))
    async with serving(service, crashes=True) as served:
        await served.client.send(WEBSOCKET)
        assert (await served.client.rest()).startswith(b"HTTP/1.1 502 ")
    assert len(served.owner.crashes) == 1
    assert body.end is not None


async def test_a_switch_of_a_plain_request_is_a_crash() -> None:
    service = mock_service(lambda _: Response(101, Headers(), Chunks(), protocol=b"websocket"))
    async with serving(service, crashes=True) as served:
        await served.client.send(GET)
        answer = await served.client.rest()
    assert answer.startswith((b"HTTP/1.1 500 ", b"HTTP/1.1 502 "))
    assert len(served.owner.crashes) == 1


async def test_the_bytes_of_a_tunnel_can_be_taken_without_waiting() -> None:
    body = Chunks()
    service = mock_service(lambda _: Response(200, Headers(), body))
    async with serving(service) as served:
        await served.client.send(b"CONNECT a.test:443 HTTP/1.1\r\nhost: a.test:443\r\n\r\nping")
        await served.client.head()
        tunnel = service.requests[0].body
        assert tunnel.receive_nowait() == b"ping"
        with pytest.raises(trio.WouldBlock):
            tunnel.receive_nowait()
        served.client.connection.reset()
        with pytest.raises(RequestBodyError):
            tunnel.receive_nowait()
        with pytest.raises(RequestBodyError):
            await tunnel.receive_some()
