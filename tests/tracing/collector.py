"""A collector: takes spans by OTLP over HTTP, read with OpenTelemetry's own messages."""

from __future__ import annotations

import gzip
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest
import trio

from meshcore import Request, Response
from meshcore.http.body import read_all
from meshcore.testing import response

service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")

KINDS = {1: "internal", 2: "server", 3: "client"}
ERROR = 2


@attrs.frozen
class Seen:
    """A span as a collector sees it."""

    service: str
    resource: dict[str, Any]
    raw: Any

    @property
    def trace_id(self) -> str:
        return str(self.raw.trace_id.hex())

    @property
    def span_id(self) -> str:
        return str(self.raw.span_id.hex())

    @property
    def parent(self) -> str:
        return str(self.raw.parent_span_id.hex())

    @property
    def kind(self) -> str:
        return KINDS[self.raw.kind]

    @property
    def name(self) -> str:
        return str(self.raw.name)

    @property
    def failed(self) -> bool:
        return bool(self.raw.status.code == ERROR)

    @property
    def attributes(self) -> dict[str, Any]:
        return plain(self.raw.attributes)

    @property
    def events(self) -> list[tuple[str, dict[str, Any]]]:
        return [(event.name, plain(event.attributes)) for event in self.raw.events]

    @property
    def who(self) -> tuple[str, str, str]:
        return self.service, self.attributes["direction"], self.kind


def plain(attributes: Any) -> dict[str, Any]:
    """The values by name."""

    def value(found: Any) -> Any:
        kind = found.WhichOneof("value")
        if kind == "array_value":
            return [value(each) for each in found.array_value.values]
        return getattr(found, kind)

    return {each.key: value(each.value) for each in attributes}


def spans_of(data: bytes) -> list[Seen]:
    """The spans of one request."""
    message = service.ExportTraceServiceRequest.FromString(data)
    found = []
    for group in message.resource_spans:
        resource = plain(group.resource.attributes)
        for scope in group.scope_spans:
            found += [Seen(str(resource.get("service.name", "")), resource, span) for span in scope.spans]
    return found


Answer = Callable[[], "Response | Awaitable[Response]"]


class Collector:
    """An HTTP service that keeps the spans that it gets.

    Attributes:
        spans: all of them.
        requests: how many requests came, with their fields.
        answer: what is answered; a function of nothing.
    """

    def __init__(self) -> None:
        self.spans: list[Seen] = []
        self.batches: list[int] = []
        self.requests: list[Request] = []
        self.answer: Answer = response

    async def __call__(self, request: Request) -> Response:
        data = await read_all(request.body, 1 << 24)
        assert (request.method, request.path) == (b"POST", b"/v1/traces")
        assert request.headers.get(b"content-type") == b"application/x-protobuf"
        if request.headers.get(b"content-encoding") == b"gzip":
            data = gzip.decompress(data)
        self.requests.append(request)
        found = self.answer()
        answer = found if isinstance(found, Response) else await found
        if answer.status == 200:
            spans = spans_of(data)
            self.spans += spans
            self.batches.append(len(spans))
        return answer

    async def wait_for(self, count: int, seconds: float = 60) -> list[Seen]:
        """The spans, once there are so many."""
        with trio.fail_after(seconds):
            while len(self.spans) < count:
                await trio.sleep(0.05)
        return self.spans

    def by(self, service: str, direction: str, kind: str) -> list[Seen]:
        """Those of one kind, in the order of their beginning."""
        found = [each for each in self.spans if each.who == (service, direction, kind)]
        return sorted(found, key=lambda each: int(each.raw.start_time_unix_nano))

    def one(self, service: str, direction: str, kind: str) -> Seen:
        """The only one of a kind."""
        [found] = self.by(service, direction, kind)
        return found
