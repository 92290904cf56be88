from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshcore.addresses import Location, format_address, parse_listen, parse_upstream
from meshcore.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "location"),
    [
        (":8080", Location("http", "", 8080)),
        ("127.0.0.1:0", Location("http", "127.0.0.1", 0)),
        ("[::]:443", Location("http", "::", 443)),
        ("localhost:65535", Location("http", "localhost", 65535)),
        ("h2c://:8080", Location("h2c", "", 8080)),
        ("HTTP1://[::1]:1", Location("http1", "::1", 1)),
        ("tcp://0.0.0.0:5432", Location("tcp", "0.0.0.0", 5432)),
    ],
)
def test_an_address_to_listen_on(text: str, location: Location) -> None:
    assert parse_listen(text) == location


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("8080", "'8080' has no port: HOST:PORT or :PORT is wanted; did you mean :8080?"),
        ("localhost", "'localhost' has no port: HOST:PORT or :PORT is wanted"),
        ("", "'' has no port: HOST:PORT or :PORT is wanted"),
        ("a:http", "'a:http': 'http' is not a port (0 to 65535)"),
        (":65536", "':65536': '65536' is not a port (0 to 65535)"),
        (":-1", "':-1': '-1' is not a port (0 to 65535)"),
        ("::1:80", "'::1:80': an IPv6 address stands in brackets, as in [::1]:8080"),
        ("[::1", "'[::1' is not [IPv6]:PORT"),
        ("[1.2.3.4]:1", "'[1.2.3.4]:1': '1.2.3.4' is not an IPv6 address"),
        ("300.1.1.1:1", "'300.1.1.1:1': '300.1.1.1' is not an IPv4 address"),
        ("-a.b:1", "'-a.b:1': '-a.b' is not a host name"),
        ("a b:1", "'a b:1': 'a b' is not a host name"),
        (
            "htp://:80",
            "'htp://:80': unknown scheme 'htp' (known: http://, http1://, h2c://, tcp://); did you mean 'http'?",
        ),
        ("https://:443", "'https://:443': TLS is terminated with --tls-cert and --tls-key, without https://"),
        (":80/x", "':80/x' has a path, which an endpoint has not"),
    ],
)
def test_a_wrong_address_to_listen_on_is_named_with_its_reason(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_listen(text)
    assert caught.value.problems == [problem]


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("10.0.0.7:8000", Location("http", "10.0.0.7", 8000)),
        ("http://a.example", Location("http", "a.example", 80)),
        ("https://a.example/", Location("https", "a.example", 443)),
        ("h2c://[fe80::1]:9", Location("h2c", "fe80::1", 9)),
        ("http1://my_service:9", Location("http1", "my_service", 9)),
        ("tcp://db:5432", Location("tcp", "db", 5432)),
    ],
)
def test_an_endpoint(text: str, location: Location) -> None:
    assert parse_upstream(text) == location


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("9000", "'9000' has no port: HOST:PORT or a URL is wanted; did you mean 127.0.0.1:9000?"),
        (":9000", "':9000' has no host; did you mean 127.0.0.1:9000?"),
        ("http://", "'http://' has no host"),
        ("a:0", "'a:0': nothing can be connected to at port 0"),
        ("tcp://db", "'tcp://db' has no port, and tcp:// has no default one"),
        ("http://a/v1", "'http://a/v1' has a path, which an endpoint has not"),
        ("http://a?x", "'http://a?x' has a query, which an endpoint has not"),
        (
            "h2://a:1",
            "'h2://a:1': unknown scheme 'h2' (known: http://, http1://, h2c://, https://, tcp://); did you mean 'h2c'?",
        ),
    ],
)
def test_a_wrong_endpoint_is_named_with_its_reason(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_upstream(text)
    assert caught.value.problems == [problem]


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_upstream("http://admin:hunter2@a:80")
    assert "hunter2" not in str(caught.value)


@given(st.ip_addresses(), st.integers(1, 65535))
def test_every_address_survives_writing_and_reading(address: object, port: int) -> None:
    location = parse_upstream(format_address((str(address), port)))
    assert (str(address), port) == (location.host, location.port)


@given(st.text(max_size=30))
def test_no_text_at_all_makes_anything_but_a_location_or_a_config_error(text: str) -> None:
    for parse in (parse_listen, parse_upstream):
        try:
            location = parse(text)
        except ConfigError as error:
            assert len(error.problems) == 1
            assert "\n" not in error.problems[0]
        else:
            assert 0 <= location.port <= 65535
