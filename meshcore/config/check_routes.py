"""What only shows when the keys of a route are seen together, with its other routes and with the backends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshcore.addresses import suggest
from meshcore.config.check_upstreams import check_retry
from meshcore.config.filters import FilterConfig
from meshcore.config.report import WRONG, right

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meshcore.config.gateway import Gateway
    from meshcore.config.match import Match, RequestConfig
    from meshcore.config.mesh import MeshConfig
    from meshcore.config.report import Report
    from meshcore.config.route import GatewayRoute
    from meshcore.config.sidecar import Inbound
    from meshcore.config.toml_lines import KeyPath
    from meshcore.config.upstream import Destination

__all__ = ["check_destination_routes", "check_gateway_routes", "check_inbound_routes", "named_backends"]


def check_gateway_routes(here: KeyPath, gateway: Gateway, config: MeshConfig, report: Report) -> None:
    """Reports what is wrong with where a listener's requests go."""
    if gateway.to == () and gateway.route == ():
        report.error((*here, "to"), 'has to be given: a list such as [{ backend = "NAME" }]')
    bytes_alone = gateway.protocol == "tcp"
    _references((*here, "to"), gateway.to, config, report, protocol=gateway.protocol)
    if bytes_alone and right(gateway.to):
        for index in range(1, len(gateway.to)):
            report.error((*here, "to", index), 'bytes go to one backend: protocol = "tcp" has no requests to spread')
    routes = _routes(here, gateway.route)
    for place, route in routes:
        if route.to == () and not _answers(route):
            report.error((*place, "to"), 'has to be given: a list such as [{ backend = "NAME" }]')
        if bytes_alone:
            report.error(place, 'bytes have no host to route by; with protocol = "tcp" only `to` is left')
        _references((*place, "to"), route.to, config, report, protocol=gateway.protocol)
        check_retry((*place, "retry"), route.retry, report)
    _matches(routes, report, (*here, "to") if gateway.to else None)
    _filters(routes, config, report)


def _answers(route: GatewayRoute) -> bool:
    """Whether a route needs no backend: a filter of its own answers whatever it takes."""
    return right(route.filters) and any(
        right(each)
        and (
            (right(each.redirect) and each.redirect is not None)
            or (right(each.inject_failure) and each.inject_failure is not None and each.inject_failure.ratio == 1)
        )
        for each in route.filters
    )


def check_destination_routes(here: KeyPath, destination: Destination, config: MeshConfig, report: Report) -> None:
    """Reports what is wrong with a destination's routes."""
    routes = _routes(here, destination.route)
    for place, route in routes:
        if destination.protocol == "tcp":
            report.error(place, 'bytes have nothing to route by, and protocol = "tcp" has no requests')
        _references((*place, "to"), route.to, config, report, protocol="http")
        check_retry((*place, "retry"), route.retry, report)
    _matches(routes, report, None)
    _filters(routes, config, report)


def check_inbound_routes(here: KeyPath, inbound: Inbound, config: MeshConfig, report: Report) -> None:
    """Reports what is wrong with the routes to the application."""
    routes = _routes(here, inbound.route)
    _matches(routes, report, None)
    _filters(routes, config, report)
    for place, route in routes:
        for path, each in _each_filter(place, route):
            if each.mirror is not None:
                report.error((*path, "mirror"), "is for what is sent elsewhere: gateways and destinations")


def _routes(here: KeyPath, routes: Any) -> list[tuple[KeyPath, Any]]:
    return [((*here, "route", index), route) for index, route in enumerate(routes or ()) if right(route)]


def _references(path: KeyPath, references: Any, config: MeshConfig, report: Report, *, protocol: Any) -> None:
    if not right(references):
        return
    for index, reference in enumerate(references):
        if right(reference) and right(reference.backend):
            _backend((*path, index, "backend"), reference.backend, config, report, protocol)
    weights = [reference.weight if right(reference) else WRONG for reference in references]
    if weights and all(right(weight) and weight == 0 for weight in weights):
        report.warn(path, "every weight is 0: all of these requests are answered 503")


def _backend(path: KeyPath, name: str, config: MeshConfig, report: Report, protocol: Any) -> None:
    if not right(config.backend):
        return
    there = report.document.values.get("backend")
    if not isinstance(there, dict) or name not in there:
        known = list(there) if isinstance(there, dict) else []
        hint = suggest(name, known) or (f" (known: {', '.join(known)})" if known else f"; add [backend.{name}]")
        report.error(path, f"there is no backend {name!r}{hint}")
    elif name in config.backend:
        backend = config.backend[name]
        if right(backend.protocol) and right(protocol) and backend.opaque != (protocol == "tcp"):
            report.error(
                path,
                f"requests and bytes do not mix: the listener's protocol is {protocol!r} and that of "
                f'{name!r} is {backend.protocol!r}; "tcp" on both, or on neither',
            )


