"""What only shows when the keys of a destination or a backend are seen together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshcore.addresses import format_address
from meshcore.config.rate_limit import check_rate_limit
from meshcore.config.report import right
from meshcore.config.upstream import Destination

if TYPE_CHECKING:
    from meshcore.config.mesh import MeshConfig
    from meshcore.config.report import Report
    from meshcore.config.toml_lines import KeyPath
    from meshcore.config.upstream import BackendConfig

__all__ = ["check_retry", "check_upstream"]


def check_upstream(here: KeyPath, upstream: BackendConfig, config: MeshConfig, report: Report) -> None:
    """Reports what does not go together in one destination or backend."""
    if upstream.discover is None and upstream.endpoints == ():
        report.error((*here, "endpoints"), 'has to be given, or discover: a list such as ["10.0.0.7:8080"]')
    elif upstream.discover is not None and upstream.endpoints != ():
        report.error((*here, "discover"), "endpoints are given, too; one of the two has to go")
    _endpoints(here, upstream, report)
    _identity(here, upstream, config, report)
    _https(here, upstream, report)
    if isinstance(upstream, Destination):
        _requests(here, upstream, report)
        check_retry((*here, "retry"), upstream.retry, report)
        check_rate_limit(
            (*here, "rate_limit"),
            upstream.rate_limit,
            report,
            identities=False,
            why="the one client there is the application; rps and per_header can be limited",
        )


def check_retry(here: KeyPath, retry: Any, report: Report) -> None:
    """Reports what a retry cannot do."""
    if not right(retry) or not right(retry.on) or not all(map(right, retry.on)):
        return
    if set(retry.on) != {"connect-failure", "reset"}:
        report.error(
            (*here, "on"),
            'one without the other is not in this release: on = ["connect-failure", "reset"], or limit = 0',
        )


def _endpoints(here: KeyPath, upstream: BackendConfig, report: Report) -> None:
    if not right(upstream.endpoints):
        return
    seen: dict[Any, int] = {}
    for index, endpoint in enumerate(upstream.endpoints):
        if not right(endpoint) or not right(endpoint.address):
            continue
        path = (*here, "endpoints", index)
        if endpoint.address in seen:
            report.error(path, f"{format_address(endpoint.address)!r} is there twice")
        seen[endpoint.address] = index
        protocols = (endpoint.protocol, upstream.protocol)
        if all(map(right, protocols)) and "tcp" in protocols and protocols != ("tcp", "tcp"):
            report.error(path, f'requests and bytes do not mix: protocol = "{upstream.protocol}" holds for all of them')


def _schemes(upstream: BackendConfig) -> list[Any]:
    """What each endpoint speaks; that of discovered ones is the upstream's."""
    fixed = [endpoint for endpoint in upstream.endpoints or () if right(endpoint)]
    if not fixed:
        return [upstream.protocol]
    return [endpoint.protocol if endpoint.protocol is not None else upstream.protocol for endpoint in fixed]


def _identity(here: KeyPath, upstream: BackendConfig, config: MeshConfig, report: Report) -> None:
    places: list[tuple[KeyPath, Any]] = [((*here, "identity"), upstream.identity)]
    places += [
        ((*here, "endpoints", index, "identity"), endpoint.identity)
        for index, endpoint in enumerate(upstream.endpoints or ())
        if right(endpoint)
    ]
    given = [path for path, identity in places if identity is not None]
    if upstream.mesh is True and not given:
        report.error((*here, "mesh"), "who must answer is not said; add identity = \"NAME.NAMESPACE\"")
    if config.identity is None:
        for path in given:
            report.error(
                path,
                'cannot be asked for: this proxy has no [identity] of its own; add it (mode = "dev" to try it), or '
                "leave this out",
            )
    if given and "https" in _schemes(upstream):
        report.error(given[0], 'mutual TLS of the mesh and "https" exclude each other; one of the two has to go')


def _https(here: KeyPath, upstream: BackendConfig, report: Report) -> None:
    schemes = _schemes(upstream)
    if upstream.tls is not None and all(map(right, schemes)) and "https" not in schemes:
        report.error((*here, "tls"), 'would not be used: nothing here is https; add protocol = "https"')
    if right(upstream.tls) and upstream.tls is not None and upstream.tls.verify is False:
        if upstream.tls.trust_anchors is not None:
            report.error((*here, "tls", "trust_anchors"), "would not be used: verify is false")
        else:
            report.warn((*here, "tls", "verify"), "false: anybody can answer; for development alone")


def _requests(here: KeyPath, destination: Destination, report: Report) -> None:
    """Bytes have no requests to time or repeat."""
    if destination.protocol != "tcp":
        return
    for name in ("timeout", "retry", "rate_limit"):
        table: Any = report.document.values
        for key in here:
            table = table[key]
        if name in table:
            report.error((*here, name), 'is about requests, and protocol = "tcp" has none')
