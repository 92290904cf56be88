"""DNS messages: a question out, an answer in (RFC 1035, 2782, 2308, 6891).  No I/O; answers are hostile bytes."""

from __future__ import annotations

import ipaddress
import struct
from typing import Final, TypeAlias

import attrs

__all__ = [
    "AAAA",
    "CNAME",
    "LARGEST",
    "SRV",
    "A",
    "BadMessage",
    "Reply",
    "Srv",
    "decode_reply",
    "encode_query",
]

A: Final = 1
CNAME: Final = 5
SOA: Final = 6
AAAA: Final = 28
SRV: Final = 33
_OPT: Final = 41
_INTERNET: Final = 1

LARGEST: Final = 1232
"""Bytes of a datagram that servers are told they may send: what passes everywhere unfragmented."""

MOST_RECORDS: Final = 4_000
"""Records of an answer at the most."""
_MOST_ALIASES: Final = 8
_LONGEST_TTL: Final = 0x7FFFFFFF

Data: TypeAlias = "str | Srv | int"
Section: TypeAlias = "list[tuple[str, int, int, Data]]"


class BadMessage(ValueError):
    """Bytes that are no answer to the question."""


@attrs.frozen
class Srv:
    """Where a service is (RFC 2782).

    Attributes:
        priority: the lowest is to be used.
        weight: the share among those of one priority.
        port: the port.
        target: the host; ``""``: the service is decidedly not there.
    """

    priority: int
    weight: int
    port: int
    target: str


@attrs.frozen
class Reply:
    """An answer.

    Attributes:
        code: RCODE: 0 none, 2 failed, 3 no such name, 5 refused.
        truncated: there was more than a datagram takes.
        data: what was asked for: addresses as text, or :class:`Srv`.
        ttl: seconds that it may be used for: the least of all that led there; for an answer without data, that of
            the negative answer (RFC 2308), None where nothing is said of it.
        alias: where a chain of aliases (CNAME) ended, whose data was not told along; ``""`` otherwise.
        addresses: of hosts that were told along, with their TTL.
    """

    code: int
    truncated: bool
    data: tuple[str | Srv, ...]
    ttl: int | None
    alias: str = ""
    addresses: dict[str, tuple[tuple[str, ...], int]] = attrs.Factory(dict)


def encode_query(id: int, name: str, kind: int, *, edns: bool = True) -> bytes:
    """A question, to be answered recursively.

    Args:
        id: 0 to 65535, unpredictable.
        name: as :func:`meshcore.addresses.is_dns_name` has it.
        kind: the type of record.
        edns: tells how large an answer may be.
    """
    labels = name.removesuffix(".").encode("ascii").split(b".")
    encoded = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    query = struct.pack("!HHHHHH", id, 0x0100, 1, 0, 0, int(edns)) + encoded + struct.pack("!HH", kind, _INTERNET)
    return query + struct.pack("!BHHIH", 0, _OPT, LARGEST, 0, 0) if edns else query


def decode_reply(data: bytes, id: int, name: str, kind: int) -> Reply:
    """The answer to that question.

    Raises:
        BadMessage: it is another's, or malformed.
    """
    return _Decoder(data).reply(id, name.removesuffix(".").lower(), kind)


