"""Traces through two sidecars as processes: curl and grpcio before them, a collector beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.peers.otlp import Receiver, receiver
from tests.peers.process import Running, wait_until
from tests.peers.sidecar import admin, config, metric
from tests.system.mesh.conftest import ORDERS, PAYMENTS, Curl, Sidecars, meshed
from tests.system.test_grpc import echo
from tests.tracing.collector import Seen, spans_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


def spans(got: Receiver) -> list[Seen]:
    return [span for body in got.bodies for span in spans_of(body)]


def tracing(got: Receiver, **more: object) -> dict[str, object]:
    return {"collector": f"http://127.0.0.1:{got.port}", "interval": "100ms", **more}


def pair(sidecars: Sidecars, forward: int, traced: dict[str, object]) -> tuple[Running, Running]:
    """A client's sidecar and an application's, each named by its identity."""
    tables: dict[str, Any] = {"tracing": traced, "proxy": {"access_log": "json"}}
    identity = sidecars.issuer.identity
    inbound = sidecars.run(config(identity(PAYMENTS), forward=forward, service={"name": "payments"}, **tables))
    to = {"app:80": meshed(inbound.port, listen="127.0.0.1:0")}
    outbound = sidecars.run(config(identity(ORDERS), to=to, service={"name": "orders"}, **tables))
    outbound.port = outbound.ports["app:80"]
    return outbound, inbound


def log_lines(program: Running) -> list[dict[str, Any]]:
    return [json.loads(line) for line in program.output().splitlines() if line.startswith('{"time"')]


def chain(found: list[Seen]) -> list[Seen]:
    """The spans of one trace from the top down."""
    by_parent = {span.parent: span for span in found}
    assert len(by_parent) == len(found)
    below: list[Seen] = []
    at = next(parent for parent in by_parent if parent not in {span.span_id for span in found})
    while at in by_parent:
        below.append(by_parent[at])
        at = by_parent[at].span_id
    assert len(below) == len(found)
    return below


SIDES = [
    ("orders", "outbound", "server"),
    ("orders", "outbound", "client"),
    ("payments", "inbound", "server"),
    ("payments", "inbound", "client"),
]


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
@pytest.mark.parity("M-17", "M-18")
def test_a_trace_of_curl_goes_on_through_both_and_log_spans_and_metrics_agree(
    sidecars: Sidecars, origin: Running, curl: Curl, version: str
) -> None:
    with receiver() as got:
        outbound, inbound = pair(sidecars, origin.port, tracing(got))
        url = f"http://127.0.0.1:{outbound.port}"
        traced = ["-H", f"traceparent: {PARENT}", "-H", "tracestate: a=1"]
        done = curl(version, "-H", "Host: app", *traced, f"{url}/info?secret=1")
        # What nobody traces leaves nothing.
        curl(version, "-H", "Host: app", f"{url}/")
        wait_until(lambda: len(spans(got)) >= 4, what="spans")
        found = chain(spans(got))
        assert SIDES == [span.who for span in found]
        assert {TRACE} == {span.trace_id for span in found}
        assert SPAN == found[0].parent
        seen = {name.lower(): value for name, value in json.loads(done.stdout)["headers"]}
        assert (f"00-{TRACE}-{found[-1].span_id}-01", "a=1") == (seen["traceparent"], seen["tracestate"])
        assert [200] * 4 == [span.attributes["http.response.status_code"] for span in found]
        assert {"/info"} == {span.attributes["url.path"] for span in found}
        assert (ORDERS, PAYMENTS) == (found[2].attributes["client_id"], found[1].attributes["server_id"])
        for program in (outbound, inbound):
            wait_until(lambda program=program: len(log_lines(program)) == 2, what="log lines")  # type: ignore[misc]
            line, plain = log_lines(program)
            assert TRACE in str(line["trace_id"])
            assert plain["trace_id"] is None
            assert 200 == line["status"]
            assert 2 == metric(program, "otlp_spans_exported_total")
            assert 0 == metric(program, "otlp_spans_dropped_total")
        assert 2 == metric(outbound, "response_total", status_code="200", direction="outbound")
        assert 2 == metric(inbound, "response_total", status_code="200", direction="inbound")


@pytest.mark.parametrize("form", ["w3c", "grpc", "b3"])
@pytest.mark.parity("M-17")
def test_a_trace_of_grpcio_goes_on_in_the_format_that_it_came_in(
    sidecars: Sidecars, grpc_origin: Running, form: str
) -> None:
    metadata: list[tuple[str, Any]] = {
        "w3c": [("traceparent", PARENT)],
        "grpc": [("grpc-trace-bin", bytes.fromhex(f"0000{TRACE}01{SPAN}0201"))],
        "b3": [("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN), ("x-b3-sampled", "1")],
    }[form]
    with receiver() as got:
        outbound, _ = pair(sidecars, grpc_origin.port, tracing(got))
        with echo(outbound.port) as client:
            answer = client.unary()(b"hello", timeout=10, metadata=metadata)
        assert answer == b"hello"
        wait_until(lambda: len(spans(got)) >= 4, what="spans")
        found = chain(spans(got))
    assert (SIDES, {TRACE}, SPAN) == ([span.who for span in found], {span.trace_id for span in found}, found[0].parent)
    assert {("grpc", "test.Echo", "Unary", 0)} == {
        tuple(span.attributes[f"rpc.{name}"] for name in ("system", "service", "method", "grpc.status_code"))
        for span in found
    }


def test_a_trace_may_begin_at_the_first_sidecar(sidecars: Sidecars, origin: Running, curl: Curl) -> None:
    with receiver() as got:
        outbound, _ = pair(sidecars, origin.port, tracing(got, sample=1))
        curl("-H", "Host: app", f"http://127.0.0.1:{outbound.port}/")
        wait_until(lambda: len(spans(got)) >= 4, what="spans")
        found = chain(spans(got))
    assert (SIDES, "", 1) == ([span.who for span in found], found[0].parent, len({span.trace_id for span in found}))


def test_a_collector_by_https_with_a_token_and_what_the_environment_says(
    sidecars: Sidecars, origin: Running, curl: Curl, tmp_path: Path
) -> None:
    certificate = sidecars.issuer.issue("localhost")
    (tmp_path / "token").write_text("Bearer hunter2\n")
    sidecars.env = {"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test", "OTEL_SERVICE_NAME": "other"}
    with receiver(certificate) as got:
        traced = tracing(
            got,
            collector=f"https://localhost:{got.port}",
            trust_anchors=str(sidecars.issuer.anchors),
            headers={"authorization": f"file:{tmp_path / 'token'}", "x-plain": "hunter3"},
            compression="gzip",
        )
        outbound, _ = pair(sidecars, origin.port, traced)
        curl("-H", "Host: app", "-H", f"traceparent: {PARENT}", f"http://127.0.0.1:{outbound.port}/")
        wait_until(lambda: len(spans(got)) >= 4, what="spans")
        [fields, *_] = got.fields
        assert ("Bearer hunter2", "hunter3") == (fields["authorization"], fields["x-plain"])
        for span in spans(got):
            assert ("other", "test") == (span.service, span.resource["deployment.environment.name"])
        shown = admin(outbound, "/config")[1]
        assert "hunter" not in shown
        assert '"text": "***"' in shown


def test_the_last_spans_are_sent_when_a_sidecar_drains(sidecars: Sidecars, origin: Running, curl: Curl) -> None:
    with receiver() as got:
        outbound, inbound = pair(sidecars, origin.port, tracing(got, interval="1h"))
        for _ in range(3):
            curl("-H", "Host: app", "-H", f"traceparent: {PARENT}", f"http://127.0.0.1:{outbound.port}/")
        assert [] == got.bodies
        for program in (outbound, inbound):
            program.signal(15)
            assert 0 == program.wait()
        assert 12 == len(spans(got))


def test_requests_do_not_mind_a_collector_that_is_not_there(
    sidecars: Sidecars, origin: Running, curl: Curl
) -> None:
    with receiver() as got:
        pass
    outbound, _ = pair(sidecars, origin.port, tracing(got, sample=1, queue=4, batch=2))
    for _ in range(20):
        assert b"origin" == curl("-H", "Host: app", f"http://127.0.0.1:{outbound.port}/").stdout
    assert metric(outbound, "otlp_spans_dropped_total", reason="queue_full") >= 30
    assert 1 == outbound.output().count("connection refused; spans wait")
