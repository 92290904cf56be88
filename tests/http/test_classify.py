"""Classification: one verdict for everybody who asks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshcore.errors import BodyAbandoned, ConnectionLost, StreamReset, StreamTimeout
from meshcore.http.classification import DEFAULT, GRPC_NAMES, Classification, statuses
from meshcore.http.classify import GRPC_FAILURES
from meshcore.http.retry_after import LONGEST, pause_asked


@pytest.mark.parity("R-14")
@pytest.mark.parametrize(
    ("word", "expected"),
    [("503", (503, 503)), ("500-504", (500, 504)), ("5XX", (500, 599)), (" gateway-error ", (502, 504))],
)
def test_statuses_are_said_by_number_range_or_name(word: str, expected: tuple[int, int]) -> None:
    assert expected == statuses(word)


@given(st.text(max_size=12))
def test_every_other_word_is_refused(word: str) -> None:
    try:
        low, high = statuses(word)
    except ValueError:
        return
    assert 100 <= low <= high <= 599


@pytest.mark.parity("R-20")
@pytest.mark.parametrize(("status", "failure"), [(200, False), (404, False), (499, False), (500, True), (599, True)])
def test_500_to_599_are_failures_unless_something_else_is_said(status: int, failure: bool) -> None:
    assert failure is DEFAULT.verdict(status, [], [], None, grpc=False).failure
    own = Classification.of(["404", "429"], [])
    assert (status == 404) is own.verdict(status, [], [], None, grpc=False).failure


@pytest.mark.parity("R-20")
@pytest.mark.parametrize("code", range(17))
@pytest.mark.parametrize("place", ["headers", "trailers"])
def test_grpc_is_judged_by_its_status(code: int, place: str) -> None:
    field = [(b"grpc-status", b"%d" % code)]
    where = (field, []) if place == "headers" else ([], field)

    verdict = DEFAULT.verdict(200, *where, None, grpc=True)

    assert ((code in GRPC_FAILURES), code, "") == (verdict.failure, verdict.grpc_status, verdict.error)
    own = Classification.of([], ["not-found"])
    assert (code == 5) is own.verdict(200, *where, None, grpc=True).failure


@pytest.mark.parity("R-20")
def test_grpc_that_ends_without_a_status_is_a_success_with_unknown() -> None:
    assert (False, 200, 2, "") == DEFAULT.verdict(200, [], [], None, grpc=True)


@pytest.mark.parity("R-21")
@pytest.mark.parametrize(
    ("error", "label", "failure"),
    [
        (StreamTimeout("x"), "timeout", True),
        (StreamReset("x", h2_code=7), "h2(REFUSED_STREAM)", True),
        (ConnectionLost("x"), "connection-lost", True),
        (ValueError("x"), "unclassified", True),
        (BodyAbandoned(), "cancelled", False),
    ],
)
def test_what_breaks_has_a_label(error: BaseException, label: str, failure: bool) -> None:
    verdict = DEFAULT.verdict(200, [], [], error, grpc=False)

    assert (label, failure, not failure) == (verdict.error, verdict.failure, verdict.abandoned)


def test_every_grpc_code_has_a_name_and_a_wrong_one_is_refused() -> None:
    assert list(range(17)) == sorted(GRPC_NAMES.values())
    with pytest.raises(ValueError, match="no gRPC status"):
        Classification.of([], ["UNAVAILABLE"])


NOW = (b"date", b"Wed, 21 Oct 2026 07:28:00 GMT")
LATER = b"Wed, 21 Oct 2026 07:28:30 GMT"


@pytest.mark.parity("B-07", "U-14")
@pytest.mark.parametrize(
    ("status", "fields", "seconds"),
    [
        (503, [(b"retry-after", b"12")], 12.0),
        (429, [(b"retry-after", b"12")], 12.0),
        (500, [(b"retry-after", b"12")], 0.0),
        (503, [(b"retry-after", b"99999999999999")], LONGEST),
        (503, [(b"retry-after", b"-1")], 0.0),
        (503, [NOW, (b"retry-after", LATER)], 30.0),
        (503, [(b"retry-after", LATER), NOW], 30.0),
        (503, [(b"date", LATER), (b"retry-after", NOW[1])], 0.0),
        (503, [(b"retry-after", LATER)], 0.0),
        (503, [NOW, (b"retry-after", b"\xff")], 0.0),
        (200, [(b"grpc-retry-pushback-ms", b"1500")], 1.5),
        (200, [(b"grpc-retry-pushback-ms", b"-1")], 0.0),
        (200, [], 0.0),
    ],
)
def test_how_long_a_server_asks_to_be_left_alone(
    status: int, fields: list[tuple[bytes, bytes]], seconds: float
) -> None:
    assert seconds == pause_asked(status, fields)


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_whatever_the_fields_hold_it_is_a_bounded_number(value: bytes, date: bytes) -> None:
    assert 0.0 <= pause_asked(503, [(b"retry-after", value), (b"date", date)]) <= LONGEST
