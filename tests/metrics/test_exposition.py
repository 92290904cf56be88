"""The exposition: in pieces, once for all who ask at the same time, in both formats and codings."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
import trio

from meshcore.metrics import Registry
from meshcore.metrics.exposition import Exposition
from tests.metrics.exposed import parse


def filled(series: int) -> Registry:
    """A registry with so many counters, and a tenth as many histograms."""
    registry = Registry(max_series=10_000)
    counters = registry.counter("c_total", "C.", "a")
    histograms = registry.histogram("h_ms", "H.", "a")
    for number in range(series):
        counters.labels(str(number)).value = number
    for number in range(series // 10):
        histograms.labels(str(number)).observe(number)
    return registry


@pytest.mark.parity("M-01", "X-53")
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("openmetrics", [False, True])
async def test_the_pieces_are_the_whole(openmetrics: bool, compressed: bool) -> None:
    registry = filled(2_000)

    data = await Exposition(registry)(openmetrics, compressed)

    assert registry.render(openmetrics) == (gzip.decompress(data) if compressed else data).decode()
    families = parse(registry.render(openmetrics), openmetrics=openmetrics)
    assert 2_000 == len(families["c" if openmetrics else "c_total"].samples)


async def test_others_run_between_pieces_of_a_hundred_lines() -> None:
    registry = filled(10_000)
    assert max(piece.count("\n") for piece in registry.pieces()) <= 150
    turns = 0
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await trio.lowlevel.checkpoint()

        text = await Exposition(registry)()
        nursery.cancel_scope.cancel()

    assert turns >= text.count(b"\n") / 150


def test_a_view_is_added_up_in_pieces_too() -> None:
    registry = Registry()
    family = registry.histogram("h", "H.", "a", buckets=(1.0, 2.0))
    for number in range(1_000):
        family.labels(str(number)).observe(1.5)
    registry.view("v", "V.", {"h": lambda labels: ()}, buckets=(1.0, 2.0), of=(1.0, 2.0))

    pieces = list(registry.pieces())

    assert pieces.count("") >= 1_000 // 100
    assert 'v_bucket{le="1"} 0\nv_bucket{le="2"} 1000\n' in "".join(pieces)
    assert "v_sum 1500\nv_count 1000\n" in "".join(pieces)
    assert [((), 1_000)] == [(labels, cell.count) for labels, cell in registry.families()[-1].series()]


async def test_who_asks_for_what_is_being_made_gets_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = filled(2_000)
    made: list[bool] = []
    pieces = registry.pieces

    def counted(openmetrics: bool = False) -> Any:
        made.append(openmetrics)
        return pieces(openmetrics)

    monkeypatch.setattr(registry, "pieces", counted)
    exposition = Exposition(registry)
    got: list[bytes] = []

    async def scrape(openmetrics: bool) -> None:
        got.append(await exposition(openmetrics))

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(scrape, number % 10 == 0)

    assert [False, True] == sorted(made)
    assert 2 == len({id(data) for data in got})
    await exposition()
    assert 3 == len(made)


async def test_where_the_one_who_makes_it_goes_away_another_makes_it() -> None:
    exposition = Exposition(filled(5_000))
    first = trio.CancelScope()
    got: list[bytes] = []

    async def leaving() -> None:
        with first:
            await exposition()

    async def staying() -> None:
        got.append(await exposition())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(leaving)
        await trio.lowlevel.checkpoint()
        nursery.start_soon(staying)
        nursery.start_soon(staying)
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        first.cancel()

    assert first.cancelled_caught
    assert got[0] is got[1]
    assert "Exposition" in repr(exposition)


async def test_counts_and_the_last_bucket_agree_while_it_is_counted_on() -> None:
    registry = filled(5_000)
    cells = [cell for _, cell in registry.histogram("h_ms", "H.", "a").series()]
    exposition = Exposition(registry)
    texts: list[bytes] = []

    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def scraping() -> None:
            texts.extend([await exposition() for _ in range(3)])
            nursery.cancel_scope.cancel()

        while True:
            for cell in cells:
                cell.observe(7)
            await trio.lowlevel.checkpoint()

    for text in texts:
        parse(text.decode())
