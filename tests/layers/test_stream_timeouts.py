"""StreamTimeouts: what a request is told about the limits of its exchange."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from meshcore.errors import GoAway
from meshcore.http.grpc import encode_timeout, timeout_of
from meshcore.http.message import Request, Response, Timeouts
from meshcore.layers.retry import Retry
from meshcore.layers.stream_timeouts import StreamTimeouts
from meshcore.testing import mock_service, request, response

LIMITS = Timeouts(request=2.0, idle=1.0)


async def test_a_request_gets_the_limits_of_its_target() -> None:
    inner = mock_service(response())
    asked = request()

    await StreamTimeouts(lambda target: {"slow": LIMITS}[target]).wrap(inner, "slow")(asked)

    assert LIMITS is asked.timeouts


async def test_limits_that_a_request_has_already_are_kept() -> None:
    own = Timeouts(request=0.5)
    asked = request()
    asked.timeouts = own

    await StreamTimeouts(LIMITS).wrap(mock_service(response()), None)(asked)

    assert own is asked.timeouts


def test_without_limits_it_is_not_there() -> None:
    inner = mock_service()

    assert inner is StreamTimeouts().wrap(inner, None)
    assert inner is StreamTimeouts(Timeouts()).wrap(inner, None)
    assert inner is StreamTimeouts(lambda target: None).wrap(inner, "x")


def grpc_request(timeout: bytes) -> Request:
    return request(b"POST", headers=[(b"content-type", b"application/grpc"), (b"grpc-timeout", timeout)], version=20)


@pytest.mark.parity("R-17", "R-19")
@pytest.mark.parametrize(
    ("said", "total", "passed_on"),
    [(b"500m", 0.5, b"500m"), (b"10S", 2.0, b"2000m"), (b"1500000u", 1.5, b"1500m"), (b"1H", 2.0, b"2000m")],
)
async def test_the_shorter_of_a_grpc_clients_deadline_and_the_limit_holds_and_is_passed_on(
    said: bytes, total: float, passed_on: bytes, autojump_clock: MockClock
) -> None:
    inner = mock_service(response())

    await StreamTimeouts(LIMITS).wrap(inner, None)(grpc_request(said))

    (seen,) = inner.requests
    assert seen.timeouts == Timeouts(request=total, idle=1.0)
    assert passed_on == seen.headers.get(b"grpc-timeout")


@pytest.mark.parity("R-19")
async def test_another_try_is_told_what_is_left(autojump_clock: MockClock) -> None:
    seen = []

    async def inner(sent: Request) -> Response:
        seen.append(sent.headers.get(b"grpc-timeout"))
        await trio.sleep(0.3)
        raise GoAway("not processed")

    service = StreamTimeouts(LIMITS).wrap(Retry(2).wrap(inner, None), None)
    with pytest.raises(GoAway):
        await service(grpc_request(b"1S"))

    assert [b"1000m", b"700m", b"400m"] == seen


@pytest.mark.parametrize("said", [b"", b"5", b"S", b"-1S", b"999999999S", b"1x", b"\xff\xff"])
async def test_a_deadline_that_is_none_is_left_as_it_is(said: bytes, autojump_clock: MockClock) -> None:
    inner = mock_service(response())

    await StreamTimeouts(LIMITS).wrap(inner, None)(grpc_request(said))

    assert LIMITS is inner.requests[0].timeouts
    assert said == inner.requests[0].headers.get(b"grpc-timeout")


async def test_deadlines_may_be_none_of_the_proxys_business(autojump_clock: MockClock) -> None:
    inner = mock_service(response())

    await StreamTimeouts(LIMITS, grpc_deadlines=False).wrap(inner, None)(grpc_request(b"500m"))

    assert LIMITS is inner.requests[0].timeouts


@given(st.floats(0, 1e12))
def test_what_is_passed_on_is_valid_and_never_more_than_there_is(seconds: float) -> None:
    value = encode_timeout(seconds)
    assert len(value) <= 9
    read = timeout_of([(b"grpc-timeout", value)])
    assert read is not None
    assert read <= seconds + 1e-6 * max(seconds, 1.0)
