"""A DNS server made up by a test: its zones are a dict; in memory, or on a socket."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, TypeVar

import attrs
import trio
import trio.lowlevel

from meshcore.resolve.dns_message import AAAA, CNAME, SRV, A
from meshcore.transport.target import Address

T = TypeVar("T")


def name_of(name: str) -> bytes:
    labels = [label.encode() for label in name.split(".") if label]
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


def data_of(kind: int, value: Any) -> bytes:
    if kind in (A, AAAA):
        return ip_address(value).packed
    if kind == CNAME:
        return name_of(value)
    if kind == SRV:
        priority, weight, port, target = value
        return struct.pack("!HHH", priority, weight, port) + name_of(target)
    return bytes(value)


def record(name: str, kind: int, value: Any, ttl: int, family: int = 1) -> bytes:
    data = data_of(kind, value)
    return name_of(name) + struct.pack("!HHIH", kind, family, ttl, len(data)) + data


def soa(zone: str, ttl: int, minimum: int) -> bytes:
    return record(
        zone, 6, name_of("ns." + zone) + name_of("root." + zone) + struct.pack("!5I", 1, 2, 3, 4, minimum), ttl
    )


def question(query: bytes) -> tuple[int, str, int]:
    """The number, name and type of a query."""
    at, labels = 12, []
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode())
        at += 1 + query[at]
    return int.from_bytes(query[:2], "big"), ".".join(labels), int.from_bytes(query[at + 1 : at + 3], "big")


def message(
    id: int,
    name: str,
    kind: int,
    answers: list[bytes],
    *,
    code: int = 0,
    authority: list[bytes] | None = None,
    additional: list[bytes] | None = None,
    flags: int = 0x8180,
) -> bytes:
    more, rest = authority or [], additional or []
    head = struct.pack("!HHHHHH", id, flags | code, 1, len(answers), len(more), len(rest))
    return head + name_of(name) + struct.pack("!HH", kind, 1) + b"".join((*answers, *more, *rest))


@attrs.define(eq=False, slots=False)
class DnsServer:
    """Answers from its records; as a ``DnsTransport`` it is asked in memory.

    Attributes:
        records: values by name and type, with their TTL.
        code: an RCODE that is answered to everything.
        silent: whether it answers nothing.
        negative: the TTL of negative answers; None: they have none.
        truncates: answers longer than that are told over TCP alone.
        glue: whether the addresses of SRV targets are told along.
        asked: the questions, in order; ``(name, type)``.
    """

    records: dict[tuple[str, int], tuple[int, list[Any]]] = attrs.Factory(dict)
    code: int = 0
    silent: bool = False
    negative: int | None = 10
    truncates: int = 1232
    glue: bool = False
    asked: list[tuple[str, int]] = attrs.Factory(list)
    streams: int = 0
    forged: list[bytes] = attrs.Factory(list)

    def put(self, name: str, kind: int, *values: Any, ttl: int = 5) -> None:
        """Its records of this type are these; none: it has none."""
        self.records.pop((name, kind), None)
        if values:
            self.records[name, kind] = (ttl, list(values))

    def answer(self, query: bytes, *, stream: bool = False) -> bytes:
        id, name, kind = question(query)
        self.asked.append((name, kind))
        if self.code:
            return message(id, name, kind, [], code=self.code)
        ttl, values = self.records.get((name, kind), (0, []))
        answers = [record(name, kind, value, ttl) for value in values]
        more: list[bytes] = []
        if not answers and (name, CNAME) in self.records:
            ttl, (alias,) = self.records[name, CNAME]
            answers = [record(name, CNAME, alias, ttl)]
            ttl, values = self.records.get((alias, kind), (0, []))
            answers += [record(alias, kind, value, ttl) for value in values]
        if kind == SRV and self.glue:
            for value in values:
                for wanted in (A, AAAA):
                    ttl, addresses = self.records.get((value[3], wanted), (0, []))
                    more += [record(value[3], wanted, address, ttl) for address in addresses]
        if answers:
            reply = message(id, name, kind, answers, additional=more)
        else:
            code = 0 if any(known == name for known, _ in self.records) else 3
            authority = [] if self.negative is None else [soa("test", 600, self.negative)]
            reply = message(id, name, kind, [], code=code, authority=authority)
        if not stream and len(reply) > self.truncates:
            return message(id, name, kind, [], flags=0x8380)
        return reply

    async def ask(self, server: Address, query: bytes, accept: Callable[[bytes], T], /, *, stream: bool) -> T:
        await trio.lowlevel.checkpoint()
        self.streams += stream
        if self.silent:
            self.asked.append(question(query)[1:])
            await trio.sleep_forever()
        return accept(self.answer(query, stream=stream))

    async def serve(self, port: int = 0, *, task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED) -> None:
        """Serves on a loopback port, over UDP and TCP: the one that TCP got, for the ports of many connections are
        taken."""
        (listener,) = await trio.open_tcp_listeners(port, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            await sock.bind(("127.0.0.1", port))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.serve_listeners, self._stream, [listener])
                task_status.started(("127.0.0.1", port))
                while True:
                    query, client = await sock.recvfrom(4_096)
                    if not self.silent:
                        for each in self.forged:
                            await sock.sendto(each, client)
                        await sock.sendto(self.answer(query), client)

    async def _stream(self, stream: trio.SocketStream) -> None:
        self.streams += 1
        data = await stream.receive_some(4_096)
        reply = self.answer(data[2:], stream=True)
        message = struct.pack("!H", len(reply)) + reply
        # In pieces, as TCP may.
        await stream.send_all(message[:1])
        await trio.lowlevel.checkpoint()
        await stream.send_all(message[1:])
