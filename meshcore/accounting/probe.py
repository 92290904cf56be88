"""Probes: what stands above each layer's services and measures the requests that are chosen to be measured.

A request that is not passes most of them by (``PassThrough.unmeasured``); there is no frame of it.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import trio

from meshcore.accounting.passage import Passage, Served
from meshcore.accounting.visit import Visit
from meshcore.http.message import Request, Response
from meshcore.http.pass_through import PassThrough
from meshcore.transport.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from meshcore.accounting.account import Account
    from meshcore.accounting.sampler import Sampler
    from meshcore.http.body import EndOfStream

__all__ = ["Entry", "Probe"]

_now = trio.current_time
_TOP = -1
_connecting: ContextVar[Visit | None] = ContextVar("connecting", default=None)
"""The nearest visit of a layer that connects, for what carries nothing along."""


class Probe(PassThrough):
    """Stands above one service of a layer, for requests, for connections, or for what connects."""

    __slots__ = ("_account",)

    def __init__(self, inner: Any, account: Account) -> None:
        super().__init__(inner)
        self._account = account
        account.created += 1

    def __del__(self) -> None:
        self._account.dropped += 1

    def __repr__(self) -> str:
        return repr(self._inner)

    @property
    def __wrapped__(self) -> Any:
        """How a live stack is walked."""
        return self._inner

    def unmeasured(self) -> Any:
        """What is below."""
        return self._plain

    def take(self, request: Any, /) -> Awaitable[Any] | None:
        """What is measured."""
        if isinstance(request, Request):
            return None if request.account is None else self._request(request)
        if isinstance(request, Connection):
            passage = request.account
            if isinstance(passage, Passage):
                passage.enter(self._account, _now())
            return None
        return self._alone(request)

    async def _request(self, request: Request) -> Any:
        account = self._account
        before = request.account
        visit = _visit(before, account.level)
        request.account = visit
        began = _now()
        account.came(visit.weight)
        try:
            answer = await self._inner(request)
        except BaseException as error:
            request.account = before
            account.failed(visit, error, _now() - began)
            raise
        request.account = before
        account.ended(visit, answer, _now() - began)
        return answer

    async def _alone(self, request: Any) -> Any:
        """What carries nothing along is rare, and each is measured: to be connected is a matter of an endpoint."""
        account = self._account
        before = above = _connecting.get()
        while above is not None and above.level >= account.level:
            above = above.above
        if above is not None:
            above.asked += 1
        visit = Visit(1, account.level, above)
        _connecting.set(visit)
        began = _now()
        account.came(1)
        try:
            answer = await self._inner(request)
        except BaseException as error:
            _connecting.set(before)
            account.failed(visit, error, _now() - began)
            raise
        _connecting.set(before)
        account.ended(visit, answer, _now() - began)
        return answer


def _visit(found: object, level: int) -> Visit:
    """A new visit: part of the nearest one of a layer above.  What was found may be one of a try beside this one,
    which is deeper."""
    assert isinstance(found, Visit)
    above: Visit = found
    while above.level >= level:
        further = above.above
        if further is None:
            break
        above = further
    above.asked += 1
    return Visit(above.weight, level, above)


class Entry(Probe):
    """The topmost probe: decides which requests are measured in it and below."""

    __slots__ = ("_sampler",)

    def __init__(self, inner: Any, account: Account, sampler: Sampler) -> None:
        super().__init__(inner, account)
        self._sampler = sampler

    def unmeasured(self) -> Any:
        """Itself, for it decides."""
        return self

    def take(self, request: Any, /) -> Awaitable[Any] | None:
        """What is measured, and what another stack above measures and this one does not."""
        sampler = self._sampler
        left = sampler.left
        if isinstance(request, Request):
            if left == 0:
                return self._measured_request(request)
            sampler.left = left - 1
            return None if request.account is None else self._passed_over(request)
        if isinstance(request, Connection):
            found = request.account
            if left == 0:
                if not isinstance(found, Served):
                    return self._connection(request)
                now = _now()
                passage = Passage(sampler.take(now))
                request.account = passage
                passage.enter(self._account, now)
                return None
            sampler.left = left - 1
            return None if found is None or isinstance(found, Served) else self._passed_over(request)
        return self._alone(request)

    async def _measured_request(self, request: Request) -> Any:
        began = _now()
        weight = self._sampler.take(began)
        before = request.account
        request.account = Visit(weight, _TOP, None)
        try:
            answer = await self._request(request)
        finally:
            request.account = before
        if isinstance(answer, Response):
            answer.body.on_end(_Whole(self._account, weight, began).ended)
        return answer

    async def _connection(self, connection: Connection) -> Any:
        """One that nobody ends the passage of: it has a frame, which does."""
        began = _now()
        before = connection.account
        passage = Passage(self._sampler.take(began))
        connection.account = passage
        passage.enter(self._account, began)
        try:
            answer = await self._inner(connection)
        except BaseException as error:
            connection.account = before
            passage.end(_now(), error)
            raise
        connection.account = before
        passage.end(_now(), None)
        return answer

    async def _passed_over(self, request: Any) -> Any:
        """One that another stack above measures, and this one does not."""
        before = request.account
        request.account = None
        try:
            return await self._inner(request)
        finally:
            request.account = before


class _Whole:
    """A measured response until its body has ended."""

    __slots__ = ("_account", "_began", "_weight")

    def __init__(self, account: Account, weight: int, began: float) -> None:
        self._account = account
        self._weight = weight
        self._began = began

    def ended(self, end: EndOfStream) -> None:
        """It has."""
        self._account.whole(self._weight, _now() - self._began)
