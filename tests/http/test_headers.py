"""Headers: an ordered multimap, compared with a plain list."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hpack import NeverIndexedHeaderTuple
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from meshcore.http.headers import Headers
from meshcore.http.reserved import strip_reserved

names = st.sampled_from([b"a", b"b", b"c", b"set-cookie"])
values = st.binary(max_size=3)


class HeadersAgainstAList(RuleBasedStateMachine):
    """Every operation, on the class and on a list of pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.model: list[tuple[bytes, bytes]] = []
        self.headers = Headers()

    @rule(name=names, value=values)
    def add(self, name: bytes, value: bytes) -> None:
        self.headers.add(name, value)
        self.model.append((name, value))

    @rule(name=names, value=values)
    def set(self, name: bytes, value: bytes) -> None:
        self.headers.set(name, value)
        places = [index for index, (key, _) in enumerate(self.model) if key == name]
        if places:
            self.model[places[0]] = (name, value)
            self.model = [field for index, field in enumerate(self.model) if index not in places[1:]]
        else:
            self.model.append((name, value))

    @rule(name=names)
    def remove(self, name: bytes) -> None:
        assert any(key == name for key, _ in self.model) == self.headers.remove(name)
        self.model = [field for field in self.model if field[0] != name]

    @rule(fields=st.lists(st.tuples(names, values), max_size=4))
    def begin_anew(self, fields: list[tuple[bytes, bytes]]) -> None:
        self.headers = Headers(tuple(fields))
        self.model = list(fields)

    @rule()
    def go_on_with_a_copy(self) -> None:
        before = self.headers
        self.headers = before.copy()
        before.add(b"only-here", b"")

    @rule(name=names)
    def get(self, name: bytes) -> None:
        found = [value for key, value in self.model if key == name]
        assert found == self.headers.get_all(name)
        assert (found[0] if found else None) == self.headers.get(name)
        assert (found[0] if found else b"x") == self.headers.get(name, b"x")
        assert bool(found) == (name in self.headers)

    @invariant()
    def it_is_that_list(self) -> None:
        assert self.model == self.headers.raw == list(self.headers)
        assert len(self.model) == len(self.headers)
        assert Headers(self.model) == self.headers


TestHeaders = HeadersAgainstAList.TestCase


def test_they_are_compared_by_their_fields_and_order() -> None:
    assert Headers([(b"a", b"1"), (b"b", b"2")]) != Headers([(b"b", b"2"), (b"a", b"1")])
    assert Headers() != []
    with pytest.raises(TypeError):
        hash(Headers())
    assert "Headers([(b'a', b'1')])" == repr(Headers([(b"a", b"1")]))


def test_a_list_is_taken_as_it_is_and_anything_else_is_copied() -> None:
    fields = [(b"a", b"1")]
    assert Headers(fields).raw is fields
    assert Headers(field for field in fields).raw == fields


@pytest.mark.parametrize(
    "edit",
    [
        lambda headers: headers.remove(b"gone"),
        lambda headers: headers.set(b"gone", b"3"),
        lambda headers: strip_reserved(headers, meshed=False),
    ],
)
def test_a_field_that_stays_is_the_same_object(edit: Callable[[Headers], object]) -> None:
    """What it is says more than its two values: one that came as never to be in a table goes on so."""
    secret = NeverIndexedHeaderTuple(b"x-token", b"t")
    headers = Headers([(b"gone", b"1"), (b"l5d-client-id", b"me"), secret, (b"gone", b"2")])
    edit(headers)
    assert any(field is secret for field in headers.raw)
