"""The Huffman code of HPACK's strings (RFC 7541 §5.2, Appendix B)."""

from __future__ import annotations

from struct import pack
from typing import TYPE_CHECKING, Final

from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.huffman_table import HUFFMAN_COMPLETE, HUFFMAN_EMIT_SYMBOL, HUFFMAN_FAIL, HUFFMAN_TABLE

if TYPE_CHECKING:
    from meshcore._native import i64

__all__ = ["huffman_decode", "huffman_encode"]

_CODES: Final[list[int]] = list(REQUEST_CODES)
_LENGTHS: Final[list[int]] = list(REQUEST_CODES_LENGTH)

_EMITS: Final = 0x100
_FAILS: Final = 0x200
_ENDS: Final = 0x400
# By state and nibble: the next state above 12 bits, flags, and the byte that is complete.
_STEPS: Final[list[int]] = [
    state << 12
    | (_EMITS if flags & HUFFMAN_EMIT_SYMBOL else 0)
    | (_FAILS if flags & HUFFMAN_FAIL else 0)
    | (_ENDS if flags & HUFFMAN_COMPLETE else 0)
    | byte
    for state, flags, byte in HUFFMAN_TABLE
]


def huffman_decode(data: bytes) -> bytes:
    """What the code *data* stands for.

    Raises:
        IndexError: it is no Huffman code, or is padded wrongly.
    """
    steps = _STEPS
    found: list[int] = []
    step: i64 = _ENDS
    byte: i64
    for place in range(len(data)):
        byte = data[place]
        step = steps[(step >> 12 << 4) + (byte >> 4)]
        if step & (_EMITS | _FAILS):
            if step & _FAILS:
                raise IndexError("not a Huffman code")
            found.append(step & 0xFF)
        step = steps[(step >> 12 << 4) + (byte & 0x0F)]
        if step & (_EMITS | _FAILS):
            if step & _FAILS:
                raise IndexError("not a Huffman code")
            found.append(step & 0xFF)
    if not step & _ENDS:
        raise IndexError("Huffman code not padded by the start of the end")
    return bytes(found)


def huffman_encode(text: bytes) -> bytes | None:
    """The code of *text*; None where it is no shorter."""
    lengths = _LENGTHS
    size: i64 = len(text)
    bits: i64 = 0
    for place in range(size):
        bits += lengths[text[place]]
    if bits + 7 >> 3 >= size:
        return None
    codes = _CODES
    # In words of 32 bits, and what is left after them.
    words: list[int] = []
    held: i64 = 0
    left: i64 = 0
    length: i64
    for place in range(size):
        byte = text[place]
        length = lengths[byte]
        held = held << length | codes[byte]
        left += length
        if left >= 32:
            left -= 32
            words.append(held >> left)
            held &= (1 << left) - 1
    # The rest of the last byte is the start of the end's code, which is all ones.
    padding: i64 = -left & 7
    tail: int = held << padding | (1 << padding) - 1
    return pack(f">{len(words)}I", *words) + tail.to_bytes(left + 7 >> 3, "big")
