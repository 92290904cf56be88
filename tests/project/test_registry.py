from __future__ import annotations

from importlib import metadata
from typing import Any, Literal

import attrs
import pytest

from meshcore import registry
from meshcore.errors import ConfigError
from meshcore.registry import Field, describe, load, make, names


@attrs.frozen
class Sample:
    """Samples things.

    And says more below.
    """

    header: bytes
    seconds: float = 1.0
    attempts: int = attrs.field(default=3, validator=attrs.validators.ge(1))
    mode: Literal["a", "b"] = "a"
    limit: int | None = None
    names: tuple[str, ...] = ()
    ports: frozenset[int] = frozenset()
    enabled: bool = False
    made: list[str] = attrs.Factory(list)
    _private: str = "x"


POINTS = {
    name: metadata.EntryPoint(name, value, registry.LAYERS)
    for name, value in {
        "acme.sample": f"{__name__}:Sample",
        "acme.gone": "no.such.module:Layer",
        "acme.renamed": f"{__name__}:Renamed",
    }.items()
}


@pytest.fixture(autouse=True)
def _entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_entry_points", lambda group: POINTS if group == registry.LAYERS else {})


def test_names_are_listed_without_loading_anything() -> None:
    assert names() == ["acme.sample", "acme.gone", "acme.renamed"]
    assert names(registry.RESOLVERS) == []


def test_a_name_loads_its_class() -> None:
    assert load("acme.sample") is Sample


@pytest.mark.parametrize(
    ("name", "group", "problem"),
    [
        ("acme.simple", registry.LAYERS, "no layer 'acme.simple'; did you mean 'acme.sample'?"),
        ("dns", registry.RESOLVERS, "no resolver 'dns'"),
        (
            "acme.gone",
            registry.LAYERS,
            "layer 'acme.gone' cannot be loaded from no.such.module:Layer: No module named 'no'",
        ),
        (
            "acme.renamed",
            registry.LAYERS,
            f"layer 'acme.renamed' cannot be loaded from {__name__}:Renamed: "
            f"module '{__name__}' has no attribute 'Renamed'",
        ),
    ],
)
def test_what_cannot_be_loaded_says_why(name: str, group: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(name, group)
    assert caught.value.problems == [problem]


def test_a_plug_in_is_described_by_its_docstring_and_its_fields() -> None:
    plugin = describe("acme.sample")
    assert (plugin.name, plugin.summary, plugin.path) == ("acme.sample", "Samples things.", f"{__name__}:Sample")
    assert plugin.fields[:3] == (
        Field("header", "bytes", None),
        Field("seconds", "float", "1.0"),
        Field("attempts", "int", "3"),
    )
    assert plugin.fields[-2:] == (Field("made", "list[str]", "list()"), Field("private", "str", "'x'"))


def test_a_table_becomes_an_instance() -> None:
    table: dict[str, Any] = {
        "header": "x-id",
        "seconds": 2,
        "mode": "b",
        "limit": 5,
        "names": ["a", "b"],
        "ports": [1, 2],
        "enabled": True,
        "private": "y",
    }
    assert make("acme.sample", table) == Sample(b"x-id", 2.0, 3, "b", 5, ("a", "b"), frozenset({1, 2}), True, [], "y")


def test_every_mistake_of_a_table_is_told_at_once_with_its_path() -> None:
    table = {"heeder": "x", "seconds": "soon", "attempts": True, "mode": "c", "limit": "no", "ports": ["x"]}
    with pytest.raises(ConfigError) as caught:
        make("acme.sample", table, "outbound.layer[0]")
    assert caught.value.problems == [
        "outbound.layer[0].heeder: 'acme.sample' has no field 'heeder'; did you mean 'header'?",
        "outbound.layer[0].header: has to be given",
        "outbound.layer[0].seconds: 'soon' is not float",
        "outbound.layer[0].attempts: True is not int",
        "outbound.layer[0].mode: 'c' is not one of a, b",
        "outbound.layer[0].limit: 'no' is not int",
        "outbound.layer[0].ports: 'x' is not int",
    ]


def test_what_a_validator_refuses_is_told_with_its_path() -> None:
    with pytest.raises(ConfigError) as caught:
        make("acme.sample", {"header": "x", "attempts": 0}, "layer[1]")
    assert caught.value.problems[0].startswith("layer[1]: 'attempts' must be >= 1")
