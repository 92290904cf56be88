"""Spans in OpenTelemetry's protocol: the messages of ``POST /v1/traces``, written by hand.

Source: opentelemetry-proto 1.x, ``collector/trace/v1/trace_service.proto`` and what it imports; field numbers stand
beside what is written.
"""

from __future__ import annotations

import functools
import struct
from binascii import unhexlify
from typing import TYPE_CHECKING, Any, Final

from meshcore.grpc.protobuf import nested, number, numbers, strings, text
from meshcore.tracing.propagation import RANDOM

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from meshcore.tracing.span import Attribute, Event, Span

__all__ = ["encode_span", "refused", "request_of", "resource_of"]

_fixed64: Final = struct.Struct("<BQ").pack
_times: Final = struct.Struct("<BQBQ").pack
_uint32: Final = struct.Struct("<I").pack
_double: Final = struct.Struct("<Bd").pack

_START: Final = 7 << 3 | 1
_END: Final = 8 << 3 | 1
_TRACE_ID: Final = b"\x0a\x10"
_SPAN_ID: Final = b"\x12\x08"
_PARENT_ID: Final = b"\x22\x08"
"""Their tags, and how long they always are."""
_FLAGS: Final = b"\x85\x01"
"""Field 16, fixed32: a tag of two bytes."""
_KNOWS: Final = 1 << 8
"""Of a span's flags: it is known whether its parent is remote."""
_REMOTE: Final = 1 << 9

_NS: Final = 1e9
_REMEMBERED: Final = 2_048
"""Attributes that are kept as they are written."""


def resource_of(attributes: Mapping[str, Any]) -> bytes:
    """A ``Resource``: what is told of the process."""
    return b"".join(nested(1, _attribute(name, value)) for name, value in attributes.items())


def request_of(resource: bytes, scope: str, version: str, spans: Iterable[bytes]) -> bytes:
    """An ``ExportTraceServiceRequest``.

    Args:
        resource: as :func:`resource_of` made it.
        scope: who made the spans.
        version: and in which version.
        spans: as :func:`encode_span` made them.
    """
    told = [nested(1, text(1, scope) + text(2, version)), *(nested(2, span) for span in spans)]
    return nested(1, nested(1, resource) + nested(2, b"".join(told)))


def encode_span(span: Span, epoch: int) -> bytes:
    """A ``Span``.

    Args:
        span: one that has ended.
        epoch: nanoseconds since the epoch at which Trio's clock was 0.
    """
    flags = 1 | (span.marks & RANDOM) << 1
    if span.remote is not None:
        flags |= _KNOWS | (_REMOTE if span.remote else 0)
    parts = [_TRACE_ID, unhexlify(span.trace), _SPAN_ID, unhexlify(span.span)]
    if span.state:
        parts.append(text(3, span.state))
    if span.parent:
        parts += (_PARENT_ID, unhexlify(span.parent))
    parts.append(_named(span.name, span.kind))
    parts.append(_times(_START, _time(span.started, epoch), _END, _time(span.ended, epoch)))
    attributes: list[Any] = span.attributes
    for attribute in attributes:
        parts.append(_told(attribute))
    if span.events is not None:
        parts += [nested(11, _event(event, epoch)) for event in span.events]
        parts.append(number(12, span.dropped_events))
    if span.status:
        parts.append(nested(15, text(2, span.message) + number(3, span.status)))
    parts.append(_FLAGS + _uint32(flags))
    return b"".join(parts)


@functools.lru_cache(256)
def _named(name: str, kind: int) -> bytes:
    return text(5, name) + number(6, kind)


def _field(name: str, value: Any) -> bytes:
    """An attribute of a span."""
    return nested(9, _attribute(name, value))


# Most of what spans tell they tell again and again.
_known: Final[dict[Any, bytes]] = {}


def _told(attribute: Any) -> bytes:
    """The field of an attribute, remembered if it is a text or a whole number: 1 is True and 1.0, too."""
    value: object = attribute[1]
    if type(value) is not str and type(value) is not int:
        return _field(attribute[0], value)
    found = _known.get(attribute)
    if found is None:
        if len(_known) >= _REMEMBERED:
            _known.clear()
        found = _known[attribute] = _field(attribute[0], value)
    return found


def refused(message: bytes) -> tuple[int, str]:
    """How many spans an ``ExportTraceServiceResponse`` says were not taken, and why.

    Raises:
        ValueError: it is none.
    """
    partial = strings(message).get(1, b"")
    count = numbers(partial).get(1, 0)
    return count, strings(partial).get(2, b"").decode("utf-8", "replace")


def _time(seconds: float, epoch: int) -> int:
    return max(epoch + round(seconds * _NS), 0)


def _event(event: Event, epoch: int) -> bytes:
    attributes: list[Attribute] = event.attributes
    told = b"".join(nested(3, _attribute(name, value)) for name, value in attributes)
    return _fixed64(1 << 3 | 1, _time(event.time, epoch)) + text(2, event.name) + told


def _attribute(name: str, value: Any) -> bytes:
    """A ``KeyValue``."""
    return text(1, name) + nested(2, _value(value))


def _value(value: Any) -> bytes:
    """An ``AnyValue``, which says of what kind it is even where it is 0 or empty."""
    if isinstance(value, str):
        return nested(1, value.encode("utf-8", "replace"))
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        return number(3, value) or b"\x18\x00"
    if isinstance(value, float):
        return _double(4 << 3 | 1, value)
    return nested(5, b"".join(nested(1, _value(item)) for item in value))
