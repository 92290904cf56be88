"""Durations and sizes as people write them: ``250ms``, ``2m``, ``64KiB``."""

from __future__ import annotations

import re

from meshcore.errors import ConfigError

__all__ = ["format_duration", "format_size", "parse_duration", "parse_size"]

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_NUMBER_AND_UNIT = re.compile(r"([0-9]+)([A-Za-z]*)")
_ANY_NUMBER = re.compile(r"([0-9]*\.?[0-9]+)\s*([A-Za-z]*)")
_MOST_DIGITS = 15


def parse_duration(text: str) -> float:
    """A duration in seconds: a whole number and ``ms``, ``s``, ``m``, ``h`` or ``d``; only 0 needs no unit (L-08).

    Raises:
        ConfigError: it is not one; the message says what it could have been.
    """
    match = _NUMBER_AND_UNIT.fullmatch(text.strip())
    if match is not None:
        digits, unit = match.groups()
        if len(digits) > _MOST_DIGITS:
            raise ConfigError([f"{text!r} is too long a duration"])
        if unit in _SECONDS:
            # Divided, not multiplied: 100 * 0.001 is not 0.1.
            return int(digits) / 1_000 if unit == "ms" else int(digits) * _SECONDS[unit]
        if not unit and int(digits) == 0:
            return 0.0
    raise ConfigError([f"{text!r} is not a duration such as 250ms, 1s or 2m{_nearest_duration(text.strip())}"])


def _nearest_duration(text: str) -> str:
    match = _ANY_NUMBER.fullmatch(text)
    if match is None:
        return ""
    number, unit = match.groups()
    known = {name[0]: name for name in ("seconds", "minutes", "hours", "days")}
    long_form = {name: short for short, name in known.items()} | {"sec": "s", "min": "m", "msec": "ms", "millis": "ms"}
    lower = unit.lower()
    unit = lower if lower in _SECONDS else long_form.get(lower, long_form.get(lower + "s", "" if unit else "s"))
    if not unit or len(number) > _MOST_DIGITS:
        return ""
    return f"; did you mean {format_duration(float(number) * _SECONDS[unit])}?"


def format_duration(seconds: float) -> str:
    """The shortest form that :func:`parse_duration` reads back, to the millisecond."""
    millis = round(seconds * 1_000)
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)):
        if millis and millis % size == 0:
            return f"{millis // size}{unit}"
    return f"{millis}ms" if millis else "0s"


def parse_size(text: str) -> int:
    """A size in bytes: a whole number and ``B``, ``KiB``, ``MiB``, ``GiB`` (or ``KB`` … by thousands); no
    unit: bytes.

    Raises:
        ConfigError: it is not one.
    """
    match = _NUMBER_AND_UNIT.fullmatch(text.strip())
    if match is not None:
        digits, unit = match.groups()
        if len(digits) <= _MOST_DIGITS and (unit or "B") in _BYTES:
            return int(digits) * _BYTES[unit or "B"]
        for known in _BYTES:
            if unit and known.lower().startswith(unit.lower()):
                raise ConfigError([f"{text!r} is not a size; did you mean {digits}{known}?"])
    raise ConfigError([f"{text!r} is not a size such as 512B, 64KiB or 1MiB"])


def format_size(size: int) -> str:
    """The shortest form that :func:`parse_size` reads back."""
    for unit in ("GiB", "MiB", "KiB"):
        if size and size % _BYTES[unit] == 0:
            return f"{size // _BYTES[unit]}{unit}"
    return f"{size}B"
