"""What comes back of a call: its metadata, its messages one by one, and how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.errors import GrpcError, MeshError, again
from meshcore.grpc.framing import MessageReader
from meshcore.grpc.metadata import decode_metadata
from meshcore.grpc.status import broken, failure, http_failure, outcome
from meshcore.http.grpc import GrpcStatus, is_grpc, status_of

if TYPE_CHECKING:
    from meshcore.abc import HttpService
    from meshcore.codec.events import Fields
    from meshcore.http.message import Request, Response

__all__ = ["Answer", "ask"]


async def ask(service: HttpService, request: Request, largest: int) -> Answer:
    """Sends the request of a call, and waits for the answer's head.

    Args:
        service: where to.
        request: the call.
        largest: bytes of a message that are taken.

    Raises:
        GrpcError: there is no answer, or it is none of gRPC.
    """
    try:
        response = await service(request)
    except MeshError as error:
        raise broken(error) from error
    if response.status != 200 or not is_grpc(response.headers.raw):
        response.body.abort()
        said = outcome(response.headers.raw) if is_grpc(response.headers.raw) else None
        raise http_failure(response.status) if said is None or status_of(response.headers.raw) is None else said
    return Answer(response, largest)


class Answer:
    """The response of a call, read message by message; owned by whoever asked, who aborts it.

    Attributes:
        trailing_metadata: once the end was read; ``[]`` before.
    """

    __slots__ = ("_body", "_error", "_headers", "_over", "_reader", "trailing_metadata")

    def __init__(self, response: Response, largest: int) -> None:
        self._body = response.body
        self._headers = response.headers.raw
        self._reader = MessageReader(largest)
        self._over = False
        self._error: GrpcError | None = None
        self.trailing_metadata: Fields = []

    @property
    def metadata(self) -> Fields:
        """The initial metadata."""
        return [] if self._only_status else decode_metadata(self._headers)

    @property
    def _only_status(self) -> bool:
        """Whether the head is all there is: its fields are the trailers."""
        return self._body.end is not None and status_of(self._headers) is not None

    async def next_message(self) -> bytes | None:
        """The next message; None at the end of a call that is OK.

        Raises:
            GrpcError: it ended with another status, broke, or was not understood; the same again if asked again.
        """
        if self._error is not None:
            raise again(self._error)
        if self._over:
            return None
        try:
            while True:
                message = self._reader.next_message()
                if message is not None:
                    return message
                data = await self._body.receive_some()
                if not data:
                    self._end()
                    return None
                self._reader.receive_data(data)
        except MeshError as error:
            failed = broken(error)
            self._error = failed
            self.abort()
            if failed is error:
                raise
            raise failed from error

    def _end(self) -> None:
        self._over = True
        end = self._body.end
        trailers = end.trailers if end is not None else []
        fields = self._headers if not trailers and status_of(self._headers) is not None else trailers
        self.trailing_metadata = decode_metadata(fields)
        error = outcome(fields)
        if error is not None:
            raise error
        if self._reader.partial:
            raise failure(GrpcStatus.INTERNAL, "the answer ended in the middle of a message")

    def abort(self) -> None:
        """Gives up what was not read.  Synchronous, idempotent, never raises."""
        self._body.abort()
