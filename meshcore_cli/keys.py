"""What a terminal sends for the keys that are pressed, as names.  Pure."""

from __future__ import annotations

import codecs

__all__ = ["Keys"]

_SEQUENCES = {
    "[A": "up",
    "[B": "down",
    "[C": "right",
    "[D": "left",
    "OA": "up",
    "OB": "down",
    "OC": "right",
    "OD": "left",
    "[H": "home",
    "[F": "end",
    "OH": "home",
    "OF": "end",
    "[1~": "home",
    "[4~": "end",
    "[7~": "home",
    "[8~": "end",
    "[5~": "page up",
    "[6~": "page down",
    "[Z": "back tab",
    "[3~": "delete",
}
_CONTROLS = {
    "\t": "tab",
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\x08": "backspace",
    "\x03": "q",
    "\x04": "q",
    "\x0c": "redraw",
    "\x15": "clear",
}
_LONGEST = 32


class Keys:
    """Tells keys from bytes, which may come in pieces: a character is itself, other keys have names."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    @property
    def waiting(self) -> bool:
        """Whether an escape has begun something that is not over: alone, it is the key."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[str]:
        """The keys that are known now."""
        self._rest += self._decoder.decode(data)
        found: list[str] = []
        while self._rest:
            taken, key = self._next(self._rest)
            if not taken:
                break
            self._rest = self._rest[taken:]
            if key:
                found.append(key)
        return found

    def flush(self) -> list[str]:
        """Nothing has followed: what waits is an escape, and what came after it."""
        rest, self._rest = self._rest, ""
        return ["escape", *self.feed(rest[1:].encode())] if rest else []

    def _next(self, text: str) -> tuple[int, str]:
        if text[0] != "\x1b":
            key = _CONTROLS.get(text[0], text[0])
            return 1, key if len(key) > 1 or key.isprintable() else ""
        if len(text) == 1:
            return 0, ""
        if text[1] == "O":
            return (3, _SEQUENCES.get(text[1:3], "")) if len(text) > 2 else (0, "")
        if text[1] != "[":
            return 1, "escape"
        for end in range(2, min(len(text), _LONGEST)):
            # Parameters, then the character that ends it (ECMA-48 §5.4).
            if "\x40" <= text[end] <= "\x7e":
                return end + 1, _SEQUENCES.get(text[1 : end + 1], "")
        return (_LONGEST, "") if len(text) >= _LONGEST else (0, "")
