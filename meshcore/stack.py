"""Stacks: pipelines as values, written, printed and edited in the order in which a request meets them."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from functools import reduce
from typing import Any, Generic, Protocol, Self, TypeAlias, TypeVar, cast, runtime_checkable

import attrs

from meshcore.abc import HttpService, Layer, NewAccept, NewHttp, ServiceLayer
from meshcore.http.message import Request, Response

__all__ = ["Param", "Stack", "accept", "middleware", "resolve", "role", "stack"]

T = TypeVar("T")
P = TypeVar("P")
Inner = TypeVar("Inner")
Outer = TypeVar("Outer")
Next = TypeVar("Next")

Param: TypeAlias = P | Callable[[Any], P]
"""A layer's field: the value, or a function of the target, resolved once per target."""


def resolve(param: Param[P], target: Any) -> P:
    """The value of a layer's parameter for *target*."""
    value: Any = param
    return cast("P", value(target) if callable(value) else value)


@runtime_checkable
class Branching(Protocol):
    """A layer that holds stacks of its own, one of which takes each connection or request."""

    def branches(self) -> dict[str, Stack[Any, Any]]: ...

    def with_branch(self, name: str, branch: Stack[Any, Any], /) -> Any: ...


def role(layer: object) -> str:
    """The name by which a layer is found: its ``name`` if it has one, else its class in snake case."""
    name = getattr(layer, "name", None)
    if isinstance(name, str) and name:
        return name
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", type(layer).__name__).lower()


@attrs.frozen(repr=False)
class Stack(Generic[Inner, Outer]):
    """Layers in request order; itself a layer, so stacks nest.

    A value: ``then`` and the edits return a new one.  Applying it (``layer(inner)``) puts the first
    layer outermost.
    """

    layers: tuple[Layer[Any, Any], ...] = ()

    def then(self, layer: Layer[Next, Inner], /) -> Stack[Next, Outer]:
        """The stack with *layer* under what it has."""
        added = layer.layers if isinstance(layer, Stack) else (layer,)
        return Stack((*self.layers, *added))

    def layer(self, inner: Inner, /) -> Outer:
        """Applies every layer to *inner*, the last one first."""
        return cast("Outer", reduce(lambda under, layer: layer.layer(under), reversed(self.layers), cast("Any", inner)))

    def __iter__(self) -> Iterator[Layer[Any, Any]]:
        return iter(self.layers)

    def roles(self) -> list[str]:
        """The roles in request order, those of branches included."""
        found: list[str] = []
        for layer in self.layers:
            found.append(role(layer))
            if isinstance(layer, Branching):
                for branch in layer.branches().values():
                    found.extend(branch.roles())
        return found

    def insert_before(self, place: type | str, layer: Layer[Any, Any], /) -> Self:
        """*layer* directly above the layer with that role (a name or a class).

        Raises:
            LookupError: no layer has the role, or more than one (for all edits).
        """
        return self._edit(place, lambda found: (layer, found))

    def insert_after(self, place: type | str, layer: Layer[Any, Any], /) -> Self:
        """*layer* directly under the layer with that role."""
        return self._edit(place, lambda found: (found, layer))

    def replace(self, place: type | str, layer: Layer[Any, Any], /) -> Self:
        """*layer* instead of the layer with that role."""
        return self._edit(place, lambda _: (layer,))

    def remove(self, place: type | str, /) -> Self:
        """The stack without the layer with that role."""
        return self._edit(place, lambda _: ())

    def _edit(
        self, place: type | str, edit: Callable[[Layer[Any, Any]], tuple[Layer[Any, Any], ...]]
    ) -> Self:
        count = self._count(place)
        if count != 1:
            wanted = place if isinstance(place, str) else place.__name__
            what = "no layer" if count == 0 else f"{count} layers"
            raise LookupError(f"{what} with role {wanted!r}; the roles are: {', '.join(self.roles())}")
        return cast("Self", self._rebuilt(place, edit))

    def _rebuilt(
        self, place: type | str, edit: Callable[[Layer[Any, Any]], tuple[Layer[Any, Any], ...]]
    ) -> Stack[Any, Any]:
        layers: list[Layer[Any, Any]] = []
        for layer in self.layers:
            if _matches(layer, place):
                layers.extend(edit(layer))
                continue
            edited: Any = layer
            if isinstance(layer, Branching):
                for name, branch in layer.branches().items():
                    if branch._count(place):
                        edited = edited.with_branch(name, branch._rebuilt(place, edit))
            layers.append(edited)
        return Stack(tuple(layers))

    def _count(self, place: type | str) -> int:
        count = 0
        for layer in self.layers:
            count += _matches(layer, place)
            if isinstance(layer, Branching):
                count += sum(branch._count(place) for branch in layer.branches().values())
        return count

    def __repr__(self) -> str:
        return "Stack\n" + "\n".join(line for line, _ in self.rows())

    def rows(self, indent: str = "") -> list[tuple[str, Layer[Any, Any] | None]]:
        """The lines of the printed tree, each with the layer that it is of, or None."""
        rows: list[tuple[str, Layer[Any, Any] | None]] = []
        for layer in self.layers:
            rows.append((f"{indent}└─ {layer!r}", layer))
            if isinstance(layer, Branching):
                for name, branch in layer.branches().items():
                    rows.append((f"{indent}   ┊ {name}", None))
                    rows.extend(branch.rows(indent + "   "))
            per = getattr(layer, "per", None)
            if isinstance(per, str):
                # What a layer multiplies is owned by it: the indentation is the ownership.
                rows.append((f"{indent}   ┊ one of these per {per.capitalize()}", None))
                indent += "   "
        return rows


def _matches(layer: object, place: type | str) -> bool:
    return role(layer) == place if isinstance(place, str) else isinstance(layer, place)


def stack(target: type[T], /) -> Stack[NewHttp[T], NewHttp[T]]:
    """The empty stack of HTTP layers for *target*, the seed that types are inferred from."""
    return Stack()


def accept(target: type[T], /) -> Stack[NewAccept[T], NewAccept[T]]:
    """The empty stack of connection layers for *target*."""
    return Stack()


@attrs.frozen(repr=False)
class _Middleware(ServiceLayer):
    function: Callable[[Request, HttpService], Awaitable[Response]]

    @property
    def name(self) -> str:
        return str(getattr(self.function, "__name__", "middleware"))

    def __repr__(self) -> str:
        return f"{self.name}()"

    def wrap(self, inner: HttpService, target: Any, /) -> HttpService:
        function = self.function

        def service(request: Request) -> Awaitable[Response]:
            return function(request, inner)

        return service


def middleware(function: Callable[[Request, HttpService], Awaitable[Response]], /) -> ServiceLayer:
    """A layer from ``async def f(request, inner) -> Response``; its role is the function's name."""
    return _Middleware(function)
