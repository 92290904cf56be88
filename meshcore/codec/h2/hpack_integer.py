"""Integers of HPACK."""

from __future__ import annotations

__all__ = ["read_integer"]


def read_integer(block: bytes, pos: int, value: int) -> tuple[int, int]:
    """The rest of an integer whose prefix was full, and where it ends (RFC 7541 §5.1).

    Args:
        block: a header block.
        pos: where the rest begins.
        value: what the prefix holds.

    Raises:
        IndexError: the block ends within it, or it is larger than anything that a block may mean.
    """
    shift = 0
    while True:
        byte = block[pos]
        pos += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, pos
        shift += 7
        if shift > 28:
            raise IndexError("integer too large")
