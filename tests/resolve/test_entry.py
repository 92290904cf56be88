"""One endpoint as it is written, on top of a template."""

from __future__ import annotations

from typing import Any

import attrs
import hypothesis
import pytest
from hypothesis import strategies as st

from meshcore.errors import ConfigError
from meshcore.resolve.entry import endpoint_from
from meshcore.transport.target import Endpoint, TlsClient

PLAIN = Endpoint(("", 0))
HTTPS = Endpoint(("", 0), tls=TlsClient("", trust_anchors=b"pem"))
MESH = Endpoint(("", 0), tls=TlsClient("users.shop", alpn=(), identity="users.shop", mesh=True), mesh_proxy=True)
AT = ("10.0.0.7", 4143)


def mesh(identity: str, name: str = "") -> TlsClient:
    return TlsClient(name or identity, alpn=(), identity=identity, mesh=True)


@pytest.mark.parity("T-15")
@pytest.mark.parametrize(
    ("entry", "template", "expected"),
    [
        ("10.0.0.7:4143", PLAIN, Endpoint(AT)),
        ("h2c://10.0.0.7:4143", PLAIN, Endpoint(AT, "h2")),
        ("http1://10.0.0.7:4143", PLAIN, Endpoint(AT, "http/1")),
        ("tcp://10.0.0.7:4143", PLAIN, Endpoint(AT, "opaque")),
        ("https://a.test", PLAIN, Endpoint(("a.test", 443), tls=TlsClient("a.test"))),
        ("[::1]:80", PLAIN, Endpoint(("::1", 80))),
        ({"address": "10.0.0.7:4143", "weight": 2}, PLAIN, Endpoint(AT, weight=2.0)),
        ({"address": "10.0.0.7:4143", "weight": 0}, PLAIN, Endpoint(AT, weight=0.0)),
        ({"address": "10.0.0.7:4143", "protocol": "h2c", "zone": "a"}, PLAIN, Endpoint(AT, "h2", zone="a")),
        (
            {"address": "10.0.0.7:4143", "labels": {"b": "2", "a": "1"}},
            PLAIN,
            Endpoint(AT, labels=(("a", "1"), ("b", "2"))),
        ),
        ({"address": "10.0.0.7:4143", "mesh": True}, PLAIN, Endpoint(AT, mesh_proxy=True)),
        (
            {"address": "10.0.0.7:4143", "identity": "users.shop"},
            PLAIN,
            Endpoint(AT, tls=mesh("users.shop"), mesh_proxy=True),
        ),
        (
            {"address": "10.0.0.7:4143", "identity": "users.shop", "mesh": False},
            PLAIN,
            Endpoint(AT, tls=mesh("users.shop")),
        ),
        (
            {"address": "10.0.0.7:4143", "identity": "spiffe://shop/users", "server_name": "users"},
            PLAIN,
            Endpoint(AT, tls=mesh("spiffe://shop/users", "users"), mesh_proxy=True),
        ),
        # What the template says holds where the entry is silent.
        ("10.0.0.7:4143", MESH, attrs.evolve(MESH, address=AT)),
        ("10.0.0.7:4143", attrs.evolve(MESH, mesh_proxy=False), attrs.evolve(MESH, address=AT, mesh_proxy=False)),
        ("h2c://10.0.0.7:4143", MESH, attrs.evolve(MESH, address=AT, protocol="h2")),
        (
            {"address": "10.0.0.7:4143", "identity": "orders.shop"},
            MESH,
            attrs.evolve(MESH, address=AT, tls=mesh("orders.shop")),
        ),
        ({"address": "a.test:443"}, HTTPS, Endpoint(("a.test", 443), tls=TlsClient("a.test", trust_anchors=b"pem"))),
        ("https://a.test", HTTPS, Endpoint(("a.test", 443), tls=TlsClient("a.test", trust_anchors=b"pem"))),
        (
            {"address": "a.test:443", "server_name": "b.test"},
            HTTPS,
            Endpoint(("a.test", 443), tls=TlsClient("b.test", trust_anchors=b"pem")),
        ),
        ("http://a.test", HTTPS, Endpoint(("a.test", 80))),
    ],
)
def test_an_entry_is_this_endpoint(entry: Any, template: Endpoint, expected: Endpoint) -> None:
    assert expected == endpoint_from(entry, template)


