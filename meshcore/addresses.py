"""Addresses as people write them: ``HOST:PORT`` to listen on, URLs to forward to."""

from __future__ import annotations

import difflib
import ipaddress
import re

import attrs

from meshcore.errors import ConfigError

__all__ = [
    "LISTEN_SCHEMES",
    "UPSTREAM_SCHEMES",
    "Location",
    "format_address",
    "is_dns_name",
    "parse_listen",
    "parse_upstream",
    "suggest",
]

LISTEN_SCHEMES = {"http": None, "http1": "http/1", "h2c": "h2", "tcp": "opaque"}
"""Scheme of ``--from`` to the protocol that it forces; None: what is accepted is detected."""

UPSTREAM_SCHEMES = {"http": "http", "http1": "http/1", "h2c": "h2", "https": "http", "tcp": "opaque"}
"""Scheme of ``--to`` to the endpoint's protocol: ``"http"`` is the version that the request came in with."""

_DEFAULT_PORTS = {"http": 80, "http1": 80, "h2c": 80, "https": 443}
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)


@attrs.frozen
class Location:
    """Where to listen or to connect.

    Attributes:
        scheme: as written; ``"http"`` if it was not.
        host: an IP literal without brackets, or a name; ``""`` for every interface.
        port: 0 to 65535.
    """

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        return format_address((self.host, self.port))


def format_address(address: tuple[str, int]) -> str:
    """``host:port``, an IPv6 host in brackets."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_dns_name(name: str) -> bool:
    """Whether *name* can be asked for: labels of 1 to 63 letters, digits, ``-`` and ``_``, 253 characters in all."""
    bare = name.removesuffix(".")
    return 0 < len(bare) <= 253 and all(
        0 < len(label) < 64 and label.isascii() and label.replace("-", "").replace("_", "").isalnum()
        for label in bare.split(".")
    )


def suggest(word: str, known: list[str] | dict[str, object]) -> str:
    """``"; did you mean …?"`` for the nearest known word, ``""`` if none is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def parse_listen(text: str) -> Location:
    """An address to listen on: ``HOST:PORT``, ``:PORT`` or ``[::]:PORT``; port 0 takes a free one.

    A scheme in front forces what is spoken there: ``h2c://``, ``http1://``, ``tcp://``; ``http://`` is
    the default, which detects.

    Raises:
        ConfigError: it is not one.
    """
    scheme, rest = _split(text, LISTEN_SCHEMES, "http")
    if scheme == "https":
        raise ConfigError([f"{text!r}: TLS is terminated with --tls-cert and --tls-key, without https://"])
    host, port = _host_and_port(text, rest)
    if port is None:
        hint = f"; did you mean :{host}?" if host.isdigit() and int(host) <= 65_535 else ""
        raise ConfigError([f"{text!r} has no port: HOST:PORT or :PORT is wanted{hint}"])
    return Location(scheme, host, port)


def parse_upstream(text: str) -> Location:
    """An endpoint: ``HOST:PORT``, or a URL without a path.

    ``http://`` speaks the version that the request came in with, ``h2c://`` HTTP/2, ``http1://`` HTTP/1.1,
    ``https://`` TLS with the version by ALPN, ``tcp://`` bytes.  Without a port the HTTP ones mean 80 or 443.

    Raises:
        ConfigError: it is not one.
    """
    scheme, rest = _split(text, UPSTREAM_SCHEMES, "http")
    host, port = _host_and_port(text, rest.removesuffix("/"))
    if not host:
        raise ConfigError([f"{text!r} has no host" + (f"; did you mean 127.0.0.1:{port}?" if port else "")])
    if port is None:
        if "://" not in text:
            hint = f"; did you mean 127.0.0.1:{host}?" if host.isdigit() else ""
            raise ConfigError([f"{text!r} has no port: HOST:PORT or a URL is wanted{hint}"])
        if scheme not in _DEFAULT_PORTS:
            raise ConfigError([f"{text!r} has no port, and {scheme}:// has no default one"])
        port = _DEFAULT_PORTS[scheme]
    if port == 0:
        raise ConfigError([f"{text!r}: nothing can be connected to at port 0"])
    return Location(scheme, host, port)


def _split(text: str, schemes: dict[str, str | None] | dict[str, str], default: str) -> tuple[str, str]:
    match = _SCHEME.fullmatch(text.strip())
    if match is None:
        return default, text.strip()
    scheme, rest = match.group(1).lower(), match.group(2)
    if scheme not in schemes and scheme != "https":
        known = ", ".join(f"{name}://" for name in schemes)
        raise ConfigError([f"{text!r}: unknown scheme {scheme!r} (known: {known}){suggest(scheme, list(schemes))}"])
    return scheme, rest


def _host_and_port(text: str, rest: str) -> tuple[str, int | None]:
    """The parts of ``host:port``; *text* is the whole, for messages."""
    if "@" in rest:
        raise ConfigError([f"an address must not carry a user or a password: {rest.rpartition('@')[2]!r} is enough"])
    for mark, what in (("/", "path"), ("?", "query"), ("#", "fragment")):
        if mark in rest:
            raise ConfigError([f"{text!r} has a {what}, which an endpoint has not"])
    if rest.startswith("["):
        host, closed, tail = rest[1:].partition("]")
        if not closed or (tail and not tail.startswith(":")):
            raise ConfigError([f"{text!r} is not [IPv6]:PORT"])
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise ConfigError([f"{text!r}: {host!r} is not an IPv6 address"]) from None
        return host, _port(text, tail[1:]) if tail else None
    if rest.count(":") > 1:
        raise ConfigError([f"{text!r}: an IPv6 address stands in brackets, as in [::1]:8080"])
    host, colon, port = rest.partition(":")
    if host and not (not colon and host.isdigit()):
        _check_host(text, host)
    return host, _port(text, port) if colon else None


def _port(text: str, port: str) -> int:
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65_535):
        raise ConfigError([f"{text!r}: {port!r} is not a port (0 to 65535)"])
    return int(port)


def _check_host(text: str, host: str) -> None:
    labels = host.rstrip(".").split(".")
    if all(label.isdigit() for label in labels):
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise ConfigError([f"{text!r}: {host!r} is not an IPv4 address"]) from None
    elif len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ConfigError([f"{text!r}: {host!r} is not a host name"])
