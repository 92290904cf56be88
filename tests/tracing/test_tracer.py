"""Who is recorded: continued traces, those that begin here, and what is told onwards."""

from __future__ import annotations

import random

import pytest

from meshcore.testing import memory_connection_pair, request
from meshcore.tracing.propagation import DEBUG, Link, read
from meshcore.tracing.sampling import Tracing
from meshcore.tracing.span import CLIENT, MOST_EVENTS, SERVER, Span, shown
from meshcore.tracing.tracer import Tracer

TRACE, SPAN = b"0af7651916cd43dd8448eb211c80319c", b"b7ad6b7169203331"
YES = (b"traceparent", b"00-%b-%b-01" % (TRACE, SPAN))
NO = (b"traceparent", b"00-%b-%b-00" % (TRACE, SPAN))


class Recorder:
    """Keeps what ended."""

    def __init__(self) -> None:
        self.begun: list[tuple[Span, Link]] = []
        self.spans: list[Span] = []

    def began(self, span: Span, above: Link, /) -> None:
        self.begun.append((span, above))

    def ended(self, span: Span, /) -> None:
        self.spans.append(span)


def tracer(seed: int = 1, **settings: object) -> Tracer:
    return Tracer(Recorder(), Tracing(**settings), rng=random.Random(seed))  # type: ignore[arg-type]


def decided(tracer: Tracer, *fields: tuple[bytes, bytes]) -> tuple[bool | None, list[tuple[bytes, bytes]]]:
    """Whether it is recorded (None: there is no trace), and the fields that go on."""
    asked = request(headers=list(fields))
    link = tracer.decide(asked)
    return None if link is None else link.sampled, asked.headers.raw


@pytest.mark.parity("M-17")
def test_traces_are_only_continued_unless_a_share_is_told() -> None:
    assert (None, []) == decided(tracer())
    assert (True, [YES]) == decided(tracer(), YES)
    assert (False, [NO]) == decided(tracer(), NO)


def test_a_trace_begins_for_the_share_that_is_told_and_the_rest_is_told_so() -> None:
    told = tracer(sample=0.25)
    found = [decided(told) for _ in range(2_000)]
    assert 400 < sum(bool(sampled) for sampled, _ in found) < 600
    for sampled, fields in found:
        if not sampled:
            [(name, value)] = fields
            assert name == b"traceparent"
            assert value.endswith(b"-00")
            # The next proxy has the same share in mind, and does not decide again.
            assert (False, fields) == decided(tracer(sample=1.0), *fields)


def test_ids_are_valid_and_all_different_however_many_are_made_at_once() -> None:
    told = tracer(sample=1e-9)
    values = [decided(told)[1][0][1] for _ in range(1_000)]
    links = [read([(b"traceparent", value)], ("w3c",)) for value in values]
    assert all(link is not None and not link.sampled for link in links)
    assert 1_000 == len({value[3:35] for value in values}) == len({value[36:52] for value in values})


def test_ids_are_those_of_the_generator() -> None:
    one, other = [[decided(tracer(seed, sample=1e-9))[1] for _ in range(3)] for seed in (7, 7)]
    assert one == other
    assert one != [decided(tracer(8, sample=1e-9))[1] for _ in range(3)]


def test_proxies_with_one_ratio_decide_alike_whatever_the_flag_says() -> None:
    one, other = tracer(1, sample=0.5, continued="ratio"), tracer(2, sample=0.5, continued="ratio")
    seen = set()
    for number in range(200):
        trace = random.Random(number).randbytes(16).hex().encode()
        for flag in (b"00", b"01"):
            field = (b"traceparent", b"00-%b-%b-%b" % (trace, SPAN, flag))
            first, fields = decided(one, field)
            assert first == decided(other, field)[0]
            seen.add((flag, first))
            # What is not recorded is told onwards as that; what is, by its span.
            assert fields == [field if first else (b"traceparent", b"00-%b-%b-00" % (trace, SPAN))]
    assert 4 == len(seen)


def test_a_decision_without_a_trace_is_followed() -> None:
    assert (True, [(b"b3", b"1")]) == decided(tracer(), (b"b3", b"1"))
    assert (None, [(b"b3", b"0")]) == decided(tracer(sample=1.0), (b"b3", b"0"))
    # Or not, where clients are not to decide.
    assert (None, [(b"b3", b"1")]) == decided(tracer(continued="ratio"), (b"b3", b"1"))
    link = tracer().decide(request(headers=[(b"x-b3-flags", b"1")]))
    assert link is not None
    assert (True, b"") == (bool(link.marks & DEBUG), link.span)


def test_what_the_client_leaves_open_is_decided_by_ratio_or_left_open() -> None:
    field = (b"b3", TRACE + b"-" + SPAN)
    assert (False, [field]) == decided(tracer(), field)
    assert (True, [field]) == decided(tracer(sample=1.0), field)
    assert (False, [(b"b3", TRACE + b"-" + SPAN + b"-0")]) == decided(tracer(sample=1e-9), field)


