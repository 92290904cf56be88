from __future__ import annotations

import gc
from typing import Any

import attrs
import pytest
import trio

from meshcore.abc import HttpService, ServiceLayer, link
from meshcore.admin.live import Watch, live_tree
from meshcore.http.message import Request, Response
from meshcore.stack import stack
from meshcore.transport.target import Backend


@attrs.frozen
class Counts:
    requests: int


class Counting:
    """A service with statistics, and with services of its own under it."""

    def __init__(self, requests: int, **below: object) -> None:
        self.requests = requests
        if below:
            self.services = lambda: below

    async def __call__(self, request: Request) -> Response:
        return Response(200)

    def statistics(self) -> Counts:
        return Counts(self.requests)


@attrs.frozen
class Pass(ServiceLayer):
    """Does nothing."""

    name: str = "pass"

    def wrap(self, inner: HttpService, target: Any, /) -> HttpService:
        async def service(request: Request) -> Response:
            return await inner(request)

        return service


class Single:
    def __init__(self, service: HttpService) -> None:
        self.service = service

    def new_service(self, target: object, nursery: trio.Nursery, /) -> HttpService:
        return self.service


def test_a_live_stack_is_told_in_request_order_down_to_its_branches() -> None:
    inner = Counting(1, a=Counting(2), b=Counting(3))
    middle = link(Pass().wrap(inner, None), inner, Pass())
    outer = link(Counting(4), middle, Pass("outer"))
    assert live_tree(outer) == [
        {"role": "outer", "statistics": {"requests": 4}},
        {
            "role": "Counting",
            "statistics": {"requests": 1},
            "services": {
                "a": [{"role": "Counting", "statistics": {"requests": 2}}],
                "b": [{"role": "Counting", "statistics": {"requests": 3}}],
            },
        },
    ]


def test_a_thousand_branches_are_shown_and_the_rest_counted() -> None:
    told = live_tree(Counting(0, **{f"e{number}": Counting(number) for number in range(1_003)}))
    assert (1_000, 3) == (len(told[0]["services"]), told[0]["more"])


async def test_a_watch_sees_what_is_made_under_it_and_adds_nothing(nursery: trio.Nursery) -> None:
    service = Counting(7)
    watch = Watch()
    made = stack(Backend).then(watch).layer(Single(service)).new_service(Backend("b"), nursery)
    assert made is service
    assert watch.trees() == [[{"role": "Counting", "statistics": {"requests": 7}}]]


@pytest.mark.usefixtures("nursery")
async def test_a_watch_keeps_nothing_alive() -> None:
    watch = Watch()
    watch.wrap(Counting(1), None)
    gc.collect()
    assert watch.trees() == []
