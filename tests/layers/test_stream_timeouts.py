"""StreamTimeouts: what a request is told about the limits of its exchange."""

from __future__ import annotations

from meshcore.http.message import Timeouts
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
