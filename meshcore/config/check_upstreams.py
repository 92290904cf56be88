"""What only shows when the keys of a destination or a backend are seen together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshcore.addresses import format_address
from meshcore.config.rate_limit import check_rate_limits
from meshcore.config.report import WRONG, right
from meshcore.config.upstream import Destination

if TYPE_CHECKING:
    from meshcore.config.balancing import BalanceConfig
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
    _balancing(here, upstream, config, report)
    _requests(here, upstream, report)
    _accrual(here, upstream, report)
    if isinstance(upstream, Destination):
        check_retry((*here, "retry"), upstream.retry, report)
        check_rate_limits(
            here,
            upstream,
            report,
            identities=False,
            why="the one client there is the application; rps and per_header can be limited",
        )


def check_retry(here: KeyPath, retry: Any, report: Report) -> None:
    """Reports what would be said in vain."""
    if not right(retry) or not right(retry.limit):
        return
    if retry.limit == 0 and right(retry.timeout) and retry.timeout is not None:
        text = "would not be used: the last try has no such limit, and limit = 0 leaves no other"
        report.error((*here, "timeout"), text)


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
        report.error((*here, "mesh"), 'who must answer is not said; add identity = "NAME.NAMESPACE"')
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


def _balancing(here: KeyPath, upstream: BackendConfig, config: MeshConfig, report: Report) -> None:
    balance, health = upstream.balance, upstream.health_check
    if right(balance) and right(balance.policy):
        _policy((*here, "balance"), balance, upstream, report)
    if right(upstream.zone_aware) and upstream.zone_aware is not None and (
        config.service is None or (right(config.service) and config.service.zone is None)
    ):
        report.error((*here, "zone_aware"), "this proxy's own zone is not said; add it: [service] zone = \"…\"")
    if right(health) and health is not None:
        path = (*here, "health_check")
        if upstream.protocol == "tcp" and health.path is not None:
            report.error((*path, "path"), 'is about requests, and protocol = "tcp" has none; leave it out to connect')
        if upstream.protocol == "tcp" and health.grpc is not None:
            report.error((*path, "grpc"), 'is about requests, and protocol = "tcp" has none; leave it out to connect')
        if health.path is not None and health.grpc is not None:
            report.error((*path, "grpc"), "path is given, too; one of the two has to go")
        elif upstream.protocol == "http1" and health.grpc is not None:
            report.error((*path, "grpc"), "needs HTTP/2, and protocol = \"http1\" has none")
        if health.host is not None and health.path is None and health.grpc is None:
            report.error((*path, "host"), "would not be used: there is no path to ask for")
        if right(health.interval) and right(health.timeout) and health.timeout > health.interval:
            report.error((*path, "timeout"), "is longer than the interval")


def _policy(here: KeyPath, balance: BalanceConfig, upstream: BackendConfig, report: Report) -> None:
    hashed = balance.hash
    if balance.policy == "maglev" and hashed is None:
        hint = 'hash = { header = "…" }, { cookie = "…" } or { source = true }'
        report.error(here, f"what maglev hashes is not said; add {hint}")
    elif balance.policy != "maglev" and hashed is not None:
        report.error((*here, "hash"), f'would not be used: policy = "{balance.policy}" hashes nothing; "maglev" does')
    if right(hashed) and hashed is not None and WRONG not in (hashed.header, hashed.cookie, hashed.source):
        given = [name for name in ("header", "cookie", "source") if getattr(hashed, name)]
        if len(given) != 1:
            report.error((*here, "hash"), "one of header, cookie and source = true is wanted")
        elif upstream.protocol == "tcp" and given != ["source"]:
            report.error((*here, "hash", given[0]), 'is about requests, and protocol = "tcp" has none; source = true')
    if balance.policy != "p2c-penalty-ewma":
        for name, default in (("penalty", 5.0), ("max_retry_after", 300.0)):
            if getattr(balance, name) not in (default, WRONG):
                report.error((*here, name), 'would not be used; policy = "p2c-penalty-ewma" does')


def _accrual(here: KeyPath, upstream: BackendConfig, report: Report) -> None:
    accrual = upstream.failure_accrual
    if accrual is None or not right(accrual):
        return
    if accrual.consecutive == 0 and accrual.success_rate == 0:
        report.error(
            (*here, "failure_accrual"), "nothing would ever take an endpoint out: consecutive or success_rate is needed"
        )
    if right(accrual.window) and accrual.window < 0.01:
        report.error((*here, "failure_accrual", "window"), "has to be at least 10ms")


def _requests(here: KeyPath, upstream: BackendConfig, report: Report) -> None:
    """Bytes have no requests to judge, to time or to repeat."""
    if upstream.protocol != "tcp":
        return
    names = ("timeout", "retry", "failure_accrual", "classify", "concurrency_limit", "allow_l5d_headers", "rate_limit")
    for name in names:
        table: Any = report.document.values
        for key in here:
            table = table[key]
        if name in table:
            report.error((*here, name), 'is about requests, and protocol = "tcp" has none')
