"""Spans as OpenTelemetry's messages, read again by their own code."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshcore.grpc.protobuf import nested, number, text
from meshcore.tracing.otlp import encode_span, refused, request_of, resource_of
from meshcore.tracing.propagation import RANDOM, Link
from meshcore.tracing.span import CLIENT, ERROR, SERVER, Span
from tests.tracing.collector import plain, service, spans_of

TRACE, SPAN, PARENT = b"0af7651916cd43dd8448eb211c80319c", b"b7ad6b7169203331", b"1" * 16
EPOCH = 1_700_000_000_000_000_000


def span(parent: bytes = PARENT, **more: Any) -> Span:
    made = Span(Link(TRACE, parent, True, 1), SPAN, SERVER, "GET orders", 1.25, state="a=1")
    made.ended = 1.5
    for name, value in more.items():
        setattr(made, name, value)
    return made


@pytest.mark.parity("M-18")
def test_a_span_is_read_as_it_was() -> None:
    made = span(status=ERROR, message="refused", marks=RANDOM)
    made.attributes = [("a", "text"), ("b", 0), ("c", False), ("d", 0.0), ("e", ["x", ""]), ("f", -1), ("g", "")]
    made.event(1.4, "retry", [("n", 1)])
    made.dropped_events = 2
    [seen] = spans_of(request_of(resource_of({"service.name": "web"}), "meshcore", "1.0", [encode_span(made, EPOCH)]))
    raw = seen.raw
    assert (TRACE.decode(), SPAN.decode(), PARENT.decode(), "web") == (
        seen.trace_id,
        seen.span_id,
        seen.parent,
        seen.service,
    )
    assert {"a": "text", "b": 0, "c": False, "d": 0.0, "e": ["x", ""], "f": -1, "g": ""} == seen.attributes
    assert (EPOCH + 1_250_000_000, EPOCH + 1_500_000_000) == (raw.start_time_unix_nano, raw.end_time_unix_nano)
    assert (2, "GET orders", "a=1", 2, "refused", 0x303) == (
        raw.kind,
        raw.name,
        raw.trace_state,
        raw.status.code,
        raw.status.message,
        raw.flags,
    )
    assert [("retry", {"n": 1})] == seen.events
    assert (EPOCH + 1_400_000_000, 2) == (raw.events[0].time_unix_nano, raw.dropped_events_count)


def test_a_span_at_the_top_has_nothing_above_it() -> None:
    [seen] = spans_of(request_of(b"", "meshcore", "", [encode_span(span(b"", kind=CLIENT), EPOCH)]))
    assert (b"", 0x01, 3) == (seen.raw.parent_span_id, seen.raw.flags, seen.raw.kind)
    assert not seen.raw.HasField("status")


def test_the_scope_and_the_resource_are_told_once() -> None:
    resource = resource_of({"process.pid": 7, "host.name": "h"})
    data = request_of(resource, "meshcore", "1.0", [encode_span(span(), 0)] * 3)
    [group] = service.ExportTraceServiceRequest.FromString(data).resource_spans
    [scope] = group.scope_spans
    assert ("meshcore", "1.0", 3) == (scope.scope.name, scope.scope.version, len(scope.spans))
    assert {"process.pid": 7, "host.name": "h"} == plain(group.resource.attributes)


VALUES = st.one_of(
    st.text(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.lists(st.text())
)


@given(st.dictionaries(st.text(min_size=1), VALUES), st.floats(0, 1e9), st.integers(0, 2**63))
def test_whatever_attributes_say_comes_as_it_was(attributes: dict[str, Any], started: float, epoch: int) -> None:
    made = span(started=started)
    made.attributes = list(attributes.items())
    [seen] = spans_of(request_of(b"", "", "", [encode_span(made, epoch)]))
    assert attributes == seen.attributes
    assert epoch + round(started * 1e9) == seen.raw.start_time_unix_nano


def test_text_that_is_no_unicode_is_replaced() -> None:
    [seen] = spans_of(request_of(b"", "", "", [encode_span(span(attributes=[("a", "x\ud800")]), 0)]))
    assert {"a": "x?"} == seen.attributes


def test_what_a_collector_did_not_take_is_read() -> None:
    assert (0, "") == refused(b"")
    assert (3, "too old") == refused(nested(1, number(1, 3) + text(2, "too old")))
    with pytest.raises(ValueError):
        refused(b"\xff")


@given(st.binary(max_size=60))
def test_whatever_a_collector_answers_is_refused_or_read(data: bytes) -> None:
    try:
        count, why = refused(data)
    except ValueError:
        return
    assert isinstance(count, int)
    assert isinstance(why, str)
