"""Route: which backend."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
import trio
from hypothesis import strategies as st
from trio.testing import MockClock

from meshcore.errors import ConfigError, LoadShedError, NoRoute
from meshcore.http.matching import PathMatch, RequestMatch, RouteRule
from meshcore.http.message import Request, Response
from meshcore.http.route_table import RouteTable
from meshcore.layers.idle_cache import IdleCache
from meshcore.layers.route import Route
from meshcore.testing import MockNewService, request
from meshcore.transport.target import Accepted, Backend, Endpoint, HttpRoute


class Named:
    """Makes services that answer with the backend's name in the header ``backend``."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def new_service(self, backend: Backend | HttpRoute, nursery: trio.Nursery, /) -> Any:
        self.made.append(backend.name)

        async def inner(sent: Request) -> Response:
            answer = Response(200)
            answer.headers.add(b"backend", backend.name.encode())
            return answer

        return inner


TABLE = {
    "a.example": Backend("exact"),
    "a.example:8080": Backend("port"),
    "tls.example:443": Backend("https"),
    "*.example": Backend("suffix"),
    "*.b.example": Backend("longer"),
    "[::1]:80": Backend("six"),
    "*": Backend("all"),
}


async def who(service: Any, authority: bytes, scheme: bytes = b"http") -> str:
    sent = request(authority=authority)
    sent.scheme = scheme
    answer = await service(sent)
    return str(answer.headers.get(b"backend").decode())


@pytest.mark.parametrize(
    ("authority", "expected"),
    [
        (b"a.example", "exact"),
        (b"A.Example", "exact"),
        (b"a.example.", "exact"),
        (b"a.example:80", "exact"),
        (b"a.example:8080", "port"),
        (b"a.example:9090", "exact"),
        (b"b.example", "suffix"),
        (b"x.b.example", "longer"),
        (b"y.x.b.example:1", "longer"),
        (b"example", "all"),
        (b"notexample", "all"),
        (b"[::1]", "six"),
        (b"[::1]:80", "six"),
        (b"[::2]:80", "all"),
        (b"", "all"),
        (b"." * 300, "all"),
        (b"a." * 40_000, "all"),
        (b"\xff\xfe", "all"),
    ],
)
async def test_the_most_specific_pattern_wins(authority: bytes, expected: str, nursery: trio.Nursery) -> None:
    service = Route(TABLE).layer(Named()).new_service(Accepted(), nursery)

    for _ in range(2):
        assert expected == await who(service, authority)


async def test_the_schemes_port_is_the_default(nursery: trio.Nursery) -> None:
    service = Route(TABLE).layer(Named()).new_service(Accepted(), nursery)

    assert "suffix" == await who(service, b"tls.example")
    assert "https" == await who(service, b"tls.example", b"https")
    assert "https" == await who(service, b"tls.example:443")


@pytest.mark.parity("R-24")
async def test_a_request_that_nothing_matches_is_a_404(nursery: trio.Nursery) -> None:
    service = Route({"a.example": "10.0.0.1:80"}).layer(Named()).new_service(Accepted(), nursery)

    for authority, text in ((b"b.example", "b.example"), (b"", "nowhere")):
        with pytest.raises(NoRoute, match=f"no route found for request to {text}") as caught:
            await who(service, authority)
        assert (404, 5) == (caught.value.status_hint, caught.value.grpc_hint)


async def test_a_backends_service_is_made_once_whoever_asks(nursery: trio.Nursery) -> None:
    named = Named()
    new = Route({"*": "10.0.0.1:80", "b": "10.0.0.2:80"}).layer(named)

    for port in range(5):
        service = new.new_service(Accepted(peer=("10.1.1.1", port)), nursery)
        await who(service, b"a")
        await who(service, b"b")

    assert ["10.0.0.1:80", "10.0.0.2:80"] == named.made
    assert {"10.0.0.1:80", "10.0.0.2:80"} == set(service.services())

    async with trio.open_nursery() as other:
        await who(new.new_service(Accepted(), other), b"a")
    assert 3 == len(named.made)


