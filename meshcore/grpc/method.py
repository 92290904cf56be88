"""A method of a service: its path, and what turns its messages into bytes and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar, cast

import attrs

from meshcore.codec.validate import is_path

__all__ = ["Method"]

Req = TypeVar("Req")
Rsp = TypeVar("Rsp")


def _path(method: object, attribute: object, value: bytes) -> None:
    service, _, name = value[1:].rpartition(b"/")
    if not is_path(value) or not service or not name or b"?" in value:
        raise ValueError(f"a method's path is /package.Service/Method: {value!r}")


def _same(value: object) -> object:
    return value


@attrs.frozen
class Method(Generic[Req, Rsp]):
    """A method that can be called: ``Method(b"/test.Echo/Unary")``, whose messages are bytes.

    With protobuf: ``Method(b"/grpc.health.v1.Health/Check", HealthCheckRequest.SerializeToString,
    HealthCheckResponse.FromString)``.

    Attributes:
        path: ``/package.Service/Method``.
        encode: makes bytes of a request.
        decode: makes a response of bytes; whatever it raises is INTERNAL.

    Raises:
        ValueError: the path is none.
    """

    path: bytes = attrs.field(validator=_path)
    encode: Callable[[Req], bytes] = attrs.field(default=cast("Callable[[Req], bytes]", _same), repr=False)
    decode: Callable[[bytes], Rsp] = attrs.field(default=cast("Callable[[bytes], Rsp]", _same), repr=False)
