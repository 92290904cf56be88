"""Fields to header blocks: the encoder of the direct engine (RFC 7541).

Its table is a set of fields found valid, too: one look-up says what a field is sent as, and that it may be sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meshcore.codec.h2.hpack_decoder import STATIC_FIELDS
from meshcore.codec.h2.huffman import huffman_encode
from meshcore.codec.h2.message import check_sendable
from meshcore.codec.validate import VOLATILE, VOUCHED, is_volatile_value, parse_content_length
from meshcore.errors import LocalProtocolError

if TYPE_CHECKING:
    from meshcore.codec.events import Field

__all__ = ["HpackEncoder"]

_STATIC: Final = 61
_ENTRY: Final = 32
_LARGEST: Final = 4_096
_LENGTH: Final = b"content-length"

_SECRETS: Final = frozenset((b"authorization", b"proxy-authorization"))
"""What could be guessed byte by byte from how it is compressed (§7.1)."""

_SHORT_COOKIE: Final = 20
"""Bytes of a cookie below which it is one of them."""

_REMEMBERED: Final = 64
"""Fields sent once that are remembered, by their hashes: those that come again are worth an entry, and most of the
others (dates, sizes, identifiers of requests) would only take the place of some that are."""

_PARENT: Final = 55
"""Bytes of a ``traceparent``.  As it is another one in each request, it is sent without a look at any table, and
without the quarter less that its digits would take."""

_AS_IT_IS: Final = -1

# By what they would be without their value: content-length has to be a number, and transfer-encoding may not be there.
_UNSENDABLE: Final = frozenset((_LENGTH, b"transfer-encoding"))


def _static(*, pseudo: bool) -> dict[Field, int]:
    """The static table's fields that may be sent, with their indexes doubled."""
    return {
        STATIC_FIELDS[index]: index << 1
        for index in range(1, len(STATIC_FIELDS))
        if (STATIC_FIELDS[index][0][:1] == b":") is pseudo and STATIC_FIELDS[index][0] not in _UNSENDABLE
    }


_FIELDS: Final = _static(pseudo=False)
_PSEUDO: Final = _static(pseudo=True)
# The first entry of a name counts.
_NAMES: Final[dict[bytes, int]] = {STATIC_FIELDS[index][0]: index for index in range(_STATIC, 0, -1)}
_INDEXED: Final = [bytes((0x80 | index,)) for index in range(0x7F)]


