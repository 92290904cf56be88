"""Tokens in a config file: read, shown again, judged, and put in their place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from meshcore.config import JwtConfig, Loaded
from meshcore.config.show import config_toml
from meshcore.pipeline import inbound, listener
from tests.layers.tokens import Issuer

Look = Callable[..., Loaded]
Told = Callable[..., list[str]]

SIDECAR = """\
[inbound]
forward = "127.0.0.1:8000"
[inbound.jwt]
issuer = "https://id.test/"
audience = ["orders"]
keys = "file:jwks.json"
algorithms = ["ES256", "PS512"]
claims = { X-User = "sub", x-scope = "scope" }
required = false
"""
GATEWAY = """\
[listen.public]
bind = ":8443"
to = [{ backend = "x" }]
jwt = { issuer = "a", audience = ["b"], keys = "https://id.test:8443/keys?x=1", refresh = "1m" }
[backend.x]
endpoints = ["10.0.0.7:80"]
"""


@pytest.fixture(autouse=True)
def jwks(folder: Path) -> None:
    (folder / "jwks.json").write_bytes(Issuer().jwks())
    (folder / "empty.json").write_bytes(b"{}")


def test_tokens_are_what_is_said_of_them(look: Look, folder: Path) -> None:
    loaded = look(SIDECAR)
    assert loaded.problems == ()
    config = loaded.config
    assert config is not None
    assert config.inbound is not None
    assert config.inbound.jwt == JwtConfig(
        issuer="https://id.test/",
        audience=("orders",),
        keys=f"file:{folder}/jwks.json",
        algorithms=("ES256", "PS512"),
        claims={"x-user": "sub", "x-scope": "scope"},
        required=False,
    )
    assert look(config_toml(config), name="again.toml").config == config
    again = look(GATEWAY).config
    assert again is not None
    assert look(config_toml(again), name="again.toml").config == again


def test_whoever_reads_what_a_token_says_stands_below_it(look: Look) -> None:
    config = look(f"{SIDECAR}[inbound.rate_limit]\nrps = 5").config
    assert config is not None
    roles = inbound(config).roles()
    order = ["rescue", "authorize", "set_client_id", "jwt", "to_backend", "rate_limit"]
    assert [role for role in roles if role in order] == order
    config = look(GATEWAY).config
    assert config is not None
    roles = listener(config, "public").roles()
    assert roles.index("rescue") < roles.index("set_client_id") < roles.index("jwt") < roles.index("to_backend")


def test_bytes_that_are_no_requests_do_not_get_around_it(look: Look) -> None:
    for text, optional in ((SIDECAR, True), (SIDECAR.replace("required = false", ""), False)):
        config = look(text).config
        assert config is not None
        printed = repr(inbound(config))
        assert printed.count("Authorize(policy=deny)") == (0 if optional else 2)
        assert printed.count("Authorize(policy=all-unauthenticated)") == (3 if optional else 1)
    config = look(GATEWAY).config
    assert config is not None
    assert repr(listener(config, "public")).count("Authorize(policy=deny)") == 1


JWT = '[inbound]\nforward = "127.0.0.1:1"\n[inbound.jwt]\nissuer = "a"\naudience = ["b"]\n'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[inbound.jwt]", "c.toml:1: inbound.jwt.issuer: has to be given"),
        ("[inbound.jwt]", "c.toml:1: inbound.jwt.audience: has to be given"),
        ("[inbound.jwt]", "c.toml:1: inbound.jwt.keys: has to be given: `file:PATH` or `https://…`"),
        (f'{JWT}keys = "jwks.json"', "c.toml:6: inbound.jwt.keys: 'jwks.json' is neither file:PATH nor https://…; did"),
        (f'{JWT}keys = "file:jwk.json"', "c.toml:6: inbound.jwt.keys: 'file:jwk.json': no such file; did you mean"),
        (f'{JWT}keys = "file:empty.json"', 'c.toml:6: inbound.jwt.keys: key set has no list "keys"'),
        (f'{JWT}keys = "http://id.test/k"', "c.toml:6: inbound.jwt.keys: 'http://id.test/k': whoever is on the way"),
        (f'{JWT}keys = "https://a b/k"', "c.toml:6: inbound.jwt.keys: 'https://a b/k' is not an address such as"),
        (f'{JWT}keys = "https://u:p@a/k"', "c.toml:6: inbound.jwt.keys: 'https://u:p@a/k' is not an address such as"),
        (f'{JWT}keys = "https://a:99999/k"', "c.toml:6: inbound.jwt.keys: 'https://a:99999/k' is not an address"),
        (
            f'{JWT}keys = "file:jwks.json"\nalgorithms = ["HS256", "none", "RS25"]',
            "c.toml:7: inbound.jwt.algorithms[0]: 'HS256': with a shared key whoever checks a token could make one",
        ),
        (
            f'{JWT}keys = "file:jwks.json"\nalgorithms = ["HS256", "none", "RS25"]',
            "c.toml:7: inbound.jwt.algorithms[1]: 'none': anybody could make such a token",
        ),
        (
            f'{JWT}keys = "file:jwks.json"\nalgorithms = ["RS25"]',
            "c.toml:7: inbound.jwt.algorithms[0]: 'RS25' is not one of RS256, ",
        ),
        (
            f'{JWT}keys = "file:jwks.json"\nalgorithms = []',
            "c.toml:7: inbound.jwt.algorithms: has to name one at least",
        ),
        (
            f'{JWT}keys = "file:jwks.json"\ntrust_anchors = "ca.crt"',
            "c.toml:7: inbound.jwt.trust_anchors: would not be used: the keys do not come by https://",
        ),
        (
            f'{JWT}keys = "file:jwks.json"\nclaims = {{ Host = "sub" }}',
            "c.toml:7: inbound.jwt.claims.Host: 'Host' says something else already",
        ),
        (
            f'{JWT}keys = "file:jwks.json"\nmax_token = "1MiB"',
            "c.toml:7: inbound.jwt.max_token: has to be from 256 to 64KiB",
        ),
        (
            '[listen.p]\nbind = ":1"\nprotocol = "tcp"\nto = [{ backend = "x" }]\n'
            'jwt = { issuer = "a", audience = ["b"], keys = "file:jwks.json" }\n'
            '[backend.x]\nendpoints = ["b:1"]\nprotocol = "tcp"',
            'c.toml:5: listen.p.jwt: is about requests, and protocol = "tcp" has none',
        ),
    ],
)
def test_tokens_that_make_no_sense_are_told_with_a_way_out(told: Told, text: str, problem: str) -> None:
    found = told(text)
    assert any(line.startswith(problem) for line in found), found
