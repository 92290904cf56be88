"""Who tells the endpoints, as a config file has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Look = Callable[..., Any]
Told = Callable[..., list[str]]


def destination(source: str) -> str:
    return f'[outbound.to."x:80"]\ndiscover = "{source}"'


@pytest.mark.parametrize(
    ("source", "want"),
    [
        ("dns:users.internal:8080", "dns:users.internal:8080"),
        ("dns:[::1]:8080", "dns:[::1]:8080"),
        ("dns+srv:_http._tcp.payments.shop", "dns+srv:_http._tcp.payments.shop"),
        ("dns+srv:payments.shop.", "dns+srv:payments.shop."),
    ],
)
def test_names_of_dns_are_taken_as_they_are(look: Look, source: str, want: str) -> None:
    config = look(destination(source)).config
    assert config is not None

    assert want == config.outbound.to["x:80"].discover


@pytest.mark.parametrize(
    ("source", "want"),
    [
        ("dns:users.internal", "has no port"),
        ("dns:http://users:80", "has a scheme after dns:"),
        ("dns:", "is not file:PATH, dns:HOST:PORT or dns+srv:NAME"),
        ("dsn:users:80", "did you mean 'dns'?"),
        ("users.internal:80", "did you mean 'dns:users.internal:80'?"),
        ("_http._tcp.users", "did you mean 'dns+srv:_http._tcp.users'?"),
        ("users.json", "did you mean 'file:users.json'?"),
        ("dns+srv:users:80", "has a port, which SRV records tell; did you mean 'dns+srv:users'?"),
        ("dns+srv:us ers", "'us ers' is not a name"),
        ("consul:users", "consul: is not in this release; file, dns, dns+srv are"),
    ],
)
def test_what_is_none_is_told_with_what_was_meant(told: Told, source: str, want: str) -> None:
    problems = told(destination(source))

    assert "c.toml:2" in problems[0]
    assert want in problems[0]


def test_dns_servers_are_addresses_with_a_port_or_without(look: Look, told: Told) -> None:
    text = '[outbound]\n[proxy]\ndns_servers = ["10.0.0.53", "127.0.0.1:5353", "::1", "[::1]:5353"]'
    config = look(text).config
    assert config is not None
    assert (("10.0.0.53", 53), ("127.0.0.1", 5353), ("::1", 53), ("::1", 5353)) == config.proxy.dns_servers

    (problem,) = told('[outbound]\n[proxy]\ndns_servers = ["ns.test"]')
    assert "c.toml:3: proxy.dns_servers[0]: 'ns.test' is not an IP address" in problem
