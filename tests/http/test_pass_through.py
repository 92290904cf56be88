"""Services without a frame of their own: asked in turn, from one loop."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from meshcore.compiled import is_compiled
from meshcore.http.headers import Headers
from meshcore.http.message import Request, Response
from meshcore.http.pass_through import HeadListener, PassThrough, listener_below
from meshcore.layers.tap.tapped import Tapped, Taps

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from types import FrameType

pytestmark = pytest.mark.skipif(is_compiled(), reason="what is compiled cannot be subclassed here")


class Notes(PassThrough):
    """Notes who was asked; takes what its name is in the path of."""

    def __init__(self, inner: Any, name: bytes, noted: list[bytes]) -> None:
        super().__init__(inner)
        self.name = name
        self.noted = noted

    def take(self, request: Any, /) -> Awaitable[Any] | None:
        self.noted.append(self.name)
        return self.answer(request) if self.name in request.path else None

    async def answer(self, request: Request) -> Response:
        self.noted.append(b"taken by " + self.name)
        response: Response = await self._inner(request)
        return response


async def bottom(request: Request) -> Response:
    return Response(200)


def asked(path: bytes) -> Request:
    return Request(b"GET", b"http", b"a", path, Headers())


async def test_all_of_them_are_asked_from_the_top_and_who_takes_a_request_asks_those_below_itself() -> None:
    noted: list[bytes] = []
    service = Notes(Notes(Notes(bottom, b"c", noted), b"b", noted), b"a", noted)
    assert 200 == (await service(asked(b"/"))).status
    assert [b"a", b"b", b"c"] == noted
    noted.clear()
    assert 200 == (await service(asked(b"/b"))).status
    assert [b"a", b"b", b"taken by b", b"c"] == noted


async def test_they_are_not_in_calls_of_each_other() -> None:
    depths: list[int] = []

    class Deep(PassThrough):
        def take(self, request: Any, /) -> None:
            frame: FrameType | None = sys._getframe()
            depth = 0
            while frame is not None:
                frame, depth = frame.f_back, depth + 1
            depths.append(depth)

    await Deep(Deep(Deep(bottom)))(asked(b"/"))
    assert 3 == len(depths)
    assert 1 == len(set(depths))


async def test_an_error_of_one_of_them_is_the_callers() -> None:
    class Refuses(PassThrough):
        def take(self, request: Any, /) -> None:
            raise KeyError("no")

    with pytest.raises(KeyError):
        Notes(Refuses(bottom), b"a", [])(asked(b"/"))


def test_who_listens_is_found_below_those_that_only_look() -> None:
    class Listens(HeadListener):
        def __init__(self, inner: Any, listens: bool) -> None:
            super().__init__(inner)
            self.listens = listens

    found = Listens(bottom, True)
    assert listener_below(Tapped(Listens(Tapped(found, Taps(), "inbound"), False), Taps(), "inbound")) is found
    assert listener_below(Tapped(bottom, Taps(), "inbound")) is None
    assert listener_below(bottom) is None

    async def framed(request: Request) -> Response:
        response: Response = await found(request)
        return response

    # What has a frame in between may change who is asked: it is none of those above.
    assert listener_below(Tapped(framed, Taps(), "inbound")) is None
