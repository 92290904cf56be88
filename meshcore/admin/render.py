"""Stacks and configurations as JSON values and text, with secrets masked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any, TypeAlias

import attrs
import trio

from meshcore.accounting.places import places
from meshcore.admin.columns import beside
from meshcore.config.match import ValueConfig
from meshcore.http.log_template import is_secret
from meshcore.layers.tap.secrets import MASK, masked
from meshcore.stack import Branching, Stack, role

__all__ = ["MASK", "config_value", "stack_text", "stack_value", "value_in_pieces"]

_PIECE = 20
"""Mappings and lists that are looked at in one go: a small part of a millisecond."""

# A file's path is no secret, whatever the field is called; text and bytes under these names are.
_SECRET = re.compile(r"(^|_)(key|password|passphrase|secret|token|credentials?)$")
# The same in what a layer prints of itself.
_SECRET_TEXT = re.compile(
    r"\b((?:\w+_)?(?:key|password|passphrase|secret|token|credentials?)=b?)('[^']*'|\"[^\"]*\")"
)


def config_value(value: Any, name: str = "") -> Any:
    """A JSON value of an attrs value and all that it holds.

    What is secret is masked: text or bytes in a field named like one, or with ``metadata={"secret": True}``, what is
    said of a header that carries one (``authorization``), and user, password and parameters in URLs.  Other bytes are
    told by their length.
    """
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, str | bytes) and _SECRET.search(name):
        return MASK
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, str):
        return _shown(value)
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if attrs.has(type(value)):
        return {
            field.alias: MASK
            if field.metadata.get("secret") and getattr(value, field.name) is not None
            else config_value(getattr(value, field.name), field.name)
            for field in attrs.fields(type(value))
        }
    if isinstance(value, Mapping):
        return {str(key): _of_key(str(key), item) for key, item in value.items()}
    if isinstance(value, frozenset | set):
        return sorted((config_value(item, name) for item in value), key=repr)
    if isinstance(value, list | tuple):
        return [config_value(item, name) for item in value]
    return _shown(repr(value))


async def value_in_pieces(value: Any) -> Any:
    """:func:`config_value` of something large: others have their turn now and then."""
    count = 0

    async def shown(value: Any, name: str) -> Any:
        nonlocal count
        if not isinstance(value, Mapping | list | tuple):
            return _of_key(name, value)
        count += 1
        if count % _PIECE == 0:
            await trio.lowlevel.checkpoint()
        if isinstance(value, Mapping):
            return {str(key): await shown(item, str(key)) for key, item in value.items()}
        return [await shown(item, name) for item in value]

    return await shown(value, "")


def _of_key(key: str, value: Any) -> Any:
    # Only what is said of a header: backends, say, have names of all kinds.
    if isinstance(value, str | bytes | ValueConfig) and is_secret(key):
        return MASK
    return config_value(value, key)


def _shown(text: str) -> str:
    return masked(text) if "://" in text else text


def _printed(text: str) -> str:
    """What layers print of themselves."""
    return _SECRET_TEXT.sub(rf"\1'{MASK}'", "\n".join(map(_shown, text.split("\n"))))


Accounts: TypeAlias = Mapping[str, Mapping[str, Any]]
"""What layers have done, by their places."""


async def stack_value(stack: Stack[Any, Any], live: Any = None, accounts: Accounts | None = None) -> dict[str, Any]:
    """A stack as JSON: its layers in request order, each with its role, its text, what multiplies it, its ``account``
    and its branches; ``live`` is what the running services know of themselves."""
    told = iter([(layer, (accounts or {}).get(place)) for layer, place in places(stack)])
    value: dict[str, Any] = {"layers": _layers(stack, told)}
    if live is not None:
        value["live"] = await value_in_pieces(live)
    return value


def _layers(stack: Stack[Any, Any], accounts: Iterator[tuple[Any, Any]]) -> list[dict[str, Any]]:
    found = []
    for layer in stack.layers:
        value: dict[str, Any] = {"role": role(layer), "layer": _printed(repr(layer))}
        per = getattr(layer, "per", None)
        if isinstance(per, str):
            value["per"] = per
        # In the order of places(), which leaves out what is no layer of the pipeline.
        account = next(accounts)[1] if getattr(layer, "accounted", True) else None
        if account is not None:
            value["account"] = account
        if isinstance(layer, Branching):
            value["branches"] = {name: _layers(branch, accounts) for name, branch in layer.branches().items()}
        found.append(value)
    return found


def stack_text(name: str, stack: Stack[Any, Any], live: Any = None, accounts: Accounts | None = None) -> str:
    """The tree as it is printed everywhere, with what its layers have done in front of them, and under it what the
    running services know of themselves."""
    lines = [line for line, _ in stack.rows()] if accounts is None else beside(stack, accounts)
    tree = _printed("\n".join(lines))
    text = f"{name}\n{tree}\n"
    if live is not None:
        text += "".join(f"  {line}\n" for line in _lines(config_value(live), ""))
    return text


def _lines(value: Any, indent: str) -> list[str]:
    """Scalars of a mapping on one line, what is nested under it, indented."""
    if not isinstance(value, dict | list):
        return [f"{indent}{value}"]
    if isinstance(value, list):
        return [line for item in value for line in _lines(item, indent)]
    plain = {key: item for key, item in value.items() if not isinstance(item, dict | list) or not item}
    lines = []
    if plain:
        lines.append(
            indent + " ".join(f"{key}={'-' if item in ('', None, {}, []) else item}" for key, item in plain.items())
        )
    for key, item in value.items():
        if key in plain:
            continue
        if isinstance(item, list) and not any(isinstance(each, dict | list) for each in item):
            lines.append(f"{indent}{key}: {', '.join(map(str, item))}")
        else:
            lines += [f"{indent}{key}:", *_lines(item, indent + "  ")]
    return lines
