"""Whether two pipelines are one: layers compared as values, functions among them by what they do."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from types import BuiltinMethodType, FunctionType, MethodType
from typing import Any

import attrs

__all__ = ["same"]

_REDUCED = (operator.attrgetter, operator.itemgetter, operator.methodcaller, functools.partial)


def same(one: Any, other: Any, /) -> bool:
    """Whether *one* does what *other* does, as far as that can be told.

    Attrs values are compared field by field (those with ``eq=False`` left out), containers item by item, functions by
    their code and what they closed over, callable objects by what they hold, everything else by ``==``.  What it is
    not sure of is not the same: a pipeline built anew for nothing loses less than one that keeps an old setting.
    """
    return _same(one, other, set())


def _same(one: Any, other: Any, seen: set[tuple[int, int]]) -> bool:
    if one is other:
        return True
    cls: Any = type(one)
    if cls is not type(other):
        return False
    pair = (id(one), id(other))
    if pair in seen:
        # A closure that refers to itself: it is the rest that decides.
        return True
    seen.add(pair)
    if isinstance(one, FunctionType):
        return _function(one, other, seen)
    if isinstance(one, MethodType | BuiltinMethodType):
        return one.__name__ == other.__name__ and _same(one.__self__, other.__self__, seen)
    if isinstance(one, _REDUCED):
        return _same(one.__reduce__()[1:], other.__reduce__()[1:], seen)
    plain: Any = object.__eq__
    by_identity = cls.__eq__ is plain
    if attrs.has(cls) and not by_identity:
        return all(
            _same(getattr(one, field.name), getattr(other, field.name), seen) for field in attrs.fields(cls) if field.eq
        )
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(_same(a, b, seen) for a, b in zip(one, other, strict=True))
    if isinstance(one, Mapping):
        # Their order is that of routes, for some.
        return list(one) == list(other) and all(_same(one[key], other[key], seen) for key in one)
    if callable(one) and by_identity and hasattr(one, "__dict__"):
        # A function of the target that is written as a class: what it does is what it holds.
        return _same(vars(one), vars(other), seen)
    return bool(one == other)


def _function(one: FunctionType, other: FunctionType, seen: set[tuple[int, int]]) -> bool:
    return one.__code__ is other.__code__ and all(
        _same(a, b, seen)
        for a, b in (
            (one.__defaults__, other.__defaults__),
            (one.__kwdefaults__, other.__kwdefaults__),
            (_closed_over(one), _closed_over(other)),
        )
    )


def _closed_over(function: FunctionType) -> list[Any]:
    try:
        return [cell.cell_contents for cell in function.__closure__ or ()]
    except ValueError:
        # A cell that is still empty.
        return [function]