class _Decoder:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        # What starts where: each place is read once, however many pointers lead to it.
        self._names: dict[int, tuple[tuple[bytes, ...], int]] = {}

    def reply(self, id: int, name: str, kind: int) -> Reply:
        told, flags, questions, answers, authorities, additional = self._unpack("!HHHHHH")
        if told != id or not flags & 0x8000 or flags & 0x7800:
            raise BadMessage("not an answer to this question")
        code, truncated = flags & 0x000F, bool(flags & 0x0200)
        if questions != 1:
            # Some servers leave it out when they could not read it.
            if questions or code not in (1, 4):
                raise BadMessage("not an answer to one question")
            return Reply(code, truncated, (), None)
        asked = self._name()
        if (asked, *self._unpack("!HH")) != (name, kind, _INTERNET):
            raise BadMessage("an answer to another question")
        if truncated:
            return Reply(code, True, (), None)
        if answers + authorities + additional > MOST_RECORDS:
            raise BadMessage(f"more than {MOST_RECORDS} records")
        return _judged(code, name, kind, self._section(answers), self._section(authorities), self._section(additional))

    def _unpack(self, form: str) -> tuple[int, ...]:
        try:
            found = struct.unpack_from(form, self._data, self._at)
        except struct.error:
            raise BadMessage("cut off") from None
        self._at += struct.calcsize(form)
        return found

    def _section(self, count: int) -> Section:
        found: Section = []
        for _ in range(count):
            name = self._name()
            kind, family, ttl, length = self._unpack("!HHIH")
            end = self._at + length
            if end > len(self._data):
                raise BadMessage("cut off")
            if family == _INTERNET:
                data = self._data_of(kind, length)
                if data is not None:
                    if self._at != end:
                        raise BadMessage("a record is longer than its data")
                    # One that seems negative means nothing (RFC 2181 §8).
                    found.append((name, kind, 0 if ttl > _LONGEST_TTL else ttl, data))
            self._at = end
        return found

    def _data_of(self, kind: int, length: int) -> Data | None:
        if kind in (A, AAAA):
            packed = self._data[self._at : self._at + length]
            if length != (4 if kind == A else 16):
                raise BadMessage("an address of another length")
            self._at += length
            return str(ipaddress.ip_address(packed))
        if kind == CNAME:
            return self._name()
        if kind == SRV:
            priority, weight, port = self._unpack("!HHH")
            return Srv(priority, weight, port, self._name())
        if kind == SOA:
            self._name()
            self._name()
            return self._unpack("!IIIII")[4]
        return None

    def _name(self) -> str:
        labels, self._at = self._labels(self._at)
        # A dot inside of a label must not look like one between two.
        return ".".join(label.decode("latin-1").replace(".", "\\.") for label in labels).lower()

    def _labels(self, at: int) -> tuple[tuple[bytes, ...], int]:
        """The labels of the name at this place, and where the next thing begins."""
        known = self._names.get(at)
        if known is not None:
            return known
        data, start, place = self._data, at, at
        labels: list[bytes] = []
        total = 0
        end: int | None = None
        while True:
            if at >= len(data):
                raise BadMessage("a name is cut off")
            length = data[at]
            if length >= 0xC0:
                if at + 2 > len(data):
                    raise BadMessage("a name is cut off")
                pointer = (length & 0x3F) << 8 | data[at + 1]
                end = at + 2 if end is None else end
                if pointer >= place:
                    raise BadMessage("a name points forward")
                # Backward only, so that it comes to an end.
                at = place = pointer
                known = self._names.get(at)
                if known is not None:
                    labels.extend(known[0])
                    total += sum(len(label) + 1 for label in known[0])
                    break
                continue
            if length >= 0x40:
                raise BadMessage("a label of an unknown kind")
            at += 1
            if not length:
                break
            if at + length > len(data):
                raise BadMessage("a name is cut off")
            labels.append(data[at : at + length])
            total += length + 1
            at += length
            if total > 254:
                raise BadMessage("a name is too long")
        if total > 254:
            raise BadMessage("a name is too long")
        found = self._names[start] = (tuple(labels), at if end is None else end)
        return found


def _judged(code: int, name: str, kind: int, answers: Section, authorities: Section, additional: Section) -> Reply:
    """What the sections say of the question."""
    aliases = {owner: (str(data), ttl) for owner, told, ttl, data in answers if told == CNAME}
    owner, ttl = name, _LONGEST_TTL
    for _ in range(_MOST_ALIASES):
        if owner not in aliases:
            break
        owner, least = aliases[owner]
        ttl = min(ttl, least)
    else:
        raise BadMessage("too many aliases")
    found = [(data, told) for who, what, told, data in answers if who == owner and what == kind]
    if found:
        data = tuple(dict.fromkeys(data for data, _ in found if not isinstance(data, int)))
        return Reply(code, False, data, min(ttl, *(told for _, told in found)), addresses=_hosts(additional))
    soa = [min(told, data) for _, what, told, data in authorities if what == SOA and isinstance(data, int)]
    if owner != name and not soa and not code:
        return Reply(code, False, (), ttl, alias=owner)
    return Reply(code, False, (), min(soa) if soa else None)


def _hosts(records: Section) -> dict[str, tuple[tuple[str, ...], int]]:
    found: dict[str, tuple[tuple[str, ...], int]] = {}
    for wanted in (A, AAAA):
        # IPv6 addresses only of hosts that have no others: see `Dns`.
        told: dict[str, tuple[tuple[str, ...], int]] = {}
        for owner, kind, ttl, data in records:
            if kind == wanted and isinstance(data, str) and owner not in found:
                addresses, least = told.get(owner, ((), ttl))
                told[owner] = ((*addresses, data), min(least, ttl))
        found.update(told)
    return found
