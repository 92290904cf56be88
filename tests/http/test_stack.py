"""Stacks: printed, edited by role, branches included."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import pytest
import trio

from meshcore._unwrap import services, statistics_sources
from meshcore.abc import HttpService, ServiceLayer
from meshcore.http.message import Request, Response
from meshcore.stack import Stack, accept, middleware, resolve, role, stack
from meshcore.testing import MockNewService, mock_service, request
from meshcore.transport.target import Accepted, Endpoint


@attrs.frozen
class Mark(ServiceLayer):
    """Adds its letter to ``path``."""

    letter: bytes
    name: str | None = attrs.field(default=None, repr=False)

    def wrap(self, inner: HttpService, target: Any, /) -> HttpService:
        async def mark(sent: Request) -> Response:
            sent.path += self.letter
            return await inner(sent)

        return mark


@attrs.frozen
class HTTPThing(Mark):
    """Its role has an acronym."""


@attrs.frozen
class Many(Mark):
    """Multiplies what is under it."""

    per: ClassVar[str] = "endpoint"


@attrs.frozen
class Either:
    """Takes one of two ways."""

    ways: tuple[tuple[str, Stack[Any, Any]], ...] = attrs.field(repr=False)

    def layer(self, inner: Any, /) -> Any:
        return self.ways[0][1].layer(inner)

    def branches(self) -> dict[str, Stack[Any, Any]]:
        return dict(self.ways)

    def with_branch(self, name: str, branch: Stack[Any, Any], /) -> Either:
        return Either(tuple((key, branch if key == name else way) for key, way in self.ways))


@middleware
async def audit(sent: Request, inner: HttpService) -> Response:
    return await inner(sent)


def marks(*letters: str) -> Stack[Any, Any]:
    found: Stack[Any, Any] = stack(Endpoint)
    for letter in letters:
        found = found.then(Mark(letter.encode(), letter))
    return found


async def passed(stacked: Stack[Any, Any]) -> bytes:
    inner = mock_service()
    async with trio.open_nursery() as nursery:
        service = stacked.layer(MockNewService(lambda target: inner)).new_service(Endpoint(("a", 1)), nursery)
        await service(request())
    return inner.requests[0].path


async def test_a_request_meets_the_layers_in_the_order_in_which_they_are_written() -> None:
    assert b"/abc" == await passed(marks("a", "b", "c"))
    assert b"/" == await passed(stack(Endpoint))


async def test_a_stack_is_a_layer() -> None:
    nested = marks("a").then(marks("b", "c")).then(Mark(b"d"))
    assert 4 == len(nested.layers)
    assert b"/abcd" == await passed(nested)
    assert list(nested) == list(nested.layers)


def test_a_role_is_the_name_or_the_class_in_snake_case() -> None:
    assert ["mark", "http_thing", "x", "audit", "either"] == [
        role(layer) for layer in (Mark(b""), HTTPThing(b""), Mark(b"", "x"), audit, Either(()))
    ]
    assert "audit()" == repr(audit)


async def test_edits_make_a_new_stack_and_leave_the_old_one_alone() -> None:
    before = marks("a", "b", "c")
    x = Mark(b"x", "x")

    assert b"/axbc" == await passed(before.insert_before("b", x))
    assert b"/abxc" == await passed(before.insert_after("b", x))
    assert b"/axc" == await passed(before.replace("b", x))
    assert b"/ac" == await passed(before.remove("b"))
    assert ["a", "b", "c"] == before.roles()
    assert marks("a").then(HTTPThing(b"h")).replace(HTTPThing, x) == marks("a").then(x)


@pytest.mark.parametrize("edit", ["insert_before", "insert_after", "replace"])
def test_a_role_that_is_not_there_or_there_twice_is_an_error_that_names_the_roles(edit: str) -> None:
    twice = marks("a", "b").then(Mark(b"c", "b"))

    with pytest.raises(LookupError, match="no layer with role 'retry'; the roles are: a, b, b"):
        getattr(twice, edit)("retry", audit)
    with pytest.raises(LookupError, match="2 layers with role 'b'; the roles are: a, b, b"):
        getattr(twice, edit)("b", audit)
    with pytest.raises(LookupError, match="3 layers with role 'Mark'"):
        getattr(twice, edit)(Mark, audit)
    with pytest.raises(LookupError, match="no layer with role 'Many'"):
        twice.remove(Many)


def branched() -> Stack[Any, Any]:
    return marks("a").then(Either((("http", marks("b", "c")), ("opaque", marks("d"))))).then(Mark(b"e", "e"))


async def test_branches_are_edited_by_role_too() -> None:
    assert ["a", "either", "b", "c", "d", "e"] == branched().roles()

    edited = branched().insert_before("c", Mark(b"x", "x")).remove("d")
    assert ["a", "either", "b", "x", "c", "e"] == edited.roles()
    assert b"/abxce" == await passed(edited)
    with pytest.raises(LookupError, match="2 layers with role 'b'"):
        branched().insert_after("a", Mark(b"b", "b")).remove("b")


def test_it_prints_as_a_tree_with_branches_and_what_is_multiplied() -> None:
    stacked = branched().then(Many(b"m")).then(audit)

    assert (
        "Stack\n"
        "└─ Mark(letter=b'a')\n"
        "└─ Either()\n"
        "   ┊ http\n"
        "   └─ Mark(letter=b'b')\n"
        "   └─ Mark(letter=b'c')\n"
        "   ┊ opaque\n"
        "   └─ Mark(letter=b'd')\n"
        "└─ Mark(letter=b'e')\n"
        "└─ Many(letter=b'm')\n"
        "   ┊ one of these per Endpoint\n"
        "   └─ audit()"
    ) == repr(stacked)
    assert "Stack\n" == repr(accept(Accepted))


def test_a_parameter_is_a_value_or_a_function_of_the_target() -> None:
    assert 5.0 == resolve(5.0, "target")
    assert "target!" == resolve(lambda target: target + "!", "target")


async def test_a_live_stack_can_be_walked() -> None:
    inner = mock_service()
    async with trio.open_nursery() as nursery:
        service = marks("a", "b").layer(MockNewService(lambda target: inner)).new_service(Endpoint(("a", 1)), nursery)

    found = list(services(service))
    assert 3 == len(found)
    assert inner is found[-1]
    assert ["a", "b"] == [role(each.__layer__) for each in found[:-1]]  # type: ignore[attr-defined]
    assert [] == statistics_sources(service)
    assert "over" in repr(marks("a").layer(MockNewService()))
