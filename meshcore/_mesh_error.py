"""What all errors have in common; a part of ``meshcore.errors``, which has it under its own name."""

from __future__ import annotations

from typing import ClassVar, Literal

__all__ = ["MeshError"]

_INTERNAL_ERROR = 0x2


class MeshError(Exception):
    """Anything this library raises on purpose; never raised itself.

    Attributes:
        code: the stable name in ``x-meshcore-error`` and ``meshcore explain CODE``.
        status_hint: the HTTP status it is answered with.
        grpc_hint: the gRPC status code it is answered with (E-04).
        h2_hint: the HTTP/2 error code when only a reset can say it.
        source: whose fault it is: ``"client"``, ``"upstream"`` or ``"proxy"``.
        closes: whether the accepted connection is closed after the answer (E-07).
        kind: its label in ``inbound_http_errors_total`` and its like (E-08).
        around: the names of what is around that which the message names, from the inside: the backend of an endpoint.
        retryable: whether no byte of the request was processed, so that trying again is safe
            for any method.  An instance may override it.
    """

    code: ClassVar[str] = "internal"
    status_hint: ClassVar[int] = 500
    grpc_hint: ClassVar[int] = 13
    h2_hint: ClassVar[int] = _INTERNAL_ERROR
    source: ClassVar[Literal["client", "upstream", "proxy"]] = "proxy"
    closes: ClassVar[bool] = True
    kind: str = "unexpected"
    around: tuple[str, ...] = ()

    def __init__(self, message: str = "", *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        """Header fields that belong to its answer, whoever gets it."""
        return []
