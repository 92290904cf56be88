"""``[tracing]`` as it is read, judged and shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from meshcore.admin.render import config_value
from meshcore.config import Loaded
from meshcore.config.show import config_json, config_toml
from meshcore.errors import ConfigError
from meshcore.tracing.propagation import FORMATS, ORDER

Look = Callable[..., Loaded]
Told = Callable[..., list[str]]

BASE = '[inbound]\nforward = "127.0.0.1:1"\n[tracing]\n'
FULL = """
collector = "https://otel.example.com/otlp/"
sample = 0.01
continued = "ratio"
propagation = ["b3", "w3c"]
service_name = "web"
attributes = { "deployment.environment.name" = "test" }
query = true
headers = { Authorization = "Bearer hunter2", x-key = "file:token" }
trust_anchors = "ca.crt"
compression = "gzip"
timeout = "2s"
batch = 100
interval = "1s"
queue = 200
"""


def test_every_key_is_read_and_shown_without_the_secrets(look: Look, folder: Path) -> None:
    (folder / "token").write_text("hunter3\n")
    loaded = look(BASE + FULL)
    assert loaded.problems == ()
    assert loaded.config is not None
    found = loaded.config.tracing
    assert found is not None
    assert ("https://otel.example.com/otlp", 0.01, ("b3", "w3c")) == (found.collector, found.sample, found.propagation)
    assert {"authorization": b"Bearer hunter2", "x-key": b"hunter3"} == {
        name: secret.value() for name, secret in found.headers.items()
    }
    shown = config_toml(loaded.config) + json.dumps(config_json(loaded.config)) + repr(loaded.config)
    shown += json.dumps(config_value(loaded.config))
    assert "hunter" not in shown
    assert {"authorization": "***", "x-key": f"file:{folder / 'token'}"} == config_json(loaded.config)["tracing"][
        "headers"
    ]
    assert (2.0, 100, 1.0, 200) == (found.timeout, found.batch, found.interval, found.queue)


def test_the_formats_are_those_that_are_read() -> None:
    assert set(FORMATS) == set(ORDER)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("sample = 0.1", "tracing.collector: has to be given"),
        ('collector = "127.0.0.1:4318"', "did you mean 'http://127.0.0.1:4318'?"),
        ('collector = "grpc://127.0.0.1:4317"', "did you mean 'http://127.0.0.1:4317'?"),
        ('collector = "http://"', "is not an address such as http://127.0.0.1:4318"),
        ('collector = "http://a:b"', "is not an address such as http://127.0.0.1:4318"),
        ('collector = "http://me:secret@a"', "a token belongs into headers"),
        ('collector = "http://a/?token=1"', "a token belongs into headers"),
        ('collector = 4318', "is not text"),
        ('collector = "http://a"\nsample = 2', "is not a number from 0 to 1"),
        ('collector = "http://a"\nsampel = 1', "unknown key; did you mean 'sample'?"),
        ('collector = "http://a"\npropagation = []', "has to name one at least"),
        ('collector = "http://a"\npropagation = ["w3c", "w3c"]', "'w3c' is there already"),
        ('collector = "http://a"\npropagation = ["jaeger"]', "is not one of w3c, grpc, b3"),
        ('collector = "http://a"\nbatch = 500\nqueue = 100', "has to be 500 at least"),
        ('collector = "http://a"\ncontinued = "always"', "is not one of parent, ratio"),
        ('collector = "http://a"\ntrust_anchors = "ca.crt"', "would not be used"),
        ('collector = "http://a"\nheaders = { content-type = "x" }', "is set already"),
        ('collector = "http://a"\nheaders = { "a b" = "x" }', "is not the name of a header field"),
        ('collector = "http://a"\nheaders = { a = "x\\ny" }', "is not the value of a header field"),
        ('collector = "http://a"\nheaders = { a = 1 }', "is not text"),
        ('collector = "http://a"\nheaders = { a = "***" }', "a secret that is not shown"),
        ('collector = "http://a"\nheaders = { a = "file:nowhere" }', "no such file"),
    ],
)
def test_what_is_wrong_is_told_where_it_stands(told: Told, text: str, problem: str) -> None:
    [found] = told(BASE + text)
    assert problem in found
    assert "c.toml:" in found


def test_what_may_not_be_meant_is_told(look: Look) -> None:
    warned = [str(each) for each in look(BASE + 'collector = "http://a:4317"\ncontinued = "ratio"\n').warnings]
    assert any("4317 is where collectors mostly speak gRPC" in each for each in warned)
    assert any("nothing is ever recorded" in each for each in warned)


def test_a_secret_whose_file_has_none_is_told(look: Look, folder: Path) -> None:
    (folder / "token").write_text(" \n")
    config = look(BASE + 'collector = "http://a"\nheaders = { a = "file:token" }').config
    assert config is not None
    assert config.tracing is not None
    with pytest.raises(ConfigError, match="is not the value of a header field"):
        config.tracing.headers["a"].value()
    (folder / "token").unlink()
    with pytest.raises(ConfigError, match="no such file"):
        config.tracing.headers["a"].value()
