"""[admin]: who may ask, and what does not go together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from meshcore.config import AdminConfig, AdminTls, Loaded, proxy_config
from meshcore.config.admin import is_loopback, read_token
from meshcore.config.changes import restart_needed
from meshcore.errors import ConfigError

Look = Callable[..., Loaded]
Told = Callable[..., list[str]]

TOP = '[inbound]\nforward = "127.0.0.1:8000"\n'
MESHED = (
    TOP
    + '[identity]\ncert = "orders.crt"\nkey = "orders.key"\ntrust_anchors = "ca.crt"\n'
)
TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def _token(folder: Path) -> None:
    (folder / "token").write_text(TOKEN + "\n")
    (folder / "token").chmod(0o600)


def test_everything_that_can_be_said(look: Look, folder: Path) -> None:
    loaded = look(
        MESHED
        + """[admin]
listen = "0.0.0.0:4191"
hosts = ["Admin.Example.com"]
token = "token"
identities = ["prometheus.monitoring", "*.Ops", "spiffe://shop.local/ops"]
tls = { cert = "site.pem", key = "site.key", client_ca = "ca.crt" }
open = ["/live", "/ready", "/metrics"]
tap = "authorized"
tap_identities = ["tap.linkerd-viz"]
shutdown = true
"""
    )
    assert ((), ()) == (loaded.problems, loaded.warnings)
    assert loaded.config is not None
    assert AdminConfig(
        listen=("0.0.0.0", 4191),
        hosts=("admin.example.com",),
        token=folder / "token",
        identities=("prometheus.monitoring", "*.ops", "spiffe://shop.local/ops"),
        tls=AdminTls(cert=folder / "site.pem", key=folder / "site.key", client_ca=folder / "ca.crt"),
        open=("/live", "/ready", "/metrics"),
        tap="authorized",
        tap_identities=("tap.linkerd-viz",),
        shutdown=True,
    ) == loaded.config.admin


@pytest.mark.parametrize("listen", ["0.0.0.0:4191", ":4191", "[::]:4191", "10.0.0.7:4191", "admin.shop:4191"])
def test_an_address_that_others_can_reach_needs_somebody_who_may_ask(told: Told, listen: str) -> None:
    assert [
        f"c.toml:4: admin.listen: {listen!r} can be reached from elsewhere, and nothing says who may ask; add token or "
        'identities, or open = ["/live", "/ready"] for what everybody may see (/metrics, too, where a Prometheus '
        "without a token scrapes it)"
    ] == told(f'{TOP}[admin]\nlisten = "{listen}"\n')


@pytest.mark.parametrize(
    "more", ['token = "token"', 'identities = ["a.b"]', "open = []", 'open = ["/metrics"]',
             'tap = "authorized"\ntap_identities = ["a.b"]']
)  # fmt: skip
def test_anything_that_says_so_is_enough(told: Told, more: str) -> None:
    assert [] == told(f'{MESHED}[admin]\nlisten = "0.0.0.0:4191"\n{more}\n')


@pytest.mark.parametrize("listen", ["127.0.0.1:4191", "127.1.2.3:0", "[::1]:4191", "localhost:4191", "off"])
def test_loopback_needs_nothing(told: Told, listen: str) -> None:
    assert [] == told(f'{TOP}[admin]\nlisten = "{listen}"\n')


@pytest.mark.parity("X-41")
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('tap = "authorized"', 'tap: "authorized" lets nobody in; add token, or tap_identities'),
        (
            'tap = "authorized"\ntap_identities = ["tap.viz"]',
            "tap_identities: nobody can show a name: there is no certificate to show: add tls, or [identity]",
        ),
        (
            'tap_identities = ["tap.viz"]\ntls = { cert = "site.pem", key = "site.key", client_ca = "ca.crt" }',
            "tap_identities: would not be used: tap is 'loopback'; \"authorized\" uses it",
        ),
        ('tap = "on"', "tap: 'on' is not one of loopback, authorized, off"),
        (
            'identities = ["a.b"]\ntls = { cert = "site.pem", key = "site.key" }',
            "identities: nobody can show a name: tls has no client_ca",
        ),
        (
            'identities = ["*"]\ntls = { cert = "site.pem", key = "site.key", client_ca = "ca.crt" }',
            "identities[0]: '*' would be everybody with a certificate; name them, or say how their names end: '*.shop'",
        ),
        (
            'open = ["metrics"]',
            "open[0]: 'metrics' is not the path of a page, such as /metrics; did you mean '/metrics'?",
        ),
        ('open = ["/tap"]', "open[0]: '/tap' cannot be for everybody"),
        ('open = ["/stack?x"]', "open[0]: '/stack?x' is not the path of a page, such as /metrics"),
        ('hosts = ["a.test:80"]', "hosts[0]: 'a.test:80' is not a host name, without a port"),
        ('token = "nothing"', "token: 'nothing': no such file"),
    ],
)
def test_what_does_not_go_together_is_told(told: Told, text: str, problem: str) -> None:
    assert [problem] == [each.partition(": admin.")[2] for each in told(f"{TOP}[admin]\n{text}\n")]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"short", "holds no token of 16 characters"),
        (b"two words and more than that", "is no token: one line of ASCII"),
        (b"x" * 5_000, "is no token"),
        (b"\xff" * 32, "is no token"),
        (b"0123456789abcdef\n0123456789abcdef", "is no token"),
    ],
)
def test_a_token_that_is_none_is_told_and_never_shown(told: Told, folder: Path, content: bytes, problem: str) -> None:
    (folder / "token").write_bytes(content)
    (found,) = told(f'{TOP}[admin]\ntoken = "token"\n')
    assert problem in found
    assert content.decode("latin-1") not in found
    with pytest.raises(ConfigError, match=problem):
        read_token(folder / "token")


def test_a_token_that_everybody_can_read_is_warned_of(look: Look, folder: Path) -> None:
    (folder / "token").chmod(0o644)
    (warning,) = look(f'{TOP}[admin]\ntoken = "token"\n[identity]\nmode = "dev"\nname = "a.b"\n').warnings
    assert "can be read by everybody (mode 0644); chmod 0600 it" in str(warning)


def test_what_needs_a_restart(look: Look) -> None:
    old = look(MESHED).config
    new = look(f'{MESHED}[admin]\ntoken = "token"\nopen = []\n').config
    secured = look(f'{MESHED}[admin]\ntls = {{ cert = "site.pem", key = "site.key" }}\n').config
    assert old is not None
    assert new is not None
    assert secured is not None
    assert [] == restart_needed(old, new)
    assert [("admin", "tls")] == [path for path, _ in restart_needed(old, secured)]


def test_a_proxy_without_a_file_says_it_by_options(folder: Path) -> None:
    config = proxy_config([":80"], ["127.0.0.1:1"], admin=":4191", admin_token="token", admin_open="/live, /metrics")
    assert AdminConfig(listen=("", 4191), token=Path("token"), open=("/live", "/metrics")) == config.admin_config
    with pytest.raises(ConfigError) as caught:
        proxy_config([":80"], ["127.0.0.1:1"], admin="0.0.0.0:4191")
    assert [
        "--admin: '0.0.0.0:4191' can be reached from elsewhere, and nothing says who may ask; add --admin-token FILE, "
        "or --admin-open /live,/ready for what everybody may see (/metrics, too, where a Prometheus without a token "
        "scrapes it)"
    ] == caught.value.problems
    with pytest.raises(ConfigError) as caught:
        proxy_config([":80"], ["127.0.0.1:1"], admin="0.0.0.0:4191", admin_token="gone", admin_open="live")
    assert [
        "--admin-token: 'gone': no such file or directory",
        "--admin-open: 'live' is not the path of a page, such as /metrics; did you mean '/live'?",
    ] == caught.value.problems


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("LOCALHOST", True), ("", False), ("::", False), ("0.0.0.0", False),
     ("localhost.evil.test", False), ("10.0.0.1", False)],
)  # fmt: skip
def test_loopback_is_what_is_surely_so(host: str, loopback: bool) -> None:
    assert loopback == is_loopback((host, 1))
