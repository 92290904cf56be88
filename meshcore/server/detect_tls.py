"""DetectTls: whether an accepted connection begins with TLS, whom it asks for, and which branch takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs
import trio

from meshcore.abc import Connect, NewAccept
from meshcore.codec.client_hello import MAX_HELLO, ClientHello, Incomplete, NotTls, parse
from meshcore.codec.transport_header import ALPN, MESH
from meshcore.errors import TlsError
from meshcore.server.detect import Observe
from meshcore.stack import Stack
from meshcore.transport.lookahead import Lookahead
from meshcore.transport.target import Accepted

if TYPE_CHECKING:
    from meshcore.abc import Service

    # Nobody structures this class from a table, and OpenSSL stays unloaded.
    from meshcore.identity.store import Identity  # noqa: TC004
    from meshcore.transport.connection import Connection

__all__ = ["DetectTls"]

T = TypeVar("T")

_LOOPBACK = ("127.", "::1")


@attrs.frozen
class DetectTls(Generic[T]):
    """Terminates the TLS that is meant for this proxy, and leaves any other as it is.

    The client's hello is looked at and not taken.  If it asks for one of the own names, the handshake
    follows and *plain* gets what was encrypted, and so it does for a hello that only another proxy of the mesh can
    have sent, by the protocols that it offers; if it asks for another one, *passthrough* gets the
    connection untouched (D-12); if there is no hello, or one that asks for nobody, *plain* gets it untouched.
    The first byte that no hello has decides at once (D-11).  Nothing is ever downgraded: a hello that does
    not come whole in time, or that cannot be relied on, ends the connection (D-13, T-17).

    Attributes:
        identity: whose certificate is shown; None: nothing is terminated, all TLS that asks for a name is
            passed through, and a client that stays silent is handed on as plaintext after *timeout* (D-10).
        plain: the branch for plaintext, and for what was terminated: ``connection.secure`` and
            ``connection.identity`` tell which; ``target.no_tls`` says why it is not secure.
        passthrough: the branch for TLS that is for somebody else; ``target.sni`` says for whom.
        names: further own server names, beside the identity's name and the DNS names in its certificate.
        alpn: what is accepted after termination; a client that offers nothing is served, too.
        timeout: seconds for the hello (D-13).  As long as that may a client be silent, so ports whose
            servers speak first belong in *ports_skipped*.
        handshake_timeout: seconds for the handshake, once the hello is there.
        ports_skipped: ports (of the original destination, or the listener's) at which TLS is not looked for.
        server_first: the server may be the one that speaks first: a client that stays silent for *timeout* is handed
            on as plaintext instead of being refused.
        require_sni: refuses what asks for no name, for routes by name (D-14).
        observe: hears of each detection: ``terminated``, ``passthrough``, ``no_tls``, ``timeout``, ``refused`` or
            ``error`` (an end before anything, mostly), and its seconds.
    """

    identity: Identity | None
    plain: Stack[Connect, NewAccept[T]]
    passthrough: Stack[Connect, NewAccept[T]]
    names: tuple[str, ...] = ()
    alpn: tuple[str, ...] = (ALPN, "h2", "http/1.1", MESH)
    timeout: float = 10.0
    handshake_timeout: float = 10.0
    ports_skipped: frozenset[int] = frozenset()
    server_first: bool = False
    require_sni: bool = False
    observe: Observe | None = attrs.field(default=None, repr=False)

    def __repr__(self) -> str:
        parts = ["identity=None" if self.identity is None else f"identity={self.identity.name!r}"]
        if self.names:
            parts.append(f"names={list(self.names)}")
        parts.append(f"timeout={self.timeout}")
        if self.identity is not None:
            parts.append(f"handshake_timeout={self.handshake_timeout}")
        if self.ports_skipped:
            parts.append(f"ports_skipped={sorted(self.ports_skipped)}")
        if self.server_first:
            parts.append("server_first=True")
        if self.require_sni:
            parts.append("require_sni=True")
        return f"DetectTls({', '.join(parts)})"

    def branches(self) -> dict[str, Stack[Any, Any]]:
        """See :class:`meshcore.stack.Branching`."""
        return {"plain": self.plain, "passthrough": self.passthrough}

    def with_branch(self, name: str, branch: Stack[Any, Any], /) -> DetectTls[T]:
        """The same with another stack as the branch *name*."""
        if name == "plain":
            return attrs.evolve(self, plain=branch)
        if name == "passthrough":
            return attrs.evolve(self, passthrough=branch)
        raise LookupError(f"no branch {name!r}; the branches are: plain, passthrough")

    def layer(self, inner: Connect, /) -> NewAccept[T]:
        """Both branches over the same *inner*."""
        return _NewDetectTls(self, self.plain.layer(inner), self.passthrough.layer(inner))


class _NewDetectTls(Generic[T]):
    """Makes the detecting service of each accepted connection."""

    __slots__ = ("_layer", "_names", "_passthrough", "_plain")

    def __init__(self, layer: DetectTls[T], plain: NewAccept[T], passthrough: NewAccept[T]) -> None:
        self._layer = layer
        self._plain = plain
        self._passthrough = passthrough
        self._names = _OwnNames(layer)

    def __repr__(self) -> str:
        return f"{self._layer!r} over {self._plain!r} and {self._passthrough!r}"

    def new_service(self, target: T, nursery: trio.Nursery, /) -> Service[Connection, None]:
        """Serves one connection that was accepted as *target*."""
        layer = self._layer

        async def service(connection: Connection) -> None:
            if connection.secure or connection.silent:
                # Terminated above already, or nothing comes before the server has spoken.
                await self._plain.new_service(target, nursery)(connection)
                return
            if layer.ports_skipped and _port(target, connection) in layer.ports_skipped:
                await self._plain.new_service(_plain(target, "port_skipped"), nursery)(connection)
                return
            found = await _Detection(layer, connection).run(self._names)
            if found is None:
                connection.close()
            elif found.result == "terminated":
                await self._terminate(_asked(target, found.sni), nursery, connection)
            elif found.result == "passthrough":
                await self._passthrough.new_service(_asked(target, found.sni), nursery)(connection)
            else:
                plain = _plain(target, _reason(layer, connection))
                await self._plain.new_service(plain, nursery)(connection)

        return service

    async def _terminate(self, target: T, nursery: trio.Nursery, connection: Connection) -> None:
        # OpenSSL takes 9 MiB, which is for those to pay who use it.
        from meshcore.identity.tls import accept_mesh_tls

        layer = self._layer
        assert layer.identity is not None
        secured = await accept_mesh_tls(
            connection, layer.identity, alpn=layer.alpn, timeout=layer.handshake_timeout
        )
        try:
            await self._plain.new_service(_secured(target, secured), nursery)(secured)
        finally:
            secured.close()


@attrs.frozen
class _Found:
    """What a connection begins with; the result as ``observe`` hears it."""

    result: str
    sni: str | None = None


class _Detection:
    """Looks at one connection."""

    __slots__ = ("_ahead", "_layer")

    def __init__(self, layer: DetectTls[Any], connection: Connection) -> None:
        self._layer = layer
        self._ahead = Lookahead(connection, MAX_HELLO)

    async def run(self, names: _OwnNames) -> _Found | None:
        """What was found; None if the connection ended before its first byte.

        Raises:
            TlsError: the hello did not come in time, broke off, or is refused.
            ConnectionLost: the connection broke.
        """
        layer = self._layer
        started = trio.current_time()
        result = "error"
        try:
            try:
                hello = await self._hello()
            except ValueError as error:
                result = "refused"
                raise TlsError(str(error), retryable=False) from error
            except trio.TooSlowError:
                waits = layer.identity is None or layer.server_first
                if not waits or layer.require_sni or self._ahead.data:
                    result = "timeout"
                    what = "SNI" if layer.require_sni else "TLS"
                    late = TlsError(f"{what} detection timed out after {layer.timeout:g} s", retryable=False)
                    late.kind = "tls detection timeout"
                    raise late from None
                hello = NotTls()
            if hello is None:
                return None
            found = _judge(hello, names, layer.identity is not None)
            if found.sni is None and layer.require_sni:
                result = "refused"
                raise TlsError("could not find SNI", retryable=False)
            result = found.result
            return found
        finally:
            self._ahead.put_back()
            if layer.observe is not None:
                layer.observe(result, trio.current_time() - started)

    async def _hello(self) -> NotTls | ClientHello | None:
        """The hello; None: the connection ended before its first byte."""
        ahead = self._ahead
        # Most clients speak at once, and what is there already needs neither a wait nor a limit.
        ahead.look()
        found = parse(ahead.data)
        if isinstance(found, Incomplete):
            with trio.fail_after(self._layer.timeout):
                while isinstance(found, Incomplete):
                    await ahead.wait_for(found.wanted)
                    found = parse(ahead.data)
                    if isinstance(found, Incomplete) and ahead.ended:
                        break
        if not isinstance(found, Incomplete):
            return found
        if not ahead.data:
            return None
        if len(ahead.data) < 6:
            # Not more than a few bytes that something else may begin with, too.
            return NotTls()
        raise ValueError("TLS hello breaks off")


def _judge(hello: NotTls | ClientHello, names: _OwnNames, terminates: bool) -> _Found:
    if isinstance(hello, NotTls):
        return _Found("no_tls")
    if terminates and (MESH in hello.alpn or ALPN in hello.alpn):
        # No application speaks these: the other proxy has its connection here on purpose.
        return _Found("terminated", hello.sni)
    if hello.sni is None:
        return _Found("no_tls")
    return _Found("terminated" if hello.sni.lower() in names.now() else "passthrough", hello.sni)


class _OwnNames:
    """The names for which TLS is terminated, as they stand in a hello; they change with the certificate."""

    __slots__ = ("_generation", "_layer", "_names")

    def __init__(self, layer: DetectTls[Any]) -> None:
        self._layer = layer
        self._generation: int | None = None
        self._names: frozenset[str] = frozenset()

    def now(self) -> frozenset[str]:
        """The names, in lower case; none without an identity."""
        identity = self._layer.identity
        if identity is not None and self._generation != identity.generation:
            self._generation = identity.generation
            current = identity.current
            names = (*self._layer.names, identity.name, *(current.names if current is not None else ()))
            # A URI cannot be asked for.
            self._names = frozenset(
                name.lower().removesuffix(".") for name in names if name and "://" not in name
            )
        return self._names


def _port(target: object, connection: Connection) -> int:
    return int((getattr(target, "original", None) or connection.local)[1])


def _reason(layer: DetectTls[Any], connection: Connection) -> str:
    """Why there is no TLS (T-16)."""
    if layer.identity is None:
        return "disabled"
    return "loopback" if connection.peer[0].startswith(_LOOPBACK) else "no_tls_from_remote"


def _asked(target: T, sni: str | None) -> T:
    """The target that knows whom the client asked for, if it is one that can."""
    return attrs.evolve(target, sni=sni) if isinstance(target, Accepted) else target


def _secured(target: T, connection: Connection) -> T:
    """The target that knows who the client is, if it is one that can."""
    if isinstance(target, Accepted):
        return attrs.evolve(target, secure=True, client_id=connection.identity)
    return target


def _plain(target: T, reason: str) -> T:
    """The target that knows why there is no TLS, if it is one that can."""
    return attrs.evolve(target, no_tls=reason) if isinstance(target, Accepted) else target
