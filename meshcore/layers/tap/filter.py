"""Which exchanges somebody wants to see: by what is known at once, with the response, and at its end."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from meshcore.errors import ConfigError
from meshcore.http.classification import GRPC_NAMES, statuses
from meshcore.http.regex import Regex

if TYPE_CHECKING:
    from meshcore.http.message import Request
    from meshcore.transport.target import Address

__all__ = ["KINDS", "TapFilter", "Whom", "Words", "in_network"]

KINDS = ("request_init", "response_init", "response_end")
"""The events of an exchange, in order (M-19)."""

DIRECTIONS = ("inbound", "outbound")

Words: TypeAlias = str | Iterable[str]
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


@attrs.frozen
class Whom:
    """One end of an exchange: by address, by name, or both by ``:port`` alone.

    Attributes:
        text: as it was written: an address, a network, ``HOST:PORT``, ``:PORT``, a name, ``*.SUFFIX`` or ``*``.
        network: the addresses; None: it is a name.
        name: the name, lower case; ``""`` for none.
        port: the port; None: any.
    """

    text: str
    network: Network | None = None
    name: str = ""
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Whom:
        """Reads one.

        Raises:
            ConfigError: it is none.
        """
        host, port = text, None
        if text.startswith("spiffe://"):
            return cls(text, name=text)
        if "://" in text:
            raise ConfigError([f"{text[:80]!r} has a scheme: an address, a network or a name is wanted"])
        head, colon, tail = text.rpartition(":")
        if colon and tail.isascii() and tail.isdigit() and (head.count(":") == 0 or head.endswith("]")):
            if len(tail) > 5 or int(tail) > 65_535:
                raise ConfigError([f"{text[:80]!r}: port {tail[:20]} is too large"])
            host, port = head, int(tail)
        host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        if not host or host == "*":
            if port is None and host != "*":
                raise ConfigError(["an empty value is no address, network or name"])
            return cls(text, port=port)
        try:
            return cls(text, ipaddress.ip_network(host), port=port)
        except ValueError as error:
            if "/" in host or host.replace(".", "").isdigit() or ":" in host:
                raise ConfigError([f"{text[:80]!r} is no address or network{_near(host)}"]) from error
        if "*" in host.removeprefix("*.") or any(char.isspace() for char in host):
            raise ConfigError([f"{text[:80]!r} is no name: a * stands alone or before the first dot"])
        return cls(text, name=host.lower(), port=port)

    def is_at(self, address: Address | None) -> bool:
        """Whether *address* is meant, as far as this says an address."""
        if self.name:
            return False
        if self.network is None and self.port is None:
            return True
        if address is None or (self.port is not None and self.port != address[1]):
            return False
        return self.network is None or in_network(address[0], self.network)

    def is_named(self, name: str | None) -> bool:
        """Whether *name*, of a host, a workload or a backend, is meant; ``NAME:PORT`` where this has a port."""
        if not self.name or not name:
            return False
        if self.name.startswith("spiffe://"):
            return name == self.name
        host, colon, port = name.lower().rpartition(":")
        if not colon or not (port.isascii() and port.isdigit()):
            host, port = name.lower(), ""
        if self.port is not None and port and int(port[:6]) != self.port:
            return False
        host = host.removesuffix(".")
        if self.name.startswith("*."):
            return host.endswith(self.name[1:]) and len(host) >= len(self.name)
        return host == self.name


def in_network(host: str, network: Network) -> bool:
    """Whether an IP address is in a network; never for a name.  IPv4 in IPv6 is IPv4."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address) in network


def _near(host: str) -> str:
    try:
        return f"; did you mean {str(ipaddress.ip_network(host, strict=False))!r}?"
    except ValueError:
        return ""


def _words(value: Words | None) -> tuple[str, ...]:
    return () if value is None else (value,) if isinstance(value, str) else tuple(value)


def _whom(value: Words) -> tuple[Whom, ...]:
    return tuple(Whom.parse(word) for word in _words(value))


def _names(value: Words) -> frozenset[str]:
    return frozenset(_words(value))


