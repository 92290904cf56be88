"""What a request is hashed by, so that whoever sends the same again gets to the same endpoint."""

from __future__ import annotations

from typing import Any, Protocol

import attrs

from meshcore.http.message import Request

__all__ = ["ByCookie", "ByHeader", "BySource", "HashBy"]


class HashBy(Protocol):
    """What is hashed: a frozen value."""

    def key(self, request: object, /) -> bytes | None:
        """The bytes to be hashed of a request, or of a connection; None where there are none, and any endpoint will
        do."""
        ...


def _lower(name: bytes) -> bytes:
    return name.lower()


@attrs.frozen
class ByHeader:
    """A field of the request.

    Attributes:
        name: in lower case.
    """

    name: bytes = attrs.field(converter=_lower)

    def key(self, request: object, /) -> bytes | None:
        """See :class:`HashBy`."""
        return request.headers.get(self.name) or None if isinstance(request, Request) else None


@attrs.frozen
class ByCookie:
    """A cookie, which the application has set.

    Attributes:
        name: as it was set.
    """

    name: bytes

    def key(self, request: object, /) -> bytes | None:
        """See :class:`HashBy`."""
        if not isinstance(request, Request):
            return None
        # HTTP/2 may have split them (RFC 9113 §8.2.3).
        for field in request.headers.get_all(b"cookie"):
            for pair in field.split(b";"):
                name, equals, value = pair.strip().partition(b"=")
                if equals and name == self.name:
                    return value or None
        return None


@attrs.frozen
class BySource:
    """The client's address, without its port."""

    def key(self, request: object, /) -> bytes | None:
        """See :class:`HashBy`."""
        connection: Any = request.connection if isinstance(request, Request) else request
        peer = getattr(connection, "peer", None)
        return str(peer[0]).encode() or None if peer else None
