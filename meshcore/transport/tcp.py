"""TCP: listening, connecting, and the options of both kinds of socket."""

from __future__ import annotations

import errno
import os
import socket
from functools import lru_cache
from typing import TYPE_CHECKING

import attrs
import trio

from meshcore.errors import ConnectError
from meshcore.transport.socket import SocketConnection, wait_writable

if TYPE_CHECKING:
    from meshcore.transport.connection import Connection
    from meshcore.transport.target import Address, Endpoint

__all__ = ["Connector", "TcpOptions", "connect_tcp", "open_listeners"]


@attrs.frozen
class TcpOptions:
    """Options of TCP sockets, accepted and connected ones (D-41).

    Attributes:
        nodelay: no Nagle: a write leaves at once.
        keepalive: seconds of silence before the first probe, and between two; None: no probes.
        keepalive_count: unanswered probes after which the connection is dead.
        user_timeout: seconds that sent bytes may stay unacknowledged before the connection is dead
            (TCP_USER_TIMEOUT); None: the system's.  Linux counts the time that a peer holds its window
            shut as well, so this also ends connections to slow readers.
    """

    nodelay: bool = True
    keepalive: float | None = 10.0
    keepalive_count: int = 3
    user_timeout: float | None = None

    def apply(self, sock: socket.socket | trio.socket.SocketType) -> None:
        """Sets them; on a listening socket of Linux, accepted ones inherit them."""
        if sock.family not in (socket.AF_INET, socket.AF_INET6):
            return
        if self.nodelay:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.keepalive is not None:
            seconds = max(1, round(self.keepalive))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in (
                ("TCP_KEEPIDLE", seconds),
                ("TCP_KEEPINTVL", seconds),
                ("TCP_KEEPCNT", self.keepalive_count),
            ):
                if (option := getattr(socket, name, None)) is not None:
                    sock.setsockopt(socket.IPPROTO_TCP, option, value)
        if self.user_timeout is not None and (option := getattr(socket, "TCP_USER_TIMEOUT", None)) is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, round(self.user_timeout * 1000))


@lru_cache(maxsize=4096)
def family_of(host: str) -> socket.AddressFamily | None:
    """The family of an IP literal; None for a name.  (A scope such as ``fe80::1%eth0`` needs resolving.)"""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return family
    return None


@attrs.frozen
class Connector:
    """Connects over TCP: a ``Connect`` service.  ``connect_tcp`` is one with default options.

    Attributes:
        options: of the sockets it makes.
    """

    options: TcpOptions = TcpOptions()

    async def __call__(self, endpoint: Endpoint, /) -> Connection:
        """A connection to *endpoint*: an IP literal directly, a name by Happy Eyeballs (RFC 8305).  Not
        a checkpoint where the connection stands at once.

        Raises:
            ConnectError: refused, unreachable, no such name, no descriptors; retryable.
        """
        host = endpoint.address[0]
        family = family_of(host)
        try:
            if family is None:
                sock = await _connect_name(endpoint.address)
            else:
                sock = await _connect_address(family, endpoint.address)
        except OSError as error:
            raise ConnectError(f"endpoint {endpoint}: {_reason(error)}") from error
        try:
            self.options.apply(sock)
            return SocketConnection(sock, peer=endpoint.address if family is not None else None)
        except OSError as error:
            # The peer was gone again before its address could be asked.
            sock.close()
            raise ConnectError(f"endpoint {endpoint}: {_reason(error)}") from error


connect_tcp = Connector()
"""Connects to an endpoint over TCP with the default options: see :class:`Connector`."""


async def _connect_address(family: socket.AddressFamily, address: Address) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM | getattr(socket, "SOCK_NONBLOCK", 0), socket.IPPROTO_TCP)
    try:
        if sock.gettimeout() != 0.0:
            sock.setblocking(False)
        code = sock.connect_ex(address)
        if code == errno.EINPROGRESS:
            # On the same machine the handshake is over by now: asking again is cheaper than waiting.
            code = sock.connect_ex(address)
            if code in (errno.EALREADY, errno.EINPROGRESS):
                await wait_writable(sock)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            elif code == errno.EISCONN:
                code = 0
        if code:
            raise OSError(code, os.strerror(code))
    except BaseException:
        sock.close()
        raise
    return sock


async def _connect_name(address: Address) -> socket.socket:
    stream = await trio.open_tcp_stream(*address)
    found = stream.socket
    return socket.socket(found.family, found.type, found.proto, fileno=found.detach())


def _reason(error: OSError) -> str:
    """The cause in lower case, without its number."""
    if isinstance(error.__cause__, OSError):
        # What open_tcp_stream raises names only the address.
        return _reason(error.__cause__)
    if isinstance(error.__cause__, BaseExceptionGroup):
        causes = [each for each in error.__cause__.exceptions if isinstance(each, OSError)]
        if causes:
            return "; ".join(dict.fromkeys(_reason(each) for each in causes))
    if error.errno is None or isinstance(error, socket.gaierror):
        text = error.strerror or str(error) or type(error).__name__
    else:
        # Trio's text names the address once more.
        text = os.strerror(error.errno)
    return text[:1].lower() + text[1:]


async def open_listeners(
    host: str | None = None,
    port: int = 0,
    *,
    backlog: int = 4096,
    reuse_port: bool = False,
    options: TcpOptions = TcpOptions(),
) -> list[trio.SocketListener]:
    """Listens on every address of *host*.

    Args:
        host: an IP literal or a name; None or ``""``: every address of the machine, over IPv4 and IPv6.
        port: 0 takes a free one, the same for all addresses.
        backlog: connections that the system keeps waiting (at most ``net.core.somaxconn``).
        reuse_port: lets several processes listen on the same port (SO_REUSEPORT).
        options: inherited by the accepted sockets.

    Raises:
        OSError: an address cannot be had; nothing is left open then.
    """
    found = await trio.socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listeners: list[trio.SocketListener] = []
    try:
        for family, kind, proto, _, address in dict.fromkeys(found):
            if port == 0 and listeners:
                # One port for all: whoever is told one number reaches every address.
                address = (address[0], listeners[0].socket.getsockname()[1], *address[2:])
            try:
                sock = socket.socket(family, kind, proto)
            except OSError as error:
                if error.errno == errno.EAFNOSUPPORT:
                    # A machine without IPv6 whose resolver knows it.
                    continue
                raise
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if reuse_port:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                options.apply(sock)
                sock.setblocking(False)
                sock.bind(address)
                sock.listen(backlog)
            except OSError as error:
                sock.close()
                if error.errno == errno.EADDRNOTAVAIL and not host and listeners:
                    continue
                where = f"{host or 'any address'}:{port}"
                raise OSError(error.errno, f"cannot listen on {where}: {error.strerror}") from error
            listeners.append(trio.SocketListener(trio.socket.from_stdlib_socket(sock)))
    except BaseException:
        for listener in listeners:
            listener.socket.close()
        raise
    if not listeners:
        raise OSError(errno.EAFNOSUPPORT, f"cannot listen on {host}:{port}: {os.strerror(errno.EAFNOSUPPORT)}")
    return listeners