def _matches(routes: list[tuple[KeyPath, Any]], report: Report, rest: KeyPath | None) -> None:
    """Routes that can never be taken, and matches that are none.

    Args:
        rest: where it is said what becomes of the requests that no route takes.
    """
    taken: dict[Any, KeyPath] = {}
    names: dict[str, KeyPath] = {}
    for place, route in routes:
        if right(route.name):
            if route.name in names:
                report.error(
                    (*place, "name"), f"{route.name!r} is there already ({report.document.place(names[route.name])})"
                )
            names.setdefault(route.name, place)
        if not right(route.match) and route.match != ():
            continue
        matches: list[tuple[KeyPath, Any]] = [
            ((*place, "match", number), match) for number, match in enumerate(route.match)
        ]
        for path, match in matches or [(place, None)]:
            if match is not None and not right(match):
                continue
            if match is not None and not _sound(path, match, report):
                continue
            key = _key(match)
            if key == _key(None) and rest is not None:
                report.error(
                    path, f"every request matches: those of {_said(rest, report)} would never get any; one has to go"
                )
            elif key in taken:
                report.error(path, f"the same as in {_said(taken[key], report)}, which comes first: it is never used")
            taken.setdefault(key, path)


def _said(path: KeyPath, report: Report) -> str:
    return f"{path[-1]} ({report.document.place(path)})" if path[-1] == "to" else report.document.place(path)


def _sound(path: KeyPath, match: RequestConfig, report: Report) -> bool:
    """Whether a match says something that can be."""
    before = len(report.problems)
    if right(match.path) and match.path is not None:
        given = [name for name in ("exact", "prefix", "regex") if getattr(match.path, name) is not None]
        if len(given) != 1:
            report.error((*path, "path"), f"one of exact, prefix and regex is wanted, not {len(given)}")
    if right(match.grpc) and match.grpc is not None:
        if match.grpc.service is None and match.grpc.method is None:
            report.error((*path, "grpc"), "service, method, or both are wanted")
        for name in ("path", "method"):
            if getattr(match, name) is not None:
                report.error((*path, name), "grpc says what it has to be: one of the two has to go")
    return len(report.problems) == before


def _key(match: Match | RequestConfig | None) -> Any:
    """What tells a match apart from others."""
    if match is None:
        return ("*", None, (), (), None, None)
    host = getattr(match, "host", "*")
    headers, query = match.headers or {}, match.query or {}
    path = match.path
    if right(path) and path is not None and path.prefix == "/":
        path = None
    return (host, path, tuple(sorted(headers.items())), tuple(sorted(query.items())), match.method, match.grpc)


def _filters(routes: list[tuple[KeyPath, Any]], config: MeshConfig, report: Report) -> None:
    """Filters that do nothing, or cannot be."""
    for place, route in routes:
        prefixes = any(
            right(match) and right(match.path) and match.path is not None and match.path.prefix
            for match in route.match or ()
        )
        for path, each in _each_filter(place, route):
            if each == FilterConfig():
                report.error(path, "does nothing: it has no key")
            for name in ("redirect", "rewrite"):
                edit = getattr(each, name)
                if right(edit) and edit is not None:
                    _edit((*path, name), edit, prefixes, report)
            failure = each.inject_failure
            if right(failure) and failure is not None and (failure.status is None) == (failure.grpc_status is None):
                report.error((*path, "inject_failure"), "one of status and grpc_status is wanted")
            mirror = each.mirror
            if right(mirror) and mirror is not None and right(mirror.backend):
                _backend((*path, "mirror", "backend"), mirror.backend, config, report, "http")


def _edit(path: KeyPath, edit: Any, prefixes: bool, report: Report) -> None:
    if edit.path is not None and edit.prefix is not None:
        report.error((*path, "prefix"), "the whole path is replaced already: one of the two has to go")
    elif right(edit.prefix) and not prefixes:
        report.error(
            (*path, "prefix"), "no prefix is matched that it could stand for; add path = { prefix = … } to match"
        )
    elif all(getattr(edit, name, None) is None for name in ("scheme", "host", "port", "path", "prefix")):
        report.error(path, "nothing is said of what becomes of the request")


def _each_filter(place: KeyPath, route: Any) -> Iterator[tuple[KeyPath, Any]]:
    for index, each in enumerate(route.filters or ()):
        if right(each):
            yield (*place, "filters", index), each
    for number, reference in enumerate(getattr(route, "to", ()) or ()):
        if right(reference):
            for index, each in enumerate(reference.filters or ()):
                if right(each):
                    yield (*place, "to", number, "filters", index), each


def named_backends(config: MeshConfig) -> set[str]:
    """The backends that something sends to."""
    parents: list[Any] = []
    for tables in (config.listen, config.outbound.to if right(config.outbound) and config.outbound else {}):
        parents += [each for each in (tables or {}).values() if right(each)]
    if right(config.inbound) and config.inbound is not None:
        parents.append(config.inbound)
    used: set[str] = set()
    for parent in parents:
        references = list(getattr(parent, "to", ()) or ())
        for route in getattr(parent, "route", ()) or ():
            if right(route):
                references += list(getattr(route, "to", ()) or ())
                references += [each.mirror for _, each in _each_filter((), route) if right(each.mirror)]
        used |= {each.backend for each in references if right(each) and right(each.backend)}
    return used