def _bytes(value: Words) -> frozenset[bytes]:
    return frozenset(word.encode() for word in _words(value))


def _statuses(value: Words) -> tuple[tuple[int, int], ...]:
    try:
        return tuple(statuses(_CLASSES.get(word.strip().lower(), word)) for word in _words(value))
    except ValueError as error:
        raise ConfigError([str(error)]) from error


_CLASSES = {"1xx": "100-199", "2xx": "200-299", "3xx": "300-399"}


def _grpc(value: Words) -> frozenset[int]:
    found = set()
    for word in _words(value):
        name = word.strip().lower().replace("_", "-")
        if name.isascii() and name.isdigit() and len(name) <= 2:
            found.add(int(name))
        elif name in GRPC_NAMES:
            found.add(GRPC_NAMES[name])
        else:
            raise ConfigError([f"{word[:80]!r} is no gRPC status such as unavailable or 14"])
    return frozenset(found)


def _paths(value: Words) -> tuple[bytes, ...]:
    for word in _words(value):
        if not word.startswith("/"):
            raise ConfigError([f"{word[:80]!r} is not a path: it begins with /"])
    return tuple((word.rstrip("/") or "/").encode() for word in _words(value))


def _regex(value: str | Regex | None) -> Regex | None:
    return Regex(value) if isinstance(value, str) else value


def _directions(value: Words) -> frozenset[str]:
    for word in _words(value):
        if word not in DIRECTIONS:
            raise ConfigError([f"{word[:80]!r} is neither inbound nor outbound"])
    return frozenset(_words(value))


def _headers(value: bool | Words) -> bool | frozenset[bytes]:
    return value if isinstance(value, bool) else frozenset(word.strip().lower().encode() for word in _words(value))


def _kinds(value: Words) -> frozenset[str]:
    for word in _words(value):
        if word not in KINDS:
            raise ConfigError([f"{word[:80]!r} is no event: {', '.join(KINDS)} are"])
    return frozenset(_words(value) or KINDS)


