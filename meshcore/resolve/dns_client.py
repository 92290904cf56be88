"""A stub resolver: asks the DNS servers that the system names, over UDP, and over TCP where that is too small."""

from __future__ import annotations

import random
import socket
import struct
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import attrs
import trio

from meshcore.addresses import is_dns_name
from meshcore.resolve.dns_message import BadMessage, Reply, decode_reply, encode_query

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore.resolve.resolv_conf import ResolvConf
    from meshcore.transport.target import Address

__all__ = ["DnsClient", "DnsFailed", "DnsTransport", "Found", "Sockets"]

T = TypeVar("T")

_NO_ERROR: Final = 0
_NO_SUCH_NAME: Final = 3
_NOT_UNDERSTOOD: Final = (1, 4)
_CODES: Final = {1: "format error", 2: "server failure", 4: "not implemented", 5: "refused"}
_MOST_ALIASES: Final = 8
_MOST_FORGED: Final = 100
"""Datagrams that are no answer to the question, until the server is given up."""


class DnsFailed(Exception):
    """No server has said anything of the name: what is known of it still is all there is."""


@attrs.frozen
class Found:
    """What the servers say of a name.

    Attributes:
        reply: the answer; without data there is no such name, or nothing of that kind.
        name: the full name that it is of.
    """

    reply: Reply
    name: str


class DnsTransport(Protocol):
    """How a server is asked; a test's asks one in memory."""

    async def ask(self, server: Address, query: bytes, accept: Callable[[bytes], T], /, *, stream: bool) -> T:
        """Sends *query* and returns what *accept* makes of the answer; bytes for which it raises ``BadMessage`` are
        somebody else's, and waiting goes on.

        Args:
            server: where to.
            query: the message.
            accept: reads an answer.
            stream: over TCP.

        Raises:
            OSError: there will be no answer.
        """
        ...


class Sockets:
    """The real one: a socket of its own for each question, so that its port cannot be guessed."""

    async def ask(self, server: Address, query: bytes, accept: Callable[[bytes], T], /, *, stream: bool) -> T:
        """See :class:`DnsTransport`."""
        family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
        with trio.socket.socket(family, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM) as sock:
            # Connected: the system drops what others send.
            await sock.connect(server)
            if stream:
                return await _over_stream(trio.SocketStream(sock), query, accept)
            await sock.send(query)
            for _ in range(_MOST_FORGED):
                try:
                    return accept(await sock.recv(65_535))
                except BadMessage:
                    continue
            raise OSError("too many answers to other questions")


async def _over_stream(stream: trio.SocketStream, query: bytes, accept: Callable[[bytes], T]) -> T:
    await stream.send_all(struct.pack("!H", len(query)) + query)
    received = bytearray()
    wanted = 2
    while len(received) < wanted:
        part = await stream.receive_some(65_535)
        if not part:
            raise OSError("closed by the server")
        received += part
        if len(received) >= 2:
            wanted = 2 + int.from_bytes(received[:2], "big")
    try:
        return accept(bytes(received[2:wanted]))
    except BadMessage as error:
        raise OSError(str(error)) from error


class DnsClient:
    """Asks for names as the system's own resolver would.

    Args:
        conf: whom to ask now.
        transport: how.
        rng: for the numbers of questions; unpredictable by default.
    """

    def __init__(
        self,
        conf: Callable[[], ResolvConf],
        transport: DnsTransport | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._conf = conf
        self._transport: DnsTransport = Sockets() if transport is None else transport
        self._rng = random.SystemRandom() if rng is None else rng
        # Who has answered last is asked first, so that one that is down costs its wait once.
        self._good: Address | None = None

    async def find(self, name: str, *kinds: int) -> Found:
        """What is said of *name*, completed by the search list where that is needed: of the first of *kinds* that
        there is anything of.

        Raises:
            DnsFailed: nobody could be asked, or nobody knows.
        """
        conf = self._conf()
        nothing: Found | None = None
        for candidate in conf.candidates(name):
            if not is_dns_name(candidate):
                continue
            for kind in kinds:
                reply = await self._follow(conf, candidate, kind)
                if reply.data:
                    return Found(reply, candidate)
                nothing = _kept(nothing, Found(reply, candidate))
                if reply.code == _NO_SUCH_NAME:
                    break
        if nothing is None:
            raise DnsFailed(f"{name!r:.80} is not a name")
        return nothing

    async def _follow(self, conf: ResolvConf, name: str, kind: int) -> Reply:
        ttl: int | None = None
        for _ in range(_MOST_ALIASES):
            reply = await self._question(conf, name, kind)
            if reply.ttl is not None and ttl is not None:
                reply = attrs.evolve(reply, ttl=min(ttl, reply.ttl))
            if not reply.alias or not is_dns_name(reply.alias):
                return reply
            name, ttl = reply.alias, reply.ttl
        raise DnsFailed(f"{name}: too many aliases")

    async def _question(self, conf: ResolvConf, name: str, kind: int) -> Reply:
        """One question to one server after the other.

        Raises:
            DnsFailed: none has an answer.
        """
        problem = "no server"
        servers = sorted(conf.servers, key=lambda server: server != self._good)
        for _ in range(conf.attempts):
            for server in servers:
                try:
                    with trio.fail_after(conf.timeout):
                        reply = await self._ask(server, name, kind)
                except trio.TooSlowError:
                    problem = f"{server[0]}: no answer in {conf.timeout:g} s"
                except OSError as error:
                    problem = f"{server[0]}: {(error.strerror or str(error)).lower()}"
                else:
                    if reply.code in (_NO_ERROR, _NO_SUCH_NAME):
                        self._good = server
                        return reply
                    problem = f"{server[0]}: {_CODES.get(reply.code, f'error {reply.code}')}"
        raise DnsFailed(f"{name}: {problem}")

    async def _ask(self, server: Address, name: str, kind: int) -> Reply:
        edns = True
        stream = False
        while True:
            id = self._rng.randrange(65_536)

            def accept(data: bytes, id: int = id) -> Reply:
                return decode_reply(data, id, name, kind)

            query = encode_query(id, name, kind, edns=edns)
            reply: Any = await self._transport.ask(server, query, accept, stream=stream)
            if edns and reply.code in _NOT_UNDERSTOOD:
                edns = False
            elif reply.truncated and not stream:
                stream = True
            elif reply.truncated:
                raise OSError("truncated over TCP")
            else:
                return reply  # type: ignore[no-any-return]


def _kept(before: Found | None, now: Found) -> Found:
    """Of several answers without data: the one that is to be asked again first."""
    if before is None or before.reply.ttl is None:
        return now
    return now if now.reply.ttl is not None and now.reply.ttl < before.reply.ttl else before
