"""Which rule a request matches."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshcore.errors import ConfigError
from meshcore.http.matching import GrpcMatch, PathMatch, RequestMatch, RouteRule, ValueMatch
from meshcore.http.message import Request
from meshcore.http.regex import Regex
from meshcore.http.route_table import RouteTable
from meshcore.testing import request


def asked(path: str = "/", host: str = "a.test", method: str = "GET", **headers: str) -> Request:
    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return request(method.encode(), path.encode(), authority=host.encode(), headers=fields)


def table(*matches: RequestMatch | tuple[RequestMatch, ...], exclusive: bool = False) -> RouteTable[int]:
    """A table whose targets are the places of their rules."""
    rules = [RouteRule(place, each if isinstance(each, tuple) else (each,)) for place, each in enumerate(matches)]
    return RouteTable(rules, exclusive=exclusive)


def exact(path: str) -> PathMatch:
    return PathMatch("exact", path)


def prefix(path: str) -> PathMatch:
    return PathMatch("prefix", path)


def regex(path: str) -> PathMatch:
    return PathMatch("regex", path)


@pytest.mark.parametrize(
    ("match", "fits", "misses"),
    [
        (RequestMatch(host="a.test"), [asked(host="A.Test"), asked(host="a.test:80"), asked(host="a.test.")], "b.test"),
        (RequestMatch(host="*.test"), [asked(host="a.test"), asked(host="b.a.test")], "test"),
        (RequestMatch(host="a.test:81"), [asked(host="a.test:81")], "a.test"),
        (RequestMatch(host="*"), [asked(host=""), asked(host="[::1]:80")], None),
    ],
)
@pytest.mark.parity("R-22", "U-17")
def test_a_host_is_exact_a_suffix_or_any_in_any_case(match: RequestMatch, fits: Any, misses: str | None) -> None:
    rules = table(match)
    assert [rules.find(each) for each in fits] == [0] * len(fits)
    if misses is not None:
        assert rules.find(asked(host=misses)) is None


@pytest.mark.parametrize(
    ("match", "fits", "misses"),
    [
        (exact("/foo/bar"), ["/foo/bar", "/foo/bar?a=/b"], ["/foo/bar/", "/foo", "/foo/barr", "/Foo/bar"]),
        (prefix("/foo"), ["/foo", "/foo/", "/foo/bar", "/foo?x", "/foo//"], ["/foobar", "/fo", "/", "/a/foo"]),
        (prefix("/foo/"), ["/foo", "/foo/", "/foo/bar"], ["/foobar"]),
        (prefix("/"), ["/", "/x", "*", ""], []),
        (regex("/(foo|bar)/[0-9]+"), ["/foo/1", "/bar/22?x"], ["/foo/", "/foo/1/", "x/foo/1"]),
    ],
)
@pytest.mark.parity("R-22", "U-17")
def test_a_path_is_exact_a_prefix_by_segments_or_a_whole_pattern(
    match: PathMatch, fits: list[str], misses: list[str]
) -> None:
    rules = table(RequestMatch(path=match))
    assert [path for path in fits if rules.find(asked(path)) is None] == []
    assert [path for path in misses if rules.find(asked(path)) is not None] == []


@pytest.mark.parity("R-22", "U-17", "X-03")
def test_a_header_has_one_of_its_values_exactly_or_by_a_pattern() -> None:
    rules = table(
        RequestMatch(headers=(ValueMatch("X-Tenant", "acme"), ValueMatch("x-tier", Regex("gold|silver")))),
    )
    assert rules.find(asked(x_tenant="acme", x_tier="gold")) == 0
    assert rules.find(asked(x_tenant="acme", x_tier="golden")) is None
    assert rules.find(asked(x_tenant="Acme", x_tier="gold")) is None
    assert rules.find(asked(x_tier="gold")) is None
    twice = asked(x_tenant="other", x_tier="silver")
    twice.headers.add(b"x-tenant", b"acme")
    assert rules.find(twice) == 0


@pytest.mark.parity("R-22", "U-17")
def test_a_parameter_of_the_query_is_compared_decoded() -> None:
    rules = table(RequestMatch(query=(ValueMatch("a b", "x&y"), ValueMatch("n", Regex("[0-9]+")))))
    assert rules.find(asked("/?n=1&a+b=x%26y")) == 0
    assert rules.find(asked("/?a%20b=x%26y&n=7&n=x")) == 0
    assert rules.find(asked("/?a%20b=x&y&n=7")) is None
    assert rules.find(asked("/?n=7")) is None
    assert rules.find(asked("/")) is None
    assert rules.find(asked("/?%zz&&=&a%2")) is None


def test_a_method_is_exact() -> None:
    rules = table(RequestMatch(method="GET"))
    assert rules.find(asked()) == 0
    assert rules.find(asked(method="POST")) is None
    assert rules.find(asked(method="get")) is None


@pytest.mark.parity("R-22", "U-17")
def test_a_grpc_call_is_told_by_service_and_method() -> None:
    rules = table(
        RequestMatch(grpc=GrpcMatch(method="Get")),
        RequestMatch(grpc=GrpcMatch("a.B")),
        RequestMatch(grpc=GrpcMatch("a.B", "Get"), headers=(ValueMatch("x", "1"),)),
        RequestMatch(grpc=GrpcMatch("a.B", "Get")),
    )
    assert rules.find(asked("/a.B/Get", method="POST", x="1")) == 2
    assert rules.find(asked("/a.B/Get", method="POST")) == 3
    assert rules.find(asked("/a.B/Put", method="POST")) == 1
    assert rules.find(asked("/a.C/Get", method="POST")) == 0
    assert rules.find(asked("/a.C/Put", method="POST")) is None
    assert rules.find(asked("/a.B/Get", method="GET")) is None
    assert rules.find(asked("/Get", method="POST")) is None
    assert rules.find(asked("/a.C/x/Get", method="POST")) is None
    assert rules.find(asked("/a.BC/Put", method="POST")) is None


@pytest.mark.parity("R-23", "U-17")
def test_host_then_path_then_headers_then_query_then_method_then_order() -> None:
    one, two = ValueMatch("a", "1"), ValueMatch("b", "1")
    # From the most specific to the least; each row beats all below it for a request that all match.
    rows = [
        RequestMatch(host="x.a.test"),
        RequestMatch(host="*.a.test", path=exact("/p/q")),
        RequestMatch(host="*.a.test", path=regex("/p/.*")),
        RequestMatch(host="*.a.test", path=prefix("/p"), headers=(one, two)),
        RequestMatch(host="*.a.test", path=prefix("/p"), headers=(one,), query=(one,)),
        RequestMatch(host="*.a.test", path=prefix("/p"), headers=(one,)),
        RequestMatch(host="*.a.test", path=prefix("/p"), query=(one, two)),
        RequestMatch(host="*.a.test", path=prefix("/p"), query=(one,), method="GET"),
        RequestMatch(host="*.a.test", path=prefix("/p"), query=(one,)),
        RequestMatch(host="*.a.test", path=prefix("/p"), method="GET"),
        RequestMatch(host="*.a.test", path=prefix("/p")),
        RequestMatch(host="*.a.test"),
        RequestMatch(host="*.test", path=exact("/p/q"), headers=(one, two)),
        RequestMatch(path=exact("/p/q"), headers=(one, two), query=(one, two), method="GET"),
    ]
    sent = asked("/p/q?a=1&b=1", host="x.a.test", a="1", b="1")
    for first in range(len(rows)):
        rest = rows[first:]
        assert table(*reversed(rest)).find(sent) == len(rest) - 1
    assert table(RequestMatch(path=prefix("/p")), RequestMatch(path=prefix("/p/"))).find(sent) == 0


def test_the_rules_of_a_less_specific_host_still_match_unless_they_are_exclusive() -> None:
    rows = [RequestMatch(host="a.test", path=prefix("/v1")), RequestMatch(host="*")]
    assert table(*rows).find(asked("/v2")) == 1
    assert table(*rows, exclusive=True).find(asked("/v2")) is None
    assert table(*rows, exclusive=True).find(asked("/v2", host="b.test")) == 1


def test_a_rule_without_matches_takes_everything_and_none_nothing() -> None:
    assert table(()).find(asked("/x", host="")) == 0
    assert table().find(asked()) is None
    assert repr(table((), ())) == "RouteTable(0, 1)"
    assert repr(table(*[()] * 9)) == "RouteTable(0, 1, 2, 3, 4, 5, 6, 7, …)"


@pytest.mark.parametrize(
    "make",
    [
        lambda: RequestMatch(host="a*b"),
        lambda: RequestMatch(host="*.*.test"),
        lambda: RequestMatch(grpc=GrpcMatch("a"), method="GET"),
        lambda: GrpcMatch(),
        lambda: exact("x"),
        lambda: prefix("/a?b"),
        lambda: regex("("),
        lambda: prefix("/" + "x" * 1_024),
    ],
)
def test_what_is_no_match_is_refused(make: Any) -> None:
    with pytest.raises(ConfigError):
        make()


# ----- against a slow, obvious model -----

PATHS = st.lists(st.sampled_from(["a", "b", "ab", ""]), max_size=3).map(lambda parts: "/" + "/".join(parts))
VALUES = st.sampled_from(["1", "2", Regex("1|2"), Regex("[0-9]")])
NAMED = st.dictionaries(st.sampled_from("xy"), VALUES, max_size=2).map(
    lambda values: tuple(ValueMatch(name, value) for name, value in values.items())
)
MATCHES = st.builds(
    RequestMatch,
    host=st.sampled_from(["*", "a.test", "*.test", "*.b.test", "a.b.test", "a.test:8080"]),
    path=st.none()
    | PATHS.map(exact)
    | PATHS.map(prefix)
    | st.sampled_from(["/a.*", "/(a|b)", "/.*/ab", ".*"]).map(regex),
    headers=NAMED,
    query=NAMED,
    method=st.sampled_from([None, "GET", "POST"]),
)
REQUESTS = st.builds(
    lambda path, query, host, method, headers: asked(path + query, host, method, **headers),
    PATHS,
    st.sampled_from(["", "?", "?x=1", "?y=2&x=3", "?x=%31&y=1", "?x"]),
    st.sampled_from(["a.test", "A.TEST:80", "b.test", "a.b.test", "x.b.test", "a.test:8080", "test", ""]),
    st.sampled_from(["GET", "POST", "PUT"]),
    st.dictionaries(st.sampled_from("xy"), st.sampled_from(["1", "2", "z"]), max_size=2),
)


def same(wanted: str | Regex, value: str) -> bool:
    return bool(re.fullmatch(wanted.pattern, value)) if isinstance(wanted, Regex) else wanted == value


def rank(match: RequestMatch, sent: Request) -> tuple[Any, ...] | None:
    """How specific a match is for a request; None: it does not match."""
    host, _, port = sent.authority.decode().lower().partition(":")
    port = port or "80"
    if match.host in ("*", f"{host}:{port}", host):
        specific = {"*": 0, host: 1_000}.get(match.host, 2_000)
    elif match.host.startswith("*.") and host.endswith(match.host[1:]):
        specific = len(match.host)
    else:
        return None
    path, _, query = sent.path.decode().partition("?")
    kind, length = 0, 0
    if match.path is not None:
        value = match.path.value
        if match.path.kind == "exact":
            fits, kind, length = path == value, 3, len(value)
        elif match.path.kind == "regex":
            fits, kind, length = bool(re.fullmatch(value, path)), 2, len(path)
        else:
            segments, wanted = path.split("/"), value.rstrip("/").split("/")
            fits, kind, length = segments[: len(wanted)] == wanted, 0, len(value.rstrip("/"))
        if not fits:
            return None
    for each in match.headers:
        if not any(name.decode() == each.name and same(each.value, value.decode()) for name, value in sent.headers):
            return None
    for each in match.query:
        given = parse_qsl(query, keep_blank_values=True)
        if not any(name == each.name and same(each.value, value) for name, value in given):
            return None
    if match.method is not None and match.method != sent.method.decode():
        return None
    return specific, kind, length if kind != 2 else 0, len(match.headers), len(match.query), match.method is not None


@given(st.lists(st.lists(MATCHES, max_size=3).map(tuple), max_size=6), st.lists(REQUESTS, min_size=1, max_size=4))
@pytest.mark.parity("R-22", "R-23")
def test_the_table_finds_what_a_look_at_every_rule_finds(
    rules: list[tuple[RequestMatch, ...]], requests: list[Request]
) -> None:
    compiled = table(*rules)
    for sent in requests:
        best: tuple[Any, int | None] = ((), None)
        for place, matches in enumerate(rules):
            for match in matches or (RequestMatch(),):
                found = rank(match, sent)
                if found is not None and (best[1] is None or found > best[0]):
                    best = (found, place)
        assert compiled.find(sent) == best[1]


def test_what_is_remembered_of_authorities_is_bounded() -> None:
    rules = table(RequestMatch(host="*.test"))
    for number in range(10_000):
        assert rules.find(asked(host=f"h{number}.test")) == 0
    assert rules.find(asked(host="a" * 10_000)) is None
    assert len(rules._plain) <= 4_096


def test_a_thousand_rules_cost_as_many_steps_as_one() -> None:
    import sys

    def steps(count: int) -> int:
        rows = [RequestMatch(host=f"h{number % 10}.test", path=prefix(f"/s{number}")) for number in range(count)]
        rules = table(*rows, RequestMatch())
        sent = asked(f"/s{count - 1}/x", host=f"h{(count - 1) % 10}.test")
        assert rules.find(sent) == count - 1
        lines = 0

        def trace(frame: object, event: str, argument: object) -> Any:
            nonlocal lines
            lines += event == "line"
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            rules.find(sent)
        finally:
            sys.settrace(before)
        return lines

    assert steps(1_000) <= 1.2 * steps(1)
