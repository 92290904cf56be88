"""Policies in a config file: read, shown again, judged, and turned into what the layer takes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from meshcore.config import Loaded, PolicyConfig
from meshcore.config.show import config_toml
from meshcore.layers.authorize import Authorization, ServerPolicy
from meshcore.pipeline import Runtime, inbound, listener
from meshcore.pipeline.policies import replace_policies, server_policy

Look = Callable[..., Loaded]
Told = Callable[..., list[str]]

SIDECAR = """\
[service]
name = "orders"
[identity]
mode = "dev"
[inbound]
forward = "127.0.0.1:8000"
[[inbound.policy]]
name = "shop"
networks = ["10.0.0.0/8"]
except = ["10.1.0.0/16"]
identities = ["web.shop", "spiffe://a/b"]
identity_suffixes = ["*.Shop"]
[[inbound.policy]]
networks = ["127.0.0.1/32"]
unauthenticated = true
"""
GATEWAY = """\
[listen.public]
bind = ":8443"
to = [{ backend = "x" }]
tls = { cert = "site.pem", key = "site.key", client_certificates = "optional", trust_anchors = "ca.crt" }
default_policy = "deny"
[[listen.public.policy]]
mesh_tls = true
[backend.x]
endpoints = ["10.0.0.7:80"]
"""


@pytest.mark.parity("R-28", "R-29")
def test_policies_are_what_they_say(look: Look) -> None:
    loaded = look(SIDECAR)
    assert loaded.problems == ()
    config = loaded.config
    assert config is not None
    assert config.inbound is not None
    assert config.inbound.policy[0] == PolicyConfig(
        name="shop",
        networks=("10.0.0.0/8",),
        exceptions=("10.1.0.0/16",),
        identities=("web.shop", "spiffe://a/b"),
        identity_suffixes=("*.shop",),
    )
    assert server_policy(config.inbound, "inbound") == ServerPolicy(
        loopback=False,
        authorizations=(
            Authorization(
                "shop",
                ("10.0.0.0/8",),
                ("10.1.0.0/16",),
                identities=("web.shop", "spiffe://a/b"),
                identity_suffixes=("*.shop",),
            ),
            Authorization("policy-1", ("127.0.0.1/32",), unauthenticated=True),
        ),
        name="inbound",
    )
    assert look(config_toml(config), name="again.toml").config == config
    assert "Authorize(policy=shop, policy-1; default all-unauthenticated)" in repr(inbound(config))


def test_a_gateway_judges_where_it_is_told_to_and_below_its_routes(look: Look) -> None:
    config = look(GATEWAY).config
    assert config is not None
    roles = listener(config, "public").roles()
    assert roles.index("rescue") < roles.index("to_backend") < roles.index("authorize") < roles.index("retry")
    assert roles.index("opaque_authorize") < roles.index("opaque_to_backend")
    plain = look('[listen.p]\nbind = ":1"\nto = [{ backend = "x" }]\n[backend.x]\nendpoints = ["a:1"]').config
    assert plain is not None
    assert not {"authorize", "opaque_authorize"} & set(listener(plain, "p").roles())


def test_the_policies_of_a_new_configuration_replace_those_that_run(look: Look) -> None:
    before, after = look(SIDECAR).config, look(SIDECAR.partition("[[inbound.policy]]")[0]).config
    assert before is not None
    assert after is not None
    runtime = Runtime()
    inbound(before, runtime)
    held = runtime.policies["inbound"]
    # Building a pipeline is not yet running it.
    inbound(after, runtime)
    assert (held.generation, len(held.current.authorizations)) == (0, 2)
    replace_policies(after, runtime)
    assert runtime.policies["inbound"] is held
    assert (held.generation, held.current) == (1, ServerPolicy(loopback=False, name="inbound"))
    replace_policies(after, runtime)
    assert held.generation == 1


ROUTES = """
[[inbound.route]]
name = "admin"
match = [{ path = { prefix = "/admin" } }]
rate_limit = { rps = 1 }
[[inbound.route]]
[[inbound.policy]]
identities = ["ops.shop"]
routes = ["admin"]
[[inbound.policy]]
unauthenticated = true
routes = ["route-1"]
"""


@pytest.mark.parity("R-31")
def test_policies_and_limits_of_routes_stand_where_the_route_is_known(look: Look) -> None:
    config = look(SIDECAR.partition("[[inbound.policy]]")[0] + "rate_limit = { rps = 5 }" + ROUTES).config
    assert config is not None
    roles = inbound(config).roles()
    order = ["rescue", "set_client_id", "route", "authorize", "rate_limit", "route_rate_limit", "to_backend"]
    assert [role for role in roles if role in order] == order
    # A gateway whose policies name routes has routes, though hosts alone tell them apart.
    named = GATEWAY.replace("mesh_tls = true", 'mesh_tls = true\nroutes = ["api", "default"]').replace(
        "[[listen",
        '[[listen.public.route]]\nname = "api"\nmatch = [{ host = "a.test" }]\nto = [{ backend = "x" }]\n[[listen',
    )
    config = look(named).config
    assert config is not None
    roles = listener(config, "public").roles()
    order = ["rescue", "set_client_id", "route", "route_metrics", "authorize", "retry"]
    assert [role for role in roles if role in order] == order


IDENTITY = '[service]\nname = "a"\n[identity]\nmode = "dev"\n'
POLICY = f"{IDENTITY}[[inbound.policy]]\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (POLICY, "c.toml:5: inbound.policy[0]: who is let in is not said; identities, identity_suffixes, mesh_tls"),
        (f'{POLICY}networks = ["10.0.0.0/8"]', "c.toml:5: inbound.policy[0]: who is let in is not said"),
        (
            f'{POLICY}identities = ["a.b"]\nunauthenticated = true',
            "c.toml:7: inbound.policy[0].unauthenticated: identities is there, too; one of the two has to go",
        ),
        (
            f"{POLICY}mesh_tls = true\nunauthenticated = true",
            "c.toml:7: inbound.policy[0].unauthenticated: mesh_tls is there, too",
        ),
        (
            f'{POLICY}unauthenticated = true\nnetworks = ["10.0.0.0/8"]\nexcept = ["11.0.0.0/8"]',
            "c.toml:8: inbound.policy[0].except[0]: '11.0.0.0/8' is in none of the networks",
        ),
        (
            f'{POLICY}unauthenticated = true\nnetworks = ["10.0.0.1/8"]',
            "c.toml:7: inbound.policy[0].networks[0]: '10.0.0.1/8' is not a network such as 10.0.0.0/8; did you mean",
        ),
        (
            f'{POLICY}identity_suffixes = ["*"]',
            "c.toml:6: inbound.policy[0].identity_suffixes[0]: '*' is everybody with a certificate; `mesh_tls = true`",
        ),
        (
            f'{POLICY}identity_suffixes = ["shop"]',
            "c.toml:6: inbound.policy[0].identity_suffixes[0]: 'shop' is not a suffix such as '*.shop'; did you mean "
            "'*.shop'?",
        ),
        (
            f'{POLICY}identity_suffixes = ["*.spiffe://a"]',
            "c.toml:6: inbound.policy[0].identity_suffixes[0]: '*.spiffe://a' is not a suffix of DNS names; a SPIFFE",
        ),
        (
            f'{POLICY}identites = ["a.b"]\nunauthenticated = true',
            "c.toml:6: inbound.policy[0].identites: unknown key; did you mean 'identities'?",
        ),
        (
            f'{POLICY}name = "x"\nmesh_tls = true\n[[inbound.policy]]\nname = "x"\nmesh_tls = true',
            "c.toml:9: inbound.policy[1].name: policy 0 has that name already",
        ),
        (
            f'{POLICY}mesh_tls = true\nroutes = ["x"]',
            "c.toml:7: inbound.policy[0].routes[0]: there is no route 'x'",
        ),
        (
            f'{POLICY}mesh_tls = true\nroutes = ["x"]\n[[inbound.route]]\nname = "y"\n[[inbound.route]]\n'
            'match = [{ path = { exact = "/" } }]',
            "c.toml:7: inbound.policy[0].routes[0]: there is no route 'x' (known: y, route-1)",
        ),
        (
            '[inbound]\nforward = "127.0.0.1:1"\n[[inbound.policy]]\nmesh_tls = true',
            "c.toml:4: inbound.policy[0].mesh_tls: clients have no identity without [identity]",
        ),
        (
            '[listen.p]\nbind = ":1"\nto = [{ backend = "x" }]\n[[listen.p.policy]]\nidentities = ["a.b"]\n'
            '[backend.x]\nendpoints = ["b:1"]',
            "c.toml:5: listen.p.policy[0].identities: clients have no identity unless tls.client_certificates",
        ),
        (
            '[listen.p]\nbind = ":1"\nto = [{ backend = "x" }]\ndefault_policy = "all-authenticated"\n'
            '[backend.x]\nendpoints = ["b:1"]',
            "c.toml:4: listen.p.default_policy: 'all-authenticated' lets nobody in: clients have no identity unless",
        ),
        (
            '[listen.p]\nbind = ":1"\nto = [{ backend = "x" }]\ndefault_policy = "cluster-unauthenticated"\n'
            '[backend.x]\nendpoints = ["b:1"]',
            "c.toml:4: listen.p.default_policy: 'cluster-unauthenticated' needs cluster_networks",
        ),
    ],
)
def test_policies_that_make_no_sense_are_told_with_a_way_out(told: Told, text: str, problem: str) -> None:
    found = told(text)
    assert any(line.startswith(problem) for line in found), found


def test_a_default_policy_that_is_never_asked_is_a_warning(look: Look) -> None:
    text = SIDECAR.replace("[[inbound", 'default_policy = "deny"\n[[inbound', 1)
    assert "inbound.default_policy" in [warning.key for warning in look(text).warnings]
    assert "inbound.default_policy" not in [warning.key for warning in look(SIDECAR).warnings]
