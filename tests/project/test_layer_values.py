"""Layers of a config file whose fields are values with fields of their own."""

from __future__ import annotations

from typing import Any

import pytest

from meshcore import registry
from meshcore.errors import ConfigError


def test_a_table_becomes_a_value_that_has_fields() -> None:
    layer = registry.make("failure_accrual", {"accrual": {"consecutive": 3, "penalty": {"minimum": 2, "jitter": 0.0}}})
    assert (3, 2.0, 0.0) == (layer.accrual.consecutive, layer.accrual.penalty.minimum, layer.accrual.penalty.jitter)
    assert frozenset({503}) == registry.make("retry", {"on": {"statuses": [503]}}).on.statuses
    assert 1.0 == registry.make("concurrency_limit", {"limit": {"limit": 5, "wait": 1}}).limit.wait


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"consecutiv": 3}, "accrual: Accrual has no field 'consecutiv'; did you mean 'consecutive'?"),
        ({"consecutive": "3"}, "accrual: '3' is not int"),
        ({"consecutive": -1}, "accrual: 'consecutive' must be >= 0: -1"),
    ],
)
def test_a_table_that_is_no_such_value_is_told(table: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        registry.make("failure_accrual", {"accrual": table})
    assert [problem] == caught.value.problems


def test_a_table_becomes_pairs_in_its_order() -> None:
    layer = registry.make("request_headers", {"set": {"x-b": "2", "x-a": "1"}})
    assert (("x-b", "2"), ("x-a", "1")) == layer.set
    with pytest.raises(ConfigError, match="1 is not text"):
        registry.make("request_headers", {"set": {"x-b": 1}})
