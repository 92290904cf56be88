"""A stack that takes accepted connections and sends their requests, or bytes, to a set of endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from meshcore.client.http import Http
from meshcore.layers.access_log import AccessLog
from meshcore.layers.balance import Balance
from meshcore.layers.connect_metrics import ConnectMetrics
from meshcore.layers.connect_timeout import ConnectTimeout
from meshcore.layers.metrics import Metrics
from meshcore.layers.prevent_loop import PreventLoop
from meshcore.layers.rescue import Rescue
from meshcore.layers.retry import Retry
from meshcore.layers.tcp_metrics import TcpMetrics
from meshcore.layers.timeout import Timeout
from meshcore.layers.tls import Tls
from meshcore.layers.to_backend import ToBackend
from meshcore.metrics.detection import detection
from meshcore.metrics.process import h2_abuse_closed_total
from meshcore.metrics.registry import Registry
from meshcore.server.detect import Detect
from meshcore.server.http import ServeHttp
from meshcore.server.opaque import Forward
from meshcore.stack import Stack, accept, stack
from meshcore.transport.target import Accepted, Address, Backend, Endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from meshcore.abc import Connect, NewAccept, NewHttp
    from meshcore.config import Listen, ProxyConfig
    from meshcore.server.options import ServerOptions
    from meshcore.transport.connection import Owner

__all__ = ["connecting", "endpoint", "gateway", "http", "opaque"]

BACKEND = "gateway"


def gateway(
    config: ProxyConfig,
    listen: Listen | None = None,
    *,
    registry: Registry | None = None,
    write: Callable[[str], None] | None = None,
    clock: Callable[[], float] | None = None,
    owner: Owner | None = None,
    own: Callable[[], Iterable[Address]] | None = None,
) -> Stack[Connect, NewAccept[Accepted]]:
    """From an accepted connection to a connected endpoint: what ``meshcore proxy`` runs.

    Args:
        config: endpoints, limits and options.
        listen: the listener it is for (its protocol may be fixed); the first of *config* by default.
        registry: where metrics go; a new one by default.
        write: takes the lines of the access log; standard output by default.
        clock: seconds since the epoch, for the lines' time stamps; by default Trio's, whose zero means nothing.
        owner: who is told of crashes in what serves the endpoints; by default they are only logged.
        own: the addresses of the process's listeners, which are no endpoints; by default nothing is checked.
    """
    listen = config.listen[0] if listen is None else listen
    registry = Registry() if registry is None else registry
    top: Stack[NewAccept[Accepted], NewAccept[Accepted]] = accept(Accepted)
    # Knows every connection, those whose handshake fails included, so: above everything.
    top = top.then(TcpMetrics(registry))
    if config.tls is not None:
        # Imported here: OpenSSL takes 9 MiB, which is for those to pay who use it.
        from meshcore.server.terminate_tls import TerminateTls
        from meshcore.transport.identity import ServerTls

        # Detection looks at plaintext, so: above it.
        top = top.then(TerminateTls(ServerTls(config.tls.cert, config.tls.key)))
    return top.then(
        # Nothing below may guess the protocol: from here on there are requests, or bytes.
        Detect(
            http=http(config, registry, write, clock, owner, own),
            opaque=opaque(config, registry, owner, own),
            opaque_ports=config.opaque_ports,
            timeout=config.detect_timeout,
            protocol=_protocol(config, listen),
            observe=detection(registry, "inbound"),
        )
    )


def http(
    config: ProxyConfig,
    registry: Registry,
    write: Callable[[str], None] | None = None,
    clock: Callable[[], float] | None = None,
    owner: Owner | None = None,
    own: Callable[[], Iterable[Address]] | None = None,
) -> Stack[Connect, NewAccept[Accepted]]:
    """From a connection that speaks HTTP to a connected endpoint."""
    top = (
        accept(Accepted)
        # Turns a connection into requests; above it there are only bytes.
        .then(ServeHttp(_counting_abuse(config.server, registry)))
        # Sees what the client sees, so: above Rescue.
        .then(Metrics(registry, "inbound", name="server_metrics"))
    )
    if config.access_log != "off":
        # The same; a line tells the status that the client got.
        top = top.then(AccessLog(write, format=config.access_log, clock=clock))
    routed = (
        # The only place where errors become responses.
        top.then(Rescue())
        # From here on, one stack per backend; here there is one, kept for as long as the gateway.
        .then(ToBackend(Backend(BACKEND, config.endpoints)))
        # Below what answers, above what picks: another try is another endpoint.
        .then(Retry(config.retries))
    )
    if config.timeout is not None:
        # Each try has its own limit, so: below Retry.
        routed = routed.then(Timeout(config.timeout))
    return (
        # From here on, one stack per endpoint.
        routed.then(Balance(policy=config.balance, fail_fast=config.fail_fast, owner=owner))
        .then(endpoint(config, registry, own))
    )


def endpoint(
    config: ProxyConfig, registry: Registry, own: Callable[[], Iterable[Address]] | None = None
) -> Stack[Connect, NewHttp[Endpoint]]:
    """From a request for one endpoint to a connection to it."""
    return (
        stack(Endpoint)
        # Counts each try and knows its endpoint, so: below Retry and Balance.
        .then(Metrics(registry, "outbound", name="endpoint_metrics"))
        # Speaks HTTP/1 or HTTP/2, and keeps the connections.
        .then(Http(config.client))
        .then(connecting(config, registry, own))
    )


def opaque(
    config: ProxyConfig,
    registry: Registry,
    owner: Owner | None = None,
    own: Callable[[], Iterable[Address]] | None = None,
) -> Stack[Connect, NewAccept[Accepted]]:
    """From a connection whose bytes mean nothing here to a connected endpoint."""
    return (
        accept(Accepted)
        # Names of their own, so that the HTTP branch's layers can be edited by theirs.
        .then(ToBackend(Backend(BACKEND, config.endpoints), name="opaque_to_backend"))
        # By connection: that is all there is to balance.
        .then(Balance(policy=config.balance, fail_fast=config.fail_fast, owner=owner, name="opaque_balance"))
        # Both directions until both have ended.
        .then(Forward())
        .then(connecting(config, registry, own, prefix="opaque_"))
    )


def connecting(
    config: ProxyConfig,
    registry: Registry,
    own: Callable[[], Iterable[Address]] | None = None,
    *,
    prefix: str = "",
) -> Stack[Connect, Connect]:
    """From the wish for a connection to one that is ready to use; *prefix* goes before the roles."""
    empty: Stack[Connect, Connect] = Stack()
    connect = (
        empty
        # A connection is secured once, so: below what keeps it.
        .then(Tls(name=f"{prefix}tls"))
        # Knows the connection that was made, so: below Tls, which hides it.
        .then(ConnectMetrics(registry, name=f"{prefix}connect_metrics"))
    )
    if own is not None:
        # Judges where the connect has led to, before a byte is sent there, so: below Tls.
        connect = connect.then(PreventLoop(own, name=f"{prefix}prevent_loop"))
    # Limits the connect alone (TLS has a limit of its own), so: lowest.
    return connect.then(ConnectTimeout(config.connect_timeout, name=f"{prefix}connect_timeout"))


def _counting_abuse(options: ServerOptions, registry: Registry) -> ServerOptions:
    """The options with closed abusers counted, unless somebody hears of them already."""
    if options.on_abuse is not None:
        return options

    def closed(kind: str) -> None:
        h2_abuse_closed_total(registry, kind).value += 1

    return attrs.evolve(options, on_abuse=closed)


def _protocol(config: ProxyConfig, listen: Listen) -> str | None:
    """What a listener speaks where that need not be detected.

    Endpoints at ports that are known to let the server speak first are opaque at once (D-15), unless the
    listener says otherwise.
    """
    if listen.protocol is not None:
        return listen.protocol
    ports = {endpoint.address[1] for endpoint in config.endpoints}
    return "opaque" if ports and ports <= config.opaque_ports else None
