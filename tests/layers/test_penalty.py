"""Answers that say "not now" make an endpoint look slow (B-07)."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import hypothesis
import pytest
import trio
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from meshcore.http.body import Full, read_all
from meshcore.http.headers import Headers
from meshcore.http.message import Request, Response
from meshcore.http.retry_after import retry_after
from meshcore.layers.balance import Balance, Balancing, PeakEwma, PenaltyPeakEwma
from meshcore.layers.balance.penalty import not_now
from meshcore.testing import request
from meshcore.transport.target import Backend, Endpoint

A, B = (Endpoint((host, 8080)) for host in ("10.0.0.1", "10.0.0.2"))


def answer(status: int, **fields: str) -> Response:
    return Response(
        status, Headers([(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()])
    )


# ----- which answers -----


@pytest.mark.parity("B-07", "U-14")
@pytest.mark.parametrize(
    ("status", "fields", "want"),
    [
        (200, {}, None),
        (404, {"retry_after": "7"}, None),
        (429, {}, 0.0),
        (429, {"retry_after": "7"}, 7.0),
        (503, {"retry_after": "7"}, 7.0),
        (500, {"retry_after": "7"}, 0.0),
        (502, {}, 0.0),
        (599, {}, 0.0),
        (503, {"retry_after": "soon"}, 0.0),
        (503, {"retry_after": "-7"}, 0.0),
        (503, {"retry_after": "9" * 40}, float("9" * 16)),
        (503, {"retry_after": "Fri, 31 Dec 1999 23:59:59 GMT", "date": "Fri, 31 Dec 1999 23:59:19 GMT"}, 40.0),
        (503, {"retry_after": "Fri, 31 Dec 1999 23:59:59 GMT", "date": "Sat, 01 Jan 2000 23:59:19 GMT"}, 0.0),
        (503, {"retry_after": "Fri, 31 Dec 1999 23:59:59 GMT"}, 0.0),
        (503, {"retry_after": "Fri, 99 Dec 1999 23:59:59 GMT", "date": "Fri, 31 Dec 1999 23:59:19 GMT"}, 0.0),
        (200, {"grpc_status": "0"}, None),
        (200, {"grpc_status": "5"}, None),
        *[(200, {"grpc_status": code}, 0.0) for code in ("2", "4", "8", "13", "14", "15")],
        (200, {"grpc_status": "8", "grpc_retry_pushback_ms": "1500"}, 1.5),
        (200, {"grpc_status": "14", "grpc_retry_pushback_ms": "-1"}, 0.0),
        (200, {"grpc_status": "14", "retry_after": "9"}, 0.0),
    ],
)
def test_answers_that_say_not_now_and_for_how_long(status: int, fields: dict[str, str], want: float | None) -> None:
    assert want == not_now(answer(status, **fields))


@hypothesis.given(st.binary(max_size=80), st.binary(max_size=80))
def test_any_bytes_are_a_time_from_now_on(value: bytes, date: bytes) -> None:
    assert 0.0 <= retry_after(Headers([(b"retry-after", value), (b"date", date)]))


# ----- what they do to the load -----


@pytest.mark.parity("B-07", "U-14")
@hypothesis.given(st.lists(st.tuples(st.floats(0.01, 20), st.floats(0.001, 400), st.booleans()), max_size=20))
def test_a_penalty_is_never_less_than_what_was_measured_and_decays_like_it(
    steps: list[tuple[float, float, bool]],
) -> None:
    plain, punished = PeakEwma().start(0.0), PenaltyPeakEwma().start(0.0)
    now = 0.0
    for passed, seconds, bad in steps:
        plain.begin(now)
        punished.begin(now)
        started, now = now, now + passed
        plain.end(now, started, True)
        if bad:
            punished.penalise(now, started, seconds)
            assert punished.rtt >= min(seconds, 400) * 0.999
        else:
            punished.end(now, started, True)
        assert punished.rtt >= plain.rtt * 0.999
        assert plain.pending == punished.pending == 0


class Peers:
    """Endpoints that answer at once, each with what the test says."""

    def __init__(self) -> None:
        self.answers: dict[Endpoint, Response] = {}

    def new_service(self, endpoint: Endpoint, nursery: trio.Nursery, /) -> Any:
        async def serve(sent: Request) -> Response:
            await trio.sleep(0.01)
            told = self.answers.get(endpoint)
            return Response(200, body=Full(b"x")) if told is None else Response(told.status, told.headers.copy())

        return serve


async def shares(service: Any, seconds: float, rate: float = 50.0) -> Counter[Endpoint | None]:
    seen: Counter[Endpoint | None] = Counter()
    for _ in range(int(seconds * rate)):
        sent = request()
        await read_all((await service(sent)).body)
        seen[sent.endpoint] += 1
        await trio.sleep(1 / rate)
    return seen


@pytest.mark.parity("B-07")
async def test_an_endpoint_that_fails_quickly_is_avoided_for_as_long_as_its_penalty_lasts(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    peers = Peers()
    balance = Balance(policy="p2c-penalty-ewma", rng=random.Random(1))
    service: Any = balance.layer(peers).new_service(Backend("web", (A, B)), nursery)
    await wait_all_tasks_blocked()
    await shares(service, 2)

    peers.answers[A] = answer(503)
    seen = await shares(service, 20)
    assert seen[A] <= 3
    told = service.statistics().endpoints
    assert 4.0 < next(each.rtt for each in told if each.address == A.address) <= 5.0
    assert [0] * 2 == [each.pending for each in told]

    del peers.answers[A]
    await shares(service, 60)
    seen = await shares(service, 10)
    assert abs(seen[A] / seen.total() - 0.5) < 0.1


@pytest.mark.parity("B-07", "U-14")
@pytest.mark.parametrize(("asked", "want"), [("60", 60.0), ("1", 5.0), ("100000", 300.0)])
async def test_an_endpoint_is_left_alone_for_as_long_as_it_asks_within_bounds(
    nursery: trio.Nursery, autojump_clock: MockClock, asked: str, want: float
) -> None:
    peers = Peers()
    peers.answers[A] = answer(429, retry_after=asked)
    balancing = Balancing("p2c-ewma", PenaltyPeakEwma())
    service: Any = Balance(policy=balancing).layer(peers).new_service(Backend("web", (A,)), nursery)
    await wait_all_tasks_blocked()

    await shares(service, 0.02)

    (only,) = service.statistics().endpoints
    assert want == pytest.approx(only.rtt)
