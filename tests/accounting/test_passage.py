"""A measured connection on its way through layers."""

from __future__ import annotations

from meshcore.accounting.account import Account
from meshcore.accounting.passage import Passage
from meshcore.errors import TlsError


def layers(*levels: int) -> list[Account]:
    found = [Account("p", f"layer{number}", "inbound", "tcp") for number, _ in enumerate(levels)]
    for account, level in zip(found, levels, strict=True):
        account.level = level
    return found


def told(account: Account) -> tuple[int, int, dict[str, int], int]:
    value = account.value()
    return value["calls"], value["in_flight"], value["outcomes"], value["repeated"]


def test_all_layers_have_it_until_it_ends() -> None:
    top, middle, bottom = layers(1, 2, 3)
    passage = Passage(4)
    for now, account in enumerate((top, middle, bottom)):
        passage.enter(account, float(now))
    assert [(4, 4, {}, 0)] * 3 == [told(account) for account in (top, middle, bottom)]
    passage.end(10.0, None)
    assert [(4, 0, {"done": 4}, 0)] * 3 == [told(account) for account in (top, middle, bottom)]
    assert [40.0, 36.0, 32.0] == [account.seconds for account in (top, middle, bottom)]
    assert [4.0, 4.0, 32.0] == [account.own_seconds for account in (top, middle, bottom)]


def test_another_way_ends_the_first_one() -> None:
    top, opaque, deeper, http = layers(1, 2, 3, 2)
    passage = Passage(1)
    for now, account in enumerate((top, opaque, deeper, http)):
        passage.enter(account, float(now))
    assert [told(account) for account in (opaque, deeper)] == [(1, 0, {"cancelled": 1}, 0)] * 2
    passage.end(9.0, None)
    assert (1, 0, {"done": 1}, 0) == told(http)
    assert (1, 0, {"done": 1}, 1) == told(top)


def test_an_error_belongs_to_who_had_it_last() -> None:
    top, middle, bottom = layers(1, 2, 3)
    passage = Passage(2)
    passage.enter(top, 0.0)
    passage.enter(middle, 0.0)
    passage.end(1.0, TlsError("no"))
    assert [({}, 0), ({"tls-failed": 2}, 2), ({}, 0)] == [
        (account.errors, account.raised) for account in (top, middle, bottom)
    ]
    assert [(2, 0, {"error": 2}, 0)] * 2 == [told(top), told(middle)]


def test_a_cancelled_one_is_nobodys_error() -> None:
    (top,) = layers(1)
    passage = Passage(1)
    passage.enter(top, 0.0)
    passage.end(1.0, KeyboardInterrupt())
    assert (1, 0, {"cancelled": 1}, 0) == told(top)
    assert {} == top.errors
