from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshcore.durations import format_duration, format_size, parse_duration, parse_size
from meshcore.errors import ConfigError


@pytest.mark.parity("L-08")
@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("1s", 1.0), ("2m", 120.0), ("1h", 3600.0), ("1d", 86400.0), ("0", 0.0), (" 100ms ", 0.1)],
)
def test_a_duration_is_a_whole_number_and_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parity("L-08", "R-16")
@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("10", "; did you mean 10s?"),
        ("1.5s", "; did you mean 1500ms?"),
        ("2 sec", "; did you mean 2s?"),
        ("5min", "; did you mean 5m?"),
        ("1 H", "; did you mean 1h?"),
        ("3fortnights", ""),
        ("", ""),
        ("-1s", ""),
        ("٣s", ""),
    ],
)
def test_what_is_not_a_duration_is_refused_with_the_nearest_one(text: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_duration(text)
    assert caught.value.problems == [f"{text!r} is not a duration such as 250ms, 1s or 2m{hint}"]


def test_a_duration_of_a_thousand_digits_is_refused() -> None:
    with pytest.raises(ConfigError, match="too long"):
        parse_duration("9" * 1000 + "s")


@given(st.integers(0, 10**12))
def test_every_duration_in_milliseconds_survives_writing_and_reading(millis: int) -> None:
    assert round(parse_duration(format_duration(millis / 1000)) * 1000) == millis


@pytest.mark.parametrize(
    ("text", "size"), [("512", 512), ("512B", 512), ("64KiB", 65536), ("1MiB", 1048576), ("2GB", 2 * 10**9)]
)
def test_a_size_is_a_whole_number_and_a_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("64k", "'64k' is not a size; did you mean 64KiB?"),
        ("1mb", "'1mb' is not a size; did you mean 1MB?"),
        ("big", "'big' is not a size such as 512B, 64KiB or 1MiB"),
        ("1.5MiB", "'1.5MiB' is not a size such as 512B, 64KiB or 1MiB"),
    ],
)
def test_what_is_not_a_size_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_size(text)
    assert caught.value.problems == [problem]


@given(st.integers(0, 10**14))
def test_every_size_survives_writing_and_reading(size: int) -> None:
    assert parse_size(format_size(size)) == size
