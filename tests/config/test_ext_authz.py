"""``ext_authz`` in a config file: what it becomes, and what is told of mistakes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from meshcore.config import EndpointConfig, ExtAuthzConfig, Loaded

Look = Callable[..., Loaded]
Told = Callable[..., list[str]]

GATEWAY = """\
[listen.public]
bind = ":8080"
to = [{{ backend = "a" }}]
ext_authz = {{ {keys} }}
[backend.a]
endpoints = ["127.0.0.1:1"]
"""


def test_it_becomes_what_it_says(look: Look) -> None:
    loaded = look(GATEWAY.format(
        keys='grpc = "https://10.0.0.9:9000", timeout = "1s", on_error = "allow", headers = ["X-A"], '
        'context = { env = "prod" }, tls = { server_name = "authz.test" }'
    ))  # fmt: skip
    found = loaded.config.listen["public"].ext_authz
    assert found is not None
    assert EndpointConfig(address=("10.0.0.9", 9000), protocol="https") == found.grpc
    assert (1.0, "allow", ("x-a",), {"env": "prod"}) == (found.timeout, found.on_error, found.headers, found.context)


def test_its_defaults_fail_closed_and_soon() -> None:
    default = ExtAuthzConfig()
    assert (0.2, "deny", None, ()) == (default.timeout, default.on_error, default.headers, default.copy_headers)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ('timeout = "1s"', "ext_authz.grpc: has to be given, or http"),
        ('grpc = "a:1", http = "a:2"', "ext_authz.http: grpc is given, too"),
        ('grpc = "a:1", copy_headers = ["x"]', "ext_authz.copy_headers: is for http"),
        ('grpc = "a:1", path_prefix = "/x"', "ext_authz.path_prefix: is for http"),
        ('http = "a:1", context = { a = "b" }', "ext_authz.context: is for grpc"),
        ('http = "a:1", path_prefix = "check"', "'check' is not a path such as /check; did you mean '/check'?"),
        ('http = "a:1", path_prefix = "/check/"', "did you mean '/check'?"),
        ('http = "a:1", headers = ["a b"]', "'a b' is not the name of a header"),
        ('http = "tcp://a:1"', "ext_authz.http: tcp cannot be spoken to it"),
        ('grpc = "http1://a:1"', "ext_authz.grpc: http1 cannot be spoken to it"),
        ('grpc = "a:1", tls = { verify = false }', "ext_authz.tls: would not be used"),
        ('grpc = "https://a:1", identity = "a.b"', "exclude each other"),
        ('grpc = "a:1", identity = "a.b"', "this proxy has no [identity]"),
        ('grpc = "a:1", on_error = "alow"', "'alow' is not one of deny, allow; did you mean 'allow'?"),
        ('grcp = "a:1"', "unknown key; did you mean 'grpc'?"),
        ('grpc = "a:1", timeout = 1', 'did you mean "1s"?'),
        ('grpc = "http://a:1/path"', "ext_authz.grpc"),
    ],
)
def test_what_does_not_go_together_is_told_with_a_way_out(told: Told, keys: str, problem: str) -> None:
    lines = told(GATEWAY.format(keys=keys))
    assert any(problem in line for line in lines), lines


def test_bytes_cannot_be_asked_about(told: Told) -> None:
    text = GATEWAY.format(keys='grpc = "a:1"').replace('bind = ":8080"', 'bind = ":8080"\nprotocol = "tcp"')
    assert any('ext_authz: is about requests, and protocol = "tcp" has none' in line for line in told(text))
