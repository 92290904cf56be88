"""Who may call a server: authorizations, default policies, and how they are judged.  Pure.

The model is linkerd's (R-28, R-29, R-33): an authorization lets in clients from some networks that are of some kind;
the first that permits decides; default policies are such authorizations with a name.
"""

from __future__ import annotations

import ipaddress
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Authorization", "Client", "DefaultPolicy", "ServerPolicy", "Verdict"]

DefaultPolicy: TypeAlias = Literal[
    "all-unauthenticated",
    "all-authenticated",
    "cluster-unauthenticated",
    "cluster-authenticated",
    "audit",
    "deny",
]
"""linkerd's names (R-33)."""

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


def _networks(texts: Iterable[str]) -> tuple[_Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


def _comparable(name: str) -> str:
    """Host names whatever their case; URIs exactly."""
    return name if "://" in name else name.lower()


def _identities(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(_comparable, names))


def _suffixes(patterns: Iterable[str]) -> tuple[str, ...]:
    found = []
    for pattern in patterns:
        if not pattern.startswith("*.") or "*" in pattern[1:] or "://" in pattern or len(pattern) < 3:
            raise ValueError(f"{pattern!r} is not a suffix such as '*.shop'")
        found.append(pattern.lower())
    return tuple(found)


@attrs.frozen
class Client:
    """Who wants something, as far as its connection tells.

    Attributes:
        address: where it comes from; None: nobody knows.
        identity: the name in its verified certificate; None without one.
        secure: whether TLS was terminated here.
    """

    address: _Address | None = None
    identity: str | None = None
    secure: bool = False

    @classmethod
    def at(cls, host: str, identity: str | None = None, secure: bool = False) -> Client:
        """A client at *host*: an address, perhaps with a zone, or an IPv4 one in IPv6's form."""
        address: _Address | None
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            address = None
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return cls(address, None if identity is None else _comparable(identity), secure)

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this very host."""
        return self.address is not None and self.address.is_loopback


@attrs.frozen
class Authorization:
    """Lets in clients from some networks that are of one of some kinds (R-29).

    Attributes:
        name: for logs and metrics.
        networks: where they come from, as in ``10.0.0.0/8``; none: anywhere.
        exceptions: networks that they may not come from, whatever *networks* says.
        unauthenticated: anybody.
        unauthenticated_tls: whoever TLS was terminated for here, with or without a certificate.
        mesh_tls: whoever has a verified identity.
        identities: whoever has one of these: host names whatever their case, URIs exactly.
        identity_suffixes: whoever has a host name that ends so, ``*.shop``; never a URI.
        routes: the routes that it is for, by name; none: all of them, and connections that carry no requests.
    """

    name: str = ""
    networks: tuple[str, ...] = attrs.field(default=(), converter=tuple[str, ...])
    exceptions: tuple[str, ...] = attrs.field(default=(), converter=tuple[str, ...])
    unauthenticated: bool = False
    unauthenticated_tls: bool = False
    mesh_tls: bool = False
    identities: tuple[str, ...] = attrs.field(default=(), converter=_identities)
    identity_suffixes: tuple[str, ...] = attrs.field(default=(), converter=_suffixes)
    routes: tuple[str, ...] = attrs.field(default=(), converter=tuple[str, ...])
    _networks: tuple[_Network, ...] = attrs.field(init=False, eq=False, repr=False)
    _exceptions: tuple[_Network, ...] = attrs.field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_networks", _networks(self.networks))
        object.__setattr__(self, "_exceptions", _networks(self.exceptions))

    def permits(self, client: Client) -> bool:
        """Whether *client* is let in."""
        return self._from(client.address) and self._of(client)

    def _from(self, address: _Address | None) -> bool:
        if not self._networks and not self._exceptions:
            return True
        if address is None or any(address in network for network in self._exceptions):
            # Who comes from nowhere does not come from an allowed place.
            return False
        return not self._networks or any(address in network for network in self._networks)

    def _of(self, client: Client) -> bool:
        if self.unauthenticated or (self.unauthenticated_tls and client.secure):
            return True
        identity = client.identity
        if identity is None:
            return False
        if self.mesh_tls or identity in self.identities:
            return True
        return "://" not in identity and any(
            identity.endswith(suffix[1:]) and len(identity) >= len(suffix) for suffix in self.identity_suffixes
        )


@attrs.frozen
class Verdict:
    """What a policy says of a client.

    Attributes:
        allowed: whether it is let in.
        server: what decided, for metrics: ``("default", "all-authenticated")`` or ``("server", NAME)``.
        authorization: the authorization that let it in, likewise.
        audit: it is let in only because nothing is enforced.
        reason: why it is not let in, for messages.
    """

    allowed: bool
    server: tuple[str, str]
    authorization: tuple[str, str] = ("", "")
    audit: bool = False
    reason: str = ""


_LOOPBACK = Authorization("localhost", networks=("127.0.0.0/8", "::1/128"), unauthenticated=True)


def _known(policy: ServerPolicy, attribute: object, value: str) -> None:
    if value not in get_args(DefaultPolicy):
        raise ValueError(f"policy {value!r} is not one of {', '.join(get_args(DefaultPolicy))}")


@attrs.frozen(slots=False)
class ServerPolicy:
    """Who may call a server (R-28): the authorizations that are for what is asked, in order; where none is, the
    default policy.

    Attributes:
        default: the default policy: ``all-unauthenticated`` lets everybody in, ``all-authenticated`` those with a
            verified identity; ``cluster-…`` the same, from *networks* alone; ``audit`` everybody, and tells whom
            ``all-authenticated`` would not; ``deny`` nobody.
        networks: the cluster's, as in ``10.0.0.0/8``; needed by ``cluster-…``.
        loopback: whether clients on this very host are let in always (R-30).
        authorizations: those of the server and of its routes.
        name: the server's, for messages and metrics.
    """

    default: DefaultPolicy = attrs.field(default="all-unauthenticated", validator=_known)
    networks: tuple[str, ...] = attrs.field(default=(), converter=tuple[str, ...])
    loopback: bool = True
    authorizations: tuple[Authorization, ...] = attrs.field(default=(), converter=tuple[Authorization, ...])
    name: str = ""

    def __attrs_post_init__(self) -> None:
        if not _networks(self.networks) and self.default.startswith("cluster-"):
            raise ValueError(f"policy {self.default!r} needs networks")

    def __str__(self) -> str:
        default = self.default if not self.networks else f"{self.default} from {', '.join(self.networks)}"
        names = [each.name or "?" for each in self.authorizations]
        return f"{', '.join(names)}; default {default}" if names else default

    @property
    def open(self) -> bool:
        """Whether everybody is let in, whatever they ask for."""
        return self.default == "all-unauthenticated" and not self.authorizations

    def judge(self, client: Client, route: str = "") -> Verdict:
        """Whether *client* is let in, to *route* (``""``: none was matched, or there are no requests)."""
        named = [each for each in self.authorizations if not each.routes or route in each.routes]
        server = ("server", self.name) if named else ("default", self.default)
        if self.loopback and client.is_loopback:
            return Verdict(True, server, ("default", _LOOPBACK.name))
        for each in named or self._defaults:
            if each.permits(client):
                return Verdict(True, server, ("policy" if named else "default", each.name))
        if not named and self.default == "audit":
            return Verdict(True, server, ("default", "audit"), audit=True)
        if not named:
            return Verdict(False, server, reason=f"policy {self.default}")
        return Verdict(False, server, reason=f"no policy of {self.name or 'the server'} permits it")

    @cached_property
    def _defaults(self) -> tuple[Authorization, ...]:
        """The default policy as authorizations."""
        if self.default == "deny":
            return ()
        anybody = self.default.endswith("-unauthenticated")
        networks = self.networks if self.default.startswith("cluster-") else ()
        return (Authorization(self.default, networks, unauthenticated=anybody, mesh_tls=not anybody),)
