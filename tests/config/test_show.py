from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from meshcore.config import Loaded, MeshConfig, examine
from meshcore.config.schema import schema, tables
from meshcore.config.show import config_json, config_toml
from meshcore.config.starter import STARTERS
from meshcore.config.tables import settings
from tests.config.test_load import GATEWAY, SIDECAR

Look = Callable[..., Loaded]


@pytest.mark.parametrize("text", [SIDECAR, GATEWAY, SIDECAR + GATEWAY])
def test_what_is_shown_loads_again_to_the_same(look: Look, text: str) -> None:
    config = look(text).config
    assert config is not None
    assert look(config_toml(config), name="again.toml").config == config
    assert look(json.dumps(config_json(config)), name="again.json").config == config


def test_every_default_is_shown(look: Look) -> None:
    config = look('[inbound]\nforward = "127.0.0.1:1"').config
    assert config is not None
    assert config_toml(config) == (
        '[inbound]\nlisten = "0.0.0.0:4143"\nforward = "127.0.0.1:1"\ndefault_policy = "all-unauthenticated"\n'
        "cluster_networks = []\npolicy = []\n"
        "opaque_ports = [25, 587, 3306, 4444, 5432, 6379, 9300, 11211]\n"
        'connect_timeout = "300ms"\ndetect_timeout = "10s"\nroute = []\nlayer = []\n\n'
        '[listen]\n\n[backend]\n\n[admin]\nlisten = "127.0.0.1:4191"\nhosts = []\nidentities = []\ntap = "loopback"\n'
        "tap_identities = []\nshutdown = false\n\n"
        "[metrics]\nauthority = false\nmax_series = 2000\n\n"
        '[proxy]\ngrace_period = "2m"\nengine = "auto"\naccess_log = "off"\n'
        'layer_accounting = true\nlog_level = "info"\nlog_format = "text"\n'
        "dns_servers = []\n"
    )


def test_a_private_key_is_never_shown(look: Look, folder: Path) -> None:
    (folder / "orders.key").write_text("-----BEGIN PRIVATE KEY-----\nc2VjcmV0")
    config = look(SIDECAR).config
    assert config is not None
    assert "c2VjcmV0" not in config_toml(config) + json.dumps(config_json(config)) + repr(config)


def test_the_schema_knows_every_key_and_every_reference_leads_somewhere() -> None:
    value = schema()
    assert set(value["properties"]) == set(settings(MeshConfig))
    text = json.dumps(value)
    for name in tables():
        assert name == "MeshConfig" or name in value["$defs"]
    references = {part.split('"')[0] for part in text.split('"#/$defs/')[1:]}
    assert references == set(value["$defs"])


@pytest.mark.parametrize("cls", tables().values(), ids=tables())
def test_every_key_says_what_it_means(cls: type) -> None:
    assert [name for name, setting in settings(cls).items() if not setting.text] == []


@pytest.mark.parametrize("kind", STARTERS)
def test_a_starter_is_right_but_for_the_files_it_names(folder: Path, kind: str) -> None:
    (folder / "start.toml").write_text(STARTERS[kind])
    for name in ("orders.crt", "orders.key", "ca.crt", "site.pem", "site.key"):
        (folder / name).unlink()
    assert all("no such file" in problem.text for problem in examine("start.toml").problems)
    for name in ("orders.crt", "orders.key", "ca.crt", "site.pem", "site.key"):
        (folder / name).write_text("")
        (folder / name).chmod(0o600)
    loaded = examine("start.toml")
    assert (loaded.problems, loaded.warnings) == ((), ())