class HpackEncoder:
    """The encoder of one connection."""

    __slots__ = (
        "_dropped",
        "_fields",
        "_inserted",
        "_length",
        "_length_text",
        "_limit",
        "_looked",
        "_names",
        "_once",
        "_order",
        "_pseudo",
        "_resized",
        "_sendable",
        "_size",
        "_smallest",
    )

    def __init__(self) -> None:
        # What a field is sent as, doubled, and one more for a content-length: a static entry's index, or beyond those
        # the count of entries that were made before it.
        self._fields: dict[Field, int] = dict(_FIELDS)
        self._pseudo: dict[Field, int] = dict(_PSEUDO)
        self._names: dict[bytes, int] = {}
        self._order: list[Field] = []
        self._inserted = self._dropped = 0
        self._size = 0
        self._limit = self._smallest = _LARGEST
        self._resized = False
        self._once: set[int] = set()
        self._sendable: set[Field] = set()
        self._looked: list[int] = []
        # The last content-length, as text and as a number.
        self._length_text = b"0"
        self._length = 0

    def resize(self, size: int) -> None:
        """The peer's table has *size* bytes from now on, of which no more than 4,096 are used."""
        size = min(size, _LARGEST)
        if size != self._limit:
            self._limit = size
            self._smallest = min(self._smallest, size) if self._resized else size
            self._resized = True
            self._evict(0)

    def look(self, headers: list[Field]) -> int:
        """Judges the regular fields of a message that ``block`` is to encode next; its content-length, or -1.

        Raises:
            LocalProtocolError: as ``MessageReader.check_outgoing``.
        """
        length = -1
        known = self._fields
        looked: list[int] = []
        self._looked = looked
        vouched: object = VOUCHED.field
        for field in headers:
            if field is vouched:
                looked.append(_AS_IT_IS)
                continue
            code = known.get(field)
            if code is None:
                if field[0] == VOLATILE and len(field[1]) == _PARENT and type(field) is tuple:
                    if not is_volatile_value(field[1]):
                        raise LocalProtocolError(f"field not valid: {VOLATILE!r}")
                    looked.append(_AS_IT_IS)
                    continue
                looked.append(0)
                if field[0] != _LENGTH:
                    if field not in self._sendable:
                        check_sendable(field, self._sendable)
                    continue
            else:
                looked.append(code)
                if not code & 1:
                    continue
            value: bytes = field[1]
            if value != self._length_text:
                number = parse_content_length(value)
                if number is None:
                    raise LocalProtocolError("content-length not valid")
                self._length_text, self._length = value, number
            if length >= 0:
                raise LocalProtocolError("content-length not valid")
            length = self._length
        return length

    def block(self, pseudo: list[Field], headers: list[Field]) -> bytes:
        """The header block of *pseudo*, which are valid, and of the fields that ``look`` was given last."""
        parts: list[bytes] = []
        if self._resized:
            self._resized = False
            if self._smallest < self._limit:
                parts.append(_integer(0x20, 0x1F, self._smallest))
            parts.append(_integer(0x20, 0x1F, self._limit))
        known = self._pseudo
        for field in pseudo:
            code = known.get(field)
            parts.append(self._field(field, 0 if code is None else code))
        looked = self._looked
        place = 0
        for field in headers:
            code = looked[place]
            if code < 0:
                parent: bytes = VOUCHED.value if VOUCHED.has(field) else field[1]
                parts.append(_PARENT_HEAD)
                parts.append(parent)
            else:
                parts.append(self._field(field, code))
            place += 1  # noqa: SIM113 (a compiler makes pairs of what is enumerated)
        return b"".join(parts)

    def _field(self, field: Field, code: int) -> bytes:
        if code and type(field) is tuple:
            index = code >> 1
            if index > _STATIC:
                count = index - _STATIC - 1
                if count < self._dropped:
                    # It had to make room for one of this block.
                    return self._literal(field)
                index = _STATIC + self._inserted - count
            return _INDEXED[index] if index < 0x7F else _integer(0x80, 0x7F, index)
        return self._literal(field)

    def _literal(self, field: Field) -> bytes:
        name: bytes = field[0]
        value: bytes = field[1]
        index = _NAMES.get(name, 0)
        if not index:
            index = self._names.get(name, 0)
            if index:
                index = _STATIC + self._inserted - (index - _STATIC - 1)
        size = len(name) + len(value) + _ENTRY
        secret = name in _SECRETS or (name == b"cookie" and len(value) < _SHORT_COOKIE)
        if secret or (type(field) is not tuple and not _indexable(field)):
            first, mask = 0x10, 0x0F
        elif size > self._limit // 2 or not self._again(field):
            first, mask = 0x00, 0x0F
        else:
            first, mask = 0x40, 0x3F
            self._insert(field if type(field) is tuple else (name, value), size)
        head = _integer(first, mask, index) if index else bytes((first,)) + _string(name)
        return head + _string(value)

    def _again(self, field: Field) -> bool:
        """Whether a field was sent before, not long ago."""
        once = self._once
        number = hash(field)
        if number in once:
            once.discard(number)
            return True
        if len(once) >= _REMEMBERED:
            once.clear()
        once.add(number)
        return False

    def _insert(self, field: Field, size: int) -> None:
        self._evict(size)
        index = _STATIC + 1 + self._inserted
        name: bytes = field[0]
        if name[:1] == b":":
            self._pseudo[field] = index << 1
        else:
            self._fields[field] = index << 1 | (1 if name == _LENGTH else 0)
        if name not in _NAMES:
            self._names[name] = index
        self._order.append(field)
        self._inserted += 1
        self._size += size

    def _evict(self, room: int) -> None:
        """Takes the oldest entries out until *room* bytes are free, or it is empty."""
        order = self._order
        while order and self._size + room > self._limit:
            field = order.pop(0)
            name: bytes = field[0]
            value: bytes = field[1]
            index = _STATIC + 1 + self._dropped
            known = self._pseudo if name[:1] == b":" else self._fields
            if known.get(field, 0) >> 1 == index:
                del known[field]
            if self._names.get(name) == index:
                del self._names[name]
            self._dropped += 1
            self._size -= len(name) + len(value) + _ENTRY


def _indexable(field: Field) -> bool:
    """Whether a field that is more than a tuple may be put into a table: what came as one that may not, may not."""
    return bool(getattr(field, "indexable", False))


def _integer(first: int, mask: int, value: int) -> bytes:
    """An integer (§5.1) after the bits of *first*."""
    if value < mask:
        return bytes((first | value,))
    found = [first | mask]
    value -= mask
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _string(text: bytes) -> bytes:
    """A string (§5.2), in the shorter form."""
    code = huffman_encode(text)
    if code is None:
        return _integer(0, 0x7F, len(text)) + text
    return _integer(0x80, 0x7F, len(code)) + code


_PARENT_HEAD: Final = b"\0" + _string(VOLATILE) + _integer(0, 0x7F, _PARENT)
