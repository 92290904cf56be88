"""Regular expressions in time linear in the text, whatever the pattern: what a peer sends cannot make a match slow.

The syntax is what RE2, Rust and Python have in common; what cannot be matched in linear time (back-references,
look-around) is refused.  A pattern becomes a position automaton (Glushkov), whose deterministic states are made as
texts need them, and bounded.
"""

from __future__ import annotations

import attrs

from meshcore.errors import ConfigError

__all__ = ["LONGEST_PATTERN", "LONGEST_TEXT", "Regex"]

LONGEST_PATTERN = 1_024
"""Characters of a pattern."""
LONGEST_TEXT = 8_192
"""Bytes of a text; a longer one matches nothing."""
_MOST_POSITIONS = 512
_MOST_STATES = 512
_MOST_REPEATS = 255
_DEEPEST = 32
_MOST_READ = 20_000

_ALL = frozenset(range(256))
_DIGIT = frozenset(b"0123456789")
_WORD = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_SPACE = frozenset(b" \t\n\r\f\v")
_SETS = {"d": _DIGIT, "D": _ALL - _DIGIT, "w": _WORD, "W": _ALL - _WORD, "s": _SPACE, "S": _ALL - _SPACE}
_CONTROLS = {"t": 9, "n": 10, "r": 13, "f": 12, "v": 11}
_PUNCTUATION = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ ")


class _State(dict[int, "_State"]):
    """A state with its known transitions."""

    __slots__ = ("accepting", "positions")

    def __init__(self, positions: int, accepting: bool) -> None:
        super().__init__()
        self.positions = positions
        self.accepting = accepting


@attrs.frozen
class _Part:
    """A part of a pattern: whether it matches nothing, too, and the positions that it begins and ends with."""

    nullable: bool
    first: int
    last: int


class Regex:
    """A pattern that whole texts are matched with.

    Literals, ``.``, ``[…]``, ``\\d \\w \\s`` and their opposites, groups, ``|``, ``* + ? {m,n}``, ``(?i)`` in front.
    ``^`` at the start and ``$`` at the end say what is so anyway.  Texts are bytes; a character beyond ASCII in
    a pattern is its UTF-8.

    Attributes:
        pattern: the text that it was made from.

    Raises:
        ConfigError: it is no pattern, or too large a one.
    """

    __slots__ = ("_accepting", "_by_byte", "_dead", "_follow", "_start", "_states", "pattern")

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        parser = _Parser(pattern)
        whole = parser.parse()
        # Position 0 is before the first byte.
        self._follow = [whole.first, *parser.follow]
        self._by_byte = [0] * 256
        for position, members in enumerate(parser.sets, 1):
            for byte in members:
                self._by_byte[byte] |= 1 << position
        self._accepting = whole.last | (1 if whole.nullable else 0)
        self._dead = _State(0, False)
        self._states: dict[int, _State] = {}
        self._start = self._state(1)

    def __repr__(self) -> str:
        return f"Regex({self.pattern!r})"

    def __eq__(self, other: object) -> bool:
        return self.pattern == other.pattern if isinstance(other, Regex) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.pattern)

    def fullmatch(self, text: bytes) -> bool:
        """Whether the whole of *text* matches."""
        if len(text) > LONGEST_TEXT:
            return False
        state, dead = self._start, self._dead
        for byte in text:
            following = state.get(byte)
            if following is None:
                following = self._step(state, byte)
            if following is dead:
                return False
            state = following
        return state.accepting

    def _step(self, state: _State, byte: int) -> _State:
        positions, reached, follow = state.positions, 0, self._follow
        while positions:
            lowest = positions & -positions
            reached |= follow[lowest.bit_length() - 1]
            positions ^= lowest
        following = state[byte] = self._state(reached & self._by_byte[byte])
        return following

    def _state(self, positions: int) -> _State:
        if not positions:
            return self._dead
        state = self._states.get(positions)
        if state is None:
            if len(self._states) >= _MOST_STATES:
                self._forget()
            state = self._states[positions] = _State(positions, bool(positions & self._accepting))
        return state

    def _forget(self) -> None:
        """Texts can make very many states of some patterns: all are made anew then."""
        for state in self._states.values():
            state.clear()
        self._states.clear()
        self._states[1] = self._start


