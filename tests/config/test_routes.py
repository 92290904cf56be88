"""Routes of a config file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from meshcore.config import (
    DelayConfig,
    FailureConfig,
    FilterConfig,
    GrpcConfig,
    Loaded,
    PathConfig,
    RetryConfig,
    RewriteConfig,
    TimeoutConfig,
    ValueConfig,
)
from meshcore.config.schema import schema
from meshcore.config.show import config_toml
from meshcore.pipeline.routes import plain_hosts

Look = Callable[..., Loaded]

ROUTES = """\
[listen.public]
bind = "127.0.0.1:0"
to = [
  { backend = "stable", weight = 90 },
  { backend = "canary", weight = 10, filters = [{ set_request_headers = { x-a = "1" } }] },
]

[[listen.public.route]]
name = "api"
match = [
  { host = "API.example.com", path = { prefix = "/v1" }, headers = { X-Tenant = { regex = "a.*" }, x-b = "1" } },
  { query = { page = "2" }, method = "POST" },
  { grpc = { service = "shop.Orders", method = "Get" } },
]
filters = [
  { add_request_headers = { x-a = "1" }, set_request_headers = { x-b = "2" }, remove_request_headers = ["x-c"] },
  { add_response_headers = { x-a = "1" }, set_response_headers = { x-b = "2" }, remove_response_headers = ["x-c"] },
  { rewrite = { host = "inner:81", prefix = "/v2" } },
  { inject_delay = { duration = "500ms", ratio = 0.1 }, inject_failure = { grpc_status = "UNAVAILABLE", ratio = 0.5 } },
  { redirect = { scheme = "https", host = "example.com", port = 8443, path = "/x", status = 307 } },
  { mirror = { backend = "canary", ratio = 0.5 } },
]
timeout = { request = "3s" }
retry = { limit = 0 }
to = [{ backend = "stable" }]

[backend.stable]
endpoints = ["10.0.0.11:8080"]
[backend.canary]
endpoints = ["10.0.0.12:8080"]
[inbound]
forward = "127.0.0.1:1"
[[inbound.route]]
match = [{ path = { exact = "/" } }, { path = { regex = "/[a-z]+" } }]
[outbound.to."a:80"]
endpoints = ["10.0.0.1:80"]
[[outbound.to."a:80".route]]
to = [{ weight = 1 }, { backend = "canary", weight = 3 }]
"""


def test_routes_become_what_they_say(look: Look) -> None:
    loaded = look(ROUTES)
    assert loaded.problems == ()
    config = loaded.config
    assert config is not None
    gateway = config.listen["public"]
    assert [(each.backend, each.weight) for each in gateway.to] == [("stable", 90), ("canary", 10)]
    route = gateway.route[0]
    first, second, third = route.match
    assert (first.host, first.path) == ("api.example.com", PathConfig(prefix="/v1"))
    assert first.headers == {"x-tenant": ValueConfig(regex="a.*"), "x-b": ValueConfig(exact="1")}
    assert (second.query, second.method) == ({"page": ValueConfig(exact="2")}, "POST")
    assert third.grpc == GrpcConfig(service="shop.Orders", method="Get")
    assert route.filters[2].rewrite == RewriteConfig(host="inner:81", prefix="/v2")
    assert route.filters[3] == FilterConfig(
        inject_delay=DelayConfig(duration=0.5, ratio=0.1), inject_failure=FailureConfig(grpc_status=14, ratio=0.5)
    )
    assert (route.timeout, route.retry) == (TimeoutConfig(request=3.0), RetryConfig(limit=0))
    assert plain_hosts(gateway) is None
    assert config.outbound is not None
    assert [(each.backend, each.weight) for each in config.outbound.to["a:80"].route[0].to] == [
        (None, 1),
        ("canary", 3),
    ]


def test_routes_are_shown_as_they_load(look: Look) -> None:
    config = look(ROUTES).config
    assert config is not None
    assert look(config_toml(config)).config == config


def test_routes_are_as_the_schema_says(look: Look) -> None:
    """Every key of the file is one of the schema's, in the table that it says."""
    import tomllib

    whole = schema()

    def follow(value: object, rule: dict[str, Any], path: str) -> None:
        if "$ref" in rule:
            rule = whole["$defs"][rule["$ref"].rpartition("/")[2]]
        if "anyOf" in rule and isinstance(value, dict):
            return follow(value, next(each for each in rule["anyOf"] if "$ref" in each), path)
        if isinstance(value, dict):
            for key, item in value.items():
                inner = rule.get("properties", {}).get(key) or rule.get("additionalProperties")
                assert inner, f"{path}.{key}"
                follow(item, inner, f"{path}.{key}")
        elif isinstance(value, list):
            for item in value:
                follow(item, rule["items"], path)

    follow(tomllib.loads(ROUTES), whole, "")


