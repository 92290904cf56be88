"""What a reload takes for the same pipeline, and what it does not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import attrs
import pytest

from meshcore.config import parse_config
from meshcore.layers import Retry, Timeout
from meshcore.layers.retry import Budget
from meshcore.metrics import Registry
from meshcore.pipeline.plan import pipelines
from meshcore.pipeline.runtime import Runtime
from meshcore.pipeline.same import same
from tests.conftest import Pki

MESH = """
[service]
name = "orders"
namespace = "shop"
[identity]
mode = "dev"
[inbound]
forward = "127.0.0.1:8000"
[outbound.to."payments:80"]
endpoints = ["10.0.0.7:4143"]
identity = "payments.shop"
timeout = {{ request = "2s" }}
[outbound.to."db:5432"]
listen = "127.0.0.1:5432"
protocol = "tcp"
discover = "file:{folder}/db.json"
[outbound.to."users:80"]
discover = "dns:users.shop:4143"
allow_l5d_headers = true
concurrency_limit = {{ limit = 500, adaptive = true, minimum = 10 }}
retry = {{ limit = 2, on = ["5xx"], backoff = "25ms..250ms", timeout = "1s", hedge = {{ after = "200ms" }} }}
health_check = {{ path = "/healthz" }}
[listen.public]
bind = "0.0.0.0:8443"
tls = {{ cert = "{cert}", key = "{key}" }}
to = [{{ backend = "stable" }}]
[[listen.public.route]]
match = [{{ host = "a.test" }}]
to = [{{ backend = "stable" }}]
[[listen.public.route]]
name = "canary"
match = [{{ host = "c.test", path = {{ prefix = "/v1" }}, headers = {{ x-a = {{ regex = "b.*" }} }} }}]
filters = [{{ set_request_headers = {{ x-env = "prod" }} }}, {{ inject_delay = {{ duration = "1s", ratio = 0.1 }} }}]
timeout = {{ request = "3s" }}
to = [{{ backend = "stable", weight = 90 }}, {{ backend = "canary", weight = 10 }}]
[[listen.public.policy]]
networks = ["10.0.0.0/8"]
unauthenticated = true
[listen.public.rate_limit]
rps = 100
[inbound.ext_authz]
grpc = "127.0.0.1:9001"
context = {{ team = "shop" }}
[listen.public.concurrency_limit]
limit = 50
wait = "100ms"
waiting = 20
[listen.public.jwt]
issuer = "https://id.test/"
audience = ["api"]
keys = "https://id.test/keys.json"
[[inbound.route]]
match = [{{ path = {{ prefix = "/a" }} }}]
[[listen.public.layer]]
use = "timeout"
before = "retry"
seconds = 3.0
[backend.canary]
endpoints = ["10.0.0.12:8080"]
balance = {{ policy = "maglev", hash = {{ header = "x-user" }} }}
[backend.stable]
classify = {{ status = ["5xx", "429"], grpc = ["unavailable"] }}
failure_accrual = {{ consecutive = 7, penalty = "1s..1m" }}
endpoints = ["https://10.0.0.11:8080"]
[proxy]
access_log = "json"
"""


@pytest.fixture
def text(pki: Pki, tmp_path: Path) -> str:
    for name in ("db.json", "other.json"):
        (tmp_path / name).write_text("[]")
    cert, key = pki.issue("site.test")
    return MESH.format(cert=cert, key=key, folder=tmp_path)


def test_every_pipeline_that_a_config_is_built_into_twice_is_the_same(text: str) -> None:
    runtime = Runtime(registry=Registry(), own=list)

    one, other = pipelines(parse_config(text), runtime), pipelines(parse_config(text), runtime)

    assert ["inbound", "outbound", "db:5432", "public"] == list(one)
    assert dict.fromkeys(one, True) == {name: same(one[name].stack, other[name].stack) for name in one}


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        (("8000", "8001"), {"inbound"}),
        (("10.0.0.7", "10.0.0.8"), {"outbound"}),
        (("weight = 10", "weight = 20"), {"public"}),
        (('"/a"', '"/b"'), {"inbound"}),
        (("rps = 100", "rps = 200"), {"public"}),
        # Policies are replaced in what runs.
        (("10.0.0.0/8", "10.0.0.0/9"), set()),
        (("db.json", "other.json"), {"outbound", "db:5432"}),
        (("a.test", "b.test"), {"public"}),
        (("seconds = 3.0", "seconds = 4.0"), {"public"}),
        (('"json"', '"text"'), {"inbound", "outbound", "db:5432", "public"}),
    ],
)
def test_a_change_is_one_of_the_pipelines_that_it_concerns(
    text: str, change: tuple[str, str], changed: set[str]
) -> None:
    runtime = Runtime(registry=Registry(), own=list)
    one, other = pipelines(parse_config(text), runtime), pipelines(parse_config(text.replace(*change)), runtime)

    assert changed == {name for name in one if not same(one[name].stack, other[name].stack)}


def adding(number: int, more: int = 0) -> Callable[[int], int]:
    def add(to: int) -> int:
        return to + number + more

    return add


class ByTable:
    def __init__(self, table: dict[str, int]) -> None:
        self.table = table

    def __call__(self, name: str) -> int:
        return self.table[name]


class State:
    """No value: each is another."""


@attrs.frozen
class Partly:
    told: int
    found: int = attrs.field(eq=False)


@pytest.mark.parametrize(
    "value",
    [
        lambda: (1, "a", b"b", Path("c"), {"d": [1]}),
        lambda: attrgetter("name"),
        lambda: partial(adding, 1, more=2),
        lambda: adding(1),
        lambda: lambda target: target.name,
        lambda: ByTable({"a": 1}),
        lambda: ByTable({"a": 1}).__call__,
        lambda: {"a": 1}.get,
        lambda: Retry(attrgetter("retries"), Budget(0.3)),
        lambda: Timeout(5.0),
        lambda: Partly(1, id(object())),
    ],
)
def test_what_is_made_twice_alike_is_the_same(value: Callable[[], Any]) -> None:
    assert same(value(), value())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (attrgetter("a"), attrgetter("b")),
        (partial(adding, 1), partial(adding, 2)),
        (adding(1), adding(2)),
        (lambda target: target.a, lambda target: target.b),
        (ByTable({"a": 1}), ByTable({"a": 2})),
        ({"a": 1}.get, {"a": 2}.get),
        ({"a": 1}.get, {"a": 1}.keys),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ((1, 2), (1, 2, 3)),
        (Retry(attrgetter("retries")), Retry(1)),
        (Partly(1, 1), Partly(2, 1)),
        (State(), State()),
    ],
)
def test_what_differs_or_cannot_be_told_is_not(one: Any, other: Any) -> None:
    assert not same(one, other)


def test_a_function_that_refers_to_itself_ends() -> None:
    def made(number: int) -> Callable[[int], int]:
        def count(down: int) -> int:
            return count(down - 1) if down else number

        return count

    assert same(made(1), made(1))
    assert not same(made(1), made(2))
