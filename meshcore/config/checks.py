"""What only shows when the keys of a config file are seen together.

A value that could not be read is ``WRONG`` here: it is there, and nothing more is said about it, so that each mistake
is told once.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any

from meshcore.addresses import format_address
from meshcore.config.access_log import check_access_log
from meshcore.config.admin import check_admin
from meshcore.config.check_ext_authz import check_ext_authz
from meshcore.config.check_routes import (
    check_destination_routes,
    check_gateway_routes,
    check_inbound_routes,
    named_backends,
)
from meshcore.config.check_upstreams import check_retry, check_upstream
from meshcore.config.jwt import check_jwt
from meshcore.config.policy import check_policies
from meshcore.config.rate_limit import check_rate_limits
from meshcore.config.report import WRONG, right
from meshcore.config.tracing import check_tracing

if TYPE_CHECKING:
    from pathlib import Path

    from meshcore.config.gateway import Gateway, GatewayTls
    from meshcore.config.mesh import IdentityConfig, MeshConfig
    from meshcore.config.report import Report
    from meshcore.config.toml_lines import KeyPath
    from meshcore.transport.target import Address

__all__ = ["check"]

_EVERYWHERE = ("", "::")


def check(config: MeshConfig, report: Report) -> None:
    """Reports what does not go together, and what may not be meant."""
    _something(config, report)
    if right(config.identity):
        _identity(config, report)
    elif config.identity is None:
        _no_identity(config, report)
    _listeners(config, report)
    check_admin(config, report)
    check_access_log(config, report)
    if right(config.inbound):
        _inbound(config, report)
        assert config.inbound is not None
        check_inbound_routes(("inbound",), config.inbound, config, report)
    if right(config.outbound):
        assert config.outbound is not None
        for name, destination in (config.outbound.to or {}).items():
            place = _named(report, ("outbound", "to"), name)
            check_upstream(place, destination, config, report)
            check_destination_routes(place, destination, config, report)
        _outbound(config, report)
    for name, backend in (config.backend or {}).items():
        check_upstream(("backend", name), backend, config, report)
    for name, gateway in (config.listen or {}).items():
        _gateway(("listen", name), gateway, config, report)
    check_tracing(config.tracing, report)
    _unused(config, report)


def _named(report: Report, where: KeyPath, name: str) -> KeyPath:
    """The path of a table by its name as the file writes it."""
    table: Any = report.document.values
    for key in where:
        table = table[key]
    return (*where, next((key for key in table if key.lower() == name), name))


def _something(config: MeshConfig, report: Report) -> None:
    if config.inbound is None and config.outbound is None and config.listen == {}:
        report.error(
            (),
            "nothing to run: there is no [inbound], no [outbound] and no [listen.NAME]; `meshcore config init` writes "
            "a file to start from",
        )


def _no_identity(config: MeshConfig, report: Report) -> None:
    if config.inbound is not None or config.outbound is not None:
        report.warn(
            (),
            "NO [identity]: everything between the proxies is plain TCP, readable and forgeable on the way; for mutual "
            'TLS add [identity] (mode = "dev" to try it)',
        )
    if right(config.inbound) and config.inbound is not None:
        policy = config.inbound.default_policy
        if right(policy) and _asks_who(policy):
            report.error(
                ("inbound", "default_policy"),
                f"{policy!r} lets nobody in without [identity]: add it, or use {policy.replace('-auth', '-unauth')!r}",
            )


def _asks_who(policy: str) -> bool:
    """Whether a default policy lets in only who has an identity."""
    return policy.endswith("-authenticated")


def _identity(config: MeshConfig, report: Report) -> None:
    identity = config.identity
    assert identity is not None
    here: KeyPath = ("identity",)
    if identity.mode == "files":
        for name in ("cert", "key", "trust_anchors"):
            if getattr(identity, name) is None:
                report.error(
                    (*here, name), 'has to be given with mode = "files"; `meshcore identity issue` writes such files'
                )
        if identity.directory is not None:
            report.error((*here, "directory"), 'is for mode = "dev"')
        if right(identity.key) and identity.key is not None:
            _private(identity.key, (*here, "key"), report)
    elif identity.mode == "dev":
        for name in ("cert", "key", "trust_anchors"):
            if getattr(identity, name) is not None:
                report.error((*here, name), 'is for mode = "files"; mode = "dev" makes its own')
        if identity.name is None and config.service is None:
            report.error(
                (*here, "mode"), '"dev" takes its name from [service], which is not there; add it, or `name`'
            )
    _trust_domain(identity, report)


def _trust_domain(identity: IdentityConfig, report: Report) -> None:
    domain, name = identity.trust_domain, identity.name
    if domain and name and name.startswith("spiffe://") and name.split("/")[2] != domain:
        report.error(
            ("identity", "name"), f"{name!r} is not in the trust domain {domain!r}; the two have to agree"
        )


def _private(path: Path, where: KeyPath, report: Report) -> None:
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        report.warn(where, f"{str(path)!r} can be read by everybody (mode {mode & 0o777:04o}); chmod 0600 it")


def _listeners(config: MeshConfig, report: Report) -> None:
    """Addresses that cannot be listened on at the same time."""
    found: list[tuple[KeyPath, Any]] = []
    if right(config.inbound) and config.inbound is not None:
        found.append((("inbound", "listen"), config.inbound.listen))
    if right(config.outbound) and config.outbound is not None:
        found.append((("outbound", "listen"), config.outbound.listen))
        if right(config.outbound.to):
            found += [
                (("outbound", "to", name, "listen"), each.listen)
                for name, each in config.outbound.to.items()
                if right(each) and each.listen is not None
            ]
    found += [(("listen", name, "bind"), gateway.bind) for name, gateway in (config.listen or {}).items()]
    if right(config.admin):
        found.append((("admin", "listen"), config.admin.listen))
    taken: list[tuple[KeyPath, Address]] = []
    for path, address in found:
        if not right(address):
            continue
        for other, there in taken:
            if _clash(address, there):
                # The later one in the file is the mistake, whichever is read first.
                first, last = sorted((other, path), key=report.document.line)
                report.error(
                    last,
                    f"{format_address(address if last == path else there)!r} is taken already: "
                    f"{'.'.join(map(str, first))} listens at "
                    f"{format_address(there if last == path else address)!r}",
                )
                break
        taken.append((path, address))


def _clash(one: Address, other: Address) -> bool:
    """Whether two addresses cannot be listened on at the same time; port 0 takes a free one."""
    if one[1] != other[1] or one[1] == 0:
        return False
    hosts = {one[0].lower(), other[0].lower()}
    if len(hosts) == 1 or hosts & set(_EVERYWHERE):
        return True
    return "0.0.0.0" in hosts and not any(":" in host for host in hosts)


def _loops(address: Address, listen: Address) -> bool:
    """Whether connecting to *address* comes out at the listener."""
    loopback = ("127.0.0.1", "::1", "localhost", "0.0.0.0", *_EVERYWHERE)
    return address[1] == listen[1] != 0 and (
        address[0] == listen[0] or (address[0] in loopback and listen[0] in loopback)
    )


def _inbound(config: MeshConfig, report: Report) -> None:
    inbound = config.inbound
    assert inbound is not None
    check_ext_authz(("inbound", "ext_authz"), inbound.ext_authz, config, report)
    check_policies(
        ("inbound",),
        inbound,
        report,
        identities=config.identity is not None,
        why="clients have no identity without [identity]: this would let nobody in; add it",
        routes=_route_names(inbound),
    )
    check_jwt(("inbound", "jwt"), inbound.jwt, report)
    check_rate_limits(
        ("inbound",),
        inbound,
        report,
        identities=config.identity is not None,
        why="clients have no identity without [identity]; add it, or limit by rps and per_header",
    )
    if inbound.forward is None:
        report.warn(
            ("inbound",),
            'without `forward` it takes only what was redirected to it or names a port; add forward = "127.0.0.1:8000"',
        )
    elif right(inbound.forward) and right(inbound.listen) and _loops(inbound.forward, inbound.listen):
        report.error(
            ("inbound", "forward"),
            f"{format_address(inbound.forward)!r} is where this proxy itself listens: the application's own address "
            "is wanted",
        )


def _outbound(config: MeshConfig, report: Report) -> None:
    outbound = config.outbound
    assert outbound is not None
    if right(outbound.listen) and outbound.listen[0] not in ("127.0.0.1", "::1", "localhost"):
        report.warn(
            ("outbound", "listen"),
            f"{format_address(outbound.listen)!r} can be reached from elsewhere, and whoever reaches it speaks in this "
            f"service's name; did you mean '127.0.0.1:{outbound.listen[1]}'?",
        )
    if outbound.to == {}:
        report.warn(("outbound",), "there is no destination; add [outbound.to.\"HOST:PORT\"]")
    for name, destination in (outbound.to or {}).items():
        if not right(destination.endpoints) or not right(outbound.listen):
            continue
        for index, endpoint in enumerate(destination.endpoints):
            if right(endpoint) and right(endpoint.address) and _loops(endpoint.address, outbound.listen):
                report.error(
                    (*_named(report, ("outbound", "to"), name), "endpoints", index),
                    f"{format_address(endpoint.address)!r} is where this proxy itself listens for the application",
                )


def _route_names(side: Any) -> list[str]:
    """What policies call the routes of a side; those without a name are called by their place."""
    routes = list(enumerate(side.route or ()))
    return [route.name or f"route-{index}" for index, route in routes if right(route) and route.name is not WRONG]


def _gateway(here: KeyPath, gateway: Gateway, config: MeshConfig, report: Report) -> None:
    if right(gateway.tls) and gateway.tls is not None:
        _gateway_tls((*here, "tls"), gateway.tls, report)
    check_retry((*here, "retry"), gateway.retry, report)
    check_ext_authz((*here, "ext_authz"), gateway.ext_authz, config, report)
    if gateway.ext_authz is not None and gateway.protocol == "tcp":
        report.error((*here, "ext_authz"), 'is about requests, and protocol = "tcp" has none')
    identities = gateway.tls is not None and getattr(gateway.tls, "client_certificates", "") != "off"
    why = 'clients have no identity unless tls.client_certificates is "optional" or "required"'
    check_rate_limits(here, gateway, report, identities=identities, why=why)
    check_jwt((*here, "jwt"), gateway.jwt, report)
    names = [*_route_names(gateway), *(["default"] if gateway.to else [])]
    check_policies(here, gateway, report, identities=identities, why=why, routes=names)
    if not identities and right(gateway.default_policy) and _asks_who(gateway.default_policy):
        report.error((*here, "default_policy"), f"{gateway.default_policy!r} lets nobody in: {why}")
    for name in ("rate_limit", "jwt"):
        if gateway.protocol == "tcp" and getattr(gateway, name) is not None:
            report.error((*here, name), 'is about requests, and protocol = "tcp" has none')
    check_gateway_routes(here, gateway, config, report)


def _gateway_tls(here: KeyPath, tls: GatewayTls, report: Report) -> None:
    if (tls.cert is None) != (tls.key is None):
        there, missing = ("cert", "key") if tls.key is None else ("key", "cert")
        report.error((*here, there), f"{missing} is needed with it")
    elif tls.cert is None and tls.certificates == ():
        report.error(here, "cert and key have to be given")
    keys = [((*here, "key"), tls.key)]
    keys += [
        ((*here, "certificates", index, "key"), pair.key)
        for index, pair in enumerate(tls.certificates or ())
        if right(pair)
    ]
    for path, key in keys:
        if right(key) and key is not None:
            _private(key, path, report)
    if right(tls.client_certificates):
        asked = tls.client_certificates != "off"
        if asked and tls.trust_anchors is None:
            report.error(
                (*here, "client_certificates"),
                f"{tls.client_certificates!r} needs trust_anchors, the authorities that vouch for clients",
            )
        elif not asked and tls.trust_anchors is not None:
            report.error(
                (*here, "trust_anchors"),
                'would not be used: clients are not asked; add client_certificates = "required" or "optional"',
            )


def _unused(config: MeshConfig, report: Report) -> None:
    if not right(config.listen) or not right(config.backend):
        return
    used = named_backends(config)
    for name in config.backend:
        if name not in used:
            report.warn(("backend", name), "nothing is sent here")
