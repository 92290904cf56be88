"""gRPC's statuses, and what counts as a failure."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

import hypothesis
import pytest
from hypothesis import strategies as st

from meshcore.http.classify import GRPC_FAILURES, grpc_outcome, is_failure
from meshcore.http.grpc import GrpcStatus, encode_message, is_grpc, status_fields, status_of


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"application/grpc", True),
        (b"application/grpc+proto", True),
        (b"application/grpc;x=y", True),
        (b"application/grpc-web", True),
        (b"APPLICATION/GRPC", True),
        (b"application/grpcs", False),
        (b"application/json", False),
        (b"", False),
    ],
)
def test_grpc_is_told_by_its_content_type(value: bytes, expected: bool) -> None:
    assert expected == is_grpc([(b"a", b"application/grpc"), (b"content-type", value)])
    assert not is_grpc([(b"accept", value)])


@pytest.mark.parametrize(
    ("value", "expected"),
    [(b"0", 0), (b"16", 16), (b"05", 5), (b"17", 2), (b"-1", 2), (b"", 2), (b"999999", 2), ("٣".encode(), 2)],
)
def test_a_status_that_is_no_code_is_unknown(value: bytes, expected: int) -> None:
    assert expected == status_of([(b"x", b"y"), (b"grpc-status", value)])
    assert status_of([(b"x", b"y")]) is None


@hypothesis.given(st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=300))
def test_a_message_is_visible_ascii_and_says_the_same(message: str) -> None:
    encoded = encode_message(message)

    assert all(0x20 <= byte < 0x7F for byte in encoded)
    assert message.encode().strip(b" ") == unquote_to_bytes(encoded)


def test_a_message_is_bounded() -> None:
    assert len(encode_message("a" * 10_000)) == 1_024
    assert [(b"grpc-status", b"14")] == status_fields(14)
    assert [(b"grpc-status", b"4"), (b"grpc-message", b"too%25slow")] == status_fields(4, "too%slow")


@pytest.mark.parity("R-20")
def test_these_statuses_are_failures() -> None:
    assert {2, 4, 7, 13, 14, 15} == GRPC_FAILURES
    assert [499, 600] == [status for status in (499, 500, 503, 599, 600) if not is_failure(status)]
    for status in GrpcStatus:
        fields = [(b"grpc-status", b"%d" % status)]
        assert (status, status in GRPC_FAILURES) == grpc_outcome(fields, []) == grpc_outcome([], fields)
    assert (2, False) == grpc_outcome([], [])
