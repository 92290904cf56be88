"""Whether a request's header block names an authority, seen without decoding it.

libnghttp2 refuses a request that has neither ``:authority`` nor ``host``; RFC 9113 §8.3.1 allows it, and
such requests are to be forwarded (X-67).  So the fast engine is given a stand-in ``host`` for them, which
the codec takes out again.  To know, this class walks the representations (RFC 7541 §6) and remembers of
each entry of the dynamic table only whether its name is one of the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hpack.exceptions import HPACKDecodingError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from meshcore.codec.h2.hpack_integer import read_integer

if TYPE_CHECKING:
    from meshcore.codec.events import RequestReceived

__all__ = ["STAND_IN", "AuthorityWatch", "Recall"]

STAND_IN: Final = b"\x0f\x17\x01-"
"""``host: -``, a literal without indexing."""

_NAMES: Final = frozenset((b":authority", b"host"))
_STATIC: Final = ((False, 0), *((name in _NAMES, len(name)) for name, _ in HeaderTable.STATIC_TABLE))
_INDEXED: Final = frozenset(0x80 + index for index, entry in enumerate(_STATIC) if entry[0])
_BLOCKS: Final = 32
_BLOCK_SIZE: Final = 512


class Recall:
    """What the codec made of a header block, if it may make it again of the same bytes."""

    __slots__ = ("keeps", "request")

    def __init__(self, keeps: bool = True) -> None:
        self.keeps = keeps
        self.request: RequestReceived | None = None


_UNKNOWN: Final = Recall(keeps=False)


class AuthorityWatch:
    """Follows the header blocks of one connection; *table_size* is that of our HPACK decoder."""

    __slots__ = ("_entries", "_known", "_limit", "_most", "_size")

    def __init__(self, table_size: int) -> None:
        self._limit = table_size
        self._size = 4_096
        # Whether the name is one of the two, and its length; the newest first.
        self._entries: list[tuple[bool, int]] = []
        self._most = max(table_size, 4_096) // 32 + 1
        self._known: dict[bytes, Recall] = {}

    def look(self, block: bytes) -> Recall | None:
        """None if *block* names no authority; must be asked of every block, in order.

        Else what is known of it: the same object for the same bytes until the dynamic table changes, so for
        as long as they mean the same fields.  Also for a block that is not HPACK: the engine will say so.
        """
        recall = self._known.get(block)
        if recall is not None:
            return recall
        try:
            return self._walk(block)
        except (IndexError, HPACKDecodingError):
            return _UNKNOWN

    def _walk(self, block: bytes) -> Recall | None:
        entries = self._entries
        end = len(block)
        pos = 0
        found = changed = False
        while pos < end:
            byte = block[pos]
            pos += 1
            if byte >= 0x80:  # indexed
                if byte == 0xFF:
                    index, pos = read_integer(block, pos, 0x7F)
                    found = found or entries[index - 62][0]
                elif not found and (entries[byte - 190][0] if byte >= 190 else byte in _INDEXED):
                    found = True
                continue
            if byte >= 0x40:  # literal, added to the table
                index = byte & 0x3F
                if index == 0x3F:
                    index, pos = read_integer(block, pos, 0x3F)
            elif byte >= 0x20:  # size update
                self._size = byte & 0x1F
                if self._size == 0x1F:
                    self._size, pos = read_integer(block, pos, 0x1F)
                changed = True
                continue
            else:
                index = byte & 0x0F
                if index == 0x0F:
                    index, pos = read_integer(block, pos, 0x0F)
            if index > 61:
                entry = entries[index - 62]
            elif index:
                entry = _STATIC[index]
            else:
                first = block[pos]
                length, start = first & 0x7F, pos + 1
                if length == 0x7F:
                    length, start = read_integer(block, start, 0x7F)
                pos = start + length
                name = block[start:pos]
                if first >= 0x80:
                    name = decode_huffman(name)
                entry = (name in _NAMES, len(name))
            if entry[0]:
                found = True
            first = block[pos]
            length, start = first & 0x7F, pos + 1
            if length == 0x7F:
                length, start = read_integer(block, start, 0x7F)
            pos = start + length
            if pos > end:
                raise IndexError
            if byte >= 0x40:
                changed = True
                size = 32 + entry[1] + length
                if first >= 0x80 and size + length > self._size:
                    # Huffman code takes 5 bits a byte at least, so this may be too large decoded.
                    size += len(decode_huffman(block[start:pos])) - length
                if size > self._size:
                    entries.clear()  # RFC 7541 §4.4
                else:
                    # A few dozen at the most: moving them costs less than a deque holds.
                    entries.insert(0, entry)
                    if len(entries) > self._most:
                        entries.pop()
        if changed:
            self._known.clear()
        if not found:
            return None
        if changed or end > _BLOCK_SIZE or len(self._known) >= _BLOCKS:
            return _UNKNOWN
        recall = self._known[block] = Recall()
        return recall