@attrs.frozen(kw_only=True)
class TapFilter:
    """What an exchange has to be like to be shown; all that is given has to fit, of several values any.

    Of what is only known with the response or at its end, the earlier events are told then, too, with their own times.

    Attributes:
        direction: ``"inbound"``, ``"outbound"``; both by default.
        source: whose it is: an address, a network, ``:PORT``, an identity, ``*.SUFFIX``.
        target: where it goes: as *source*, of the endpoint; or the authority that was asked for, or a backend's name.
        identity: the identity of the client or of the endpoint: a name, or ``*.SUFFIX``.
        route: the route's name.
        backend: the backend's name.
        method: the method, case kept.
        scheme: ``"http"`` or ``"https"``.
        authority: ``host``, ``host:port`` or ``*.SUFFIX``.
        path: what the path begins with, by whole segments.
        path_regex: what the whole path is like; its query is not looked at.
        status: ``404``, ``500-599``, ``5xx``.
        grpc_status: by name or number.
        slower_than: seconds to the end of the response at least; None: any.
        failed: only what counts as a failure.
        headers: whether headers and trailers are shown, or which; secrets among them never are.
        events: which of ``KINDS``; all by default.

    Raises:
        ConfigError: a value is not what it should be.
    """

    direction: frozenset[str] = attrs.field(default=frozenset(), converter=_directions)
    source: tuple[Whom, ...] = attrs.field(default=(), converter=_whom)
    target: tuple[Whom, ...] = attrs.field(default=(), converter=_whom)
    identity: tuple[Whom, ...] = attrs.field(default=(), converter=_whom)
    route: frozenset[str] = attrs.field(default=frozenset(), converter=_names)
    backend: frozenset[str] = attrs.field(default=frozenset(), converter=_names)
    method: frozenset[bytes] = attrs.field(default=frozenset(), converter=_bytes)
    scheme: frozenset[bytes] = attrs.field(default=frozenset(), converter=_bytes)
    authority: tuple[Whom, ...] = attrs.field(default=(), converter=_whom)
    path: tuple[bytes, ...] = attrs.field(default=(), converter=_paths)
    path_regex: Regex | None = attrs.field(default=None, converter=_regex)
    status: tuple[tuple[int, int], ...] = attrs.field(default=(), converter=_statuses)
    grpc_status: frozenset[int] = attrs.field(default=frozenset(), converter=_grpc)
    slower_than: float | None = None
    failed: bool = False
    headers: bool | frozenset[bytes] = attrs.field(default=False, converter=_headers)
    events: frozenset[str] = attrs.field(default=frozenset(), converter=_kinds)

    @property
    def decided(self) -> str:
        """The event with which it is known at the latest whether an exchange is wanted."""
        if self.grpc_status or self.failed or self.slower_than is not None:
            return "response_end"
        late = self.target or self.identity or self.route or self.backend or self.status
        return "response_init" if late else "request_init"

    def wants_request(self, request: Request, direction: str) -> bool:
        """Whether what is known when *request* comes fits."""
        if self.direction and direction not in self.direction:
            return False
        if self.method and request.method not in self.method:
            return False
        if self.scheme and request.scheme not in self.scheme:
            return False
        if self.source and not any(_is_source(each, request) for each in self.source):
            return False
        if self.authority:
            authority = request.authority.decode("latin-1")
            if not any(not each.text.strip("*") or _is_authority(each, authority) for each in self.authority):
                return False
        if self.path or self.path_regex is not None:
            path = request.path.partition(b"?")[0]
            if self.path and not any(_begins(path, prefix) for prefix in self.path):
                return False
            if self.path_regex is not None and not self.path_regex.fullmatch(path):
                return False
        return True

    def wants_response(self, request: Request, authority: bytes, status: int) -> bool:
        """Whether what is known with the response's head, or without one (*status* 0), fits."""
        if self.route and request.route not in self.route:
            return False
        if self.backend and request.backend not in self.backend:
            return False
        if self.status and not any(low <= status <= high for low, high in self.status):
            return False
        if self.target and not any(_is_target(each, request, authority) for each in self.target):
            return False
        return not self.identity or any(_is_either(each, request) for each in self.identity)

    def wants_end(self, seconds: float, failed: bool, grpc_status: int) -> bool:
        """Whether what is known at the end fits."""
        if self.slower_than is not None and seconds < self.slower_than:
            return False
        if self.failed and not failed:
            return False
        return not self.grpc_status or grpc_status in self.grpc_status

    def shows(self, fields: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Those of *fields* that are to be shown."""
        headers = self.headers
        if isinstance(headers, bool):
            return list(fields) if headers else []
        return [(name, value) for name, value in fields if name.lower() in headers]


def _is_source(whom: Whom, request: Request) -> bool:
    connection = request.connection
    if connection is None:
        return whom.is_at(None)
    return whom.is_at(connection.peer) or whom.is_named(connection.identity)


def _is_authority(whom: Whom, authority: str) -> bool:
    if whom.is_named(authority):
        return True
    host, colon, port = authority.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()):
        host, port = authority, "0"
    return whom.is_at((host.strip("[]"), int(port[:6]))) if not whom.name else False


def _is_target(whom: Whom, request: Request, authority: bytes) -> bool:
    endpoint: Any = request.endpoint
    if whom.is_named(request.backend) or _is_authority(whom, authority.decode("latin-1")):
        return True
    return endpoint is not None and (whom.is_at(endpoint.address) or whom.is_named(endpoint_identity(endpoint)))


def _is_either(whom: Whom, request: Request) -> bool:
    connection, endpoint = request.connection, request.endpoint
    if connection is not None and whom.is_named(connection.identity):
        return True
    return endpoint is not None and whom.is_named(endpoint_identity(endpoint))


def endpoint_identity(endpoint: Any) -> str | None:
    """The identity that an endpoint must have shown; None without TLS."""
    tls = endpoint.tls
    return None if tls is None else tls.identity or tls.server_name


def _begins(path: bytes, prefix: bytes) -> bool:
    if prefix == b"/" or path == prefix:
        return True
    return path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] == b"/"
