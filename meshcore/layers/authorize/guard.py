"""The guarded service, and what it lets in."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

import trio

from meshcore.errors import AuthorizationError
from meshcore.http.message import Request, Response
from meshcore.layers.authorize.policy import Client
from meshcore.transport.about import About

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from meshcore.layers.authorize.policies import Policies
    from meshcore.layers.authorize.policy import Verdict
    from meshcore.metrics.authorization import AuthorizationCounts
    from meshcore.metrics.registry import Counter
    from meshcore.transport.connection import Connection

__all__ = ["Guard", "Guarded"]

log = logging.getLogger(__name__)

_MOST_JUDGED = 256
"""Verdicts kept on a connection, one for each route of each policy that has judged it."""


class Guarded:
    """A guarded service: no coroutine of its own for a request, a scope for a connection."""

    __slots__ = ("__layer__", "__wrapped__", "_guard", "_inner")

    def __init__(self, inner: Any, guard: Guard) -> None:
        self.__layer__: object = None
        self.__wrapped__: object = inner
        self._inner = inner
        self._guard = guard

    def __call__(self, request: Any, /) -> Awaitable[Any]:
        if isinstance(request, Request):
            self._guard.request(request.connection)
            if request.protocol is not None or request.method == b"CONNECT":
                return self._tunnel(request)
            return cast("Awaitable[Any]", self._inner(request))
        return self._carry(request)

    async def _tunnel(self, request: Request) -> Response:
        """A request that may become a connection of raw bytes, which is judged like one from then on."""
        response: Response = await self._inner(request)
        connection = request.connection
        if connection is not None and response.body.end is None and _is_tunnel(request, response.status):
            held = self._guard.held
            live = _LiveTunnel(self._guard, connection, request, response)
            held.enter(live)
            response.body.on_end(lambda _: held.leave(live))
        return response

    async def _carry(self, connection: Connection) -> None:
        guard = self._guard
        guard.connection(connection)
        with trio.CancelScope() as scope:
            live = _Live(guard, connection, scope)
            guard.held.enter(live)
            try:
                await self._inner(connection)
            finally:
                guard.held.leave(live)
        if live.refused:
            # Whatever carries it leaves it closed when it is cancelled; a service of somebody else's may not.
            connection.close()
            raise AuthorizationError(f"connection {_whence(connection)} is not authorized any more: {live.refused}")


class _Live:
    """A connection that was let in, for as long as it is served."""

    __slots__ = ("_connection", "_guard", "_scope", "refused")

    def __init__(self, guard: Guard, connection: Connection, scope: trio.CancelScope) -> None:
        self._guard = guard
        self._connection = connection
        self._scope = scope
        self.refused = ""

    def judge_again(self) -> None:
        """See :class:`~meshcore.layers.authorize.policies.Judged`."""
        if not self.refused:
            self.refused = self._guard.still(self._connection)
            if self.refused:
                self._scope.cancel()


class _LiveTunnel:
    """A tunnel that was let in, until its answer's bytes have ended."""

    __slots__ = ("_connection", "_guard", "_request", "_response")

    def __init__(self, guard: Guard, connection: Connection, request: Request, response: Response) -> None:
        self._guard = guard
        self._connection = connection
        self._request = request
        self._response = response

    def judge_again(self) -> None:
        """See :class:`~meshcore.layers.authorize.policies.Judged`."""
        refused = self._guard.still(self._connection)
        if refused:
            error = AuthorizationError(f"tunnel {_whence(self._connection)} is not authorized any more: {refused}")
            self._response.body.abort(error)
            self._request.body.abort(error)


def _is_tunnel(request: Request, status: int) -> bool:
    return status == 101 if request.protocol is not None else 200 <= status < 300


class Guard:
    """A policy as it applies to one route of one server."""

    __slots__ = ("_counts", "_route", "_target", "held")

    def __init__(self, held: Policies, route: str, target: object, counts: AuthorizationCounts | None) -> None:
        self.held = held
        self._route = route
        self._target = target
        self._counts = counts

    def request(self, connection: Connection | None) -> None:
        """Lets a request in, or raises."""
        held = self.held
        if connection is None:
            found = self._judged(held, None)
        else:
            kept = connection.judged
            if kept is None:
                kept = connection.judged = {}
            known = kept.get(self)
            if known is None or known.generation != held.generation:
                if len(kept) >= _MOST_JUDGED:
                    # Of pipelines that are not there any more, mostly: a connection may outlive many.
                    kept.clear()
                known = kept[self] = self._judged(held, connection)
            found = known
        if found.counter is not None:
            found.counter.value += 1
        if found.error is not None:
            raise AuthorizationError(found.error)
        if found.verdict.audit and log.isEnabledFor(logging.INFO):
            log.info("unauthorized request %s let in: policy audit", _whence(connection), extra=About(connection))

    def _judged(self, held: Policies, connection: Connection | None) -> _Judged:
        verdict = held.current.judge(_client(connection), self._route)
        counter = None
        if self._counts is not None:
            counter = self._counts.http(
                self._target,
                connection,
                verdict.server,
                self._route,
                verdict.authorization if verdict.allowed else None,
            )
        error = None
        if not verdict.allowed:
            place = f" on route {self._route}" if self._route else ""
            error = f"unauthorized request{place} {_whence(connection)}: {verdict.reason}"
        return _Judged(held.generation, verdict, counter, error)

    def connection(self, connection: Connection) -> None:
        """Lets a connection in, or raises."""
        verdict = self.held.current.judge(_client(connection), self._route)
        if self._counts is not None:
            authorization = verdict.authorization if verdict.allowed else None
            self._counts.tcp(self._target, connection, verdict.server, authorization).value += 1
        if not verdict.allowed:
            raise AuthorizationError(f"unauthorized connection {_whence(connection)}: {verdict.reason}")
        if verdict.audit:
            log.info(
                "unauthorized connection %s let in: policy audit", _whence(connection), extra=About(connection)
            )

    def still(self, connection: Connection) -> str:
        """Why a connection is not permitted any more; ``""``: it is."""
        verdict = self.held.current.judge(_client(connection), self._route)
        if verdict.allowed:
            return ""
        if self._counts is not None:
            self._counts.terminated(self._target, connection, verdict.server).value += 1
        return verdict.reason


class _Judged:
    """What was found out about the requests of a connection."""

    __slots__ = ("counter", "error", "generation", "verdict")

    def __init__(self, generation: int, verdict: Verdict, counter: Counter | None, error: str | None) -> None:
        self.generation = generation
        self.verdict = verdict
        self.counter = counter
        self.error = error


def _client(connection: Connection | None) -> Client:
    if connection is None:
        return Client()
    return Client.at(connection.peer[0], connection.identity, connection.secure)


def _whence(connection: Connection | None) -> str:
    if connection is None:
        return "of the proxy itself"
    who = f" ({connection.identity})" if connection.identity is not None else ""
    return f"from {connection.peer[0] or 'an unknown address'}{who}"
