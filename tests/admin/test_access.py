"""Who may see which page of the admin server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from meshcore.admin import Admin
from meshcore.admin.access import Access
from meshcore.admin.tap import TapPage
from meshcore.config import AdminConfig
from meshcore.http.headers import Headers
from meshcore.http.message import Request
from meshcore.layers.tap import TapHub
from meshcore.transport.drain import Drain

TOKEN = "0123456789abcdef0123456789abcdef"
ANYWHERE = ("0.0.0.0", 4191)
LOOPBACK, OTHER = "127.0.0.1", "10.0.0.9"
PAGES = ("/live", "/ready", "/metrics", "/stack", "/config", "/app.js", "/nothing")


async def _no_metrics(openmetrics: bool, compressed: bool) -> bytes:
    return b""


@attrs.define
class Connection:
    """What is asked of a connection."""

    peer: tuple[str, int]
    identity: str | None = None


class World:
    """An admin server with settings that change."""

    def __init__(self, settings: AdminConfig) -> None:
        self.settings = settings
        self.drain = Drain()
        self.hub = TapHub()
        self.admin = Admin(
            self.drain,
            metrics=_no_metrics,
            ready=list,
            config=self.settings,
            stacks={},
            pages={b"/tap": TapPage(lambda: self.hub)},
            access=Access(lambda: self.settings, public=["/app.js"]),
        )

    async def ask(
        self, path: str, peer: str = LOOPBACK, identity: str | None = None, token: str | None = None, **fields: Any
    ) -> int:
        headers = [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
        if token is not None:
            headers.append((b"authorization", f"Bearer {token}".encode()))
        connection: Any = Connection((peer, 4711), identity)
        request = Request(b"GET", b"http", b"10.0.0.1:4191", path.encode(), Headers(headers), connection=connection)
        response = await self.admin(request)
        self.answer = response
        response.body.abort()
        return response.status

    async def seen(self, **who: Any) -> set[str]:
        """The pages that somebody may see."""
        return {page for page in PAGES if await self.ask(page, **who) in (200, 404)}


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    return path


PROBES = {"/live", "/ready", "/app.js"}


async def test_on_loopback_everything_is_for_whoever_is_there() -> None:
    world = World(AdminConfig())
    assert set(PAGES) == await world.seen()
    assert 200 == await world.ask("/tap")


async def test_elsewhere_without_credentials_all_but_open_pages_are_for_this_host() -> None:
    world = World(AdminConfig(listen=ANYWHERE, open=("/live", "/ready", "/metrics")))
    assert {*PROBES, "/metrics"} == await world.seen(peer=OTHER)
    assert set(PAGES) == await world.seen(peer=LOOPBACK)
    assert set(PAGES) == await world.seen(peer="::ffff:127.0.0.1")
    assert 403 == await world.ask("/tap", peer=OTHER)
    assert 200 == await world.ask("/tap", peer=LOOPBACK)


async def test_settings_that_nobody_has_checked_let_nobody_in() -> None:
    world = World(AdminConfig(listen=ANYWHERE))
    assert PROBES == await world.seen(peer=OTHER)
    assert 403 == await world.ask("/tap", peer=OTHER)


async def test_a_token_is_needed_by_everybody_for_all_but_open_pages(token: Path) -> None:
    world = World(AdminConfig(token=token))
    assert PROBES == await world.seen()
    assert PROBES == await world.seen(token="0" * 32)
    assert PROBES == await world.seen(token=TOKEN[:-1])
    assert PROBES == await world.seen(token="")
    assert set(PAGES) == await world.seen(token=TOKEN)
    assert (401, 200) == (await world.ask("/tap"), await world.ask("/tap", token=TOKEN))


async def test_who_shows_no_token_is_told_how_to(token: Path) -> None:
    world = World(AdminConfig(token=token))
    assert 401 == await world.ask("/stack")
    assert b'Bearer realm="meshcore admin"' == world.answer.headers.get(b"www-authenticate")


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer  {TOKEN} ", 200),
        (f"Basic {TOKEN}", 401),
        (TOKEN, 401),
        ("Bearer", 401),
        (f"Bearer {TOKEN} {TOKEN}", 401),
    ],
)
async def test_a_token_is_shown_in_one_way(token: Path, header: str, status: int) -> None:
    world = World(AdminConfig(token=token))
    assert status == await world.ask("/stack", authorization=header)
    assert 401 == await world.ask(f"/stack?token={TOKEN}")


async def test_two_tokens_are_none(token: Path) -> None:
    world = World(AdminConfig(token=token))
    assert 401 == await world.ask("/stack", token=TOKEN, authorization=f"Bearer {TOKEN}")


async def test_a_token_that_is_replaced_holds_within_a_second(token: Path, autojump_clock: MockClock) -> None:
    world = World(AdminConfig(token=token))
    assert 200 == await world.ask("/stack", token=TOKEN)
    token.write_text("fedcba9876543210fedcba9876543210")
    await trio.sleep(1.1)
    assert 401 == await world.ask("/stack", token=TOKEN)
    assert 200 == await world.ask("/stack", token="fedcba9876543210fedcba9876543210")


async def test_a_token_that_becomes_unusable_is_warned_of_and_the_old_one_stays(
    token: Path, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(AdminConfig(token=token))
    assert 200 == await world.ask("/stack", token=TOKEN)
    token.write_text("hunter2")
    await trio.sleep(1.1)
    assert (200, 401) == (await world.ask("/stack", token=TOKEN), await world.ask("/stack", token="hunter2"))
    token.unlink()
    await trio.sleep(1.1)
    assert 200 == await world.ask("/stack", token=TOKEN)
    assert 2 == len(caplog.records)
    assert "hunter2" not in caplog.text


async def test_without_a_file_there_is_no_token(tmp_path: Path) -> None:
    world = World(AdminConfig(token=tmp_path / "gone"))
    assert 401 == await world.ask("/stack", token="")


async def test_names_let_in_who_shows_them_and_this_host(autojump_clock: MockClock) -> None:
    world = World(AdminConfig(listen=ANYWHERE, identities=("prometheus.monitoring", "*.ops", "spiffe://shop/ops")))
    for identity in ("prometheus.monitoring", "PROMETHEUS.monitoring", "a.ops", "spiffe://shop/ops"):
        assert set(PAGES) == await world.seen(peer=OTHER, identity=identity)
    for stranger in (None, "grafana.monitoring", "ops", ".ops", "spiffe://shop/OPS", "spiffe://shop/a.ops"):
        assert PROBES == await world.seen(peer=OTHER, identity=stranger)
    assert set(PAGES) == await world.seen(peer=LOOPBACK)


async def test_a_name_needs_no_token(token: Path) -> None:
    world = World(AdminConfig(listen=ANYWHERE, token=token, identities=("prometheus.monitoring",)))
    assert set(PAGES) == await world.seen(peer=OTHER, identity="prometheus.monitoring")
    assert set(PAGES) == await world.seen(peer=OTHER, token=TOKEN)
    assert PROBES == await world.seen(peer=LOOPBACK)


async def test_what_is_open_can_be_nothing() -> None:
    world = World(AdminConfig(listen=ANYWHERE, open=()))
    assert {"/app.js"} == await world.seen(peer=OTHER)


@pytest.mark.parity("X-41")
async def test_tap_disabled_when_it_is_off(token: Path) -> None:
    world = World(AdminConfig(tap="off", token=token))
    assert (404, 404) == (await world.ask("/tap"), await world.ask("/tap", token=TOKEN))


@pytest.mark.parity("X-41", "X-42")
async def test_tap_enabled_for_the_names_that_may_and_for_nobody_else() -> None:
    world = World(
        AdminConfig(
            listen=ANYWHERE,
            tap="authorized",
            tap_identities=("tap.linkerd-viz",),
            identities=("prometheus.monitoring",),
        )
    )
    assert 200 == await world.ask("/tap", peer=OTHER, identity="tap.linkerd-viz")
    assert 403 == await world.ask("/tap", peer=OTHER, identity="prometheus.monitoring")
    assert 403 == await world.ask("/tap", peer=OTHER, identity="tap.evil")
    assert 403 == await world.ask("/tap", peer=OTHER)
    assert 403 == await world.ask("/tap", peer=LOOPBACK)
    # And the name opens nothing else.
    assert PROBES == await world.seen(peer=OTHER, identity="tap.linkerd-viz")


async def test_tap_is_for_who_has_the_token_where_it_is_for_the_authorized(token: Path) -> None:
    world = World(AdminConfig(listen=ANYWHERE, tap="authorized", token=token))
    assert (401, 401) == (await world.ask("/tap", peer=OTHER), await world.ask("/tap", peer=LOOPBACK))
    assert 200 == await world.ask("/tap", peer=OTHER, token=TOKEN)


async def test_tap_for_loopback_is_for_nobody_elsewhere_whatever_they_show(token: Path) -> None:
    world = World(AdminConfig(listen=ANYWHERE, token=token))
    assert 403 == await world.ask("/tap", peer=OTHER, token=TOKEN)


@pytest.mark.parametrize(
    ("site", "status"), [("none", 200), ("same-origin", 200), ("same-site", 403), ("cross-site", 403)]
)
async def test_a_page_from_elsewhere_cannot_use_up_taps(site: str, status: int) -> None:
    assert status == await World(AdminConfig()).ask("/tap", sec_fetch_site=site)


async def test_hosts_of_the_configuration_are_answered_to_and_no_others() -> None:
    world = World(AdminConfig(hosts=("admin.example.com",)))

    async def status(host: str) -> int:
        connection: Any = Connection((LOOPBACK, 1))
        request = Request(b"GET", b"http", host.encode(), b"/stack", Headers(), connection=connection)
        return (await world.admin(request)).status

    for host in ("admin.example.com", "ADMIN.example.com.:4191", "localhost", "[::1]:80"):
        assert 200 == await status(host)
    for host in ("evil.test", "example.com"):
        assert 403 == await status(host)
    world.settings = AdminConfig()
    assert 403 == await status("admin.example.com")