def test_backends_may_be_written_as_addresses() -> None:
    backend = Backend("users.internal:8080", (Endpoint(("users.internal", 8080)),))
    assert {"*": backend} == Route("users.internal:8080").routes == Route(backend).routes
    route = Route({"*": ["10.0.0.1:80", "h2c://[::1]:81"], "A.Example": "http1://b:1"})
    assert route.routes == {  # type: ignore[comparison-overlap]
        "*": Backend("10.0.0.1:80, h2c://[::1]:81", (Endpoint(("10.0.0.1", 80)), Endpoint(("::1", 81), "h2"))),
        "a.example": Backend("http1://b:1", (Endpoint(("b", 1), "http/1"),)),
    }
    assert "Route(routes={'*': 'users.internal:8080'})" == repr(Route({"*": "users.internal:8080"}))


@pytest.mark.parametrize("wrong", [{"*": "nowhere"}, {"a.*": "a:1"}, {"**": "a:1"}, {"*": "https://a"}, "a:99999"])
def test_what_is_no_route_is_refused_when_it_is_written(wrong: Any) -> None:
    with pytest.raises(ConfigError):
        Route(wrong)


# ----- functions -----


def by_path(sent: Request) -> Backend | None:
    name = sent.path.decode().strip("/")
    return Backend(name) if name else None


async def test_a_function_may_choose(nursery: trio.Nursery) -> None:
    named = Named()
    service = Route(by_path).layer(named).new_service(Accepted(), nursery)

    for path in (b"/a", b"/b", b"/a"):
        assert path.strip(b"/") == (await service(request(path=path))).headers.get(b"backend")
    with pytest.raises(NoRoute):
        await service(request(path=b"/"))

    assert ["a", "b"] == named.made
    assert "Route(routes=by_path)" == repr(Route(by_path))


async def test_a_function_cannot_name_more_backends_than_the_limit(nursery: trio.Nursery) -> None:
    service = Route(by_path, limit=3).layer(Named()).new_service(Accepted(), nursery)
    for path in (b"/a", b"/b", b"/c"):
        await service(request(path=path))

    with pytest.raises(LoadShedError):
        await service(request(path=b"/d"))
    assert 200 == (await service(request(path=b"/a"))).status


async def test_backends_that_an_idle_cache_has_stopped_make_room(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    inner: Any = IdleCache(10.0).layer(MockNewService[Backend]())
    service = Route(by_path, limit=3).layer(inner).new_service(Accepted(), nursery)
    for path in (b"/a", b"/b", b"/c"):
        await service(request(path=path))
    await trio.sleep(20)

    for path in (b"/d", b"/e", b"/f"):
        assert 200 == (await service(request(path=path))).status


@hypothesis.given(st.binary(max_size=300))
@hypothesis.settings(max_examples=100)
def test_any_authority_is_routed_or_refused(authority: bytes) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            service = Route({"*.b": Backend("b"), "*": Backend("all")}).layer(Named()).new_service(Accepted(), nursery)
            assert await who(service, authority) in ("b", "all")

    trio.run(main)


async def test_authorities_from_outside_are_not_remembered_without_bound(nursery: trio.Nursery) -> None:
    service: Any = Route({"*": Backend("all")}).layer(Named()).new_service(Accepted(), nursery)
    for number in range(10_000):
        await who(service, b"%d.test" % number)
    assert len(service._plain) <= 4_096


@pytest.mark.parity("R-24", "X-02")
async def test_a_table_of_rules_sends_to_the_service_of_the_rule_that_matches(nursery: trio.Nursery) -> None:
    one, two = HttpRoute("one"), HttpRoute("two")
    table = RouteTable(
        [
            RouteRule(one, (RequestMatch(path=PathMatch("prefix", "/a")), RequestMatch(host="b.test"))),
            RouteRule(two, (RequestMatch(path=PathMatch("exact", "/a/b")),)),
        ]
    )
    made = Named()
    route = Route(table)
    service = route.layer(made).new_service(Accepted(), nursery)

    async def who(path: bytes, authority: bytes = b"a.test") -> bytes | None:
        return (await service(request(path=path, authority=authority))).headers.get(b"backend")

    assert [await who(b"/a/x"), await who(b"/a/b"), await who(b"/", b"b.test")] == [b"one", b"two", b"one"]
    with pytest.raises(NoRoute, match=r"no route found for request to a\.test") as caught:
        await who(b"/b")
    assert (caught.value.status_hint, caught.value.grpc_hint) == (404, 5)
    # One stack for a rule's target, whichever of its matches it was.
    assert made.made == ["one", "two"]
    assert repr(route) == "Route(routes=RouteTable(one, two))"
    assert set(service.services()) == {"one", "two"}
