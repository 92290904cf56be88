"""Kinds of values that name something outside of the file: addresses, files, peers, whoever tells endpoints."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Any, TypeAlias
from urllib.parse import urlsplit

import attrs

from meshcore.addresses import LISTEN_SCHEMES, format_address, is_dns_name, parse_listen, parse_upstream, suggest
from meshcore.config.kinds import Kind, parsed, text
from meshcore.config.report import WRONG, At, shown
from meshcore.errors import ConfigError
from meshcore.transport.target import Address

__all__ = [
    "AppAddress",
    "AwaitedFile",
    "Discovery",
    "DnsServer",
    "File",
    "Folder",
    "ListenAddress",
    "Network",
    "OptionalAddress",
    "OptionalListenAddress",
    "Peer",
    "authority",
    "beside",
    "host_pattern",
]


@attrs.frozen
class Listening(Kind):
    """Where to accept.

    Attributes:
        off: whether that may be nowhere.
        schemes: whether a key ``protocol`` stands beside it, for what a scheme would say.
    """

    off: bool = False
    schemes: bool = False

    @property
    def title(self) -> str:  # type: ignore[override]
        """An address, or off."""
        return "`HOST:PORT` or `off`" if self.off else "`HOST:PORT`"

    def read(self, value: object, at: At, /) -> Any:
        """Host and port; None for off."""
        if self.off and (value == "off" or value is False):
            return None
        if isinstance(value, int) and not isinstance(value, bool):
            hint = f'; did you mean ":{value}"?' if 0 <= value <= 65_535 else ""
            return at.error(f"{value} is not HOST:PORT{hint}")
        if isinstance(value, str) and "://" in value:
            scheme = value.partition("://")[0].lower()
            hint = ""
            if scheme == "https" and self.schemes:
                hint = "; TLS is `tls = { cert = …, key = … }`"
            elif scheme in LISTEN_SCHEMES and self.schemes:
                hint = f'; `protocol = "{scheme}"` says that'
            return at.error(f"{shown(value)} has a scheme: HOST:PORT is wanted{hint}")
        location = parsed(value, at, parse_listen)
        return WRONG if location is WRONG else (location.host, location.port)

    def show(self, value: Any, /) -> Any:
        """Its text."""
        return "off" if value is None else format_address(value)

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"type": "string", "pattern": "^(off|.*:[0-9]{1,5})$" if self.off else "^.*:[0-9]{1,5}$"}


@attrs.frozen
class Connecting(Kind):
    """Where to connect, without a scheme."""

    title = "`HOST:PORT`"

    def read(self, value: object, at: At, /) -> Any:
        """Host and port."""
        if isinstance(value, int) and not isinstance(value, bool):
            hint = f'; did you mean "127.0.0.1:{value}"?' if 0 < value <= 65_535 else ""
            return at.error(f"{value} is not HOST:PORT{hint}")
        if isinstance(value, str) and "://" in value:
            return at.error(f"{shown(value)} has a scheme: HOST:PORT is wanted")
        location = parsed(value, at, parse_upstream)
        return WRONG if location is WRONG else (location.host, location.port)

    def show(self, value: Any, /) -> Any:
        """Its text."""
        return format_address(value)

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"type": "string", "pattern": "^.+:[0-9]{1,5}$"}


@attrs.frozen
class FileKind(Kind):
    """A file that can be read; its path is relative to the config file.

    Attributes:
        awaited: whether it may come later, where files are waited for.
    """

    title = "a file"
    awaited: bool = False

    def read(self, value: object, at: At, /) -> Any:
        """The path."""
        word = text(value, at)
        if word is WRONG:
            return WRONG
        if "-----BEGIN" in word:
            return at.error("this is the content of a PEM file; the path of a file is wanted")
        path = beside(at, word)
        problem = unreadable(path)
        if problem.startswith("no such file") and self.awaited and at.report.waiting:
            at.report.warn(at.path, f"{shown(word)}: {problem}; it is waited for")
            return path
        return at.error(f"{shown(word)}: {problem}") if problem else path

    def show(self, value: Any, /) -> Any:
        """The path."""
        return str(value)

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"type": "string", "minLength": 1}


@attrs.frozen
class FolderKind(Kind):
    """A folder, which need not be there; its path is relative to the config file."""

    title = "a folder"

    def read(self, value: object, at: At, /) -> Any:
        """The path."""
        word = text(value, at)
        if word is WRONG:
            return WRONG
        path = beside(at, word)
        return at.error(f"{shown(word)} is not a folder") if path.exists() and not path.is_dir() else path

    def show(self, value: Any, /) -> Any:
        """The path."""
        return str(value)

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"type": "string", "minLength": 1}


def beside(at: At, word: str) -> Path:
    """A path as the config file means it: absolute, symbolic links kept (they may be what changes)."""
    if "\0" in word:
        word = word.replace("\0", "�")
    return Path(os.path.abspath(at.report.document.path.parent / Path(word).expanduser()))


def unreadable(path: Path) -> str:
    """Why a file cannot be read, with the name that may have been meant; ``""`` if it can."""
    try:
        with open(path, "rb"):
            return ""
    except FileNotFoundError:
        if not path.parent.is_dir():
            return f"no such file: there is no folder {str(path.parent)!r}"
        try:
            near = suggest(path.name, [entry.name for entry in path.parent.iterdir()])
        except OSError:
            near = ""
        return f"no such file{near}"
    except OSError as error:
        return (error.strerror or "cannot be read").lower()


@attrs.frozen
class DnsServerKind(Kind):
    """A DNS server: an address, so that none is needed to find it."""

    title = "`ADDRESS` or `ADDRESS:PORT`"

    def read(self, value: object, at: At, /) -> Any:
        """Host and port; port 53 where none is said."""
        word = text(value, at)
        if word is WRONG:
            return WRONG
        bare = word.count(":") > 1 and "]" not in word
        location = parsed(f"[{word}]:53" if bare else word if ":" in word else f"{word}:53", at, parse_upstream)
        if location is WRONG:
            return WRONG
        try:
            ipaddress.ip_address(location.host)
        except ValueError:
            return at.error(f"{shown(word)} is not an IP address such as 10.0.0.53 or 127.0.0.1:5353")
        return location.host, location.port

    def show(self, value: Any, /) -> Any:
        """Its text."""
        return format_address(value)

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"type": "string", "minLength": 1}


_LATER = ("etcd", "k8s", "consul", "linkerd", "http", "https")
_SCHEMES = ("file", "dns", "dns+srv")


@attrs.frozen
class DiscoveryKind(Kind):
    """Who tells the endpoints."""

    title = "`file:PATH`, `dns:HOST:PORT` or `dns+srv:NAME`"

    def read(self, value: object, at: At, /) -> Any:
        """The scheme, and what follows it: of ``file:`` the absolute path."""
        word = text(value, at)
        if word is WRONG:
            return WRONG
        scheme, colon, rest = word.partition(":")
        if colon and scheme in _LATER:
            return at.error(f"{shown(word)}: {scheme}: is not in this release; {', '.join(_SCHEMES)} are")
        if scheme not in _SCHEMES or not rest:
            hint = suggest(scheme, list(_SCHEMES)) if colon and "/" not in scheme else ""
            hint = hint or f"; did you mean {self._meant(word)!r}?"
            return at.error(f"{shown(word)} is not file:PATH, dns:HOST:PORT or dns+srv:NAME{hint}")
        if scheme == "file":
            path = beside(at, rest)
            problem = unreadable(path)
            return at.error(f"{shown(word)}: {problem}") if problem else f"file:{path}"
        return self._dns(word, rest, at) if scheme == "dns" else self._service(word, rest, at)

    @staticmethod
    def _meant(word: str) -> str:
        host, _, port = word.rpartition(":")
        if host and port.isdigit():
            return f"dns:{word}"
        return f"dns+srv:{word}" if word.startswith("_") else f"file:{word}"

    @staticmethod
    def _dns(word: str, rest: str, at: At) -> Any:
        if "://" in rest:
            return at.error(f"{shown(word)} has a scheme after dns:; HOST:PORT is wanted, and protocol says the rest")
        location = parsed(rest, at, parse_upstream)
        return WRONG if location is WRONG else f"dns:{format_address((location.host, location.port))}"

    @staticmethod
    def _service(word: str, rest: str, at: At) -> Any:
        host, colon, port = rest.rpartition(":")
        if colon and port.isdigit():
            return at.error(f"{shown(word)} has a port, which SRV records tell; did you mean {'dns+srv:' + host!r}?")
        return f"dns+srv:{rest}" if is_dns_name(rest) else at.error(f"{shown(word)}: {shown(rest)} is not a name")

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"type": "string", "pattern": r"^(file|dns|dns\+srv):.+$"}


def _peer(value: str) -> str:
    if value.startswith("spiffe://"):
        parts = urlsplit(value)
        if not parts.netloc or ":" in parts.netloc or "@" in parts.netloc or parts.query or parts.fragment:
            raise ConfigError([f"{shown(value)} is not spiffe://TRUST-DOMAIN/PATH"])
        if len(value) > 2_048 or not value.isascii() or not value.isprintable():
            raise ConfigError([f"{shown(value)}: a SPIFFE ID is ASCII, 2048 characters at the most"])
        return value
    if "://" in value:
        near = "; did you mean " + repr("spiffe://" + value.partition("://")[2]) + "?"
        raise ConfigError([f"{shown(value)} is neither a DNS name nor spiffe://…{near}"])
    try:
        location = parse_upstream(f"{value}:1")
    except ConfigError:
        location = None
    if location is None or not value or location.host != value or value.replace(".", "").isdigit() or ":" in value:
        near = f"; did you mean {value.rpartition(':')[0]!r}?" if value.rpartition(":")[2].isdigit() else ""
        raise ConfigError([f"{shown(value)} is neither a DNS name nor spiffe://TRUST-DOMAIN/PATH{near}"])
    return value


@attrs.frozen
class PeerKind(Kind):
    """A name that certificates carry: of DNS, or a SPIFFE ID."""

    title = "a DNS name or `spiffe://…`"

    def read(self, value: object, at: At, /) -> Any:
        """The name."""
        return parsed(value, at, _peer)

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"type": "string", "minLength": 1}


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value))
    except ValueError as error:
        try:
            near = f"; did you mean {str(ipaddress.ip_network(value, strict=False))!r}?"
        except ValueError:
            near = ""
        raise ConfigError([f"{shown(value)} is not a network such as 10.0.0.0/8{near}"]) from error


@attrs.frozen
class NetworkKind(Kind):
    """A range of IP addresses."""

    title = "a network"

    def read(self, value: object, at: At, /) -> Any:
        """Its canonical text."""
        return parsed(value, at, _network)

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"type": "string", "pattern": "^[0-9a-fA-F:.]+(/[0-9]+)?$"}


def authority(value: str) -> str:
    """What an application connects to or sends as authority, in lower case: ``HOST:PORT`` or ``HOST``.

    Raises:
        ConfigError: it is neither.
    """
    if "://" in value:
        rest = value.partition("://")[2].rstrip("/")
        raise ConfigError([f"{shown(value)} is an authority with a scheme; did you mean {rest!r}?"])
    parse_upstream(value if _port(value) else f"{value}:80")
    return value.lower()


def host_pattern(value: str) -> str:
    """A host pattern of a route, in lower case (R-22).

    Raises:
        ConfigError: it is none.
    """
    if value == "*":
        return value
    bare = value.removeprefix("*.")
    if "*" in bare:
        raise ConfigError([f"{shown(value)}: a * stands alone, or before the first dot"])
    authority(bare)
    return value.lower()


def _port(value: str) -> bool:
    return value.rpartition("]")[2].rpartition(":")[1] == ":"


ListenAddress: TypeAlias = Annotated[Address, Listening()]
OptionalAddress: TypeAlias = Annotated[Address | None, Listening()]
OptionalListenAddress: TypeAlias = Annotated[Address | None, Listening(off=True)]
AppAddress: TypeAlias = Annotated[Address, Connecting()]
File: TypeAlias = Annotated[Path, FileKind()]
AwaitedFile: TypeAlias = Annotated[Path, FileKind(awaited=True)]
Folder: TypeAlias = Annotated[Path, FolderKind()]
DnsServer: TypeAlias = Annotated[Address, DnsServerKind()]
Discovery: TypeAlias = Annotated[str, DiscoveryKind()]
Network: TypeAlias = Annotated[str, NetworkKind()]
Peer: TypeAlias = Annotated[str, PeerKind()]
