"""The rate limiter's arithmetic, against a slow model that remembers every request."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshcore.http.headers import Headers
from meshcore.layers.rate_limit.gcra import Bucket, Buckets, Rate, nanoseconds
from meshcore.layers.rate_limit.limits import HeaderRate, Limiter, Override, RateLimits

SECOND = 1_000_000_000

rates = st.builds(
    Rate,
    st.one_of(st.integers(1, 1_000).map(float), st.floats(0.01, 5_000)),
    st.integers(1, 50),
)
gaps = st.lists(st.one_of(st.just(0), st.integers(0, 50), st.integers(0, 3 * SECOND)), max_size=120)


class Model:
    """A bucket of tokens, in exact numbers; it keeps when each request was let in."""

    def __init__(self, rate: Rate) -> None:
        self.interval = rate.interval
        self.burst = rate.burst
        self.tokens = Fraction(rate.burst)
        self.at = 0
        self.admitted: list[int] = []

    def take(self, now: int) -> bool:
        self.tokens = min(Fraction(self.burst), self.tokens + Fraction(now - self.at, self.interval))
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        self.admitted.append(now)
        return True


@pytest.mark.parity("R-36")
@given(rates, gaps)
def test_a_bucket_lets_in_what_a_bucket_of_tokens_does(rate: Rate, gaps: list[int]) -> None:
    bucket, model, now = Bucket(rate), Model(rate), 0
    for gap in gaps:
        now += gap
        wait = bucket.take(now)
        assert (wait == 0) == model.take(now)
        assert 0 <= wait <= rate.interval


@given(rates, gaps)
def test_no_window_has_more_than_the_burst_and_what_comes_in_meanwhile(rate: Rate, gaps: list[int]) -> None:
    bucket, now, admitted = Bucket(rate), 0, []
    for gap in gaps:
        now += gap
        if not bucket.take(now):
            admitted.append(now)
    for first, begin in enumerate(admitted):
        for last in range(first, len(admitted)):
            window = Fraction(admitted[last] - begin, SECOND)
            assert last - first + 1 <= rate.burst + window * Fraction(rate.rps)


@given(rates, st.integers(0, 10 * SECOND))
def test_whoever_comes_back_when_told_is_let_in_and_not_before(rate: Rate, now: int) -> None:
    bucket = Bucket(rate)
    while not (wait := bucket.take(now)):
        pass
    assert bucket.take(now + wait - 1) == 1
    assert bucket.take(now + wait) == 0


@given(rates, st.lists(st.tuples(st.integers(0, 5), st.integers(0, SECOND)), max_size=100))
def test_each_key_has_a_bucket_of_its_own(rate: Rate, asked: list[tuple[int, int]]) -> None:
    buckets, models, now = Buckets(rate, 6), {key: Model(rate) for key in range(6)}, 0
    for key, gap in asked:
        now += gap
        assert (buckets.take(key, now) == 0) == models[key].take(now)
        assert len(buckets) <= 6
    assert buckets.forgotten == 0


@given(rates, st.integers(1, 5), st.lists(st.tuples(st.integers(0, 30), st.integers(0, SECOND)), max_size=200))
def test_there_are_never_more_buckets_than_allowed(rate: Rate, most: int, asked: list[tuple[int, int]]) -> None:
    buckets, now = Buckets(rate, most), 0
    for key, gap in asked:
        now += gap
        buckets.take(key, now)
        assert len(buckets) <= most


def test_beyond_that_the_one_not_asked_for_the_longest_begins_anew() -> None:
    buckets = Buckets(Rate(1, 1), 2)
    assert [buckets.take(key, 0) for key in ("a", "b")] == [0, 0]
    # Refused, and thereby seen again.
    assert buckets.take("a", 1) > 0
    assert buckets.take("c", 2) == 0
    assert buckets.forgotten == 1
    assert buckets.take("a", 3) > 0
    assert buckets.take("b", 4) == 0


def test_buckets_that_are_full_again_are_not_kept() -> None:
    buckets = Buckets(Rate(10, 1), 1_000)
    for key in range(1_000):
        buckets.take(key, 0)
    for key in range(600):
        buckets.take(-1 - key, SECOND)
    assert len(buckets) == 600
    assert buckets.forgotten == 0


@pytest.mark.parametrize(("rps", "burst"), [(100, 100), (0.1, 1), (1.9, 1), (2.5, 2)])
def test_the_burst_is_a_seconds_worth_unless_said_otherwise(rps: float, burst: int) -> None:
    assert Rate(rps).burst == burst


@pytest.mark.parametrize(("rps", "burst"), [(0.0, 1), (-1.0, 1), (1e7, 1), (float("nan"), 1), (1.0, 0)])
def test_a_rate_that_is_none_is_refused(rps: float, burst: int) -> None:
    with pytest.raises(ValueError):
        Rate(rps, burst)


# ----- several limits -----


class Clients:
    """Asks a limiter, a moment after the other."""

    def __init__(self, limits: RateLimits) -> None:
        self.limiter = Limiter(limits)
        self.now = 1_000.0

    def ask(self, identity: str | None = None, value: bytes | None = None) -> str:
        headers = Headers([] if value is None else [(b"x-tenant", value)])
        exceeded = self.limiter.check(self.now, identity, headers)
        return "" if exceeded is None else f"{exceeded.what} {exceeded.rate}"


@pytest.mark.parity("R-36")
def test_the_total_comes_first_then_the_override_alone_else_the_identity() -> None:
    override = Override(("Known.Shop", "spiffe://a/B"), Rate(2))
    clients = Clients(RateLimits(Rate(8), Rate(1), (override,)))
    # An override is shared by those whom it names, and is their only one but the total.
    assert [clients.ask(who) for who in ("known.shop", "spiffe://a/B", "known.shop")] == ["", "", "override 2rps"]
    assert [clients.ask("other.shop") for _ in range(2)] == ["", "per-identity 1rps"]
    # Those without an identity are one client; whatever was refused below the total has used that up.
    assert [clients.ask() for _ in range(2)] == ["", "per-identity 1rps"]
    assert clients.ask("third.shop") == ""
    assert clients.ask("known.shop") == "total 8rps"
    assert clients.ask("fourth.shop") == "total 8rps"


def test_a_header_tells_apart_who_has_no_name() -> None:
    clients = Clients(RateLimits(per_header=HeaderRate(b"x-tenant", Rate(1))))
    assert [clients.ask(value=b"a"), clients.ask(value=b"b"), clients.ask()] == ["", "", ""]
    assert [clients.ask(value=b"a"), clients.ask()] == ["per-header 1rps"] * 2


def test_long_values_of_a_header_are_told_apart_and_not_kept() -> None:
    clients = Clients(RateLimits(per_header=HeaderRate(b"x-tenant", Rate(1))))
    assert [clients.ask(value=b"x" * 60_000 + b"%d" % n) for n in range(3)] == ["", "", ""]
    assert clients.ask(value=b"x" * 60_000 + b"1") == "per-header 1rps"
    values = clients.limiter.values
    assert values is not None
    assert max(len(key) for key in values._full) < 64  # type: ignore[arg-type]


def test_time_is_whole_nanoseconds() -> None:
    assert nanoseconds(1.5) == 1_500_000_000


def test_limits_say_what_they_are() -> None:
    limits = RateLimits(
        Rate(100), Rate(10), (Override(("a.b",), Rate(50)),), HeaderRate(b"x-tenant", Rate(0.5)), max_keys=5
    )
    assert str(limits) == "total 100rps, a.b 50rps, per identity 10rps, per x-tenant 0.5rps"
    assert str(RateLimits()) == "none"
