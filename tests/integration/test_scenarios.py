"""Scenarios of traffic policy whole, from an application's request to what its services see and back."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from meshcore import Headers, Request, Response
from meshcore.http.body import Chunks, read_all
from meshcore.testing import MemoryMesh, mock_service, request, response
from tests.integration.test_failures import GRPC, OUTBOUND, Web, grpc, start

DISCOVERED = """
[outbound]
listen = "127.0.0.1:4140"
[outbound.to."orders:80"]
discover = "file:{path}"
[admin]
listen = "off"
"""


# ----- discovery -----


@pytest.mark.parity("X-07", "X-10", "X-14")
@pytest.mark.parametrize("version", [11, 20])
async def test_endpoints_are_learned_used_replaced_and_lost(
    version: int, tmp_path: Path, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    one, two = mock_service(200), mock_service(200)
    mesh = MemoryMesh(nursery)
    await mesh.serve(("one", 80), one)
    await mesh.serve(("two", 80), two)
    path = tmp_path / "orders.json"
    path.write_text('["one:80"]')
    await mesh.start(DISCOVERED.format(path=path))
    web = Web(mesh, {"one": one, "two": two})

    assert 200 == (await web.ask(version))[0].status
    path.write_text('["two:80"]')
    await trio.sleep(2.5)
    assert 200 == (await web.ask(version))[0].status
    assert (1, 1) == (len(one.requests), len(two.requests))

    path.write_text("[]")
    await trio.sleep(2.5)
    began = trio.current_time()
    answer, _ = await web.ask(version)
    assert (503, b"no-endpoints") == (answer.status, answer.headers.get(b"x-meshcore-error"))
    assert 3.0 == pytest.approx(trio.current_time() - began, abs=0.1)
    # From then on at once.
    assert 503 == (await web.ask(version))[0].status
    assert 3.0 == pytest.approx(trio.current_time() - began, abs=0.1)

    path.write_text('["one:80", "two:80"]')
    await trio.sleep(2.5)
    assert 200 == (await web.ask(version))[0].status
    nursery.cancel_scope.cancel()


@pytest.mark.parity("X-17", "X-66")
async def test_a_request_goes_to_the_endpoint_that_is_ready_and_later_ones_to_the_other_too(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    one, two = mock_service(200), mock_service(200)
    mesh = MemoryMesh(nursery)
    await mesh.serve(("one", 80), one)
    await mesh.start('[outbound]\nlisten = "127.0.0.1:4140"\n[outbound.to."orders:80"]\n'
                     'endpoints = ["one:80", "two:80"]\n[admin]\nlisten = "off"\n')  # fmt: skip
    web = Web(mesh, {})

    assert [200] * 20 == await web.statuses(20)
    assert 20 == len(one.requests)

    await mesh.serve(("two", 80), two)
    await trio.sleep(10.0)
    assert [200] * 40 == await web.statuses(40)
    assert len(two.requests) > 10
    nursery.cancel_scope.cancel()


# ----- retries -----


@pytest.mark.parity("X-29", "X-33", "R-06")
@pytest.mark.parametrize("version", [11, 20])
async def test_a_retry_that_the_budget_has_no_room_for_leaves_the_failure_and_is_counted(
    version: int, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    service = mock_service(lambda _: response(533, b"no"))
    web = await start(nursery, 'retry = { on = ["5xx"], budget = 0.2 }', one=service)

    answers = [await web.ask(version) for _ in range(1_000)]

    assert {(533, b"no")} == {(answer.status, body) for answer, body in answers}
    # A fifth of the requests, and what may be lent without any.
    (told,) = [each for each in await web.stack("retry") if each["requests"]]
    assert len(service.requests) == 1_000 + told["retries"]
    assert 200 <= told["retries"] <= 300
    text = web.mesh.proxies["proxy"].registry.render()
    labels = 'skipped="no_budget",direction="outbound",backend="orders:80"'
    assert f"route_retryable_total{{{labels}}} {1_000 - told['retries']}" in text
    nursery.cancel_scope.cancel()


@pytest.mark.parity("X-28", "X-30")
@pytest.mark.parametrize("method", [b"POST", b"PUT"])
@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("version", [11, 20])
async def test_a_small_body_is_sent_whole_again_with_and_without_a_length(
    method: bytes, sized: bool, version: int, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    seen = []

    async def service(sent: Request) -> Response:
        seen.append((sent.method, await read_all(sent.body)))
        return response(500 if len(seen) == 1 else 200, b"fine")

    web = await start(nursery, 'retry = { on = ["5xx"] }', one=mock_service(service))

    asked = request(method, authority=b"orders:80", version=version)
    if sized:
        asked = request(method, body=b"payload", authority=b"orders:80", version=version)
    else:
        body = asked.body = Chunks()
        body.push(b"pay")
        body.push(b"load")
        body.push_end()
    answer = await web.mesh.client(OUTBOUND)(asked)

    assert (200, b"fine") == (answer.status, await read_all(answer.body))
    assert [(method, b"payload")] * 2 == seen
    nursery.cancel_scope.cancel()


@pytest.mark.parity("X-32")
@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("version", [11, 20])
async def test_a_body_beyond_64_kib_passes_whole_and_its_failure_is_passed_on(
    sized: bool, version: int, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    seen = []

    async def service(sent: Request) -> Response:
        seen.append(len(await read_all(sent.body)))
        return response(500)

    web = await start(nursery, 'retry = { on = ["5xx"] }', one=mock_service(service))

    asked = request(b"POST", authority=b"orders:80", version=version, body=b"x" * 65_537 if sized else b"")
    if not sized:
        body = asked.body = Chunks()
        for _ in range(65):
            body.push(b"x" * 1_024)
        body.push_end()
    answer = await web.mesh.client(OUTBOUND)(asked)
    await read_all(answer.body)

    assert 500 == answer.status
    assert [65_537 if sized else 66_560] == seen
    nursery.cancel_scope.cancel()


@pytest.mark.parity("X-35")
async def test_a_thousand_failures_with_bodies_leave_the_windows_of_http2_as_they_were(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """More bytes than any window holds are thrown away, by the proxy's retries and by its client."""
    tries = 0

    async def service(sent: Request) -> Response:
        nonlocal tries
        tries += 1
        if sent.path == b"/well":
            return response(200, await read_all(sent.body))
        # The body is not read, and the answer's is what the proxy throws away.
        return response(503, b"x" * 8_192)

    web = await start(
        nursery, 'protocol = "h2c"\nretry = { on = ["5xx"], budget = 10, backoff = "1ms" }', one=mock_service(service)
    )

    client = web.mesh.client(OUTBOUND)
    for _ in range(1_000):
        asked = request(b"POST", authority=b"orders:80", version=20, body=b"y" * 4_096)
        answer = await client(asked)
        assert 503 == answer.status
        answer.body.abort()
    assert tries == 2_000

    large = b"z" * 1_000_000
    for _ in range(4):
        with trio.fail_after(60):
            answer, body = await web.ask(20, method=b"POST", path=b"/well", body=large)
        assert (200, large) == (answer.status, body)
    nursery.cancel_scope.cancel()