@pytest.mark.parametrize(
    ("entry", "problems"),
    [
        ("10.0.0.7", ["e.address: '10.0.0.7' has no port: HOST:PORT or a URL is wanted"]),
        (7, ["e: an address or a table is wanted, not 7"]),
        (None, ["e: an address or a table is wanted, not None"]),
        ([], ["e: an address or a table is wanted, not []"]),
        ({}, ["e.address: has to be given"]),
        ("", ["e.address: HOST:PORT is wanted, not ''"]),
        ({"address": None}, ["e.address: HOST:PORT is wanted, not None"]),
        (
            {"adress": "a:1", "weight": "2"},
            [
                "e.adress: unknown key; did you mean 'address'?",
                "e.weight: a number is wanted, not '2'",
                "e.address: has to be given",
            ],
        ),
        ({"address": "a:1", "weight": True}, ["e.weight: a number is wanted, not True"]),
        ({"address": "a:1", "weight": -1}, ["e.weight: a number from 0 to 1000000 is wanted"]),
        ({"address": "a:1", "weight": 10**400}, ["e.weight: a number from 0 to 1000000 is wanted"]),
        ({"address": "a:1", "weight": float("nan")}, ["e.weight: a number from 0 to 1000000 is wanted"]),
        (
            {"address": "a:1", "protocol": "h2"},
            ["e.protocol: 'h2' is not one of http, http1, h2c, https, tcp; did you mean 'h2c'?"],
        ),
        (
            {"address": "tcp://a:1", "protocol": "h2c"},
            ["e.protocol: 'h2c' contradicts the address, which says 'tcp'"],
        ),
        ({"address": "a:1", "labels": {"a": 1}}, ["e.labels: at most 32 names with text are wanted"]),
        ({"address": "a:1", "labels": ["a"]}, ["e.labels: a table of text is wanted, not ['a']"]),
        ({"address": "a:1", "mesh": 1}, ["e.mesh: true or false is wanted, not 1"]),
        ({"address": "a:1", "zone": ""}, ["e.zone: a name is wanted, not ''"]),
        ({"address": "a:1", "server_name": "b"}, ["e.server_name: is of use with https or an identity alone"]),
        (
            {"address": "a:1", "identity": "spiffe://shop/users"},
            ["e.server_name: has to be given with a spiffe:// identity"],
        ),
        ({"address": "a:1", "identity": "us\0ers"}, ["e.identity: 'us\\x00ers' is not a DNS name or a spiffe:// URI"]),
        (
            {"address": "https://a", "identity": "users.shop"},
            ["e.protocol: 'https' has TLS of its own, which the mesh's identity would be in the way of"],
        ),
    ],
)
def test_what_is_wrong_with_an_entry_is_told_all_at_once(entry: Any, problems: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        endpoint_from(entry, PLAIN, "e")
    assert sorted(problems) == sorted(caught.value.problems)


@pytest.mark.parity("T-17")
@pytest.mark.parametrize("scheme", ["http", "http1", "h2c", "tcp"])
def test_no_scheme_takes_the_meshs_security_away(scheme: str) -> None:
    assert MESH.tls == endpoint_from(f"{scheme}://10.0.0.7:80", MESH).tls


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
tables = st.dictionaries(
    st.sampled_from(["address", "protocol", "weight", "zone", "identity", "server_name", "mesh", "labels", "x"]),
    json_values | st.sampled_from(["a:1", "https://a", "h2c", "spiffe://a/b", "users.shop"]),
)


@hypothesis.given(json_values | tables, st.sampled_from([PLAIN, HTTPS, MESH]))
def test_whatever_an_entry_is_it_is_an_endpoint_or_a_problem(entry: Any, template: Endpoint) -> None:
    try:
        endpoint = endpoint_from(entry, template)
    except ConfigError as error:
        assert error.problems
    else:
        assert hash(endpoint) == hash(attrs.evolve(endpoint))
        assert endpoint.address[0]
        assert 0 < endpoint.address[1] < 65_536
        if template is MESH:
            assert endpoint.tls is not None
            assert endpoint.tls.mesh
            assert endpoint.tls.identity
