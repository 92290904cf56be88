"""Balancing and health checks, as a config file has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from meshcore.config.show import config_toml
from meshcore.layers.balance import Balancing, ByCookie, ByHeader, BySource, Maglev, PenaltyPeakEwma
from meshcore.layers.health_checks import GrpcCheck, HttpCheck, TcpCheck
from meshcore.pipeline.outbound import backends, outbound
from meshcore.pipeline.targets import own_zone
from meshcore.transport.health import Health
from meshcore.transport.target import Backend

Look = Callable[..., Any]
Told = Callable[..., list[str]]


def destination(*lines: str, service: str = "") -> str:
    return "\n".join([service, '[outbound.to."x:80"]', 'endpoints = ["10.0.0.1:80"]', *lines])


def backend(look: Look, text: str, **options: Any) -> Backend:
    config = look(text).config
    assert config is not None
    return backends(config.outbound.to, zone=own_zone(config), **options)["x:80"]


@pytest.mark.parametrize(
    ("line", "want"),
    [
        ("", Balancing()),
        ('balance = "round-robin"', Balancing("round-robin")),
        (
            'balance = { policy = "least-request", panic = 0, slow_start = "30s" }',
            Balancing("least-request", panic=0, slow_start=30.0),
        ),
        ('balance = { slow_start = "0" }', Balancing()),
        ('balance = "p2c-penalty-ewma"', Balancing("p2c-penalty-ewma", PenaltyPeakEwma())),
        (
            'balance = { policy = "p2c-penalty-ewma", penalty = "2s", max_retry_after = "1m" }',
            Balancing("p2c-penalty-ewma", PenaltyPeakEwma(penalty=2.0, max_retry_after=60.0)),
        ),
        ('balance = { policy = "maglev", hash = { header = "X-User" } }', Balancing(Maglev(ByHeader(b"x-user")))),
        ('balance = { policy = "maglev", hash = { cookie = "sid" } }', Balancing(Maglev(ByCookie(b"sid")))),
        ('balance = { policy = "maglev", hash = { source = true } }', Balancing(Maglev(BySource()))),
    ],
)
def test_what_is_said_of_balancing_is_what_the_balancer_gets(look: Look, line: str, want: Balancing) -> None:
    assert want == backend(look, destination(line)).balance


@pytest.mark.parametrize(
    ("line", "want"),
    [
        ("zone_aware = true", Balancing(zone="west")),
        ("zone_aware = false", Balancing()),
        ("zone_aware = { enough = 0.5, spill_over = 20 }", Balancing(zone="west", zone_enough=0.5, zone_spill_over=20)),
    ],
)
def test_the_own_zone_comes_from_the_service(look: Look, line: str, want: Balancing) -> None:
    service = '[service]\nname = "orders"\nzone = "west"'

    assert want == backend(look, destination(line, service=service)).balance


@pytest.mark.parametrize(
    ("line", "opaque", "want"),
    [
        ("", False, None),
        ('health_check = { path = "/healthz" }', False, Health(HttpCheck("/healthz"))),
        ('health_check = { path = "/healthz" }', True, Health(TcpCheck())),
        (
            'health_check = { path = "/up", host = "a.test", interval = "10s", timeout = "2s", healthy = 1, '
            "unhealthy = 5 }",
            False,
            Health(HttpCheck("/up", "a.test"), 10.0, 2.0, 1, 5),
        ),
        ("health_check = {}", False, Health(TcpCheck())),
        ('health_check = { grpc = "" }', False, Health(GrpcCheck())),
        ('health_check = { grpc = "shop.Users", host = "a.test" }', False, Health(GrpcCheck("shop.Users", "a.test"))),
        ('health_check = { grpc = "" }', True, Health(TcpCheck())),
    ],
)
def test_endpoints_are_checked_as_it_is_said(look: Look, line: str, opaque: bool, want: Health | None) -> None:
    assert want == backend(look, destination(line), opaque=opaque).endpoints[0].health


def test_the_layer_is_there_only_where_some_endpoint_is_checked(look: Look) -> None:
    with_checks = look(destination("health_check = {}")).config
    without = look(destination()).config
    assert with_checks is not None
    assert without is not None

    assert 3 == repr(outbound(with_checks)).count("HealthChecks(")
    assert "HealthChecks" not in repr(outbound(without))


@pytest.mark.parametrize(
    ("line", "want"),
    [
        ('balance = "fastest"', "x:80\".balance: 'fastest' is not one of p2c-ewma, p2c-penalty-ewma, round-robin"),
        ('balance = "round_robin"', "did you mean 'round-robin'?"),
        ("balance = 3", "balance: 3 is not a policy such as"),
        ('balance = "maglev"', 'balance: what maglev hashes is not said; add hash = { header = "…" }'),
        ('balance = { policy = "maglev", hash = {} }', "balance.hash: one of header, cookie and source"),
        ('balance = { policy = "maglev", hash = { header = "a", source = true } }', "balance.hash: one of header"),
        ('balance = { policy = "maglev", hash = { header = "a b" } }', "'a b' is not the name of a header"),
        ('balance = { policy = "maglev", hash = { query = "a", source = true } }', "balance.hash.query: unknown key"),
        ('balance = { hash = { header = "a" } }', 'would not be used: policy = "p2c-ewma" hashes nothing'),
        ('balance = { penalty = "2s" }', "balance.penalty: would not be used"),
        ("balance = { panic = 2 }", "balance.panic: 2 is not a number from 0 to 1"),
        ("zone_aware = true", "zone_aware: this proxy's own zone is not said; add it: [service] zone"),
        ('zone_aware = "yes"', "zone_aware: 'yes' is not true or false; did you mean true?"),
        ('health_check = { path = "healthz" }', "health_check.path: 'healthz' is not a path; did you mean '/healthz'?"),
        ('health_check = { path = "/a b" }', "health_check.path: '/a b' is not a path"),
        ('health_check = { interval = "1s", timeout = "2s" }', "health_check.timeout: is longer than the interval"),
        ('health_check = { host = "a.test" }', "health_check.host: would not be used"),
        ("health_check = { healthy = 0 }", "health_check.healthy: 0 is not a whole number from 1 to 100"),
        ("health_check = { grpc = true }", "health_check.grpc: true is not text"),
        ('health_check = { grpc = "/shop.Users/Get" }', "did you mean 'shop.Users'?"),
        ('health_check = { grpc = "a b" }', "health_check.grpc: 'a b' is not the name of a gRPC service"),
        ('health_check = { path = "/", grpc = "" }', "health_check.grpc: path is given, too"),
        ('protocol = "http1"\nhealth_check = { grpc = "" }', "health_check.grpc: needs HTTP/2"),
        ('protocol = "tcp"\nhealth_check = { grpc = "" }', "health_check.grpc: is about requests"),
        ('protocol = "tcp"\nhealth_check = { path = "/" }', "health_check.path: is about requests"),
        (
            'protocol = "tcp"\nbalance = { policy = "maglev", hash = { cookie = "a" } }',
            "balance.hash.cookie: is about requests",
        ),
    ],
)
def test_what_cannot_be_meant_is_told(told: Told, line: str, want: str) -> None:
    problems = [problem for problem in told(destination(line)) if "NO [identity]" not in problem]

    assert 1 == len(problems), problems
    assert want in problems[0]


def test_what_is_shown_can_be_read_again(look: Look) -> None:
    text = destination(
        'balance = { policy = "maglev", hash = { header = "x-user" } }',
        "zone_aware = { enough = 0.5 }",
        'health_check = { path = "/healthz" }',
        service='[service]\nname = "orders"\nzone = "west"',
    )
    config = look(text).config
    assert config is not None
    plain = look(destination('balance = "round-robin"')).config
    assert plain is not None

    shown = config_toml(config)
    assert config == look(shown).config
    assert 'balance = "round-robin"' in config_toml(plain)
