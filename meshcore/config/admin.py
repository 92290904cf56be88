"""The admin server: where it listens, who may ask it, and what does not go together there."""

from __future__ import annotations

import ipaddress
import stat
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import attrs

from meshcore.addresses import format_address, is_dns_name
from meshcore.config.kinds import Text, parsed
from meshcore.config.places import File, OptionalListenAddress, PeerKind
from meshcore.config.policy import SuffixKind
from meshcore.config.report import WRONG, At, right, shown
from meshcore.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from meshcore.config.mesh import MeshConfig
    from meshcore.config.report import Report
    from meshcore.config.toml_lines import KeyPath
    from meshcore.transport.target import Address

__all__ = ["OPEN", "SHORTEST_TOKEN", "AdminConfig", "AdminTls", "check_admin", "is_loopback", "open_page", "read_token"]

OPEN = frozenset({"/live", "/ready"})
"""Pages that everybody may see, wherever the admin server listens: a kubelet asks for them, and has no token."""

SHORTEST_TOKEN = 16
"""Characters that a token has at least: whoever can reach the admin server may guess as often as they like."""
_LONGEST_TOKEN = 4_096

_NOT_OPEN = ("/shutdown", "/reload", "/tap")


def open_page(value: str) -> str:
    """A page that may be for everybody.

    Raises:
        ConfigError: it is none.
    """
    if not value.startswith("/") or not value.isascii() or not value.isprintable() or set(value) & set("?#* "):
        near = f"; did you mean {'/' + value!r}?" if value.isalnum() else ""
        raise ConfigError([f"{shown(value)} is not the path of a page, such as /metrics{near}"])
    if value in _NOT_OPEN:
        raise ConfigError([f"{shown(value)} cannot be for everybody"])
    return value


def _host(value: str) -> str:
    name = value.lower().removesuffix(".")
    if not is_dns_name(name):
        raise ConfigError([f"{shown(value)} is not a host name, without a port"])
    return name


class PageKind(Text):
    """The path of a page."""

    title = "`/PATH`"

    def read(self, value: object, at: At, /) -> Any:
        """The path."""
        return parsed(value, at, open_page)


class HostKind(Text):
    """A host name."""

    title = "a host name"

    def read(self, value: object, at: At, /) -> Any:
        """The name, in lower case."""
        return parsed(value, at, _host)


class WorkloadKind(Text):
    """Whose certificate: a name, or how names end."""

    title = "a DNS name, `spiffe://…` or `*.SUFFIX`"

    def read(self, value: object, at: At, /) -> Any:
        """The name or the suffix."""
        if value == "*":
            return at.error(
                "'*' would be everybody with a certificate; name them, or say how their names end: '*.shop'"
            )
        kind = SuffixKind() if isinstance(value, str) and value.startswith("*") else PeerKind()
        return kind.read(value, at)


Host: TypeAlias = Annotated[str, HostKind()]
Page: TypeAlias = Annotated[str, PageKind()]
Workload: TypeAlias = Annotated[str, WorkloadKind()]


@attrs.frozen(kw_only=True)
class AdminTls:
    """TLS of the admin server with a certificate of its own; the files are watched.

    Attributes:
        cert: PEM file: the leaf, then its chain.
        key: PEM file: its private key.
        client_ca: PEM file: the authorities that vouch for clients; absent: clients are not asked who they are.
    """

    cert: File
    key: File
    client_ca: File | None = None


