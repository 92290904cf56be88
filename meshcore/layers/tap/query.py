"""What a query string asks of a tap: a filter, and how much of what fits it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import attrs

from meshcore.addresses import suggest
from meshcore.durations import parse_duration
from meshcore.errors import ConfigError
from meshcore.layers.tap.filter import TapFilter

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RATE", "TapQuery", "parse_query"]

RATE = 100.0
"""Events a second, by default."""
_MOST_RATE = 10_000
_MOST_LIMIT = 1_000_000_000
_MOST_SECONDS = 86_400.0
_LONGEST = 8_192
_MOST_PARAMETERS = 100


@attrs.frozen(kw_only=True)
class TapQuery:
    """What is asked of a tap.

    Attributes:
        filter: which exchanges.
        rate: events a second at the most, those of one exchange together or not at all; None: any number.
        limit: exchanges in all; None: no limit.
        seconds: for how long; None: until either side ends it.
    """

    filter: TapFilter = attrs.Factory(lambda: TapFilter())
    rate: float | None = RATE
    limit: int | None = None
    seconds: float | None = None


# The parameters of a query that are lists of words, and the filter's field of each.
_LISTS = {
    "direction": "direction",
    "from": "source",
    "to": "target",
    "identity": "identity",
    "route": "route",
    "backend": "backend",
    "method": "method",
    "scheme": "scheme",
    "authority": "authority",
    "path": "path",
    "status": "status",
    "grpc_status": "grpc_status",
    "events": "events",
}
_PARAMETERS = (*_LISTS, "path_regex", "slower_than", "failed", "headers", "rate", "limit", "seconds")
_TRUE = ("1", "true", "yes", "on", "")
_FALSE = ("0", "false", "no", "off")


def parse_query(query: str) -> TapQuery:
    """The question that a query string asks.  Lists are separated by commas, or the parameter is repeated; durations
    are ``250ms`` or ``2s``.

    Raises:
        ConfigError: with every mistake, each with what may have been meant.
    """
    problems: list[str] = []
    if len(query) > _LONGEST:
        raise ConfigError([f"the query is longer than {_LONGEST} bytes"])
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS)
    except ValueError:
        raise ConfigError([f"the query has more than {_MOST_PARAMETERS} parameters"]) from None
    given: dict[str, list[str]] = {}
    for name, value in pairs:
        if name in _PARAMETERS:
            given.setdefault(name, []).append(value)
        else:
            problems.append(f"{name[:80]}: there is no such parameter{_meant(name)}")
    problems += [
        f"{name}: is there {len(values)} times"
        for name, values in given.items()
        if name not in _LISTS and name != "headers" and len(values) > 1
    ]
    fields: dict[str, Any] = {}
    for name, values in given.items():
        if name in _LISTS:
            # A path may have commas of its own.
            words = values if name == "path" else [word.strip() for value in values for word in value.split(",")]
            if "" in words:
                problems.append(f"{name}: a value is empty")
            else:
                _tried(problems, name, _one_field(_LISTS[name]), words, fields, _LISTS[name])
    asked: dict[str, Any] = {}
    if "path_regex" in given:
        _tried(problems, "path_regex", _one_field("path_regex"), given["path_regex"][-1], fields, "path_regex")
    if "slower_than" in given:
        _tried(problems, "slower_than", _duration, given["slower_than"][-1], fields, "slower_than")
    if "failed" in given:
        _tried(problems, "failed", _flag, given["failed"][-1], fields, "failed")
    if "headers" in given:
        fields["headers"] = _shown(given["headers"])
    if "rate" in given:
        _tried(problems, "rate", _number(_MOST_RATE), given["rate"][-1], asked, "rate")
    if "limit" in given:
        _tried(problems, "limit", _number(_MOST_LIMIT), given["limit"][-1], asked, "limit")
    if "seconds" in given:
        _tried(problems, "seconds", _seconds, given["seconds"][-1], asked, "seconds")
    if problems:
        raise ConfigError(problems)
    return TapQuery(filter=TapFilter(**fields), **asked)


def _meant(name: str) -> str:
    near = suggest(name.replace("-", "_").lower(), list(_PARAMETERS))
    return near or f"; there are {', '.join(_PARAMETERS)}"


def _tried(
    problems: list[str], name: str, read: Callable[[Any], Any], value: Any, found: dict[str, Any], field: str
) -> None:
    """Puts what *read* makes of *value* where it belongs, or notes why it cannot."""
    try:
        found[field] = read(value)
    except ConfigError as error:
        problems += [f"{name}: {problem}" for problem in error.problems]


def _one_field(field: str) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        # Made for its mistakes; the words are read again with the others.
        TapFilter(**{field: value})
        return value

    return read


def _flag(value: str) -> bool:
    word = value.strip().lower()
    if word not in (*_TRUE, *_FALSE):
        raise ConfigError([f"{value[:80]!r} is neither 1 nor 0"])
    return word in _TRUE


def _shown(values: list[str]) -> bool | list[str]:
    words = [word.strip() for value in values for word in value.split(",")]
    if len(words) == 1 and words[0].lower() in (*_TRUE, *_FALSE):
        return words[0].lower() in _TRUE
    return [word for word in words if word]


def _number(most: int) -> Callable[[str], int]:
    def read(value: str) -> int:
        if not (value.isascii() and value.isdigit() and len(value) <= 12 and 1 <= int(value) <= most):
            raise ConfigError([f"{value[:80]!r} is not a whole number from 1 to {most}"])
        return int(value)

    return read


def _duration(value: str) -> float:
    if value.isascii() and value.isdigit():
        raise ConfigError([f"{value[:80]!r} has no unit; did you mean {value[:20] + 'ms'!r}?"])
    return parse_duration(value)


def _seconds(value: str) -> float:
    found = float(value) if value.isascii() and value.isdigit() and len(value) < 7 else parse_duration(value)
    if not 0 < found <= _MOST_SECONDS:
        raise ConfigError([f"{value[:80]!r} is not from 1ms to a day"])
    return found
