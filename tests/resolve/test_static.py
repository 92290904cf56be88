"""Static discovery, and what changes between two sets."""

from __future__ import annotations

from collections.abc import Sequence

import hypothesis
from hypothesis import strategies as st

from meshcore.resolve import Static, Update, changes
from meshcore.resolve.update import identity
from meshcore.transport.target import Backend, Endpoint

A, B = Endpoint(("10.0.0.1", 80)), Endpoint(("10.0.0.2", 80))


async def test_the_backends_own_set_is_published_once() -> None:
    seen: list[Sequence[Endpoint]] = []
    await Static().watch(Backend("b", (A, B)), seen.append)
    assert [(A, B)] == seen


async def test_a_given_set_is_published_for_every_backend() -> None:
    seen: list[Sequence[Endpoint]] = []
    for backend in (Backend("b", (A,)), Backend("c")):
        await Static([B]).watch(backend, seen.append)
    assert [(B,), (B,)] == seen
    assert Static((B,)) == Static([B])
    assert "Static(endpoints=None)" == repr(Static())


def test_an_unchanged_endpoint_is_no_change_and_other_metadata_is_another_endpoint() -> None:
    labelled = Endpoint(("10.0.0.1", 80), labels=(("a", "b"),))

    assert Update() == changes([A, B], [Endpoint(("10.0.0.2", 80)), A])
    assert Update(added=(labelled,), removed=(A,)) == changes([A], [labelled])
    assert Update(removed=(A, B)) == changes([A, B], [])
    assert Update(added=(A,)) == changes([], [A, A])


def test_another_weight_is_the_same_endpoint() -> None:
    heavy = Endpoint(("10.0.0.1", 80), weight=3.0)

    assert Update(weighted=(heavy,)) == changes([A], [heavy])
    assert Update(weighted=(A,)) == changes([heavy], [A])
    assert Update() == changes([heavy], [heavy])
    assert A == identity(heavy)


endpoints = st.lists(
    st.builds(
        Endpoint,
        st.tuples(st.sampled_from(["10.0.0.1", "10.0.0.2"]), st.integers(1, 3)),
        weight=st.sampled_from([0.0, 1.0, 2.0]),
    ),
    max_size=8,
)


@hypothesis.given(endpoints, endpoints)
def test_applying_an_update_gives_what_was_published(old: list[Endpoint], new: list[Endpoint]) -> None:
    known = {identity(endpoint): endpoint for endpoint in reversed(old)}
    update = changes(known.values(), new)
    for endpoint in update.removed:
        del known[identity(endpoint)]
    for endpoint in (*update.added, *update.weighted):
        known[identity(endpoint)] = endpoint

    assert {identity(endpoint): endpoint for endpoint in reversed(new)} == known