@attrs.frozen(kw_only=True)
class AdminConfig:
    """``[admin]``: the server for probes, metrics and questions about the proxy itself.

    Attributes:
        listen: where to accept; ``off``: nowhere.  Anywhere but on loopback it has to be said who may ask: `token`,
            `identities`, or `open`.
        hosts: names that may stand in the ``host`` of a request, beside addresses and ``localhost``.
        token: a file whose content clients show as ``Authorization: Bearer …``; read again when it changes.  Everybody
            has to, then, but for the pages that are open and those with one of `identities`.
        identities: clients that need no token, by the name in the certificate that they show.
        tls: the certificate for that; absent: the proxy's own identity, where there is one.
        open: pages that everybody may see; all others are then for loopback clients and for those with a token or a
            name; absent: ``/live`` and ``/ready``.
        tap: who may see requests as they pass: ``loopback`` clients, ``authorized`` ones (a token, or one of
            `tap_identities`), or nobody (``off``).
        tap_identities: who may, by the name in their certificate, from anywhere.
        shutdown: whether ``POST /shutdown`` is enabled.
    """

    listen: OptionalListenAddress = ("127.0.0.1", 4191)
    hosts: tuple[Host, ...] = ()
    token: File | None = None
    identities: tuple[Workload, ...] = ()
    tls: AdminTls | None = None
    open: tuple[Page, ...] | None = None
    tap: Literal["loopback", "authorized", "off"] = "loopback"
    tap_identities: tuple[Workload, ...] = ()
    shutdown: bool = False

    @property
    def local(self) -> bool:
        """Whether only this host can reach it."""
        return self.listen is None or is_loopback(self.listen)


def is_loopback(address: Address) -> bool:
    """Whether only this host can connect to *address*."""
    host = address[0]
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def read_token(path: Path) -> bytes:
    """The token in a file.

    Raises:
        ConfigError: it cannot be read, or holds no token; the text never has what it holds.
    """
    try:
        with open(path, "rb") as file:
            token = file.read(_LONGEST_TOKEN + 1).strip()
    except OSError as error:
        raise ConfigError([f"{str(path)!r}: {(error.strerror or 'cannot be read').lower()}"]) from error
    if len(token) < SHORTEST_TOKEN:
        raise ConfigError([f"{str(path)!r} holds no token of {SHORTEST_TOKEN} characters; `openssl rand -hex 32` does"])
    if len(token) > _LONGEST_TOKEN or any(not 0x21 <= byte <= 0x7E for byte in token):
        raise ConfigError([f"{str(path)!r} is no token: one line of ASCII without blanks is wanted"])
    return token


def check_admin(config: MeshConfig, report: Report) -> None:
    """Reports what does not go together in ``[admin]``."""
    admin = config.admin
    if not right(admin) or not right(admin.listen):
        return
    here: KeyPath = ("admin",)
    if right(admin.token) and admin.token is not None:
        _token(admin.token, (*here, "token"), report)
    secured = admin.tls is not None or config.identity is not None
    asked = _asks_for_certificates(admin, config)
    named = [name for name in ("identities", "tap_identities") if getattr(admin, name) not in ((), WRONG)]
    for name in named if not asked else ():
        what = "tls has no client_ca" if secured else "there is no certificate to show: add tls, or [identity]"
        report.error((*here, name), f"nobody can show a name: {what}")
    if right(admin.tls) and admin.tls is not None and right(admin.tls.key):
        _private(admin.tls.key, (*here, "tls", "key"), report)
    if admin.tap == "authorized" and admin.token is None and not named:
        report.error((*here, "tap"), '"authorized" lets nobody in; add token, or tap_identities')
    elif admin.tap != "authorized" and right(admin.tap) and "tap_identities" in named:
        report.error((*here, "tap_identities"), f'would not be used: tap is {admin.tap!r}; "authorized" uses it')
    if admin.listen is not None and not admin.local and admin.token is None and not named and admin.open is None:
        report.error((*here, "listen"), exposed(admin.listen, "token or identities", 'open = ["/live", "/ready"]'))


def exposed(address: Address, keys: str, everybody: str) -> str:
    """What is said of an address that others can reach, where nothing says who may ask."""
    return (
        f"{format_address(address)!r} can be reached from elsewhere, and nothing says who may ask; add {keys}, or "
        f"{everybody} for what everybody may see (/metrics, too, where a Prometheus without a token scrapes it)"
    )


def _asks_for_certificates(admin: AdminConfig, config: MeshConfig) -> bool:
    if admin.tls is None:
        return config.identity is not None
    return not right(admin.tls) or admin.tls.client_ca is not None


def _token(path: Path, where: KeyPath, report: Report) -> None:
    try:
        read_token(path)
    except ConfigError as error:
        for problem in error.problems:
            report.error(where, problem)
    _private(path, where, report)


def _private(path: Path, where: KeyPath, report: Report) -> None:
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        report.warn(where, f"{str(path)!r} can be read by everybody (mode {mode & 0o777:04o}); chmod 0600 it")

