"""What ``meshcore proxy`` is told: a frozen class with every default, and the reading of its options into it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from meshcore.addresses import (
    LISTEN_SCHEMES,
    UPSTREAM_SCHEMES,
    Location,
    format_address,
    parse_listen,
    parse_upstream,
)
from meshcore.client.options import ClientOptions
from meshcore.config.access_log import read_word
from meshcore.config.admin import AdminConfig, exposed, open_page, read_token
from meshcore.config.problems import Problems
from meshcore.config.words import BALANCERS, ENGINES, OPAQUE_PORTS, Balancer
from meshcore.durations import parse_duration
from meshcore.errors import ConfigError
from meshcore.server.options import ServerOptions
from meshcore.transport.target import Address, Endpoint, TlsClient

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Listen", "ProxyConfig", "TlsFiles", "proxy_config"]

@attrs.frozen
class Listen:
    """One address to accept connections at.

    Attributes:
        address: host (``""`` for every interface) and port (0 takes a free one).
        protocol: ``"http/1"``, ``"h2"`` or ``"opaque"``; None: it is detected.
    """

    address: Address
    protocol: str | None = None

    def __str__(self) -> str:
        return format_address(self.address)


@attrs.frozen
class TlsFiles:
    """A certificate for accepted connections.

    Attributes:
        cert: PEM file: the leaf, then its chain.
        key: PEM file: its private key.
    """

    cert: Path
    key: Path


@attrs.frozen(kw_only=True)
class ProxyConfig:
    """A reverse proxy over a fixed set of endpoints: what ``meshcore proxy`` runs.  Times in seconds.

    Attributes:
        listen: where to accept; at least one.
        endpoints: where to forward to; at least one.
        tls: terminates TLS on what is accepted; None: plaintext.
        timeout: the longest wait for an answer's head, for each try; None: no limit.
        retries: further tries for a request that is safe to repeat; 0: none.
        balance: ``"p2c-ewma"``, ``"p2c-penalty-ewma"``, ``"round-robin"`` or ``"least-request"``.
        admin: where the admin server listens; None: nowhere.
        admin_token: a file whose content its clients show as ``Authorization: Bearer …``; None: none is asked for.
        admin_open: pages that everybody may see; None: ``/live`` and ``/ready``.
        admin_shutdown: whether ``POST /shutdown`` is enabled.
        access_log: ``"off"``, ``"text"``, ``"json"``, ``"apache"``, ``"linkerd-json"``, or a template of a line.
        access_log_to: where its lines go: ``"stdout"``, ``"stderr"`` or a file's path.
        layer_accounting: whether what each layer does is counted and timed, for ``/stack`` and metrics.
        grace_period: how long what is in flight may take after the drain began (L-04).
        connect_timeout: for each attempt to connect to an endpoint (B-19).
        detect_timeout: how long a silent client is waited for before the server may speak first.
        fail_fast: how long requests wait for any endpoint to be ready (B-09).
        opaque_ports: what is accepted at these ports is forwarded byte for byte at once (D-15).
        server: limits and engine of the accepted side.
        client: limits and engine of the connecting side.
    """

    listen: tuple[Listen, ...]
    endpoints: tuple[Endpoint, ...]
    tls: TlsFiles | None = None
    timeout: float | None = None
    retries: int = 1
    balance: Balancer = "p2c-ewma"
    admin: Address | None = ("127.0.0.1", 4191)
    admin_token: Path | None = None
    admin_open: tuple[str, ...] | None = None
    admin_shutdown: bool = False
    access_log: str = "off"
    access_log_to: str = "stdout"
    layer_accounting: bool = True
    grace_period: float = 120.0
    connect_timeout: float = 1.0
    detect_timeout: float = 1.0
    fail_fast: float = 3.0
    opaque_ports: frozenset[int] = OPAQUE_PORTS
    server: ServerOptions = attrs.Factory(ServerOptions)
    client: ClientOptions = attrs.Factory(ClientOptions)

    @property
    def admin_config(self) -> AdminConfig:
        """What is said of the admin server, as a config file would."""
        return AdminConfig(
            listen=self.admin, token=self.admin_token, open=self.admin_open, shutdown=self.admin_shutdown
        )


def proxy_config(
    listen: Sequence[str],
    to: Sequence[str],
    *,
    tls_cert: str | None = None,
    tls_key: str | None = None,
    upstream_ca: str | None = None,
    timeout: str | None = None,
    retries: str = "1",
    balance: str = "p2c-ewma",
    engine: str = "auto",
    admin: str = "127.0.0.1:4191",
    admin_token: str | None = None,
    admin_open: str | None = None,
    admin_shutdown: bool = False,
    access_log: str = "off",
    access_log_to: str = "stdout",
    layer_accounting: str = "on",
    grace_period: str = "120s",
    opaque_ports: str | None = None,
) -> ProxyConfig:
    """The configuration that the options of ``meshcore proxy`` mean, each as it was typed.

    Raises:
        ConfigError: with every problem of every option, one line each.
    """
    problems = Problems()
    listens = [problems.read("--from", text, parse_listen, None) for text in listen]
    uppers = [(text, problems.read("--to", text, parse_upstream, None)) for part in to for text in _list(part)]
    if not listens:
        problems.add("--from", "an address to listen on is needed, such as :8080")
    if not uppers:
        problems.add("--to", "an endpoint is needed, such as 127.0.0.1:8000")
    anchors = problems.file("--upstream-ca", upstream_ca) if upstream_ca is not None else None
    endpoints = _endpoints(problems, uppers, anchors)
    opaque = bool(endpoints) and all(endpoint.protocol == "opaque" for endpoint in endpoints)
    if not opaque and any(endpoint.protocol == "opaque" for endpoint in endpoints):
        problems.add("--to", "tcp:// cannot be mixed with HTTP endpoints: bytes and requests are balanced differently")
    chosen = problems.choice("--engine", engine, ENGINES)
    config = ProxyConfig(
        listen=tuple(_listen(problems, location, opaque) for location in listens if location is not None),
        endpoints=endpoints,
        tls=_tls_files(problems, tls_cert, tls_key),
        timeout=problems.read("--timeout", timeout, parse_duration, 0.0) or None if timeout is not None else None,
        retries=problems.number("--retries", retries, 0, 10),
        balance=problems.choice("--balance", balance, BALANCERS),
        admin=_admin(problems, admin),
        admin_token=_token(problems, admin_token),
        admin_open=_open(problems, admin_open),
        admin_shutdown=admin_shutdown,
        access_log=problems.read("--access-log", access_log, read_word, "off"),
        access_log_to=problems.read("--access-log-to", access_log_to, _log_file, "stdout"),
        layer_accounting=problems.choice("--layer-accounting", layer_accounting, ("on", "off")) == "on",
        grace_period=problems.read("--grace-period", grace_period, parse_duration, 0.0),
        opaque_ports=OPAQUE_PORTS if opaque_ports is None else _ports(problems, opaque_ports),
        server=ServerOptions(engine=chosen),
        client=ClientOptions(engine=chosen),
    )
    mine = config.admin_config
    if mine.listen is not None and not mine.local and admin_token is None and admin_open is None:
        problems.add("--admin", exposed(mine.listen, "--admin-token FILE", "--admin-open /live,/ready"))
    problems.finish()
    return config


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _listen(problems: Problems, location: Location, opaque: bool) -> Listen:
    protocol = LISTEN_SCHEMES[location.scheme]
    if opaque and protocol not in (None, "opaque"):
        problems.add("--from", f"{location.scheme}:// cannot be forwarded to tcp:// endpoints, which take bytes")
    return Listen((location.host, location.port), "opaque" if opaque else protocol)


def _endpoints(
    problems: Problems, locations: Sequence[tuple[str, Location | None]], anchors: Path | None
) -> tuple[Endpoint, ...]:
    pem: bytes | None = None
    if anchors is not None:
        try:
            pem = anchors.read_bytes()
        except OSError:
            pass  # noted already
        if pem is not None and b"-----BEGIN CERTIFICATE-----" not in pem:
            problems.add("--upstream-ca", f"{str(anchors)!r} has no certificate in PEM form")
    found: dict[Address, Endpoint] = {}
    for text, location in locations:
        if location is None:
            continue
        address = (location.host, location.port)
        if address in found:
            problems.add("--to", f"{text!r} is there twice")
        tls = TlsClient(location.host, trust_anchors=pem) if location.scheme == "https" else None
        found[address] = Endpoint(address, UPSTREAM_SCHEMES[location.scheme], tls)
    if anchors is not None and found and not any(endpoint.tls for endpoint in found.values()):
        problems.add("--upstream-ca", "no endpoint is https://, so that nothing would be checked against it")
    return tuple(found.values())


def _tls_files(problems: Problems, cert: str | None, key: str | None) -> TlsFiles | None:
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        there, missing = ("--tls-cert", "--tls-key") if key is None else ("--tls-key", "--tls-cert")
        problems.add(there, f"{missing} is needed with it")
        return None
    return TlsFiles(problems.file("--tls-cert", cert), problems.file("--tls-key", key))


def _admin(problems: Problems, text: str) -> Address | None:
    if text == "off":
        return None
    location = problems.read("--admin", text, parse_listen, None)
    if location is None:
        return None
    if location.scheme != "http":
        problems.add("--admin", f"{text!r}: a HOST:PORT or off is wanted, without a scheme")
    return location.host, location.port


def _token(problems: Problems, name: str | None) -> Path | None:
    if name is None:
        return None
    try:
        read_token(Path(name))
    except ConfigError as error:
        for problem in error.problems:
            problems.add("--admin-token", problem)
    return Path(name)


def _open(problems: Problems, text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    found = []
    for page in _list(text):
        try:
            found.append(open_page(page))
        except ConfigError as error:
            problems.add("--admin-open", error.problems[0])
    return tuple(found)
def _log_file(text: str) -> str:
    if text in ("stdout", "stderr"):
        return text
    path = Path(text).absolute()
    if path.is_dir() or not path.parent.is_dir():
        raise ConfigError([f"{text!r} is not stdout, stderr or a file in a folder that is there"])
    return str(path)


def _ports(problems: Problems, text: str) -> frozenset[int]:
    return frozenset(problems.number("--opaque-ports", part, 1, 65_535) for part in _list(text) if part)
