"""Messages, metadata, deadlines and statuses as bytes, however they are cut."""

from __future__ import annotations

import math

import hypothesis
import pytest
from hypothesis import strategies as st

from meshcore.errors import ConnectError, GrpcError, StreamReset
from meshcore.grpc.framing import MessageReader, frame
from meshcore.grpc.metadata import decode_metadata, encode_metadata
from meshcore.grpc.status import broken, failure, outcome
from meshcore.http.grpc import GrpcStatus, decode_message, encode_message, format_timeout, parse_timeout


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@hypothesis.given(st.lists(st.binary(max_size=200)), st.lists(st.integers(0, 10_000)))
def test_messages_come_out_as_they_went_in_however_they_are_cut(messages: list[bytes], places: list[int]) -> None:
    reader = MessageReader(200)
    found = []
    for chunk in cut(b"".join(map(frame, messages)), places):
        reader.receive_data(chunk)
        while (message := reader.next_message()) is not None:
            found.append(message)
    assert messages == found
    assert not reader.partial


@hypothesis.given(st.lists(st.binary(max_size=40)))
def test_any_bytes_give_messages_or_an_error_and_never_more_than_the_limit(chunks: list[bytes]) -> None:
    reader = MessageReader(16)
    for chunk in chunks:
        reader.receive_data(chunk)
        try:
            while (message := reader.next_message()) is not None:
                assert len(message) <= 16
        except GrpcError as error:
            assert error.status in (GrpcStatus.INTERNAL, GrpcStatus.RESOURCE_EXHAUSTED)
            return


@pytest.mark.parametrize(
    ("data", "status"),
    [(b"\x01\0\0\0\0", 13), (b"\x02\0\0\0\0", 13), (b"\0\0\0\0\x05", 8), (b"\0\xff\xff\xff\xff", 8)],
)
def test_a_prefix_that_is_not_taken_is_an_error_at_once(data: bytes, status: int) -> None:
    reader = MessageReader(4)
    reader.receive_data(data)
    with pytest.raises(GrpcError) as failed:
        reader.next_message()
    assert status == failed.value.status


@pytest.mark.parametrize("data", [b"\0", b"\0\0\0\0\1", b"\0\0\0\0\2x"])
def test_a_message_that_has_begun_is_known(data: bytes) -> None:
    reader = MessageReader()
    reader.receive_data(data)
    assert reader.next_message() is None
    assert reader.partial


NAMES = st.from_regex(rb"[a-z0-9_.-]{1,12}", fullmatch=True).filter(
    lambda name: not name.startswith(b"grpc-") and name not in (b"te", b"host", b"upgrade", b"keep-alive")
)
TEXTS = st.from_regex(rb"([!-~]([ -~]{0,8}[!-~])?)?", fullmatch=True)


@hypothesis.given(
    st.lists(
        st.one_of(
            st.tuples(NAMES.map(lambda name: name + b"-bin"), st.binary(max_size=20)),
            st.tuples(NAMES.filter(lambda name: not name.endswith(b"-bin")), TEXTS),
        )
    )
)
def test_metadata_comes_out_as_it_went_in(metadata: list[tuple[bytes, bytes]]) -> None:
    assert metadata == decode_metadata(encode_metadata(metadata))


def test_binary_metadata_is_taken_padded_or_not_one_or_several_and_what_is_none_is_left_out() -> None:
    fields = [(b"a-bin", b"AP8="), (b"a-bin", b"AP8"), (b"b-bin", b"AA==, AQ"), (b"c-bin", b"*!"), (b"d-bin", b"A")]
    assert [
        (b"a-bin", b"\x00\xff"), (b"a-bin", b"\x00\xff"), (b"b-bin", b"\x00"), (b"b-bin", b"\x01"),
    ] == decode_metadata(fields)  # fmt: skip
    assert [] == decode_metadata([(b"grpc-status", b"0"), (b"content-type", b"x"), (b"grpc-status-details-bin", b"")])


@hypothesis.given(st.text())
def test_a_message_comes_out_as_it_went_in(message: str) -> None:
    encoded = encode_message(message)
    if len(message.encode()) <= 1_024 and encoded == encode_message(message.strip()):
        assert message.strip() == decode_message(encoded)


@hypothesis.given(st.binary())
def test_any_bytes_are_a_message(value: bytes) -> None:
    assert isinstance(decode_message(value), str)


def test_a_malformed_escape_stays() -> None:
    assert "100% %zz �" == decode_message(b"100% %zz %ff")


@pytest.mark.parametrize(
    ("seconds", "value"),
    [(0.2, b"200000u"), (1, b"1000000u"), (0, b"0n"), (-1, b"0n"), (1e-9, b"1n"), (99.9999999, b"100000m"),
     (99_999.0, b"99999000m"), (1e9, b"16666667M"), (1e13, b"99999999H"), (math.inf, b"99999999H")],
)  # fmt: skip
def test_a_deadline_has_at_most_eight_digits_and_is_never_early(seconds: float, value: bytes) -> None:
    assert value == format_timeout(seconds)


@hypothesis.given(st.floats(1e-9, 1e11))
def test_a_deadline_comes_out_as_it_went_in_within_a_millionth(seconds: float) -> None:
    value = format_timeout(seconds)
    assert len(value) <= 9
    found = parse_timeout(value)
    assert found is not None
    assert seconds * (1 - 1e-9) <= found <= seconds * (1 + 2e-6) + 1e-9


@pytest.mark.parametrize("value", [b"", b"1", b"S", b"123456789S", b"-1S", b"1s", b"1.5S", b" 1S", "٣S".encode()])
def test_what_is_no_deadline_is_none(value: bytes) -> None:
    assert parse_timeout(value) is None


def test_a_status_is_named_in_its_text() -> None:
    assert "not found: no such user" == str(failure(5, "no such user"))
    assert "unavailable" == str(failure(14, ""))
    assert outcome([(b"grpc-status", b"0")]) is None
    error = outcome([(b"grpc-status", b"99"), (b"grpc-message", b"what%3F")])
    assert error is not None
    assert (2, "what?") == (error.status, error.message)


@pytest.mark.parametrize(
    ("code", "status"), [(0x7, 14), (0x8, 1), (0xB, 8), (0xC, 7), (0x1, 13), (0x2, 13), (0x0, 13), (0x99, 13)]
)
def test_a_reset_is_the_status_that_grpc_says(code: int, status: int) -> None:
    error = broken(StreamReset("reset", h2_code=code))
    assert (status, "reset", code == 7) == (error.status, error.message, error.retryable)


def test_an_error_of_grpc_stays_itself() -> None:
    error = failure(5, "x")
    assert error is broken(error)
    assert 14 == broken(ConnectError("refused")).status
