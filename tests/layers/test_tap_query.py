"""What a query string asks of a tap, and what is said of one that is wrong."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import hypothesis
import pytest
from hypothesis import strategies as st

from meshcore.errors import ConfigError
from meshcore.http.message import Request
from meshcore.http.regex import Regex
from meshcore.layers.tap import KINDS, TapFilter, TapQuery, parse_query
from meshcore.layers.tap.filter import Whom


def test_an_empty_query_asks_for_everything_at_a_bounded_rate() -> None:
    found = parse_query("")
    assert TapQuery(filter=TapFilter(), rate=100.0, limit=None, seconds=None) == found
    assert frozenset(KINDS) == found.filter.events


def test_every_parameter_is_understood() -> None:
    query = urlencode(
        {
            "direction": "outbound",
            "from": "10.0.0.0/8,web.shop",
            "to": "users:80",
            "identity": "*.shop",
            "route": "v1",
            "backend": "users",
            "method": "GET,POST",
            "scheme": "http",
            "authority": "a.test",
            "path": "/a,b",
            "path_regex": "/a.*",
            "status": "5xx,404",
            "grpc_status": "unavailable,2",
            "events": "response_end",
            "slower_than": "250ms",
            "failed": "1",
            "headers": "x-a,X-B",
            "rate": "5",
            "limit": "7",
            "seconds": "30",
        }
    )
    expected = TapFilter(
        direction="outbound",
        source=["10.0.0.0/8", "web.shop"],
        target="users:80",
        identity="*.shop",
        route="v1",
        backend="users",
        method=["GET", "POST"],
        scheme="http",
        authority="a.test",
        path="/a,b",
        path_regex=Regex("/a.*"),
        status=["5xx", "404"],
        grpc_status=["unavailable", "2"],
        events="response_end",
        slower_than=0.25,
        failed=True,
        headers=["x-a", "x-b"],
    )
    assert TapQuery(filter=expected, rate=5, limit=7, seconds=30.0) == parse_query(query)


@pytest.mark.parametrize(
    ("query", "field", "value"),
    [
        ("headers=1", "headers", True),
        ("headers=", "headers", True),
        ("headers=0", "headers", False),
        ("headers=x-a&headers=x-b", "headers", frozenset({b"x-a", b"x-b"})),
        ("failed", "failed", True),
        ("failed=no", "failed", False),
        ("method=GET&method=PUT", "method", frozenset({b"GET", b"PUT"})),
        ("path=/a/", "path", (b"/a",)),
        ("path=/", "path", (b"/",)),
        ("status=2xx", "status", ((200, 299),)),
    ],
)
def test_there_is_more_than_one_way_to_say_it(query: str, field: str, value: Any) -> None:
    assert value == getattr(parse_query(query).filter, field)


def test_every_mistake_is_told_with_what_may_have_been_meant() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_query(
            "metod=GET&from=10.0.0.1/8&to=http://x&path=v1&path_regex=(&status=6xx&grpc_status=lost&direction=in"
            "&slower_than=250&failed=maybe&rate=0&limit=-1&seconds=2d&events=end&route=&rate=5"
        )
    assert [
        "metod: there is no such parameter; did you mean 'method'?",
        "rate: is there 2 times",
        "from: '10.0.0.1/8' is no address or network; did you mean '10.0.0.0/8'?",
        "to: 'http://x' has a scheme: an address, a network or a name is wanted",
        "path: 'v1' is not a path: it begins with /",
        "status: '6xx' is no status such as 503, 500-599 or 5xx",
        "grpc_status: 'lost' is no gRPC status such as unavailable or 14",
        "direction: 'in' is neither inbound nor outbound",
        "events: 'end' is no event: request_init, response_init, response_end are",
        "route: a value is empty",
        "PATH_REGEX",
        "slower_than: '250' has no unit; did you mean '250ms'?",
        "failed: 'maybe' is neither 1 nor 0",
        "limit: '-1' is not a whole number from 1 to 1000000000",
        "seconds: '2d' is not from 1ms to a day",
    ] == ["PATH_REGEX" if problem.startswith("path_regex: '('") else problem for problem in caught.value.problems]


def test_a_parameter_like_no_other_is_answered_with_all_of_them() -> None:
    with pytest.raises(ConfigError, match="zzz: there is no such parameter; there are direction, from, to, "):
        parse_query("zzz=1")


@pytest.mark.parametrize("query", ["path=/" + "x" * 9_000, "&".join(["method=GET"] * 200)])
def test_a_query_is_bounded(query: str) -> None:
    with pytest.raises(ConfigError, match="the query"):
        parse_query(query)


@hypothesis.given(st.text(max_size=200))
def test_any_query_is_understood_or_refused(query: str) -> None:
    try:
        parse_query(query)
    except ConfigError as error:
        assert error.problems


@hypothesis.given(st.dictionaries(st.sampled_from(["from", "to", "identity", "authority"]), st.text(max_size=80)))
def test_any_end_is_understood_or_refused(given: dict[str, str]) -> None:
    try:
        parse_query(urlencode(given))
    except ConfigError as error:
        assert error.problems


@pytest.mark.parametrize(
    ("text", "address", "fits"),
    [
        ("10.0.0.1", ("10.0.0.1", 80), True),
        ("10.0.0.1", ("::ffff:10.0.0.1", 80), True),
        ("10.0.0.1:81", ("10.0.0.1", 80), False),
        ("fd00::/8", ("fd00::1%eth0", 80), True),
        ("[fd00::1]:80", ("fd00::1", 80), True),
        ("[fd00::1]", ("fd00::2", 80), False),
        ("*:80", ("fd00::1", 80), True),
        ("*", ("x", 1), True),
        ("*", None, True),
        ("10.0.0.1", ("a-name", 80), False),
        ("10.0.0.1", None, False),
        ("a-name", ("a-name", 80), False),
    ],
)
def test_addresses_are_compared_as_addresses(text: str, address: Any, fits: bool) -> None:
    assert fits == Whom.parse(text).is_at(address)


@pytest.mark.parametrize(
    ("text", "name", "fits"),
    [
        ("web.shop", "WEB.shop.", True),
        ("web.shop:80", "web.shop:80", True),
        ("web.shop:80", "web.shop:81", False),
        ("web.shop:80", "web.shop", True),
        ("*.shop", "web.shop:80", True),
        ("*.shop", ".shop", False),
        ("*.shop", "shop", False),
        ("spiffe://a/b", "spiffe://a/b", True),
        ("spiffe://a/b", "spiffe://a/B", False),
        ("web.shop", None, False),
        ("10.0.0.1", "10.0.0.1", False),
    ],
)
def test_names_are_compared_as_names(text: str, name: str | None, fits: bool) -> None:
    assert fits == Whom.parse(text).is_named(name)


@pytest.mark.parametrize(
    "text",
    ["", "10.0.0.256", "a b", "a*b", "*.a.*", "http://a", "a:99999", "1:2:3/200", f"a:{'9' * 5_000}"],
)
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        Whom.parse(text)


@pytest.mark.parametrize("authority", [b"web.shop:\xb2", b"web.shop:" + b"9" * 5_000, b"\xff", b":", b""])
@pytest.mark.parametrize("wanted", ["web.shop:80", ":80", "10.0.0.1:80", "*.shop:80"])
def test_any_authority_fits_or_does_not(authority: bytes, wanted: str) -> None:
    asked = Request(b"GET", b"http", authority, b"/")
    assert not TapFilter(authority=wanted).wants_request(asked, "inbound")
    assert not TapFilter(target=wanted).wants_response(asked, authority, 200)
