"""A call whose messages come or go one by one."""

from __future__ import annotations

import math
from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, Generic, TypeVar

import trio

from meshcore.errors import BodyAbandoned, GrpcError, MeshError, again
from meshcore.grpc.answer import Answer, ask
from meshcore.grpc.framing import frame
from meshcore.grpc.outgoing import Outgoing
from meshcore.grpc.status import broken, failure
from meshcore.http.grpc import GrpcStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from meshcore.abc import HttpService
    from meshcore.codec.events import Fields
    from meshcore.grpc.method import Method
    from meshcore.http.message import Request

__all__ = ["Call", "decoded", "only", "within"]

Req = TypeVar("Req")
Rsp = TypeVar("Rsp")
R = TypeVar("R")


class Call(Generic[Req, Rsp]):
    """A call, as ``async with``: send, receive, in any order, from one task or two; made by a ``GrpcClient``.

    Within the block one task waits for the head of the answer, and one more sends where ``send_from`` is used.  Leaving
    it before the answer's end cancels the call (RST_STREAM), and so does its deadline, which every operation raises as
    DEADLINE_EXCEEDED.  Iterating over it gives the messages that come.

    Args:
        service: where to.
        method: what is called.
        request: its request; the body is an :class:`~meshcore.grpc.outgoing.Outgoing` where messages are still to come.
        deadline: by Trio's clock.
        largest: bytes of a message that are taken.
    """

    def __init__(
        self,
        service: HttpService,
        method: Method[Req, Rsp],
        request: Request,
        deadline: float = math.inf,
        largest: int = 4 << 20,
    ) -> None:
        self._service = service
        self._method = method
        self._request = request
        self._deadline = deadline
        self._largest = largest
        self._outgoing = request.body if isinstance(request.body, Outgoing) else None
        self._answer: Answer | None = None
        self._error: Exception | None = None
        self._told = False
        self._begun = trio.Event()
        self._asking = trio.CancelScope()
        self._sending = trio.CancelScope()
        self._block: AbstractAsyncContextManager[trio.Nursery] | None = None
        self._nursery: trio.Nursery | None = None

    def __repr__(self) -> str:
        return f"<Call {self._method.path.decode()}>"

    async def __aenter__(self) -> Call[Req, Rsp]:
        """Begins the call."""
        self._block = trio.open_nursery()
        self._nursery = await self._block.__aenter__()
        self._nursery.start_soon(self._ask, name=f"call {self._method.path.decode()}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends it: what was not read is given up.  What the block raised passes as it is; a crash of the service that
        nobody has been told of is raised here."""
        assert self._block is not None
        self._release()
        try:
            await self._block.__aexit__(None, None, None)
        finally:
            # The answer may have come in this very moment.
            self._release()
        if error is None and not self._told and self._error is not None and not isinstance(self._error, GrpcError):
            raise self._error

    async def _ask(self) -> None:
        try:
            with self._asking:
                self._answer = await ask(self._service, self._request, self._largest)
        except Exception as error:
            self._fail(error)
        finally:
            self._begun.set()

    # ----- sending -----

    async def send(self, message: Req) -> None:
        """Sends a message; returns when few bytes are waiting to be sent.

        Raises:
            GrpcError: the call is over, with that status.
            trio.BrokenResourceError: the other side takes no more messages: ``receive`` tells why.
            trio.ClosedResourceError: ``finish`` was called before.
        """
        outgoing = self._outgoing
        if outgoing is None or outgoing.finished:
            raise trio.ClosedResourceError("the last message was sent")
        self._check()
        try:
            await self._within(lambda: outgoing.send(frame(self._method.encode(message))))
        except trio.BrokenResourceError:
            self._check()
            raise

    def finish(self) -> None:
        """No more messages will be sent.  Synchronous, idempotent."""
        if self._outgoing is not None:
            self._outgoing.push_end()

    def send_from(self, messages: Iterable[Req] | AsyncIterable[Req]) -> None:
        """Sends these messages, and then no more, in a task of the call while the block receives.

        Sending them first would be a trap: a server whose answer does not fit the window would wait for its answer
        to be read, and the block for its messages to be.  What *messages* raises ends the call, and is raised by
        whatever receives.
        """
        assert self._nursery is not None, "the call has not begun"
        self._nursery.start_soon(self._send_from, messages, name=f"messages for {self._method.path.decode()}")

    async def _send_from(self, messages: Iterable[Req] | AsyncIterable[Req]) -> None:
        try:
            with self._sending:
                if isinstance(messages, AsyncIterable):
                    async for message in messages:
                        await self.send(message)
                else:
                    for message in messages:
                        await self.send(message)
                self.finish()
        except (GrpcError, trio.BrokenResourceError):
            # Whoever receives is told.
            pass
        except Exception as error:
            self._fail(error)
            self._release()

    # ----- receiving -----

    async def metadata(self) -> Fields:
        """The initial metadata, waiting for it.

        Raises:
            GrpcError: the call is over without.
        """
        return (await self._within(self._answered)).metadata

    @property
    def trailing_metadata(self) -> Fields:
        """The trailing metadata, once the end was received."""
        return [] if self._answer is None else self._answer.trailing_metadata

    async def receive(self) -> Rsp:
        """The next message.

        Raises:
            trio.EndOfChannel: the call is over, and OK.
            GrpcError: it is over, and not.
        """
        message = await self._within(self._receive)
        if message is None:
            raise trio.EndOfChannel
        return decoded(self._method, message)

    async def last(self) -> Rsp:
        """The only message of the answer, with the call's end: for methods that answer once.

        Raises:
            GrpcError: the call did not end OK, or there was not exactly one message (INTERNAL).
        """
        return decoded(self._method, await self._within(self._last))

    def __aiter__(self) -> Call[Req, Rsp]:
        return self

    async def __anext__(self) -> Rsp:
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    async def _answered(self) -> Answer:
        if self._answer is None:
            await self._begun.wait()
        self._check()
        if self._answer is None:
            raise trio.ClosedResourceError("the call was left")
        return self._answer

    async def _receive(self) -> bytes | None:
        answer = await self._answered()
        try:
            return await answer.next_message()
        except GrpcError:
            # Where the call was given up on this side, its reason says more.
            self._check()
            raise

    async def _last(self) -> bytes:
        answer = await self._answered()
        try:
            return await only(answer)
        except GrpcError:
            self._check()
            raise

    # ----- how it ends -----

    async def _within(self, operation: Callable[[], Awaitable[R]]) -> R:
        if self._deadline == math.inf:
            return await operation()
        try:
            return await within(self._deadline, operation)
        except GrpcError as error:
            if error.status == GrpcStatus.DEADLINE_EXCEEDED:
                self._fail(error)
                self._release()
            raise

    def _fail(self, error: Exception) -> None:
        if self._error is None:
            self._error = error
        if self._outgoing is not None:
            self._outgoing.unwanted()

    def _check(self) -> None:
        if self._error is not None:
            self._told = True
            raise again(self._error)

    def _release(self) -> None:
        """Gives up what has not ended.  Synchronous."""
        self._asking.cancel(reason="the call was left")
        self._sending.cancel(reason="the call was left")
        if self._outgoing is not None:
            self._outgoing.push_error(BodyAbandoned("the call was left"))
        if self._answer is not None:
            self._answer.abort()


async def within(deadline: float, operation: Callable[[], Awaitable[R]]) -> R:
    """What *operation* returns, unless the deadline comes first.

    Raises:
        GrpcError: DEADLINE_EXCEEDED.
    """
    with trio.CancelScope(deadline=deadline):
        return await operation()
    raise failure(GrpcStatus.DEADLINE_EXCEEDED, "no answer came in time")


async def only(answer: Answer) -> bytes:
    """The one message of an answer, with its end.

    Raises:
        GrpcError: the call did not end OK, or there was not exactly one message (INTERNAL).
    """
    message = await answer.next_message()
    if message is None:
        raise failure(GrpcStatus.INTERNAL, "the answer ended without a message")
    if await answer.next_message() is not None:
        raise failure(GrpcStatus.INTERNAL, "the answer has more than one message")
    return message


def decoded(method: Method[Req, Rsp], message: bytes) -> Rsp:
    """A message as the method's response.

    Raises:
        GrpcError: INTERNAL: it is none.
    """
    try:
        return method.decode(message)
    except MeshError as error:
        raise broken(error) from error
    except Exception as error:
        raise failure(GrpcStatus.INTERNAL, f"malformed message: {error}") from error
