"""/metrics as a page: formats, codings, and scrapers that do not read."""

from __future__ import annotations

import gzip
from typing import Any

import pytest

from meshcore.admin.scrape import Scrape
from meshcore.errors import LoadShedError
from meshcore.http.body import read_all
from meshcore.metrics import Registry
from meshcore.metrics.exposition import Exposition
from meshcore.testing import request
from tests.metrics.exposed import parse


def page(series: int = 10) -> Scrape:
    registry = Registry(max_series=20_000)
    family = registry.counter("c_total", "C.", "a")
    for number in range(series):
        family.labels(f"a value of some length {number}").value = number
    return Scrape(Exposition(registry))


@pytest.mark.parity("M-01", "X-53")
@pytest.mark.parametrize("coding", [b"", b"gzip"])
@pytest.mark.parametrize("accept", [b"text/plain", b"application/openmetrics-text; version=1.0.0"])
async def test_the_format_and_the_coding_are_those_that_are_asked_for(accept: bytes, coding: bytes) -> None:
    answer = await page()(request(path=b"/metrics", headers=[(b"accept", accept), (b"accept-encoding", coding)]))

    openmetrics = b"openmetrics" in accept
    assert (answer.headers.get(b"content-type") or b"").startswith(accept)
    assert (answer.headers.get(b"content-encoding") or b"") == coding
    data = await read_all(answer.body)
    assert b"%d" % len(data) == answer.headers.get(b"content-length")
    families = parse((gzip.decompress(data) if coding else data).decode(), openmetrics=openmetrics)
    assert ["c" if openmetrics else "c_total"] == list(families)


async def test_only_get_and_head() -> None:
    answer = await page()(request(b"POST", path=b"/metrics"))
    assert (405, b"GET, HEAD") == (answer.status, answer.headers.get(b"allow"))


async def test_who_does_not_read_is_ended_when_others_come() -> None:
    scrape = page(10_000)
    slow: list[Any] = [await scrape(request(path=b"/metrics")) for _ in range(8)]
    assert await slow[0].body.receive_some()
    assert all(answer.body.end is None for answer in slow)

    for _ in range(3):
        answer = await scrape(request(path=b"/metrics"))
        assert 10_002 == (await read_all(answer.body)).count(b"\n")

    # One only: those that came have been read, and are not in the way.
    assert isinstance(slow[0].body.end.error, LoadShedError)
    assert all(answer.body.end is None for answer in slow[1:])
    for answer in slow[1:]:
        answer.body.abort()
    assert not scrape._unread
