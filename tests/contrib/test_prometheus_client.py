"""A registry among an application's own metrics, judged by prometheus_client's parsers."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from prometheus_client import Counter, generate_latest
from prometheus_client.core import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

from meshcore.contrib.prometheus_client import RegistryCollector, expose
from meshcore.metrics import Registry, process_metrics

HOSTILE = 'a "quoted" \\ line\nand = another,{}'


def filled() -> Registry:
    registry = Registry()
    registry.counter("c_total", "C.", "a", "b").labels(HOSTILE, "").value = 3
    registry.counter("c_total", "C.", "a", "b").labels("", "").value = 4
    registry.gauge("g", "G.").labels().value = 1.5
    seconds = registry.histogram("d_seconds", "D.", "a", buckets=(0.005, 0.05, 1), shown=(0.05, 1)).labels("x")
    for value in (0.001, 0.02, 0.5, 7):
        seconds.observe(value)
    registry.view("view_ms", "V.", {"d_seconds": tuple}, buckets=(5, 50), of=(5, 50, 1_000), scale=1_000.0)
    registry.view("view_total", "V.", {"c_total": tuple})
    registry.collect(lambda: None)
    return registry


def values(families: Any) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    samples = [sample for family in families for sample in family.samples]
    return {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}


@pytest.mark.parametrize("openmetrics", [False, True])
def test_an_applications_registry_tells_what_a_scrape_of_the_proxy_tells(openmetrics: bool) -> None:
    registry, into = filled(), CollectorRegistry(auto_describe=True)
    Counter("own", "The application's own.", registry=into).inc()
    take_out = expose(registry, into)

    generate, parse = (generate_openmetrics, parse_openmetrics) if openmetrics else (generate_latest, parse_prometheus)
    told = values(parse(generate(into).decode()))
    assert 1 == told["own_total", frozenset()]
    # As those parsers read what the proxy itself writes.
    theirs = values(parse_openmetrics(registry.render(True)))
    assert len(theirs) == 15
    assert theirs.items() <= told.items()
    assert 3 == told["c_total", frozenset({("a", HOSTILE)})]

    take_out()
    assert "c_total" not in generate_latest(into).decode()


@pytest.mark.parity("M-02", "X-50")
def test_both_formats_are_read_alike_by_the_parsers_of_prometheus_client() -> None:
    registry = filled()
    plain, openmetrics = values(parse_prometheus(registry.render())), values(parse_openmetrics(registry.render(True)))

    def number(key: tuple[str, frozenset[tuple[str, str]]]) -> Any:
        return key[0], frozenset((name, float(value) if name == "le" else value) for name, value in key[1])

    assert {number(key): value for key, value in plain.items()} == {
        number(key): value for key, value in openmetrics.items()
    }


def test_the_process_is_the_applications_to_tell_of() -> None:
    registry = filled()
    process_metrics(registry, start_time=1.0, version="1")
    told = {metric.name for metric in RegistryCollector(registry).collect()}
    assert "proxy_build_info" in told
    assert not any(name.startswith("process_") for name in told)
    everything = {metric.name for metric in RegistryCollector(registry, without=()).collect()}
    assert "process_start_time_seconds" in everything


async def test_another_thread_asks_the_trio_that_the_proxy_runs_in() -> None:
    registry = filled()
    threads: list[Any] = []
    registry.collect(lambda: threads.append(trio.lowlevel.current_task()))
    collector = RegistryCollector(registry, token=trio.lowlevel.current_trio_token())

    found = await trio.to_thread.run_sync(lambda: list(collector.collect()))
    assert {metric.name for metric in found} == {metric.name for metric in collector.collect()}
    assert "RegistryCollector" in repr(collector)


async def test_what_has_ended_has_nothing_to_tell_and_spoils_nobody_elses_scrape() -> None:
    def ended() -> trio.lowlevel.TrioToken:
        async def token() -> trio.lowlevel.TrioToken:
            return trio.lowlevel.current_trio_token()

        return trio.run(token)

    collector = RegistryCollector(Registry(), token=await trio.to_thread.run_sync(ended))

    assert [] == await trio.to_thread.run_sync(lambda: list(collector.collect()))
