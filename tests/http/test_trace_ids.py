"""The ids by which several proxies know one request."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies as st

from meshcore.errors import ConfigError
from meshcore.http.log_choice import LogChoice
from meshcore.http.trace_ids import ids_of, noted

W3C = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ([(b"traceparent", W3C)], (b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7")),
        ([(b"traceparent", W3C + b"-later")], (b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7")),
        ([(b"traceparent", b"00-abc-def-01")], (b"00-abc-def-01", b"")),
        ([(b"x-b3-spanid", b"05"), (b"x-b3-traceid", b"463ac35c9f6413ad")], (b"463ac35c9f6413ad", b"05")),
        ([(b"b3", b"463ac35c9f6413ad-0020000000000001-1")], (b"463ac35c9f6413ad", b"0020000000000001")),
        ([(b"b3", b"0")], (b"0", b"")),
        ([(b"x-request-id", b"r1")], (b"r1", b"")),
        ([(b"x-amzn-trace-id", b"Root=1-67891233-abcdef01234567")], (b"1-67891233-abcdef01234567", b"")),
        ([(b"x-amzn-trace-id", b"Self=1-6;Root=1-67;Parent=5;Sampled=1")], (b"1-67", b"")),
        ([(b"x-amzn-trace-id", b"none")], (b"none", b"")),
        ([(b"x-request-id", b"r1"), (b"traceparent", W3C)], (b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7")),
        ([(b"x-b3-spanid", b"05")], (b"", b"")),
        ([], (b"", b"")),
    ],
)
def test_the_first_that_is_there_says_it(fields: list[tuple[bytes, bytes]], found: tuple[bytes, bytes]) -> None:
    assert ids_of(fields) == found


def test_the_user_agent_is_seen_in_the_same_look() -> None:
    assert noted([(b"user-agent", b"a"), (b"user-agent", b"b"), (b"x-request-id", b"r")]) == (b"a", b"r", b"")


@hypothesis.given(
    st.lists(
        st.tuples(
            st.sampled_from([b"traceparent", b"b3", b"x-b3-traceid", b"x-request-id", b"x-amzn-trace-id", b"a"]),
            st.binary(max_size=600),
        ),
        max_size=4,
    )
)
def test_whatever_is_sent_gives_bounded_ids(fields: list[tuple[bytes, bytes]]) -> None:
    assert all(len(each) <= 512 for each in ids_of(fields))


# ----- which exchanges are told -----


def test_the_words_of_a_configuration_are_read() -> None:
    choice = LogChoice.of(0.5, ["5xx", "404", "200-201", "Unavailable", "error"], 0.5)
    assert choice.statuses == {*range(500, 600), 404, 200, 201}
    assert (choice.grpc, choice.errors, choice.slower_than) == ({14}, True, 0.5)
    assert not choice.early
    assert not choice.everything


def test_a_word_that_means_nothing_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(ConfigError) as caught:
        LogChoice.of(2, ["6xx", "unavailble"])
    assert caught.value.problems == [
        "sample 2 is not one from 0 to 1",
        "'6xx' is no status such as 404, 5xx or 500-504, no gRPC status such as unavailable, and not error; did you "
        "mean '5xx'?",
        "'unavailble' is no status such as 404, 5xx or 500-504, no gRPC status such as unavailable, and not error; did "
        "you mean 'unavailable'?",
    ]


@hypothesis.given(st.lists(st.binary(min_size=16, max_size=16), min_size=200, max_size=200, unique=True))
@hypothesis.settings(max_examples=10)
def test_a_share_of_traces_is_about_that_share(ids: list[bytes]) -> None:
    threshold = LogChoice(0.5).threshold
    told = sum(LogChoice.place(each.hex().encode()) < threshold for each in ids)
    assert 60 < told < 140


def test_everything_and_nothing_are_both_shares() -> None:
    assert LogChoice.place(b"any") < LogChoice(1.0).threshold
    assert not LogChoice.place(b"any") < LogChoice(0.0).threshold
