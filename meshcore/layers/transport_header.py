"""SendTransportHeader: tells the proxy at an endpoint's address where a connection is to go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from meshcore.codec.transport_header import ALPN, encode
from meshcore.errors import ConnectError, ConnectionLost

if TYPE_CHECKING:
    from meshcore.abc import Connect
    from meshcore.transport.connection import Connection
    from meshcore.transport.target import Endpoint

__all__ = ["SendTransportHeader"]


@attrs.frozen
class SendTransportHeader:
    """Writes the transport header on connections to endpoints that have one, others pass as they are; a
    layer over ``Connect``.

    Its place is above ``Tls``, to which it says what to negotiate: that protocol and no other.  Where that
    is refused, or there is no TLS, there is no connection (D-20): whoever is there would take the header for
    the application's bytes.

    Attributes:
        name: the role, where a stack has more than one.
    """

    name: str = attrs.field(default="", repr=False, kw_only=True)

    def layer(self, inner: Connect, /) -> Connect:
        """A ``Connect`` that writes the header on what *inner* connected."""

        async def connect(endpoint: Endpoint) -> Connection:
            header = endpoint.transport_header
            if header is None:
                return await inner(endpoint)
            if endpoint.tls is None:
                raise ConnectError(f"endpoint {endpoint}: a transport header needs TLS", retryable=False)
            connection = await inner(attrs.evolve(endpoint, tls=attrs.evolve(endpoint.tls, alpn=(ALPN,))))
            try:
                if connection.alpn != ALPN:
                    raise ConnectError(f"endpoint {endpoint}: does not take a transport header", retryable=False)
                await connection.send_all(encode(header))
            except ConnectionLost as error:
                connection.close()
                raise ConnectError(f"endpoint {endpoint}: {error}") from error
            except BaseException:
                connection.close()
                raise
            return connection

        return connect
