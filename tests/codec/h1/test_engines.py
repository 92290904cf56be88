"""Which engine runs, and that it is held to what the scan saw."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from meshcore.codec.h1 import ENGINES, client_codec, default_engine, server_codec
from meshcore.codec.h1.client import ClientCodec
from meshcore.codec.h1.engines import Engine, load
from meshcore.codec.h1.server import ServerCodec
from meshcore.codec.limits import H1Limits
from tests.codec.h1.script import Refused, feed

if TYPE_CHECKING:
    from meshcore.codec.events import Fields


def test_auto_takes_the_fast_engine_unless_the_environment_asks_for_the_pure_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MESHCORE_ENGINE", raising=False)
    assert ENGINES[-1] == default_engine()
    assert f"ServerCodec(engine={ENGINES[-1]!r})" == repr(server_codec())
    monkeypatch.setenv("MESHCORE_ENGINE", "pure")
    assert default_engine() == "h11"
    assert repr(server_codec()) == "ServerCodec(engine='h11')"
    assert repr(client_codec()) == "ClientCodec(engine='h11')"


def test_an_engine_can_be_named() -> None:
    assert load("pure").name == "h11"
    assert list(ENGINES) == [load(name).name for name in ENGINES]
    with pytest.raises(LookupError, match="no HTTP/1 engine 'llhttp'"):
        server_codec(engine="llhttp")


def test_a_head_that_the_engine_refuses_or_changes_is_refused_though_the_rules_would_not() -> None:
    def lose(head: bytes, method: bytes) -> tuple[Fields, Fields]:
        return [], []

    def refuse(head: bytes, method: bytes) -> tuple[Fields, Fields]:
        raise ValueError("not to my taste")

    for split in (lose, refuse):
        engine = Engine("test", split, lambda head, split=split: split(head, b""))
        assert [Refused(400)] == feed(ServerCodec(H1Limits(), engine), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        client = ClientCodec(H1Limits(), engine)
        client.send_request(b"GET", b"/", b"a", [], end_stream=True)
        assert [Refused(502)] == feed(client, b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n")


def test_engines_report_what_they_refuse() -> None:
    for name in ENGINES:
        engine = load(name)
        with pytest.raises(ValueError):
            engine.split_request(b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n", b"GET")
        with pytest.raises(ValueError):
            engine.split_response(b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n")
        with pytest.raises(ValueError):
            engine.split_request(b"", b"GET") if name == "h11" else engine.split_request(b"\x00", b"GET")
