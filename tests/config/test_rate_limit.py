"""Rate limits in a config file: read, shown again, judged, and turned into what the layer takes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from meshcore.config import HeaderRateConfig, Loaded, OverrideConfig, RateConfig, RateLimitConfig
from meshcore.config.show import config_toml
from meshcore.layers.rate_limit import HeaderRate, Override, Rate, RateLimits
from meshcore.pipeline.inbound import inbound
from meshcore.pipeline.limits import limits_of
from meshcore.pipeline.outbound import outbound

Look = Callable[..., Loaded]
Told = Callable[..., list[str]]

SIDECAR = """\
[service]
name = "orders"
[identity]
mode = "dev"
[inbound]
forward = "127.0.0.1:8000"
[inbound.rate_limit]
rps = 100
burst = 150
per_identity = 10
overrides = [{ identities = ["web.shop", "spiffe://a/b"], rps = 50 }]
per_header = { name = "X-Tenant", rps = 0.5, burst = 3 }
[outbound.to."payments:80"]
endpoints = ["10.0.0.7:80"]
rate_limit = { per_header = { name = "x-tenant", rps = 5 } }
[outbound.to."other:80"]
endpoints = ["10.0.0.8:80"]
"""


@pytest.mark.parity("R-36")
def test_limits_are_what_they_say(look: Look) -> None:
    loaded = look(SIDECAR)
    assert loaded.problems == ()
    config = loaded.config
    assert config is not None
    assert config.inbound is not None
    assert config.inbound.rate_limit == RateLimitConfig(
        rps=100.0,
        burst=150,
        per_identity=RateConfig(rps=10.0),
        overrides=(OverrideConfig(identities=("web.shop", "spiffe://a/b"), rps=50.0),),
        per_header=HeaderRateConfig(name="x-tenant", rps=0.5, burst=3),
    )
    assert limits_of(config.inbound.rate_limit) == RateLimits(
        Rate(100, 150),
        Rate(10, 10),
        (Override(("web.shop", "spiffe://a/b"), Rate(50, 50)),),
        HeaderRate(b"x-tenant", Rate(0.5, 3)),
    )
    assert look(config_toml(config), name="again.toml").config == config


def test_a_layer_is_there_where_something_is_limited_and_nowhere_else(look: Look) -> None:
    config = look(SIDECAR).config
    assert config is not None
    roles = inbound(config).roles()
    assert roles.count("rate_limit") == 1
    assert roles.index("authorize") < roles.index("rate_limit") < roles.index("balance")
    roles = outbound(config).roles()
    assert roles.index("route") < roles.index("rate_limit") < roles.index("retry")
    bare = look(SIDECAR.partition("[inbound.rate_limit]")[0]).config
    assert bare is not None
    assert "rate_limit" not in inbound(bare).roles()


IDENTITY = '[service]\nname = "a"\n[identity]\nmode = "dev"\n'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[inbound.rate_limit]", "c.toml:1: inbound.rate_limit: nothing is limited; rps, per_identity, overrides"),
        (
            "[inbound]\nrate_limit = 5",
            "c.toml:2: inbound.rate_limit: 5 is not a table; did you mean rate_limit = { rps",
        ),
        ("[inbound.rate_limit]\nrps = 0", "c.toml:2: inbound.rate_limit.rps: 0 is not a number from 0.001 to"),
        ('[inbound.rate_limit]\nrps = "5"', "c.toml:2: inbound.rate_limit.rps: '5' is not a number from"),
        ("[inbound.rate_limit]\nrps = nan", "c.toml:2: inbound.rate_limit.rps: nan is not a number from"),
        ("[inbound.rate_limit]\nrsp = 5", "c.toml:2: inbound.rate_limit.rsp: unknown key; did you mean 'rps'?"),
        (
            '[inbound.rate_limit]\nburst = 5\nper_header = { name = "x", rps = 1 }',
            "c.toml:2: inbound.rate_limit.burst: is that of rps, which is not there",
        ),
        (
            "[inbound.rate_limit]\nper_identity = 5",
            "c.toml:2: inbound.rate_limit.per_identity: clients have no identity without [identity]",
        ),
        (
            f'{IDENTITY}[inbound.rate_limit]\noverrides = [{{ identities = ["A.b"], rps = 1 }},\n'
            '{ identities = ["c.d", "a.B"], rps = 2 }]',
            "c.toml:7: inbound.rate_limit.overrides[1].identities[1]: 'a.b' is in override 0 already",
        ),
        (
            f"{IDENTITY}[inbound.rate_limit]\noverrides = [{{ identities = [], rps = 1 }}]",
            "c.toml:6: inbound.rate_limit.overrides[0].identities: has to name a client",
        ),
        (
            '[inbound.rate_limit]\nper_header = { name = "x y", rps = 1 }',
            "c.toml:2: inbound.rate_limit.per_header.name: 'x y' is not the name of a header field",
        ),
        (
            '[outbound.to."a:1"]\nendpoints = ["b:1"]\nrate_limit = { rps = 1, per_identity = 1 }',
            'c.toml:3: outbound.to."a:1".rate_limit.per_identity: the one client there is the application',
        ),
        (
            '[outbound.to."a:1"]\nendpoints = ["b:1"]\n[[outbound.to."a:1".route]]\nrate_limit = { per_identity = 1 }',
            'c.toml:4: outbound.to."a:1".route[0].rate_limit.per_identity: the one client there is the application',
        ),
        ("[[inbound.route]]\nrate_limit = {}", "c.toml:2: inbound.route[0].rate_limit: nothing is limited; rps"),
        (
            '[outbound.to."a:1"]\nendpoints = ["b:1"]\nprotocol = "tcp"\nrate_limit = { rps = 1 }',
            'c.toml:4: outbound.to."a:1".rate_limit: is about requests, and protocol = "tcp" has none',
        ),
        (
            '[listen.p]\nbind = ":1"\nto = [{ backend = "x" }]\nrate_limit = { per_identity = 1 }\n'
            '[backend.x]\nendpoints = ["b:1"]',
            "c.toml:4: listen.p.rate_limit.per_identity: clients have no identity unless tls.client_certificates",
        ),
    ],
)
def test_limits_that_make_no_sense_are_told_with_a_way_out(told: Told, text: str, problem: str) -> None:
    found = told(text)
    assert any(line.startswith(problem) for line in found), found
