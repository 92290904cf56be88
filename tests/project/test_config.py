from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from meshcore.config import OPAQUE_PORTS, Listen, ProxyConfig, TlsFiles, proxy_config
from meshcore.errors import ConfigError
from meshcore.transport.target import Endpoint, TlsClient


def problems(*listen: str, to: tuple[str, ...] = ("a:1",), **options: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        proxy_config(list(listen) or [":80"], list(to), **options)
    return caught.value.problems


def test_an_address_and_an_endpoint_are_enough() -> None:
    config = proxy_config([":8080"], ["10.0.0.7:8000"])
    assert config == ProxyConfig(listen=(Listen(("", 8080)),), endpoints=(Endpoint(("10.0.0.7", 8000)),))


def test_endpoints_come_in_lists_and_repeatedly_and_keep_their_order() -> None:
    config = proxy_config([":1"], ["a:1, b:2", "c:3"])
    assert [endpoint.address for endpoint in config.endpoints] == [("a", 1), ("b", 2), ("c", 3)]


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("http://a", Endpoint(("a", 80))),
        ("http1://a:1", Endpoint(("a", 1), "http/1")),
        ("h2c://a:1", Endpoint(("a", 1), "h2")),
        ("https://a", Endpoint(("a", 443), "http", TlsClient("a"))),
    ],
)
def test_the_scheme_of_an_endpoint_says_how_it_is_spoken_to(url: str, endpoint: Endpoint) -> None:
    assert proxy_config([":1"], [url]).endpoints == (endpoint,)


def test_the_scheme_of_a_listener_forces_its_protocol() -> None:
    config = proxy_config([":1", "h2c://:2", "http1://:3", "tcp://:4"], ["a:1"])
    assert [listen.protocol for listen in config.listen] == [None, "h2", "http/1", "opaque"]


def test_bytes_are_forwarded_to_endpoints_that_take_bytes() -> None:
    config = proxy_config([":5432"], ["tcp://db:5432"])
    assert config.listen == (Listen(("", 5432), "opaque"),)


def test_every_option_arrives(tmp_path: Path) -> None:
    cert, key = tmp_path / "c.pem", tmp_path / "k.pem"
    cert.write_text("-----BEGIN CERTIFICATE-----")
    key.write_text("")
    config = proxy_config(
        [":1"],
        ["https://a"],
        tls_cert=str(cert),
        tls_key=str(key),
        upstream_ca=str(cert),
        timeout="2s",
        retries="0",
        balance="round-robin",
        engine="pure",
        admin="off",
        admin_shutdown=True,
        access_log="json",
        grace_period="5s",
        opaque_ports="25,3306",
    )
    assert config.tls == TlsFiles(cert, key)
    assert config.endpoints[0].tls == TlsClient("a", trust_anchors=b"-----BEGIN CERTIFICATE-----")
    assert (2.0, 0, "round-robin", "json", 5.0) == (
        config.timeout,
        config.retries,
        config.balance,
        config.access_log,
        config.grace_period,
    )
    assert ("pure", "pure") == (config.server.engine, config.client.engine)
    assert (None, True) == (config.admin, config.admin_shutdown)
    assert config.opaque_ports == {25, 3306}


@pytest.mark.parity("D-15")
def test_the_ports_of_server_first_protocols_are_opaque_by_default() -> None:
    assert proxy_config([":1"], ["a:1"]).opaque_ports == OPAQUE_PORTS == {25, 587, 3306, 4444, 5432, 6379, 9300, 11211}


def test_no_timeout_is_said_by_zero() -> None:
    assert proxy_config([":1"], ["a:1"], timeout="0").timeout is None


@pytest.mark.parity("A-01")
def test_every_mistake_is_told_at_once_with_its_option() -> None:
    found = problems(
        "80",
        to=("9000,http://a/x",),
        timeout="3",
        retries="many",
        balance="p2c",
        engine="fast",
        admin="4191",
        access_log="jsn",
        grace_period="soon",
        opaque_ports="25,x",
    )
    assert found == [
        "--from: '80' has no port: HOST:PORT or :PORT is wanted; did you mean :80?",
        "--to: '9000' has no port: HOST:PORT or a URL is wanted; did you mean 127.0.0.1:9000?",
        "--to: 'http://a/x' has a path, which an endpoint has not",
        "--engine: 'fast' is not one of auto, pure",
        "--timeout: '3' is not a duration such as 250ms, 1s or 2m; did you mean 3s?",
        "--retries: 'many' is not a whole number from 0 to 10",
        "--balance: 'p2c' is not one of p2c-ewma, p2c-penalty-ewma, round-robin, least-request",
        "--admin: '4191' has no port: HOST:PORT or :PORT is wanted; did you mean :4191?",
        "--access-log: 'jsn' is not one of off, text, apache, json, linkerd-json; did you mean 'json'?",
        "--grace-period: 'soon' is not a duration such as 250ms, 1s or 2m",
        "--opaque-ports: 'x' is not a whole number from 1 to 65535",
    ]


def test_nothing_to_listen_on_and_nothing_to_forward_to() -> None:
    with pytest.raises(ConfigError) as caught:
        proxy_config([], [])
    assert caught.value.problems == [
        "--from: an address to listen on is needed, such as :8080",
        "--to: an endpoint is needed, such as 127.0.0.1:8000",
    ]


def test_an_endpoint_cannot_be_there_twice() -> None:
    assert problems(to=("a:1,b:2,a:1",)) == ["--to: 'a:1' is there twice"]


def test_bytes_and_requests_cannot_be_mixed() -> None:
    assert problems(to=("tcp://a:1,http://b:2",)) == [
        "--to: tcp:// cannot be mixed with HTTP endpoints: bytes and requests are balanced differently"
    ]
    assert problems("h2c://:1", to=("tcp://a:1",)) == [
        "--from: h2c:// cannot be forwarded to tcp:// endpoints, which take bytes"
    ]


def test_a_certificate_needs_its_key_and_both_have_to_be_there(tmp_path: Path) -> None:
    (tmp_path / "site.pem").write_text("")
    assert problems(tls_cert=str(tmp_path / "site.pem")) == ["--tls-cert: --tls-key is needed with it"]
    missing = str(tmp_path / "sit.pem")
    assert problems(tls_cert=missing, tls_key=str(tmp_path)) == [
        f"--tls-cert: {missing!r}: no such file or directory; did you mean 'site.pem'?",
        f"--tls-key: {str(tmp_path)!r}: is a directory",
    ]


def test_authorities_have_to_be_certificates_and_of_use(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("nothing")
    assert problems(upstream_ca=str(path)) == [
        f"--upstream-ca: {str(path)!r} has no certificate in PEM form",
        "--upstream-ca: no endpoint is https://, so that nothing would be checked against it",
    ]
