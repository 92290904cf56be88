"""What the system says of name resolution: ``/etc/resolv.conf`` and ``/etc/hosts``."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Final

import attrs

from meshcore.transport.target import Address

__all__ = ["ResolvConf", "SystemFiles", "parse_hosts", "parse_resolv_conf"]

_LARGEST: Final = 1 << 20
_MOST_SERVERS: Final = 3
_MOST_DOMAINS: Final = 8


@attrs.frozen
class ResolvConf:
    """Whom to ask, and for what.

    Attributes:
        servers: addresses of DNS servers, in the order in which they are asked.
        search: domains that names are completed with.
        ndots: names with fewer dots are completed first, others asked as they are first.
        timeout: seconds that a server is waited for; by default less than the 5 s of glibc, since requests wait.
        attempts: rounds through the servers.
    """

    servers: tuple[Address, ...] = (("127.0.0.1", 53),)
    search: tuple[str, ...] = ()
    ndots: int = 1
    timeout: float = 2.0
    attempts: int = 2

    def candidates(self, name: str) -> tuple[str, ...]:
        """The full names that *name* may mean, in order; with a dot at its end it is one already."""
        if name.endswith("."):
            return (name,)
        completed = tuple(f"{name}.{domain}" for domain in self.search)
        return (name, *completed) if name.count(".") >= self.ndots else (*completed, name)


def parse_resolv_conf(text: str) -> ResolvConf:
    """What a ``resolv.conf`` says (resolv.conf(5)); what is not understood in it is passed over."""
    servers: list[Address] = []
    search: tuple[str, ...] = ()
    numbers = {"ndots": 1, "timeout": 2, "attempts": 2}
    most = {"ndots": 15, "timeout": 30, "attempts": 5}
    for line in text.splitlines():
        word, *rest = line.split("#")[0].split(";")[0].split() or [""]
        if word == "nameserver" and rest and _is_address(rest[0]):
            servers.append((rest[0], 53))
        elif word in ("search", "domain") and rest:
            search = tuple(domain.strip(".") for domain in rest if domain.strip("."))
        elif word == "options":
            for option in rest:
                name, _, value = option.partition(":")
                if name in numbers and value.isascii() and value.isdigit():
                    least = 0 if name == "ndots" else 1
                    numbers[name] = max(least, min(int(value[:4]), most[name]))
    return ResolvConf(
        tuple(servers[:_MOST_SERVERS]) or ResolvConf().servers,
        search[:_MOST_DOMAINS],
        numbers["ndots"],
        float(numbers["timeout"]),
        numbers["attempts"],
    )


def parse_hosts(text: str) -> dict[str, tuple[str, ...]]:
    """Addresses by name from a ``hosts`` file (hosts(5))."""
    found: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        address, *names = line.split("#")[0].split() or [""]
        if _is_address(address):
            for name in names:
                known = found.get(name.lower(), ())
                if address not in known:
                    found[name.lower()] = (*known, address)
    return found


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True


class SystemFiles:
    """The two files, read again whenever they have changed.

    Args:
        resolv_conf: the path of ``resolv.conf``.
        hosts: the path of ``hosts``.
    """

    def __init__(self, resolv_conf: Path = Path("/etc/resolv.conf"), hosts: Path = Path("/etc/hosts")) -> None:
        self._paths = resolv_conf, hosts
        self._seen: dict[Path, tuple[int, ...]] = {}
        self._conf = ResolvConf()
        self._hosts: dict[str, tuple[str, ...]] = {}

    def conf(self) -> ResolvConf:
        """What ``resolv.conf`` says now; a server on this machine where there is none."""
        text = self._changed(self._paths[0])
        if text is not None:
            self._conf = parse_resolv_conf(text)
        return self._conf

    def hosts(self) -> dict[str, tuple[str, ...]]:
        """What ``hosts`` says now."""
        text = self._changed(self._paths[1])
        if text is not None:
            self._hosts = parse_hosts(text)
        return self._hosts

    def _changed(self, path: Path) -> str | None:
        """The text, if it is another one than before."""
        try:
            found = os.stat(path)
            signature = found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
            if self._seen.get(path) == signature:
                return None
            with open(path, "rb") as file:
                data = file.read(_LARGEST)
        except OSError:
            if self._seen.pop(path, None) is None:
                return None
            return ""
        self._seen[path] = signature
        return data.decode("utf-8", "replace")
