"""TLS: the handshake and the stream, on a socket itself or over any connection.

On a plain socket OpenSSL reads and writes the descriptor; anywhere else bytes go through memory.  Every
callback returns its refusal rather than raising it, and what a callback had to allow is checked again after
the handshake, so that a failure can only ever refuse.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import trio
from OpenSSL import SSL

from meshcore._wakeup import checkpoint
from meshcore.errors import ConnectionLost, TlsError, TlsRefused, caused
from meshcore.transport.connection import READ_SIZE, Connection
from meshcore.transport.socket import wait_writable
from meshcore.transport.tls_errors import is_refusal, kind, reason

if TYPE_CHECKING:
    from meshcore.transport.readiness import Poller
    from meshcore.transport.socket import SocketConnection

__all__ = ["TlsConnection", "TlsSocketConnection", "TlsStreamConnection", "reason", "tls_connection"]

RECORD = 16_384
_BATCH = 1 << 18
"""Plaintext encrypted at a time where it has to be kept in memory."""
_TURN = 16


class TlsConnection(Connection):
    """A connection secured by TLS, of either kind.

    An end without close_notify is a :class:`ConnectionLost`, not an end: somebody may have cut it (RFC 8446 §6.1).
    """

    __slots__ = ("_again", "_inner", "ssl")

    def __init__(self, ssl: SSL.Connection, inner: Connection) -> None:
        super().__init__(inner.local, inner.peer)
        self.ssl = ssl
        self._inner = inner
        self._again = False
        self.secure = True
        self.owner = inner.owner
        self.drain = inner.drain
        self.sweeper = inner.sweeper
        self.account = inner.account

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.local} <-> {self.peer}{' closed' if self.closed else ''}>"

    def fileno(self) -> int:
        """The descriptor under it, -1 where there is none."""
        return self._inner.fileno()

    async def handshake(self) -> None:
        """Shakes hands; ``alpn`` is known afterwards.

        Raises:
            TlsError: it failed; close the connection.
            ConnectionLost: the connection broke on the way.
        """
        raise NotImplementedError

    def _shaken(self) -> None:
        self.alpn = self.ssl.get_alpn_proto_negotiated().decode("latin-1") or None

    def _shake(self) -> None:
        """One step of the handshake.

        Raises:
            SSL.WantReadError, SSL.WantWriteError: not done yet.
            TlsError: it failed.
        """
        try:
            self.ssl.do_handshake()
        except (SSL.WantReadError, SSL.WantWriteError):
            raise
        except SSL.Error as error:
            self.error = error
            ended = isinstance(error, SSL.SysCallError) and error.args[:1] == (-1,)
            why = "closed by the peer" if ended else reason(error)
            raise caused(TlsError(f"TLS handshake failed: {why}", reason=kind(why)), error) from error
        except Exception as error:
            # Raised in a callback.  OpenSSL's list of errors, one for all connections of the thread, has not
            # been emptied: what was left in it would be taken for the next connection's.
            self.error = error
            try:
                self.ssl.do_handshake()
            except SSL.Error:
                pass
            raise

    def _read_records(self, max_bytes: int) -> bytes:
        """What OpenSSL can decrypt at once; ``b""`` at the end.

        Raises:
            SSL.WantReadError, SSL.WantWriteError: nothing yet.
            ConnectionLost: it broke.
        """
        if self._prefix:
            return self.take_prefix(max_bytes)
        data = self._read_record(max_bytes)
        if len(data) == RECORD:
            # A full record: there are probably more.
            parts = [data]
            left = max_bytes - RECORD
            while left > 0 and len(parts[-1]) == RECORD:
                try:
                    parts.append(self.ssl.recv(min(left, RECORD)))
                except SSL.WantReadError:
                    break
                except SSL.Error:
                    # What came before it first; the next read finds it again, and must not wait for that.
                    self._again = True
                    break
                left -= len(parts[-1])
            data = b"".join(parts)
        self._count_read(len(data))
        return data

    def _count_read(self, count: int) -> None:
        self.bytes_read += count

    def _read_record(self, max_bytes: int) -> bytes:
        if self.closed:
            # Its descriptor may be another connection's by now.
            raise trio.ClosedResourceError
        try:
            return self.ssl.recv(min(max_bytes, RECORD))
        except SSL.ZeroReturnError:
            self._again = True
            return b""
        except (SSL.WantReadError, SSL.WantWriteError):
            raise
        except SSL.Error as error:
            raise self._lost(error) from error

    def _lost(self, error: BaseException) -> ConnectionLost:
        if isinstance(error, SSL.SysCallError) and error.args and error.args[0] > 0:
            self.error = OSError(error.args[0], os.strerror(error.args[0]))
        else:
            self.error = error
        if not self.bytes_read:
            # Only before its first byte can the peer not have begun to work on what we sent.
            why = reason(error)
            if is_refusal(why):
                refused = TlsRefused(f"certificate was refused by the peer: {why}", reason="refused by peer")
                return caused(refused, error)
        return caused(ConnectionLost(f"connection to {self.peer[0]}:{self.peer[1]}: {reason(error)}"), error)

    def close(self) -> None:
        """Says close_notify, if that needs no waiting, and closes at once."""
        if not self.closed:
            if self.error is None:
                self._goodbye()
            self.closed = True
            self._inner.close()

    def reset(self) -> None:
        """Closes without close_notify, and by a reset where the transport can."""
        if not self.closed:
            self.closed = True
            self._inner.reset()

    def _goodbye(self) -> None:
        try:
            self.ssl.shutdown()
        except SSL.Error:
            pass


class TlsSocketConnection(TlsConnection):
    """TLS on a plain non-blocking socket."""

    __slots__ = ("_below", "_fd")

    def __init__(self, ssl: SSL.Connection, inner: SocketConnection) -> None:
        super().__init__(ssl, inner)
        self._below = inner
        self._fd = inner.fileno()

    # OpenSSL moves the bytes past the connection under this one; it counts and knows what became of them all the same.

    def _count_read(self, count: int) -> None:
        self.bytes_read += count
        self._inner.bytes_read += count

    def _count_written(self, count: int) -> None:
        self.bytes_written += count
        self._inner.bytes_written += count

    def _lost(self, error: BaseException) -> ConnectionLost:
        lost = super()._lost(error)
        self._inner.error = self.error
        return lost

    def poll_with(self, poller: Poller) -> None:
        """See :class:`Connection`."""
        self._below.poll_with(poller)

    async def handshake(self) -> None:
        """See :class:`TlsConnection`."""
        while True:
            if self.closed:
                raise trio.ClosedResourceError
            try:
                self._shake()
                break
            except SSL.WantReadError:
                self._below.drained()
                await self._below.wait_readable()
            except SSL.WantWriteError:
                await wait_writable(self._fd)
        self._shaken()

    def receive_nowait(self, max_bytes: int = READ_SIZE) -> bytes:
        """See :class:`Connection`."""
        if self.closed:
            raise trio.ClosedResourceError
        try:
            return self._read_records(max_bytes)
        except (SSL.WantReadError, SSL.WantWriteError):
            raise trio.WouldBlock from None

    async def receive_some(self, max_bytes: int = READ_SIZE) -> bytes:
        """See :class:`Connection`."""
        # What a small read left of a record is in OpenSSL's hands, where no poll sees it.
        ready = self._prefix or self._again or self.ssl.pending()
        while not self.closed:
            if ready:
                return self._read_records(max_bytes)
            await self._below.wait_readable()
            try:
                return self._read_records(max_bytes)
            except SSL.WantReadError:
                self._below.drained()
                continue
            except SSL.WantWriteError:
                # An answer to the peer's key update finds the socket full.
                await self._wait_writable()
        raise trio.ClosedResourceError

    async def _wait_writable(self) -> None:
        try:
            await wait_writable(self._fd)
        except trio.BusyResourceError:
            # The writer waits for the same; it will make room.
            await trio.sleep(0.01)

    def _look(self) -> None:
        """Whether the peer has refused our certificate, before the first writes: a write that fails because the
        peer has closed leaves OpenSSL unable to read why."""
        try:
            self.ssl.recv(1, socket.MSG_PEEK)
        except (SSL.WantReadError, SSL.WantWriteError, SSL.ZeroReturnError):
            pass
        except SSL.Error as error:
            raise self._lost(error) from error

    def _write(self, data: bytes | memoryview) -> int:
        """One record."""
        try:
            return self.ssl.send(data)
        except (SSL.WantWriteError, SSL.WantReadError):
            return 0
        except SSL.Error as error:
            raise self._lost(error) from error

    def send_nowait(self, data: bytes) -> int:
        """See :class:`Connection`.  Bytes not taken must come again, as the first of the next write."""
        if self.closed:
            raise trio.ClosedResourceError
        if not self.bytes_read and self.bytes_written < READ_SIZE:
            self._look()
        sent = self._write(data)
        if 0 < sent < len(data):
            view = memoryview(data)
            while sent < len(data):
                count = self._write(view[sent:])
                if count == 0:
                    break
                sent += count
        self._count_written(sent)
        return sent

    async def send_all(self, data: bytes) -> None:
        """See :class:`Connection`."""
        sent = self.send_nowait(data)
        if sent == len(data):
            return
        view = memoryview(data)
        records = 0
        while sent < len(data):
            if self.closed:
                raise trio.ClosedResourceError
            count = self._write(view[sent:])
            if count == 0:
                records = 0
                await wait_writable(self._fd)
                continue
            self._count_written(count)
            sent += count
            records += 1
            if records >= _TURN:
                records = 0
                await checkpoint()

    async def send_eof(self) -> None:
        """Says close_notify; what the peer still sends can be read."""
        while True:
            if self.closed:
                raise trio.ClosedResourceError
            try:
                self.ssl.shutdown()
                return
            except SSL.WantWriteError:
                await wait_writable(self._fd)
            except SSL.WantReadError:
                return
            except SSL.Error as error:
                raise self._lost(error) from error


class TlsStreamConnection(TlsConnection):
    """TLS over any connection, through memory."""

    __slots__ = ("_sending",)

    def __init__(self, ssl: SSL.Connection, inner: Connection) -> None:
        super().__init__(ssl, inner)
        self._sending = False

    async def handshake(self) -> None:
        """See :class:`TlsConnection`."""
        while True:
            try:
                self._shake()
                break
            except SSL.WantReadError:
                await self._flush()
                await self._fill()
            except TlsError as error:
                # The alert that says why.
                try:
                    await self._flush()
                except ConnectionLost:
                    pass
                raise error from error.__cause__
        self._shaken()
        await self._flush()

    def _feed(self, data: bytes) -> None:
        if data:
            self.ssl.bio_write(data)
        else:
            self.ssl.bio_shutdown()

    async def _fill(self) -> None:
        try:
            data = await self._inner.receive_some()
        except ConnectionLost as error:
            self.error = error
            raise
        self._feed(data)

    def _output(self) -> bytes:
        parts: list[bytes] = []
        while True:
            try:
                parts.append(self.ssl.bio_read(_BATCH))
            except SSL.WantReadError:
                return b"".join(parts)

    async def _flush(self) -> None:
        """Sends what OpenSSL has to say; whoever sends already sends it along."""
        if self._sending:
            return
        self._sending = True
        try:
            while output := self._output():
                await self._inner.send_all(output)
        except ConnectionLost as error:
            self.error = error
            refused = self._refused()
            if refused is not None:
                raise caused(refused, error) from error
            raise
        finally:
            self._sending = False

    def _refused(self) -> ConnectionLost | None:
        """The peer's refusal of our certificate, if that is why it takes nothing: it has said so before it closed."""
        if self.bytes_read:
            return None
        try:
            self._feed(self._inner.receive_nowait())
            self.ssl.recv(1, socket.MSG_PEEK)
        except (trio.WouldBlock, trio.ClosedResourceError, ConnectionLost):
            pass
        except SSL.Error as error:
            lost = self._lost(error)
            return lost if isinstance(lost, TlsRefused) else None
        return None

    def receive_nowait(self, max_bytes: int = READ_SIZE) -> bytes:
        """See :class:`Connection`."""
        if self.closed:
            raise trio.ClosedResourceError
        while True:
            try:
                return self._read_records(max_bytes)
            except SSL.WantReadError:
                self._feed(self._inner.receive_nowait())

    async def receive_some(self, max_bytes: int = READ_SIZE) -> bytes:
        """See :class:`Connection`."""
        while True:
            if self.closed:
                raise trio.ClosedResourceError
            try:
                return self._read_records(max_bytes)
            except SSL.WantReadError:
                await self._fill()

    def send_nowait(self, data: bytes) -> int:
        """See :class:`Connection`: takes nothing, since what is encrypted must be sent."""
        return 0

    async def send_all(self, data: bytes) -> None:
        """See :class:`Connection`."""
        view = memoryview(data)
        sent = 0
        while sent < len(data):
            if self.closed:
                raise trio.ClosedResourceError
            try:
                batch = min(sent + _BATCH, len(data))
                while sent < batch:
                    sent += self.ssl.send(view[sent:batch])
            except SSL.Error as error:
                raise self._lost(error) from error
            await self._flush()
        self.bytes_written += sent

    async def send_eof(self) -> None:
        """Says close_notify; what the peer still sends can be read."""
        if self.closed:
            raise trio.ClosedResourceError
        super()._goodbye()
        await self._flush()

    def _goodbye(self) -> None:
        super()._goodbye()
        self._send_output()

    def _send_output(self) -> None:
        """Sends what OpenSSL has to say, as far as that needs no waiting."""
        if not self._sending and not self._inner.closed:
            try:
                self._inner.send_nowait(self._output())
            except (ConnectionLost, trio.ClosedResourceError):
                pass


def tls_connection(context: SSL.Context, inner: Connection) -> TlsConnection:
    """TLS over *inner* with the settings of *context*; the handshake is still to come."""
    plain = inner.plain_socket()
    if plain is None:
        return TlsStreamConnection(SSL.Connection(context, None), inner)
    return TlsSocketConnection(SSL.Connection(context, plain.socket), plain)
