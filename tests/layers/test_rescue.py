"""Rescue: which error becomes which response."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from meshcore.errors import (
    AuthorizationError,
    ConnectError,
    ConnectTimeout,
    FailFastError,
    IdentityError,
    LoadShedError,
    LoopDetected,
    MeshError,
    NoEndpoints,
    NoRoute,
    RemoteProtocolError,
    ResponseTimeout,
    StreamReset,
    StreamTimeout,
    inside,
)
from meshcore.http.message import Request, Response
from meshcore.layers.rescue import Rescue
from meshcore.metrics import Registry
from meshcore.testing import mock_service, request, response
from meshcore.transport.target import Accepted

GRPC = [(b"content-type", b"application/grpc+proto")]


def rescued(*script: Any, **options: Any) -> Any:
    return Rescue(**options).wrap(mock_service(*script), None)


TABLE = [
    (MeshError("x"), 500, 13, True),
    (ConnectError("x"), 502, 14, True),
    (IdentityError("x"), 502, 14, True),
    (FailFastError("x"), 504, 4, True),
    (ConnectTimeout("x"), 504, 4, True),
    (ResponseTimeout("x"), 504, 4, False),
    (StreamTimeout("x"), 504, 4, False),
    (LoadShedError("x"), 503, 14, True),
    (NoEndpoints("x"), 503, 14, True),
    (AuthorizationError("x"), 403, 7, False),
    (LoopDetected("x"), 508, 10, True),
    (NoRoute("x"), 404, 5, False),
]


@pytest.mark.parity("E-07")
@pytest.mark.parametrize(("error", "status", "grpc", "closes"), TABLE, ids=lambda value: type(value).__name__)
async def test_an_error_is_answered_with_its_status_and_closes_if_it_has_to(
    error: MeshError, status: int, grpc: int, closes: bool
) -> None:
    answer = await rescued(error)(request())

    assert (status, closes) == (answer.status, answer.close)
    assert b"0" == answer.headers.get(b"content-length")
    assert error.code.encode() == answer.headers.get(b"x-meshcore-error")
    assert (b"close" if closes else None) == answer.headers.get(b"l5d-proxy-connection")
    assert answer.body.end is not None


@pytest.mark.parity("E-04")
@pytest.mark.parametrize(("error", "status", "grpc", "closes"), TABLE, ids=lambda value: type(value).__name__)
async def test_grpc_is_answered_200_with_the_mapped_status_and_no_body(
    error: MeshError, status: int, grpc: int, closes: bool
) -> None:
    answer = await rescued(error)(request(b"POST", headers=GRPC, version=20))

    assert 200 == answer.status
    assert b"application/grpc" == answer.headers.get(b"content-type")
    assert b"%d" % grpc == answer.headers.get(b"grpc-status")
    assert b"x" == answer.headers.get(b"grpc-message")
    assert answer.body.end is not None


@pytest.mark.parity("E-04")
@pytest.mark.parametrize(
    ("version", "content_type", "grpc"),
    [
        (20, b"application/grpc", True),
        (20, b"application/grpc; charset=x", True),
        (20, b"Application/gRPC-web", True),
        (20, b"application/grpcx", False),
        (20, b"text/plain", False),
        (11, b"application/grpc", False),
    ],
)
async def test_grpc_is_http_2_with_its_content_type(version: int, content_type: bytes, grpc: bool) -> None:
    sent = request(b"POST", headers=[(b"content-type", content_type)], version=version)

    answer = await rescued(NoRoute("x"))(sent)

    assert (200 if grpc else 404) == answer.status


@pytest.mark.parity("E-03")
async def test_the_whole_chain_of_causes_is_told() -> None:
    async def inner(sent: Request) -> Response:
        try:
            raise ConnectTimeout("endpoint 10.0.0.7:4143: connect timed out after 1s")
        except ConnectTimeout as error:
            raise FailFastError("backend users: service in fail-fast") from error

    answer = await Rescue().wrap(inner, None)(request())

    assert (
        b"backend users: service in fail-fast: endpoint 10.0.0.7:4143: connect timed out after 1s"
        == answer.headers.get(b"l5d-proxy-error")
    )


@pytest.mark.parity("E-03")
async def test_the_chain_begins_with_what_an_operator_knows_the_request_by() -> None:
    async def inner(sent: Request) -> Response:
        sent.route = "default.http"
        error = ConnectTimeout("endpoint 10.0.0.7:4143: connect timed out after 1s")
        inside(error, "backend Service.x")
        raise error

    def told(answer: Response) -> bytes | None:
        return answer.headers.get(b"l5d-proxy-error")

    rescued = Rescue(logical=True).wrap(inner, None)
    assert (
        b"logical service a.ns:80: route default.http: backend Service.x: endpoint 10.0.0.7:4143: "
        b"connect timed out after 1s"
    ) == told(await rescued(request(authority=b"a.ns:80")))
    assert (told(await rescued(request(authority=b""))) or b"").startswith(b"route default.http: backend Service.x: ")
    assert b"logical service a??b: no route" == told(
        await Rescue(logical=True).wrap(mock_service(NoRoute("no route")), None)(request(authority=b"a\r\nb"))
    )
    # Without being asked for, only what the error itself says.
    assert (told(await Rescue().wrap(inner, None)(request())) or b"").startswith(b"backend Service.x: endpoint")


@pytest.mark.parity("E-09")
@pytest.mark.parametrize(("error", "status", "grpc", "closes"), TABLE, ids=lambda value: type(value).__name__)
async def test_none_of_these_says_when_to_come_back(error: MeshError, status: int, grpc: int, closes: bool) -> None:
    for version, headers in ((11, []), (20, GRPC)):
        answer = await rescued(error)(request(b"POST", headers=headers, version=version))
        assert b"retry-after" not in answer.headers


KINDS = [
    (FailFastError("x"), "failfast", "failfast"),
    (NoEndpoints("x"), "failfast", "failfast"),
    (LoadShedError("x"), "loadshed", "loadshed"),
    (ConnectError("x"), "i/o", "i/o"),
    (ConnectTimeout("x"), "i/o", "i/o"),
    (StreamReset("x"), "i/o", "i/o"),
    (IdentityError("x"), "unexpected", "identity required"),
    (ResponseTimeout("x"), "unexpected", "response timeout"),
    (StreamTimeout("x"), "unexpected", "response timeout"),
    (LoopDetected("x"), "gateway loop", "unexpected"),
    (ValueError("x"), "unexpected", "unexpected"),
    # Not failures: they have metrics of their own.
    (AuthorizationError("x"), None, None),
    (NoRoute("x"), None, None),
]


@pytest.mark.parity("E-08", "M-07")
@pytest.mark.parametrize(("error", "inbound", "outbound"), KINDS, ids=lambda value: type(value).__name__)
async def test_errors_are_counted_by_their_kind(error: Exception, inbound: str | None, outbound: str | None) -> None:
    for direction, kind in (("inbound", inbound), ("outbound", outbound)):
        registry = Registry()
        target = Accepted("x", ("10.0.0.1", 80))
        service = Rescue(registry=registry, direction=direction).wrap(mock_service(error, error, 200), target)
        for version in (11, 20):
            try:
                await service(request(version=version))
            except (ValueError, StreamReset):
                pass
        assert 200 == (await service(request())).status
        labels = f'target_addr="10.0.0.1:80",target_ip="10.0.0.1",target_port="80",error="{kind}"'
        line = f"{direction}_http_errors_total{{{labels}}} 2\n"
        text = registry.render()
        assert (line in text) == (kind is not None)
        assert text.count("errors_total{") == (kind is not None)


@pytest.mark.parity("E-06")
async def test_nothing_is_told_where_the_client_may_not_know() -> None:
    for options in ({"informational": False}, {"informational": lambda sent: sent.connection is not None}):
        answer = await rescued(FailFastError("secret name"), **options)(request())
        assert [(b"content-length", b"0")] == answer.headers.raw

        answer = await rescued(FailFastError("secret name"), **options)(request(b"POST", headers=GRPC, version=20))
        assert {b"content-type", b"content-length", b"grpc-status"} == {name for name, _ in answer.headers}


async def test_what_a_peer_sent_cannot_leave_its_field_nor_fill_it() -> None:
    answer = await rescued(NoRoute("a\r\nset-cookie: x\x00\x7f\u2603" + "b" * 100_000))(request())

    value = answer.headers.get(b"l5d-proxy-error")
    assert value.startswith(b"a??set-cookie: x???bbb")
    assert 1_024 == len(value)
    grpc = await rescued(NoRoute("100% \u2603"))(request(b"POST", headers=GRPC, version=20))
    assert b"100%25 ?" == grpc.headers.get(b"grpc-message")


@pytest.mark.parity("E-02", "D-28", "X-69")
async def test_a_reset_stream_is_reset_for_http_2_and_a_502_for_http_1() -> None:
    service = rescued(StreamReset("upstream reset", h2_code=8))

    with pytest.raises(StreamReset):
        await service(request(version=20))

    answer = await service(request(version=11))
    assert (502, True) == (answer.status, answer.close)


@pytest.mark.parity("E-01")
@pytest.mark.parametrize("error", [ValueError("a bug"), KeyError("x"), RuntimeError("y")])
async def test_an_unexpected_error_is_not_answered_here(error: Exception) -> None:
    with pytest.raises(type(error)):
        await rescued(error)(request())


async def test_cancellation_passes() -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await rescued(lambda sent: trio.sleep_forever())(request())
    assert scope.cancelled_caught


async def test_a_request_that_broke_the_protocol_is_answered_with_its_own_status() -> None:
    assert 431 == (await rescued(RemoteProtocolError("too large", status=431))(request())).status


@pytest.mark.parity("E-05")
async def test_a_grpc_response_that_breaks_later_ends_in_trailers() -> None:
    answer = await rescued(response())(request(b"POST", headers=GRPC, version=20))
    assert answer.error_trailers is not None

    trailers = answer.error_trailers(StreamTimeout("too slow"))
    assert (b"grpc-status", b"4") in trailers
    assert (b"grpc-message", b"too slow") in trailers
    assert (b"x-meshcore-error", b"stream-timeout") in trailers
    assert [(b"grpc-status", b"13")] == answer.error_trailers(ValueError("a bug"))

    quiet = await rescued(response(), informational=False)(request(b"POST", headers=GRPC, version=20))
    assert [(b"grpc-status", b"4")] == quiet.error_trailers(StreamTimeout("too slow"))

    for other in (request(b"POST", version=20), request(b"POST", headers=GRPC), request(version=20)):
        assert (await rescued(response())(other)).error_trailers is None


def test_it_prints_as_it_is_written() -> None:
    assert "Rescue(informational=True)" == repr(Rescue())
