"""Jwt: who is let in, what the application gets to see, and keys that come, change and do not come."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from meshcore.errors import ConfigError, ConnectError
from meshcore.http.message import Request
from meshcore.layers import Jwt, Rescue
from meshcore.layers.jwt import FetchedKeys, FileKeys, Keys, KeySource, Rules
from meshcore.metrics.registry import Registry
from meshcore.testing import MockNewService, mock_service, request
from meshcore.transport.target import Accepted
from tests.layers.tokens import ISSUER, NOW, Issuer

RULES = Rules(ISSUER, ("orders",))
KNOWN = Issuer()


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class Place:
    """An application that wants tokens."""

    def __init__(self, source: KeySource, nursery: trio.Nursery, **options: Any) -> None:
        self.clock = Clock()
        self.registry = Registry()
        self.application = mock_service()
        layer = Jwt(
            RULES, Keys(source, self.registry), clock=self.clock, registry=self.registry, of="inbound", **options
        )
        self._new = layer.layer(MockNewService(lambda _: self.application))
        self._nursery = nursery

    async def ask(self, token: bytes | None, *fields: tuple[bytes, bytes], grpc: bool = False) -> Any:
        asked = request(headers=fields)
        if token is not None:
            asked.headers.add(b"authorization", b"Bearer " + token)
        if grpc:
            asked.method, asked.version = b"POST", 20
            asked.headers.add(b"content-type", b"application/grpc")
        service = self._new.new_service(Accepted(), self._nursery)
        return await Rescue().wrap(service, None)(asked)

    async def statuses(self, *tokens: bytes | None) -> list[int]:
        return [(await self.ask(token)).status for token in tokens]

    @property
    def seen(self) -> Request:
        return self.application.requests[-1]

    def counted(self, result: str) -> str:
        start = f'inbound_http_jwt_total{{srv_name="inbound",result="{result}"}} '
        found = [line for line in self.registry.render().splitlines() if line.startswith(start)]
        return found[0].rpartition(" ")[2] if found else "0"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    path.write_bytes(KNOWN.jwks("P-256", "Ed25519"))
    return path


async def test_who_has_a_token_is_let_in_and_who_has_none_is_told_what_is_wanted(
    keys: Path, nursery: trio.Nursery
) -> None:
    place = Place(FileKeys(keys), nursery)

    assert await place.statuses(KNOWN.token(), KNOWN.token("EdDSA")) == [200, 200]
    assert place.seen.headers.get(b"authorization") is not None
    answer = await place.ask(None)
    assert (answer.status, answer.close) == (401, False)
    assert answer.headers.get(b"www-authenticate") == b"Bearer"
    assert answer.headers.get(b"x-meshcore-error") == b"unauthenticated"
    answer = await place.ask(KNOWN.token(aud="billing"))
    assert answer.status == 401
    assert answer.headers.get(b"www-authenticate") == b'Bearer error="invalid_token"'
    assert answer.headers.get(b"l5d-proxy-error") == b"token refused: token is for somebody else"
    assert (await place.ask(None, grpc=True)).headers.get(b"grpc-status") == b"16"
    assert len(place.application.requests) == 2
    assert [place.counted(result) for result in ("ok", "none", "audience")] == ["2", "2", "1"]


@pytest.mark.parametrize(
    "fields",
    [
        [(b"authorization", b"Basic dXNlcjpwYXNz")],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Bearer ")],
        [(b"authorization", b"")],
        [(b"authorization", b"Bearer " + KNOWN.token()), (b"authorization", b"Bearer " + KNOWN.token())],
        [(b"authorization", b"Bearer " + KNOWN.token()), (b"authorization", b"Basic x")],
    ],
)
async def test_what_is_not_one_token_is_none(
    keys: Path, nursery: trio.Nursery, fields: list[tuple[bytes, bytes]]
) -> None:
    place = Place(FileKeys(keys), nursery)
    assert (await place.ask(None, *fields)).status == 401
    assert place.application.requests == []


async def test_the_scheme_is_written_in_any_letters(keys: Path, nursery: trio.Nursery) -> None:
    place = Place(FileKeys(keys), nursery)
    assert (await place.ask(None, (b"authorization", b"bEARER  " + KNOWN.token() + b" "))).status == 200


CLAIMS = ((b"x-user", "sub"), (b"x-roles", "roles"), (b"x-age", "age"), (b"x-none", "none"))


async def test_claims_become_fields_and_what_a_client_sends_under_their_names_is_gone(
    keys: Path, nursery: trio.Nursery
) -> None:
    place = Place(FileKeys(keys), nursery, claims=CLAIMS, required=False, forward=False)
    forged = [(b"x-user", b"root"), (b"x-none", b"1"), (b"x-other", b"kept"), (b"x-user", b"again"), (b"x_user", b"a")]
    token = KNOWN.token(sub="käthe", roles=["a", "b"], age=7)

    for _ in range(2):
        assert (await place.ask(token, *forged)).status == 200
        assert place.seen.headers.raw == [
            (b"x-other", b"kept"),
            (b"x-user", "käthe".encode()),
            (b"x-roles", b'["a","b"]'),
            (b"x-age", b"7"),
        ]
    # Without a token nobody is anybody.
    assert (await place.ask(None, *forged)).status == 200
    assert place.seen.headers.raw == [(b"x-other", b"kept")]
    # But a bad one is not the same as none.
    assert (await place.ask(KNOWN.token(exp=0), *forged)).status == 401


@pytest.mark.parametrize("sub", ["a\r\nx-admin: 1", "\0", " a", "x" * 4_097, "\ud800"])
async def test_a_claim_that_cannot_be_a_field_is_refused(keys: Path, nursery: trio.Nursery, sub: str) -> None:
    place = Place(FileKeys(keys), nursery, claims=CLAIMS)
    assert (await place.ask(KNOWN.token(sub=sub))).status == 401
    assert (place.counted("claims"), place.application.requests) == ("1", [])


async def test_a_token_that_was_good_is_not_good_for_longer_than_it_says(keys: Path, nursery: trio.Nursery) -> None:
    place = Place(FileKeys(keys), nursery)
    token = KNOWN.token(exp=NOW + 10)
    assert await place.statuses(token, token) == [200, 200]
    place.clock.now = NOW + 39.9
    assert await place.statuses(token) == [200]
    place.clock.now = NOW + 40
    assert await place.statuses(token) == [401]
    assert place.counted("expired") == "1"
    # A clock that is put back makes it good again, as it is.
    place.clock.now = NOW
    assert await place.statuses(token) == [200]


async def test_what_was_checked_is_remembered_and_not_without_bound(
    keys: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    from meshcore.layers.jwt import layer as module

    checks = []
    verify = module.verify
    monkeypatch.setattr(module, "verify", lambda *args: checks.append(args[0]) or verify(*args))
    monkeypatch.setattr(module, "_REMEMBERED", 3)
    place = Place(FileKeys(keys), nursery)
    tokens = [KNOWN.token("EdDSA", sub=str(n)) for n in range(4)]
    assert await place.statuses(*tokens[:3], *tokens[:3]) == [200] * 6
    assert len(checks) == 3
    assert await place.statuses(tokens[3], *tokens[1:]) == [200] * 4
    assert len(checks) == 4
    assert await place.statuses(tokens[0]) == [200]
    assert len(checks) == 5
    # Nothing is remembered of what was refused.
    assert await place.statuses(b"x", b"x") == [401, 401]
    assert len(checks) == 7


# ----- keys in a file -----


async def test_new_keys_in_the_file_are_taken_and_what_cannot_be_used_is_not(
    keys: Path, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place(FileKeys(keys), nursery)
    other = Issuer()
    old, new = KNOWN.token(), other.token()
    assert await place.statuses(old, new) == [200, 401]

    def replace(data: bytes) -> None:
        fresh = keys.with_suffix(".new")
        fresh.write_bytes(data)
        os.replace(fresh, keys)

    replace(b'{"keys": [')
    await trio.sleep(1.5)
    assert await place.statuses(old, new) == [200, 401]
    assert "is no JSON" in caplog.text
    assert "the old ones stay" in caplog.text
    keys.unlink()
    await trio.sleep(1.5)
    assert await place.statuses(old) == [200]
    replace(other.jwks("P-256"))
    await trio.sleep(1.5)
    # What was remembered was by other keys.
    assert await place.statuses(old, new) == [401, 200]
    text = place.registry.render()
    assert 'jwt_key_refreshes_total{source="file:' in text


async def test_an_unknown_key_is_not_waited_for_where_keys_are_in_a_file(
    keys: Path, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    place = Place(FileKeys(keys), nursery)
    await trio.sleep(20)
    began = trio.current_time()
    assert await place.statuses(KNOWN.token("ES256", {"kid": "new"})) == [401]
    assert trio.current_time() == began


def test_a_file_that_cannot_be_used_stops_the_pipeline_from_being_built(keys: Path) -> None:
    keys.write_bytes(b"{}")
    with pytest.raises(ConfigError, match=r'jwks\.json: key set has no list "keys"'):
        Jwt(RULES, Keys(FileKeys(keys))).layer(MockNewService(lambda _: mock_service()))
    keys.unlink()
    with pytest.raises(ConfigError, match=r"jwks\.json: no such file"):
        Jwt(RULES, Keys(FileKeys(keys))).layer(MockNewService(lambda _: mock_service()))


# ----- keys that are fetched -----


class Server:
    """Where keys are fetched; the test says what happens."""

    def __init__(self, answer: Callable[[], bytes]) -> None:
        self.answer = answer
        self.delay = 0.0
        self.fetched: list[float] = []

    async def __call__(self) -> bytes:
        self.fetched.append(trio.current_time())
        await trio.sleep(self.delay)
        return self.answer()


def failing() -> bytes:
    raise ConnectError("endpoint id.test:443: connection refused")


def fetched(server: Server) -> FetchedKeys:
    return FetchedKeys("https://id.test/jwks.json", server, refresh=300.0)


async def test_keys_are_fetched_before_the_first_request_is_judged_and_again_in_time(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    server = Server(KNOWN.jwks)
    server.delay = 1.0
    place = Place(fetched(server), nursery)
    assert await place.statuses(KNOWN.token(), KNOWN.token()) == [200, 200]
    assert len(server.fetched) == 1
    await trio.sleep(335)
    assert len(server.fetched) == 2
    assert 270 <= server.fetched[1] - server.fetched[0] - 1 <= 330


async def test_without_any_keys_requests_are_told_so_and_soon_after_they_came_are_served(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(failing)
    place = Place(fetched(server), nursery)
    began = trio.current_time()
    answer = await place.ask(KNOWN.token())
    assert (answer.status, answer.headers.get(b"x-meshcore-error")) == (503, b"no-keys")
    assert trio.current_time() - began == 5.0
    assert "https://id.test/jwks.json: endpoint id.test:443: connection refused; there are none yet" in caplog.text
    # Not in a storm: after 1, 2, 4 … seconds, up to a minute.
    await trio.sleep(600)
    assert 8 <= len(server.fetched) <= 18
    server.answer = KNOWN.jwks
    await trio.sleep(70)
    assert await place.statuses(KNOWN.token()) == [200]


async def test_the_last_good_keys_are_kept_while_new_ones_do_not_come(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    server = Server(KNOWN.jwks)
    place = Place(fetched(server), nursery)
    assert await place.statuses(KNOWN.token()) == [200]

    def hang() -> bytes:
        raise RuntimeError("a bug")

    for answer in (failing, lambda: b"<html>", hang, lambda: b'{"keys": []}'):
        server.answer = answer
        await trio.sleep(400)
        assert await place.statuses(KNOWN.token()) == [200]
    server.delay = 3_600.0
    await trio.sleep(4_000)
    assert await place.statuses(KNOWN.token()) == [200]


async def test_a_token_of_a_new_key_has_the_keys_fetched_at_once_but_not_again_and_again(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    server = Server(lambda: KNOWN.jwks("P-256"))
    place = Place(fetched(server), nursery)
    assert await place.statuses(KNOWN.token()) == [200]
    await trio.sleep(30)
    server.answer = KNOWN.jwks
    server.delay = 0.5
    assert await place.statuses(KNOWN.token("EdDSA")) == [200]
    assert len(server.fetched) == 2
    strangers = [KNOWN.token("ES256", {"kid": f"x{n}"}) for n in range(20)]
    began = trio.current_time()
    assert await place.statuses(*strangers) == [401] * 20
    assert (trio.current_time(), len(server.fetched)) == (began, 2)
    # Many at a time share one fetch.
    await trio.sleep(15)
    async with trio.open_nursery() as askers:
        for token in strangers:
            askers.start_soon(place.ask, token)
    assert len(server.fetched) == 3


async def test_the_source_lives_as_long_as_somebody_needs_it(autojump_clock: trio.testing.MockClock) -> None:
    server = Server(KNOWN.jwks)
    layer = Jwt(RULES, Keys(fetched(server)), clock=Clock())
    new = layer.layer(MockNewService(lambda _: mock_service()))
    for _ in range(2):
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                new.new_service(Accepted(), nursery)
            await trio.sleep(1)
            assert len(nursery.child_tasks) == 1
            nursery.cancel_scope.cancel()
    assert len(server.fetched) == 2


async def test_stacks_share_keys_and_whichever_is_left_keeps_them_new(
    autojump_clock: trio.testing.MockClock,
) -> None:
    server = Server(KNOWN.jwks)
    keys = Keys(fetched(server))
    async with trio.open_nursery() as later:
        async with trio.open_nursery() as first:
            for nursery in (first, later):
                new = Jwt(RULES, keys, clock=Clock()).layer(MockNewService(lambda _: mock_service()))
                service = new.new_service(Accepted(), nursery)
                await trio.sleep(1)
                assert (await service(asking(KNOWN.token()))).status == 200
            assert len(server.fetched) == 1
            first.cancel_scope.cancel()
        await trio.sleep(1)
        assert len(server.fetched) == 2
        await trio.sleep(335)
        assert len(server.fetched) == 3
        later.cancel_scope.cancel()


def asking(token: bytes) -> Request:
    return request(headers=[(b"authorization", b"Bearer " + token)])


def test_its_repr_has_no_secrets(keys: Path) -> None:
    assert repr(Jwt(RULES, Keys(FileKeys(keys)))) == (
        f"Jwt(rules=Rules(issuer='{ISSUER}', audience=('orders',), algorithms=('RS256', 'ES256', 'EdDSA'), "
        f"leeway=30.0, max_token=8192), keys=file:{keys}, required=True)"
    )