class _Parser:
    """A pattern read by recursive descent, its positions numbered from 1."""

    def __init__(self, pattern: str) -> None:
        self.sets: list[frozenset[int]] = []
        self.follow: list[int] = []
        self._text = pattern
        self._at = 0
        self._depth = 0
        self._read = 0
        self._fold = False

    def parse(self) -> _Part:
        """The whole pattern."""
        if len(self._text) > LONGEST_PATTERN:
            raise self._error(f"longer than {LONGEST_PATTERN} characters")
        if self._text.startswith("(?i)"):
            self._fold = True
            self._at = 4
        if self._peek() == "^":
            self._at += 1
        part = self._alternatives()
        if self._at < len(self._text):
            raise self._error("a ) without its (")
        return part

    def _error(self, text: str) -> ConfigError:
        shown = self._text if len(self._text) <= 60 else f"{self._text[:57]}…"
        return ConfigError([f"{shown!r} is not a regular expression: {text} (at {self._at + 1})"])

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self) -> str:
        char = self._peek()
        self._at += 1
        return char

    def _alternatives(self) -> _Part:
        part = self._sequence()
        while self._peek() == "|":
            self._at += 1
            other = self._sequence()
            part = _Part(part.nullable or other.nullable, part.first | other.first, part.last | other.last)
        return part

    def _sequence(self) -> _Part:
        part = _Part(True, 0, 0)
        while (char := self._peek()) and char not in "|)":
            if char == "$" and self._at + 1 == len(self._text):
                self._at += 1
                break
            part = self._joined(part, self._repeated())
        return part

    def _joined(self, one: _Part, other: _Part) -> _Part:
        self._link(one.last, other.first)
        return _Part(
            one.nullable and other.nullable,
            one.first | (other.first if one.nullable else 0),
            other.last | (one.last if other.nullable else 0),
        )

    def _link(self, last: int, first: int) -> None:
        while last:
            lowest = last & -last
            self.follow[lowest.bit_length() - 2] |= first
            last ^= lowest

    def _repeated(self) -> _Part:
        begin = self._at
        part = self._atom()
        end = self._at
        quantified = False
        while (char := self._peek()) and char in "*+?{":
            if char == "{" and self._text[self._at + 1 : self._at + 2] not in "0123456789,":
                break
            if quantified and char != "?":
                raise self._error("nothing to repeat")
            if quantified:
                # Lazy or not: the whole text matches in either way.
                self._at += 1
                break
            quantified = True
            self._at += 1
            if char == "{":
                part = self._counted(part, begin, end)
            else:
                if char != "?":
                    self._link(part.last, part.first)
                part = attrs.evolve(part, nullable=part.nullable or char != "+")
        return part

    def _counted(self, part: _Part, begin: int, end: int) -> _Part:
        """``{m}``, ``{m,}`` and ``{m,n}``: the atom is read again for each further time."""
        closing = self._text.find("}", self._at)
        low, comma, high = self._text[self._at : max(closing, self._at)].partition(",")
        if closing < 0 or not (low.isdecimal() or (comma and not low)) or not (high.isdecimal() or not high):
            raise self._error("a { that does not say how often")
        least = int(low or 0)
        most = int(high) if high else None if comma else least
        if least > _MOST_REPEATS or (most or 0) > _MOST_REPEATS or (most is not None and most < least):
            raise self._error(f"{{m,n}} goes from 0 to {_MOST_REPEATS}, and m first")
        after = closing + 1
        if most == 0:
            self._at = after
            return _Part(True, 0, 0)
        whole = part if least else attrs.evolve(part, nullable=True)
        for count in range(1, most if most is not None else max(least, 1)):
            self._at = begin
            again = self._atom()
            whole = self._joined(whole, again if count < least else attrs.evolve(again, nullable=True))
            part = again
        self._at = end
        if most is None:
            # The last one as often as it likes.
            self._link(part.last, part.first)
        self._at = after
        return whole

    def _atom(self) -> _Part:
        # Repetitions of nothing make no places, and may still be nested.
        self._read += 1
        if self._read > _MOST_READ:
            raise self._error("too many repetitions in repetitions")
        char = self._take()
        if char == "(":
            return self._group()
        if char == "[":
            return self._position(self._class())
        if char == ".":
            return self._position(_ALL)
        if char == "\\":
            return self._position(self._escape())
        if char in "*+?{":
            if char != "{":
                raise self._error("nothing to repeat")
        elif char in "^$":
            raise self._error("the whole text is matched anyway: ^ and $ stand at the ends only")
        part: _Part | None = None
        for byte in char.encode():
            one = self._position(frozenset((byte,)))
            part = one if part is None else self._joined(part, one)
        assert part is not None
        return part

    def _position(self, members: frozenset[int]) -> _Part:
        if len(self.sets) >= _MOST_POSITIONS:
            raise self._error(f"more than {_MOST_POSITIONS} places once its repetitions are written out")
        if self._fold:
            members = members | _other_case(members)
        self.sets.append(members)
        self.follow.append(0)
        position = 1 << len(self.sets)
        return _Part(False, position, position)

    def _group(self) -> _Part:
        if self._peek() == "?":
            self._kind()
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._error(f"nested deeper than {_DEEPEST}")
        part = self._alternatives()
        self._depth -= 1
        if self._take() != ")":
            raise self._error("a ( without its )")
        return part

    def _kind(self) -> None:
        for start in ("?:", "?P<", "?<"):
            if self._text.startswith(start, self._at):
                rest = self._text[self._at + len(start) :]
                if start == "?:":
                    self._at += 2
                    return
                name, closed, _ = rest.partition(">")
                if closed and name.isidentifier():
                    self._at += len(start) + len(name) + 1
                    return
        raise self._error("look-around and flags inside are not supported: they have no bound in time")

    def _escape(self) -> frozenset[int]:
        char = self._take()
        if char in _SETS:
            return _SETS[char]
        return frozenset((self._escaped(char),))

    def _escaped(self, char: str) -> int:
        if char in _CONTROLS:
            return _CONTROLS[char]
        if char == "x":
            digits = self._text[self._at : self._at + 2]
            if len(digits) == 2 and all(digit in "0123456789abcdefABCDEF" for digit in digits):
                self._at += 2
                return int(digits, 16)
        if char and char in _PUNCTUATION:
            return ord(char)
        raise self._error(f"\\{char} is not supported" if char else "a \\ at the end")

    def _class(self) -> frozenset[int]:
        negated = self._peek() == "^"
        self._at += negated
        members: set[int] = set()
        first = True
        while first or self._peek() != "]":
            if not self._peek():
                raise self._error("a [ without its ]")
            first = False
            low = self._member()
            if isinstance(low, frozenset):
                members |= low
                continue
            high = low
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._at += 1
                end = self._member()
                if isinstance(end, frozenset) or end < low:
                    raise self._error("a range that goes nowhere")
                high = end
            members.update(range(low, high + 1))
        self._at += 1
        if self._fold:
            members |= _other_case(frozenset(members))
        return _ALL - members if negated else frozenset(members)

    def _member(self) -> int | frozenset[int]:
        char = self._take()
        if char == "\\":
            escaped = self._take()
            return _SETS[escaped] if escaped in _SETS else self._escaped(escaped)
        if char == "[" and self._peek() == ":":
            raise self._error("[: :] is not supported")
        if not char.isascii():
            raise self._error(f"{char!r} in [ ] is not supported: texts are bytes")
        return ord(char)


def _other_case(members: frozenset[int]) -> frozenset[int]:
    letters = (byte for byte in members if 65 <= byte <= 90 or 97 <= byte <= 122)
    return frozenset(byte ^ 0x20 for byte in letters)