def test_a_tracestate_without_a_trace_does_not_go_on_with_a_new_one() -> None:
    fields = [(b"traceparent", b"nonsense"), (b"tracestate", b"a=1")]
    [field] = decided(tracer(sample=1e-9), *fields)[1]
    assert field[0] == b"traceparent"
    assert (None, fields) == decided(tracer(), *fields)


def test_without_a_recorder_nothing_is_recorded_and_nothing_changed() -> None:
    told = Tracer(None, Tracing(sample=1.0))
    assert (None, []) == decided(told)
    assert (False, [YES]) == decided(told, YES)


def test_a_new_trace_is_written_in_the_first_format() -> None:
    for propagation, names in {
        ("b3", "w3c"): {b"x-b3-traceid", b"x-b3-spanid", b"x-b3-sampled"},
        ("grpc",): {b"grpc-trace-bin"},
    }.items():
        assert names == {name for name, _ in decided(tracer(sample=1e-9, propagation=propagation))[1]}


def test_a_request_that_is_made_here_stands_where_its_program_does() -> None:
    told = tracer()
    told.current = lambda: Link(TRACE, SPAN, True, 1)
    link = told.decide(request())
    assert link is not None
    assert (link.trace, link.span, link.sampled) == (TRACE, SPAN, True)
    # Unless it says itself where; and not what came over a connection.
    assert (False, [NO]) == decided(told, NO)
    accepted = request()
    accepted.connection = memory_connection_pair()[0]
    assert told.decide(accepted) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"sample": 1.5},
        {"sample": -0.1},
        {"continued": "never"},
        {"propagation": ()},
        {"propagation": ("w3c", "zipkin")},
    ],
)
def test_settings_that_are_none_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Tracing(**wrong)  # type: ignore[arg-type]


def test_a_span_is_in_the_fields_and_below_what_came() -> None:
    told = tracer()
    asked = request(headers=[YES, (b"tracestate", b"a=1")])
    link = told.decide(asked)
    assert link is not None
    span = told.span(link, SERVER, "GET", 1.0, asked)
    assert (TRACE.decode(), SPAN, True, "a=1") == (span.trace_id, span.parent, span.remote, span.state)
    assert f"00-{span.trace_id}-{span.span_id}-01".encode() == asked.headers.get(b"traceparent")
    below = told.span(span, CLIENT, "GET", 2.0, asked)
    assert (span.span, False, "a=1") == (below.parent, below.remote, below.state)
    told.end(below, 3.0)
    recorder = told.recorder
    assert isinstance(recorder, Recorder)
    assert ([below], 3.0) == (recorder.spans, below.ended)
    assert [(span, link), (below, span)] == recorder.begun


def test_events_are_bounded_and_what_is_too_much_is_counted() -> None:
    span = Span(Link(TRACE, b"", True, 1), SPAN, SERVER, "GET", 0.0)
    for number in range(MOST_EVENTS + 3):
        span.event(float(number), "retry", [])
    assert span.events is not None
    assert (MOST_EVENTS, 3, None) == (len(span.events), span.dropped_events, span.remote)


def test_values_are_text_and_cut() -> None:
    assert "a\ufffdb" == shown(b"a\xffb")
    assert "x" * 256 == shown(b"x" * 300)
    assert "ü" * 127 == shown(b"x" + "ü".encode() * 200)[1:]


def test_every_trace_has_an_id_of_its_own_that_is_not_zero() -> None:
    told = tracer(sample=1e-9)
    found = [fields[0][1] for _, fields in (decided(told) for _ in range(1_000))]
    assert 1_000 == len({value[3:35] for value in found}) == len({value[36:52] for value in found})
    # Nobody records its span, which has half of its id.
    assert all(value[19:35] == value[36:52] for value in found)
    links = [read([(b"traceparent", value)]) for value in found]
    assert all(link is not None and link.sampled is False for link in links)
    assert all(sampled for sampled, _ in (decided(tracer(number, sample=1.0)) for number in range(100)))


def test_spans_that_are_recorded_have_ids_of_their_own_and_no_halves_of_traces() -> None:
    told = tracer(sample=1.0)
    found = []
    for _ in range(400):
        asked = request()
        link = told.decide(asked)
        assert link is not None
        found += [link.trace[16:], *(told.span(link, kind, "GET", 0.0, asked).span for kind in (SERVER, CLIENT))]
    assert 1_200 == len(set(found))
    assert {16} == {len(each) for each in found}


def test_what_was_to_be_recorded_in_any_case_is_not_where_clients_do_not_decide() -> None:
    debug = [(b"x-b3-traceid", TRACE), (b"x-b3-spanid", SPAN), (b"x-b3-flags", b"1")]
    sampled, fields = decided(tracer(continued="ratio"), *debug)
    assert sampled is False
    link = read(fields)
    assert link is not None
    # Whoever is next follows that, too.
    assert (False, 0) == (link.sampled, link.marks & DEBUG)
