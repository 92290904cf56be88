"""Timeout: the wait for response headers."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from meshcore.errors import ResponseTimeout
from meshcore.http.body import Chunks
from meshcore.http.message import Request, Response
from meshcore.layers.timeout import Timeout
from meshcore.testing import mock_service, request, response
from meshcore.transport.target import Endpoint


async def test_headers_that_do_not_come_in_time_are_a_504_that_keeps_the_connection(autojump_clock: MockClock) -> None:
    inner = mock_service(5.0, response())
    before = trio.current_time()

    with pytest.raises(ResponseTimeout, match=r"^no response headers within 2 s$") as caught:
        await Timeout(2.0).wrap(inner, None)(request())

    assert pytest.approx(2.0) == trio.current_time() - before
    assert (504, 4, False) == (caught.value.status_hint, caught.value.grpc_hint, caught.value.closes)
    assert 1 == inner.cancelled


async def test_the_message_names_the_endpoint_that_was_waited_for(autojump_clock: MockClock) -> None:
    async def inner(sent: Request) -> Response:
        sent.endpoint = Endpoint(("10.0.0.7", 80))
        await trio.sleep_forever()

    with pytest.raises(ResponseTimeout, match=r"^endpoint 10\.0\.0\.7:80: no response headers within 0\.5 s$"):
        await Timeout(0.5).wrap(inner, None)(request())


async def test_a_body_may_take_as_long_as_it_likes(autojump_clock: MockClock) -> None:
    body = Chunks()
    answer = await Timeout(1.0).wrap(mock_service(0.5, Response(200, body=body)), None)(request())

    await trio.sleep(100)
    body.push(b"late")

    assert b"late" == await answer.body.receive_some()


async def test_being_cancelled_from_outside_is_not_a_timeout(autojump_clock: MockClock) -> None:
    with trio.move_on_after(1.0) as scope:
        await Timeout(2.0).wrap(mock_service(9.0), None)(request())
    assert scope.cancelled_caught


def test_without_a_limit_it_is_not_there() -> None:
    inner = mock_service()

    assert Timeout().wrap(inner, None) is inner
    assert Timeout(lambda target: None).wrap(inner, "slow") is inner
    assert Timeout(lambda target: {"quick": 1.0}[target]).wrap(inner, "quick") is not inner


def test_a_limit_is_above_zero() -> None:
    for limit in (0, -1.0):
        with pytest.raises(ValueError, match="above 0"):
            Timeout(limit)
    with pytest.raises(ValueError, match="above 0"):
        Timeout(lambda target: 0.0).wrap(mock_service(), None)
    assert "Timeout(seconds=1.5)" == repr(Timeout(1.5))