@pytest.mark.parity("X-36", "U-09")
@pytest.mark.parametrize(
    ("first", "calls", "expected"),
    [
        pytest.param(lambda _: Response(200, Headers([*GRPC, (b"grpc-status", b"13")])), 2, b"fine", id="headers"),
        pytest.param(lambda _: grpc(13, data=b"no"), 2, b"fine", id="trailers"),
        pytest.param(lambda _: grpc(0, data=b"first"), 1, b"first", id="success"),
        pytest.param(lambda _: grpc(5, data=b"first"), 1, b"first", id="another"),
        pytest.param(None, 1, b"onetwothree", id="frames"),
    ],
)
async def test_grpc_is_tried_again_by_its_status_and_its_messages_stay_whole(
    first: Any, calls: int, expected: bytes, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    service = mock_service(first or partial(frames, nursery), lambda _: grpc(0, data=b"fine"))
    web = await start(nursery, 'retry = { on = ["internal"] }', one=service)

    answer, body = await web.ask(20, method=b"POST", headers=GRPC, body=b"call")

    assert expected == body
    assert calls == len(service.requests)
    assert answer.body.end is not None
    nursery.cancel_scope.cancel()


def frames(nursery: trio.Nursery, _: Request) -> Response:
    """A failure that is told after three messages, each of which comes by itself."""
    body = Chunks()

    async def send() -> None:
        for message in (b"one", b"two", b"three"):
            body.push(message)
            await trio.sleep(0.1)
        body.push_end([(b"grpc-status", b"13")])

    nursery.start_soon(send)
    return Response(200, Headers(GRPC), body)


@pytest.mark.parity("U-09", "R-13")
async def test_every_try_that_is_too_slow_and_a_last_one_that_is_not_limited_is_what_the_client_waits_for(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    service = mock_service(5.0)
    web = await start(nursery, 'retry = { limit = 2, timeout = "1s", backoff = "1ms" }', one=service)

    assert [200] == await web.statuses(1)

    assert 3 == len(service.requests)
    assert 7.0 == pytest.approx(trio.current_time(), abs=0.2)
    nursery.cancel_scope.cancel()


@pytest.mark.parity("U-09", "R-13", "R-18")
async def test_the_limit_of_the_request_holds_over_all_its_tries(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    service = mock_service(30.0)
    web = await start(
        nursery,
        'retry = { limit = 9, timeout = "1s", backoff = "1ms" }\ntimeout = { request = "2500ms" }',
        one=service,
    )

    assert [504] == await web.statuses(1)

    assert 3 == len(service.requests)
    assert 2.5 == pytest.approx(trio.current_time(), abs=1.1)
    nursery.cancel_scope.cancel()


@pytest.mark.parity("U-09", "R-15")
@pytest.mark.parametrize("kind", ["http", "grpc"])
async def test_a_requests_wishes_are_removed_and_not_heeded_where_nobody_allowed_them(
    kind: str, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    if kind == "http":
        service = mock_service(500, 200)
    else:
        service = mock_service(lambda _: grpc(13), lambda _: grpc(0))
    web = await start(nursery, "retry = { limit = 0 }", one=service)
    wishes = [(b"l5d-retry-http", b"5xx"), (b"l5d-retry-grpc", b"internal"), (b"l5d-retry-limit", b"3")]

    await (web.ask(headers=wishes) if kind == "http" else web.ask(20, method=b"POST", headers=[*GRPC, *wishes]))

    (sent,) = service.requests
    assert not [name for name, _ in sent.headers.raw if name.startswith(b"l5d-retry")]
    nursery.cancel_scope.cancel()


# ----- time limits -----


@pytest.mark.parity("U-09", "R-17", "R-18")
@pytest.mark.parametrize("version", [11, 20])
@pytest.mark.parametrize("limit", ["request", "response", "idle"])
async def test_an_answer_that_takes_too_long_after_its_head_is_broken_off(
    limit: str, version: int, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    body = Chunks()
    body.push(b"begun")
    web = await start(nursery, f'timeout = {{ {limit} = "2s" }}', one=mock_service(Response(200, body=body)))

    answer = await web.mesh.client(OUTBOUND)(request(authority=b"orders:80", version=version))
    assert (200, b"begun") == (answer.status, await answer.body.receive_some())
    with pytest.raises(Exception, match=r"reset|lost|closed|ended"):
        await read_all(answer.body)

    assert 2.0 <= trio.current_time() <= 4.1
    nursery.cancel_scope.cancel()


@pytest.mark.parity("U-09", "R-17")
@pytest.mark.parametrize("version", [11, 20])
async def test_the_limit_of_the_response_begins_with_the_end_of_the_request(
    version: int, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def service(sent: Request) -> Response:
        return response(200, await read_all(sent.body))

    web = await start(nursery, 'timeout = { response = "2s" }', one=mock_service(service))
    body = Chunks()
    asked = request(b"POST", authority=b"orders:80", version=version)
    asked.body = body

    async def upload() -> None:
        for _ in range(5):
            body.push(b"x")
            await trio.sleep(1.5)
        body.push_end()

    nursery.start_soon(upload)
    answer = await web.mesh.client(OUTBOUND)(asked)

    assert (200, b"xxxxx") == (answer.status, await read_all(answer.body))
    assert trio.current_time() > 7.0
    nursery.cancel_scope.cancel()


@pytest.mark.parity("X-34", "R-21")
async def test_a_request_that_took_too_long_is_a_failure_by_timeout_in_the_metrics(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    web = await start(nursery, 'timeout = { request = "1s" }', one=mock_service(30.0))

    assert [504] == await web.statuses(1)

    text = web.mesh.proxies["proxy"].registry.render()
    failures = [line for line in text.splitlines() if line.startswith("response_total") and "failure" in line]
    assert failures
    assert all('error="timeout"' in line or 'status_code="504"' in line for line in failures), failures
    nursery.cancel_scope.cancel()


# ----- classification -----


@pytest.mark.parity("X-46", "X-47")
@pytest.mark.parametrize("side", ["inbound", "outbound"])
async def test_requests_and_responses_are_counted_and_classified_by_status_on_each_side(
    side: str, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    mesh = MemoryMesh(nursery)
    statuses = [200, 204, 301, 404, 499, 500, 503, 599]
    await mesh.serve(("one", 80), mock_service(*statuses))
    if side == "inbound":
        text = '[inbound]\nlisten = "127.0.0.1:4140"\nforward = "one:80"\n'
    else:
        text = '[outbound]\nlisten = "127.0.0.1:4140"\n[outbound.to."orders:80"]\nendpoints = ["one:80"]\n'
    proxy = await mesh.start(text + '[admin]\nlisten = "off"\n')
    web = Web(mesh, {})

    assert statuses == await web.statuses(len(statuses))

    lines = proxy.registry.render().splitlines()
    requests = [line for line in lines if line.startswith("request_total{") and f'direction="{side}"' in line]
    assert sum(float(line.rpartition(" ")[2]) for line in requests) == len(statuses)
    told = {}
    for line in lines:
        if line.startswith("response_total{") and f'direction="{side}"' in line:
            status = int(line.partition('status_code="')[2][:3])
            told[status] = "failure" if 'classification="failure"' in line else "success"
            assert line.endswith(" 1")
    assert {status: "failure" if status >= 500 else "success" for status in statuses} == told
    nursery.cancel_scope.cancel()


# ----- what comes in -----


@pytest.mark.parity("U-04", "B-19")
@pytest.mark.parametrize("version", [11, 20])
async def test_an_application_that_takes_no_connection_is_a_504_that_says_nothing_to_strangers(
    version: int, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    mesh = MemoryMesh(nursery)
    await mesh.serve(("one", 80), mock_service(lambda _: response(200, b"hello")))
    await mesh.start('[inbound]\nlisten = "127.0.0.1:4140"\nforward = "one:80"\n[admin]\nlisten = "off"\n')
    web = Web(mesh, {})
    application = mesh.network.faults(("one", 80))

    application.connect = "black-hole"
    answer, _ = await web.ask(version)
    assert (504, {b"content-length"}) == (answer.status, {name for name, _ in answer.headers.raw})
    assert trio.current_time() < 5.0

    application.connect = "accept"
    await trio.sleep(60.0)
    answer, body = await web.ask(version)
    assert (200, b"hello") == (answer.status, body)
    nursery.cancel_scope.cancel()


@pytest.mark.parity("R-39")
async def test_bytes_that_no_route_takes_are_closed_and_reach_nobody(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    mesh = MemoryMesh(nursery)
    service = mock_service(200)
    await mesh.serve(("one", 80), service)
    await mesh.start(
        '[listen.public]\nbind = "127.0.0.1:4140"\n[[listen.public.route]]\nmatch = [{ path = { prefix = "/api" } }]\n'
        'to = [{ backend = "one" }]\n[backend.one]\nendpoints = ["one:80"]\n[admin]\nlisten = "off"\n'
    )

    stream = await mesh.network.open_stream(OUTBOUND)
    await stream.send_all(b"\x00\x01 no http at all\r\n\r\n")
    with trio.fail_after(5):
        try:
            assert b"" == await stream.receive_some()
        except trio.BrokenResourceError:
            pass
    assert ("one", 80) not in mesh.network.connects
    nursery.cancel_scope.cancel()


# ----- windows -----


@pytest.mark.parity("U-20")
async def test_streams_that_nobody_reads_hold_up_no_other_stream_of_their_connections(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    large = b"x" * 1_000_000
    web = await start(nursery, 'protocol = "h2c"', one=mock_service(lambda _: response(200, large)))
    client = web.mesh.client(OUTBOUND)

    held = [await client(request(authority=b"orders:80", version=20)) for _ in range(50)]
    await trio.testing.wait_all_tasks_blocked()
    with trio.fail_after(60):
        answer = await client(request(authority=b"orders:80", version=20))
        assert large == await read_all(answer.body)

    # One connection on each side for them all.
    assert {OUTBOUND: 1, ("one", 80): 1} == web.mesh.network.connects
    for each in held:
        with trio.fail_after(60):
            assert large == await read_all(each.body)
    nursery.cancel_scope.cancel()
