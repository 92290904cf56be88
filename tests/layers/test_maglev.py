"""Consistent hashing: equal shares, few moves, and the same endpoint for the same key."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import hypothesis
import pytest
import trio
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from meshcore.http.body import read_all
from meshcore.layers.balance import Balance, Balancing, ByCookie, ByHeader, BySource, Maglev
from meshcore.layers.balance.maglev import MaglevPicker, hashed, table_of
from meshcore.testing import FakeResolve, memory_connection_pair, request
from meshcore.transport.connection import Connection
from meshcore.transport.target import Backend, Endpoint
from tests.layers.fakes import Network
from tests.layers.test_load import Fixed

SIZE = 4_099


class Someone:
    """A candidate at an address of its own."""

    def __init__(self, number: int, weight: float = 1.0) -> None:
        self.endpoint = Endpoint((f"10.0.{number // 250}.{number % 250}", 8080), weight=weight)
        self.weight = weight
        self.load: Any = Fixed(1.0)
        self.slot = -1
        self.served = 0.0

    def __repr__(self) -> str:
        return str(self.endpoint)


MEMBERS = [Someone(number) for number in range(60)]

# ----- the table -----


@hypothesis.given(st.sets(st.integers(0, 59), min_size=1, max_size=40))
@hypothesis.settings(max_examples=25, deadline=None)
def test_every_endpoint_has_its_share_of_the_table_within_an_entry(numbers: set[int]) -> None:
    members = [MEMBERS[number] for number in numbers]

    shares = Counter(table_of(members, SIZE))

    assert len(members) == len(shares)
    assert max(shares.values()) - min(shares.values()) <= 1


@hypothesis.given(st.sets(st.integers(0, 59), min_size=3, max_size=40), st.randoms(use_true_random=False))
@hypothesis.settings(max_examples=25, deadline=None)
def test_few_keys_move_between_those_that_stay_when_one_goes(numbers: set[int], rng: random.Random) -> None:
    members = [MEMBERS[number] for number in numbers]
    gone = rng.choice(members)

    before = table_of(members, SIZE)
    after = table_of([member for member in members if member is not gone], SIZE)

    moved = sum(old is not gone and old is not new for old, new in zip(before, after, strict=True))
    # Those of who has gone have to move, and a few more: an ideal of none costs equal shares.
    assert moved / SIZE < 0.12
    assert moved / SIZE < 3.0 / len(members)


def test_a_larger_table_moves_fewer() -> None:
    def moved(size: int) -> float:
        before, after = table_of(MEMBERS[:10], size), table_of(MEMBERS[:9], size)
        return sum(old is not MEMBERS[9] and old is not new for old, new in zip(before, after, strict=True)) / size

    assert moved(65_537) < 0.02
    assert moved(65_537) < moved(251)


@hypothesis.given(st.lists(st.sampled_from([0.5, 1.0, 2.0, 3.0, 10.0]), min_size=2, max_size=12))
@hypothesis.settings(max_examples=25, deadline=None)
def test_shares_are_by_weight(weights: list[float]) -> None:
    members = [Someone(number, weight) for number, weight in enumerate(weights)]

    shares = Counter(table_of(members, SIZE))

    for member in members:
        assert abs(shares[member] / SIZE - member.weight / sum(weights)) < 0.01


@hypothesis.given(st.randoms(use_true_random=False))
@hypothesis.settings(max_examples=10, deadline=None)
def test_every_proxy_has_the_same_table_in_whatever_order_it_learns_of_endpoints(rng: random.Random) -> None:
    members = MEMBERS[:20]
    mixed = rng.sample(members, len(members))

    assert table_of(members, 1_021) == table_of(mixed, 1_021)


def test_hashes_are_the_same_in_every_process_and_release() -> None:
    assert 0x40F89E395B66422F == hashed(b"a")
    assert 0 <= hashed(b"") < 1 << 64


def test_a_table_is_made_anew_only_for_others_or_other_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    picker = Maglev(ByHeader(b"x-user"), 1_021).start(random.Random(1))
    assert isinstance(picker, MaglevPicker)
    made: list[int] = []
    monkeypatch.setattr(
        "meshcore.layers.balance.maglev.table_of", lambda members, size: made.append(1) or table_of(members, size)
    )
    asked = request(headers=[(b"x-user", b"ann")])
    assert picker.pick(0.0, asked) is None
    for member in MEMBERS[:3]:
        picker.ready.add(member)
    first = picker.pick(0.0, asked)
    assert first is picker.pick(0.0, asked)
    assert first is not None
    # As a slow start does it: another share, the same weight.
    picker.ready.remove(first)
    picker.ready.add(first)
    assert first is picker.pick(0.0, asked)
    assert [1] == made

    picker.ready.remove(first)
    other = picker.pick(0.0, asked)
    assert [1, 1] == made
    assert other is not first
    picker.ready.add(first)
    assert first is picker.pick(0.0, asked)
    for member in MEMBERS[:3]:
        picker.ready.remove(member)


def test_many_changes_in_a_row_do_not_make_the_table_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    picker = Maglev(ByHeader(b"x-user"), 1_021).start(random.Random(1))
    made: list[int] = []
    monkeypatch.setattr(
        "meshcore.layers.balance.maglev.table_of", lambda members, size: made.append(1) or table_of(members, size)
    )
    members = [Someone(number) for number in range(40)]
    inside: set[Someone] = set()
    rng = random.Random(4)
    now = 0.0
    for step in range(4_000):
        now += 0.001
        someone = rng.choice(members)
        if someone in inside and len(inside) > 1:
            inside.discard(someone)
            picker.ready.remove(someone)
        elif someone not in inside:
            inside.add(someone)
            picker.ready.add(someone)
        assert picker.pick(now, request(headers=[(b"x-user", b"%d" % step)])) in inside

    # The first ones at once, then four a second, and where nobody near in the table is left.
    assert 30 <= len(made) <= 60
    picker.pick(now + 1.0, request(headers=[(b"x-user", b"ann")]))
    home = table_of(list(inside), 1_021)[hashed(b"ann") % 1_021]
    assert home is picker.pick(now + 1.0, request(headers=[(b"x-user", b"ann")]))
    for someone in inside:
        picker.ready.remove(someone)


def test_the_size_has_to_be_a_prime_number() -> None:
    with pytest.raises(ValueError, match="prime number: 1000"):
        Maglev(BySource(), 1_000)


# ----- keys -----


def client(peer: Any) -> Connection:
    connection = memory_connection_pair()[0]
    connection.peer = peer
    return connection


def test_keys_are_a_header_a_cookie_or_the_source() -> None:
    sent = request(headers=[(b"x-user", b"ann"), (b"cookie", b"a=1; sid=42; b="), (b"cookie", b"c=3")])
    sent.connection = client(("10.9.9.9", 4711))

    assert b"ann" == ByHeader(b"X-User").key(sent)
    assert ByHeader(b"x-other").key(sent) is None
    assert (b"42", b"3") == (ByCookie(b"sid").key(sent), ByCookie(b"c").key(sent))
    assert ByCookie(b"b").key(sent) is ByCookie(b"none").key(sent) is None
    assert b"10.9.9.9" == BySource().key(sent) == BySource().key(client(("10.9.9.9", 1)))
    assert BySource().key(request()) is BySource().key(client(("", 0))) is None
    assert ByHeader(b"x-user").key(client(("", 0))) is ByCookie(b"sid").key(client(("", 0))) is None


# ----- under a balancer -----

ENDPOINTS = tuple(Endpoint((f"10.0.0.{number}", 8080)) for number in range(1, 6))
BY_USER = Balancing(Maglev(ByHeader(b"x-user")))


async def ask(service: Any, user: str | None, **options: Any) -> Endpoint | None:
    sent = request(headers=[] if user is None else [(b"x-user", user.encode())])
    for name, value in options.items():
        setattr(sent, name, value)
    await read_all((await service(sent)).body)
    return sent.endpoint


async def test_the_same_user_gets_to_the_same_endpoint_while_others_come_and_go(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    resolve = FakeResolve(*ENDPOINTS)
    balance = Balance(resolve, policy=BY_USER, rng=random.Random(1))
    service: Any = balance.layer(network).new_service(Backend("web"), nursery)
    await wait_all_tasks_blocked()
    users = [f"user-{number}" for number in range(200)]
    first = {user: await ask(service, user) for user in users}
    assert set(ENDPOINTS) == set(first.values())
    assert first == {user: await ask(service, user) for user in users}

    gone = ENDPOINTS[2]
    resolve.publish(*[endpoint for endpoint in ENDPOINTS if endpoint != gone])
    without = {user: await ask(service, user) for user in users}
    moved = [user for user in users if first[user] not in (gone, without[user])]
    assert len(moved) < 10
    assert gone not in without.values()

    resolve.publish(*ENDPOINTS)
    await wait_all_tasks_blocked()
    assert first == {user: await ask(service, user) for user in users}


async def test_an_endpoint_that_refuses_loses_its_users_until_it_is_back(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    service: Any = (
        Balance(policy=BY_USER, rng=random.Random(1)).layer(network).new_service(Backend("web", ENDPOINTS), nursery)
    )
    await wait_all_tasks_blocked()
    home = await ask(service, "ann")
    assert home is not None

    network[home.address].down = True
    elsewhere = await ask(service, "ann")
    assert elsewhere != home
    assert elsewhere == await ask(service, "ann")
    network[home.address].down = False
    await trio.sleep(120)

    assert home == await ask(service, "ann")


async def test_requests_without_a_key_are_spread_and_retries_go_elsewhere(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    service: Any = (
        Balance(policy=BY_USER, rng=random.Random(1)).layer(network).new_service(Backend("web", ENDPOINTS), nursery)
    )
    await wait_all_tasks_blocked()

    assert set(ENDPOINTS) == {await ask(service, None) for _ in range(60)}
    home = await ask(service, "ann")
    assert home != await ask(service, "ann", avoid=(home,))


async def test_who_waits_is_given_its_own_endpoint(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    service: Any = (
        Balance(policy=BY_USER, rng=random.Random(1)).layer(network).new_service(Backend("web", ENDPOINTS), nursery)
    )
    await wait_all_tasks_blocked()
    users = [f"user-{number}" for number in range(30)]
    want = {user: await ask(service, user) for user in users}
    resolve = FakeResolve()
    later: Any = Balance(resolve, policy=BY_USER).layer(network).new_service(Backend("web"), nursery)
    got: dict[str, Endpoint | None] = {}

    async def one(user: str) -> None:
        got[user] = await ask(later, user)

    async with trio.open_nursery() as asking:
        for user in users:
            asking.start_soon(one, user)
        await wait_all_tasks_blocked()
        resolve.publish(*ENDPOINTS)

    # The first to be ready may take some of those that wait; every later request is at home.
    assert set(users) == set(got)
    assert want == {user: await ask(later, user) for user in users}
