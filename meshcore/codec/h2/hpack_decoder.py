"""Header blocks to fields: the decoder of the direct engine (RFC 7541).

An entry of the table is known together with what the field is (``MessageReader``), so that a field which comes again
and again is neither made nor judged anew: it is the same object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from hpack import NeverIndexedHeaderTuple
from hpack.table import HeaderTable

from meshcore.codec.h2.engine import EngineFailure
from meshcore.codec.h2.hpack_integer import read_integer
from meshcore.codec.h2.huffman import huffman_decode
from meshcore.codec.h2.message import MessageReader
from meshcore.codec.limits import H2Limits
from meshcore.errors import COMPRESSION_ERROR, ENHANCE_YOUR_CALM, caused

if TYPE_CHECKING:
    from meshcore.codec.events import Field

__all__ = ["STATIC_FIELDS", "HpackDecoder"]

STATIC_FIELDS: Final[list[Field]] = [(b"", b""), *HeaderTable.STATIC_TABLE]
"""The static table by its indexes, which begin with 1 (Appendix A)."""

_CODES: Final = [0, *MessageReader(H2Limits()).codes(STATIC_FIELDS[1:])]
_STATIC: Final = 61
_never_indexed: Final[Any] = NeverIndexedHeaderTuple


class HpackDecoder:
    """The decoder of one connection.

    Attributes:
        codes: what each field of the last block is, with its size (``MessageReader.code``).
    """

    __slots__ = ("_allowed", "_codes", "_fields", "_limit", "_most", "_reader", "_size", "codes")

    def __init__(self, reader: MessageReader, most: int) -> None:
        """*most*: the sizes of a block's fields together, beyond which it is given up."""
        self._reader = reader
        self._most = most
        # The dynamic table, the newest entry first: fields, and what they are.
        self._fields: list[Field] = []
        self._codes: list[int] = []
        self._size = 0
        self._limit = self._allowed = 4_096
        self.codes: list[int] = []

    def allow(self, size: int) -> None:
        """The peer has acknowledged that the table may have *size* bytes."""
        self._allowed = size

    def decode(self, block: bytes) -> list[Field]:
        """The fields of *block*, a list that may be kept; ``codes`` goes with it.

        Raises:
            EngineFailure: it is not HPACK, or its fields are beyond all bounds.
        """
        fields: list[Field] = []
        codes: list[int] = []
        self.codes = codes
        total = 0
        pos = 0
        end = len(block)
        try:
            while pos < end:
                byte = block[pos]
                if byte >= 0x80:
                    pos += 1
                    index = byte & 0x7F
                    if index == 0x7F:
                        index, pos = read_integer(block, pos, 0x7F)
                    if index > _STATIC:
                        index -= _STATIC + 1
                        field = self._fields[index]
                        code = self._codes[index]
                    elif index:
                        field = STATIC_FIELDS[index]
                        code = _CODES[index]
                    else:
                        raise IndexError("no entry 0")
                elif byte & 0xE0 == 0x20:
                    if fields:
                        raise IndexError("size update after a field")
                    limit, pos = byte & 0x1F, pos + 1
                    if limit == 0x1F:
                        limit, pos = read_integer(block, pos, 0x1F)
                    if limit > self._allowed:
                        raise IndexError("table larger than allowed")
                    self._limit = limit
                    self._evict(0)
                    continue
                else:
                    field, pos = self._literal(block, pos, byte)
                    code = self._reader.code(field)
                    if byte >= 0x40:
                        self._insert(field, code)
                total += code >> 16
                if total > self._most:
                    raise EngineFailure(ENHANCE_YOUR_CALM, "header fields beyond all bounds", "header_list")
                fields.append(field)
                codes.append(code)
            if self._limit > self._allowed:
                raise IndexError("table not made smaller")
        except IndexError as error:
            raise caused(EngineFailure(COMPRESSION_ERROR, "header block not decodable"), error) from error
        return fields

    def _literal(self, block: bytes, pos: int, byte: int) -> tuple[Field, int]:
        """A field that is written out, and where it ends."""
        mask = 0x3F if byte >= 0x40 else 0x0F
        index = byte & mask
        pos += 1
        if index == mask:
            index, pos = read_integer(block, pos, mask)
        name: bytes
        if index > _STATIC:
            name = self._fields[index - _STATIC - 1][0]
        elif index:
            name = STATIC_FIELDS[index][0]
        else:
            name, pos = _string(block, pos)
        value, pos = _string(block, pos)
        if byte & 0xF0 == 0x10:
            # Whoever sends it on has to keep it out of tables as well (§7.1.3).
            return _never_indexed(name, value), pos
        return (name, value), pos

    def _insert(self, field: Field, code: int) -> None:
        size = code >> 16
        self._evict(size)
        if size <= self._limit:
            # A few dozen at the most: moving them costs less than a ring would.
            self._fields.insert(0, field)
            self._codes.insert(0, code)
            self._size += size

    def _evict(self, room: int) -> None:
        """Takes the oldest entries out until *room* bytes are free, or it is empty."""
        fields = self._fields
        while fields and self._size + room > self._limit:
            fields.pop()
            self._size -= self._codes.pop() >> 16


def _string(block: bytes, pos: int) -> tuple[bytes, int]:
    """A string (§5.2), and where it ends."""
    first = block[pos]
    pos += 1
    length = first & 0x7F
    if length == 0x7F:
        length, pos = read_integer(block, pos, 0x7F)
    stop = pos + length
    if stop > len(block):
        raise IndexError("string beyond the end")
    text = block[pos:stop]
    return huffman_decode(text) if first >= 0x80 else text, stop
