"""What the environment says of the process."""

from __future__ import annotations

import pytest

from meshcore.tracing.resource import resource_from


@pytest.mark.parametrize(
    ("attributes", "found"),
    [
        ("", {}),
        ("a=1", {"a": "1"}),
        (" a = 1 , b=x%2Cy%3D%20z,", {"a": "1", "b": "x,y= z"}),
        ("a=b=c", {"a": "b=c"}),
        ("a=", {"a": ""}),
    ],
)
@pytest.mark.parity("M-18")
def test_attributes_are_pairs_behind_commas(attributes: str, found: dict[str, str]) -> None:
    assert found == resource_from({"OTEL_RESOURCE_ATTRIBUTES": attributes})


def test_the_name_of_the_service_has_a_variable_of_its_own() -> None:
    told = {"OTEL_RESOURCE_ATTRIBUTES": "service.name=a,x=1", "OTEL_SERVICE_NAME": "b"}
    assert {"service.name": "b", "x": "1"} == resource_from(told)
    assert {} == resource_from({})


@pytest.mark.parametrize("wrong", ["a", "=1", "a=1,b"])
def test_what_is_no_pair_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="is not KEY=VALUE"):
        resource_from({"OTEL_RESOURCE_ATTRIBUTES": wrong})
