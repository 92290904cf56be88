"""Who was let in and who was not, counted by linkerd's names (M-08)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.metrics.labels import CLIENT_LABELS, client_labels

if TYPE_CHECKING:
    from meshcore.metrics.registry import Counter, Registry
    from meshcore.transport.connection import Connection

__all__ = ["AuthorizationCounts"]

_SERVER = (*CLIENT_LABELS, "srv_kind", "srv_name")
_ROUTE = ("route_kind", "route_name")
_AUTHZ = ("authz_kind", "authz_name")
_NOBODY = ("",) * len(CLIENT_LABELS)


class AuthorizationCounts:
    """``inbound_http_authz_{allow,deny}_total`` and ``inbound_tcp_authz_{allow,deny,terminate}_total``.

    Args:
        registry: where they are.
    """

    __slots__ = ("_http_allow", "_http_deny", "_tcp_allow", "_tcp_deny", "_tcp_terminate")

    def __init__(self, registry: Registry) -> None:
        self._http_allow = registry.counter(
            "inbound_http_authz_allow_total",
            "The total number of inbound HTTP requests that were authorized.",
            *_SERVER,
            *_ROUTE,
            *_AUTHZ,
        )
        self._http_deny = registry.counter(
            "inbound_http_authz_deny_total",
            "The total number of inbound HTTP requests that were not authorized.",
            *_SERVER,
            *_ROUTE,
        )
        self._tcp_allow = registry.counter(
            "inbound_tcp_authz_allow_total",
            "The total number of inbound TCP connections that were authorized.",
            *_SERVER,
            *_AUTHZ,
        )
        self._tcp_deny = registry.counter(
            "inbound_tcp_authz_deny_total",
            "The total number of inbound TCP connections that were denied.",
            *_SERVER,
        )
        self._tcp_terminate = registry.counter(
            "inbound_tcp_authz_terminate_total",
            "The total number of inbound TCP connections that were terminated since the policy changed.",
            *_SERVER,
        )

    def http(
        self,
        target: object,
        connection: Connection | None,
        server: tuple[str, str],
        route: str,
        authorization: tuple[str, str] | None,
    ) -> Counter:
        """The series of requests.

        Args:
            target: what the service was made for.
            connection: where they come from.
            server: kind and name of the policy.
            route: the route's name; ``""`` for the default one.
            authorization: kind and name of what let them in; None: they were not.
        """
        client = _NOBODY if connection is None else client_labels(target, connection)
        labels = (*client, *server, *(("route", route) if route else ("default", "default")))
        if authorization is None:
            return self._http_deny.labels(*labels)
        return self._http_allow.labels(*labels, *authorization)

    def tcp(
        self, target: object, connection: Connection, server: tuple[str, str], authorization: tuple[str, str] | None
    ) -> Counter:
        """The series of connections; as :meth:`http`."""
        labels = (*client_labels(target, connection), *server)
        if authorization is None:
            return self._tcp_deny.labels(*labels)
        return self._tcp_allow.labels(*labels, *authorization)

    def terminated(self, target: object, connection: Connection, server: tuple[str, str]) -> Counter:
        """The series of connections that had been let in."""
        return self._tcp_terminate.labels(*client_labels(target, connection), *server)