def test_filters_can_be_added_to_a_pipeline_as_layers(look: Look) -> None:
    text = ROUTES.replace(
        "[backend.stable]",
        """[[listen.public.layer]]
use = "request_headers"
before = "retry"
set = { x-a = "1" }
drop = ["x-b"]

[[listen.public.layer]]
use = "inject_failure"
after = "rescue"
status = 503
ratio = 0.5

[backend.stable]""",
    )
    config = look(text).config
    assert config is not None
    assert [repr(edit.layer) for edit in config.listen["public"].layer] == [
        "RequestHeaders(set=(('x-a', '1'),), drop=('x-b',))",
        "InjectFailure(status=503, grpc_status=None, message='injected failure', ratio=0.5)",
    ]
    wrong = text.replace('set = { x-a = "1" }', 'set = { te = "1" }').replace("status = 503", "status = 200")
    assert [str(problem) for problem in look(wrong).problems] == [
        "c.toml:27: listen.public.layer[0]: 'te' says how messages are framed: it cannot be changed",
        "c.toml:33: listen.public.layer[1]: status 200 is not one from 400 to 599",
    ]


def route(text: str) -> str:
    """A listener whose one route, from line 5 on, says *text*."""
    return (
        f'[listen.p]\nbind = ":1"\n[[listen.p.route]]\nto = [{{backend = "x"}}]\n{text}\n'
        '[backend.x]\nendpoints = ["a:1"]'
    )


ROUTE = "c.toml:5: listen.p.route[0]."


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (route('match = [{ headers = "x" }]'), f"{ROUTE}match[0].headers: 'x' is not a table; did you mean"),
        (route('match = [{ headers = { "a b" = "x" } }]'), f"{ROUTE}match[0].headers.\"a b\": 'a b' is not the name"),
        (route('match = [{ headers = { a = "x", A = "x" } }]'), f"{ROUTE}match[0].headers.A: is there already"),
        (route("match = [{ headers = { a = 1 } }]"), f'{ROUTE}match[0].headers.a: 1 is not text; did you mean "1"?'),
        (route("match = [{ headers = { a = {} } }]"), f"{ROUTE}match[0].headers.a: one of exact and regex"),
        (route('match = [{ query = { "" = "x" } }]'), f'{ROUTE}match[0].query."": a parameter has a name'),
        (route('match = [{ method = "a b" }]'), f"{ROUTE}match[0].method: 'a b' is not a method"),
        (route('match = [{ path = "/x" }]'), f"{ROUTE}match[0].path: '/x' is not a table; did you mean path ="),
        (route('filters = [{ set_request_headers = ["x"] }]'), f"{ROUTE}filters[0].set_request_headers: a list is not"),
        (
            route('filters = [{ set_request_headers = { a = "1", A = "1" } }]'),
            f"{ROUTE}filters[0].set_request_headers.A: is there already",
        ),
        (
            route('filters = [{ add_response_headers = { a = " 1" } }]'),
            f"{ROUTE}filters[0].add_response_headers.a: ' 1' is not a field's value",
        ),
        (
            route('filters = [{ redirect = { host = "a.test:80" } }]'),
            f"{ROUTE}filters[0].redirect.host: 'a.test:80' has a port",
        ),
        (
            route('filters = [{ rewrite = { path = "/a", prefix = "/b" } }]'),
            f"{ROUTE}filters[0].rewrite.prefix: the whole path is replaced already",
        ),
        (
            route('filters = [{ inject_failure = { status = 500, message = "a\\nb" } }]'),
            f"{ROUTE}filters[0].inject_failure.message: is not one printable line",
        ),
        (
            '[listen.p]\nbind = ":1"\n[[listen.p.route]]\nmatch = [{}]\n[backend.x]\nendpoints = ["a:1"]',
            "c.toml:3: listen.p.route[0].to: has to be given",
        ),
        (
            '[listen.p]\nbind = ":1"\nprotocol = "tcp"\nto = [{ backend = "x" }]\n[[listen.p.route]]\n'
            'match = [{ host = "a" }]\nto = [{ backend = "x" }]\n[backend.x]\nendpoints = ["a:1"]\nprotocol = "tcp"',
            "c.toml:5: listen.p.route[0]: bytes have no host to route by",
        ),
        (
            '[outbound.to."a:1"]\nendpoints = ["b:1"]\nprotocol = "tcp"\n[[outbound.to."a:1".route]]',
            'c.toml:4: outbound.to."a:1".route[0]: bytes have nothing to route by',
        ),
        (
            '[listen.p]\nbind = ":1"\nto = [{ backend = "x" }]\n[[listen.p.route]]\n'
            'match = [{ path = { prefix = "/" } }]\nto = [{ backend = "x" }]\n[backend.x]\nendpoints = ["a:1"]',
            "c.toml:5: listen.p.route[0].match[0]: every request matches: those of to (c.toml:3) would never get any",
        ),
    ],
)
def test_what_is_wrong_with_a_route_is_told_at_its_key(told: Callable[..., list[str]], text: str, problem: str) -> None:
    found = told(text)
    assert len(found) == 1, found
    assert found[0].startswith(problem), found


def test_shares_that_are_all_0_are_a_warning(look: Look) -> None:
    loaded = look(
        '[listen.p]\nbind = ":1"\nto = [{ backend = "x", weight = 0 }]\n[backend.x]\nendpoints = ["a:1"]\n'
        '[backend.y]\nendpoints = ["a:2"]'
    )
    assert [str(each) for each in loaded.warnings] == [
        "c.toml:3: listen.p.to: every weight is 0: all of these requests are answered 503",
        "c.toml:6: backend.y: nothing is sent here",
    ]
