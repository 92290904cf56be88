"""``[tracing]``: which requests are recorded, and where their spans go."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit

import attrs

from meshcore.addresses import parse_upstream
from meshcore.codec.validate import is_field_value
from meshcore.config.kinds import Choice, Duration, Kind, Number, Text, Whole, text
from meshcore.config.places import File, beside, unreadable
from meshcore.config.rate_limit import FieldNameKind
from meshcore.config.report import WRONG, At, right, shown
from meshcore.config.tables import Listed, Tables
from meshcore.errors import ConfigError
from meshcore.tracing.propagation import ORDER

if TYPE_CHECKING:
    from meshcore.config.report import Report

__all__ = ["Secret", "TracingConfig", "check_tracing"]

MASK: Final = "***"
"""What is shown for a secret."""
_GRPC_PORT: Final = 4317


@attrs.frozen
class Secret:
    """A value that is never shown.

    Attributes:
        text: the value; ``""`` where it is in a file.
        file: has the value, white space around it not counted; None: it is here.
    """

    text: str = attrs.field(default="", repr=False, metadata={"secret": True})
    file: Path | None = None

    def value(self) -> bytes:
        """The value.

        Raises:
            ConfigError: its file cannot be read, or has none.
        """
        if self.file is None:
            return self.text.encode()
        try:
            value = self.file.read_bytes()[:16_384].strip()
        except OSError as error:
            raise ConfigError([f"{self.file}: {(error.strerror or str(error)).lower()}"]) from error
        if not value or not is_field_value(value):
            raise ConfigError([f"{self.file}: is not the value of a header field"])
        return value


@attrs.frozen
class SecretKind(Kind):
    """The value of a header field that is a secret."""

    title = "text or `file:PATH`"

    def read(self, value: object, at: At, /) -> Any:
        """The secret."""
        word = text(value, at)
        if word is WRONG:
            return WRONG
        if word == MASK:
            return at.error("stands for a secret that is not shown; the value itself is wanted, or file:PATH")
        if word.startswith("file:"):
            path = beside(at, word.removeprefix("file:"))
            problem = unreadable(path)
            return at.error(f"{shown(word)}: {problem}") if problem else Secret(file=path)
        if not word or not word.isprintable() or not is_field_value(word.encode()):
            return at.error("is not the value of a header field")
        return Secret(word)

    def show(self, value: Any, /) -> Any:
        """The file's name, or nothing that tells."""
        return MASK if value.file is None else f"file:{value.file}"

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"type": "string", "minLength": 1}


@attrs.frozen
class CollectorKind(Kind):
    """Where a collector takes spans."""

    title = "`http://HOST:PORT` or `https://…`"

    def read(self, value: object, at: At, /) -> Any:
        """Its address."""
        word = text(value, at)
        if word is WRONG:
            return WRONG
        scheme, mark, rest = word.partition("://")
        if not mark or scheme not in ("http", "https"):
            near = rest if mark and rest else word
            return at.error(f"{shown(word)} is not an address such as http://127.0.0.1:4318{_meant(near)}")
        try:
            parts = urlsplit(word)
            host = parts.hostname or ""
            parse_upstream(f"[{host}]:{parts.port or 1}" if ":" in host else f"{host}:{parts.port or 1}")
        except (ValueError, ConfigError):
            return at.error(f"{shown(word)} is not an address such as http://127.0.0.1:4318")
        plain = word.isascii() and word.isprintable() and " " not in word
        if parts.username is not None or parts.query or parts.fragment or not plain:
            return at.error(f"{shown(word)}: only a host, a port and a path are wanted; a token belongs into headers")
        if parts.port == _GRPC_PORT:
            at.report.warn(at.path, f"{_GRPC_PORT} is where collectors mostly speak gRPC; by HTTP they do at 4318")
        return word.rstrip("/")

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"type": "string", "pattern": "^https?://.+$"}


def _meant(near: str) -> str:
    try:
        parse_upstream(near)
    except ConfigError:
        return ""
    return f"; did you mean {'http://' + near!r}?"


Collector: TypeAlias = Annotated[str, CollectorKind()]
Headers: TypeAlias = Annotated[dict[str, Secret], Tables(SecretKind(), FieldNameKind.check)]


@attrs.frozen(kw_only=True)
class TracingConfig:
    """``[tracing]``: continues the traces that requests come with, may begin some, and sends spans to a collector.

    Attributes:
        collector: takes the spans by OTLP over HTTP; ``/v1/traces`` is added to it unless it ends so.
        sample: the share of requests that come without a trace for which one begins here; 0: traces are only continued.
        continued: ``parent`` records what comes in a trace that is recorded; ``ratio`` records the share *sample* of
            what comes in any trace, for proxies whose clients are not to decide.
        propagation: the formats of traces that are understood, in the order in which they are looked for; those that
            begin here are written in the first.
        service_name: of the spans; absent: the name in ``[service]``.
        attributes: further ones of the process (the resource), by name.
        query: whether spans tell the query of requests, which may hold secrets.
        headers: fields of the requests to the collector; never shown.  ``file:PATH`` takes the value from a file.
        trust_anchors: PEM file of the authorities that are trusted for an ``https://`` collector; absent: the system's.
        compression: of the requests to the collector.
        timeout: for each of them.
        batch: spans in each of them at the most.
        interval: how long a span waits for others at the most.
        queue: spans that wait at the most; what is more is dropped and counted.
    """

    collector: Collector
    sample: Annotated[float, Number(0, 1)] = 0.0
    continued: Literal["parent", "ratio"] = "parent"
    propagation: Annotated[tuple[str, ...], Listed(Choice(ORDER), tuple)] = ORDER
    service_name: str | None = None
    attributes: Annotated[dict[str, str], Tables(Text())] = attrs.Factory(dict)
    query: bool = False
    headers: Headers = attrs.Factory(dict)
    trust_anchors: File | None = None
    compression: Literal["none", "gzip"] = "none"
    timeout: Duration = 10.0
    batch: Annotated[int, Whole(1, 1_000)] = 512
    interval: Duration = 5.0
    queue: Annotated[int, Whole(1, 100_000)] = 2_048


def check_tracing(tracing: TracingConfig | None, report: Report) -> None:
    """Reports what does not go together in it."""
    if not right(tracing) or tracing is None:
        return
    words = tracing.propagation
    if right(words):
        if not words:
            report.error(("tracing", "propagation"), "has to name one at least")
        for index, word in enumerate(words):
            if right(word) and word in words[:index]:
                report.error(("tracing", "propagation", index), f"{word!r} is there already")
    if tracing.continued == "ratio" and tracing.sample == 0.0:
        report.warn(("tracing", "continued"), "nothing is ever recorded: sample is 0")
    if right(tracing.batch) and right(tracing.queue) and tracing.batch > tracing.queue:
        report.error(("tracing", "queue"), f"has to be {tracing.batch} at least: what one batch takes")
    for name in tracing.headers or ():
        if name in _OWN:
            report.error(("tracing", "headers", name), "is set already")
    if tracing.trust_anchors is not None and right(tracing.collector) and tracing.collector.startswith("http:"):
        report.error(("tracing", "trust_anchors"), "would not be used: the collector is not at https://")


_OWN: Final = frozenset(
    ("host", "content-type", "content-length", "content-encoding", "transfer-encoding", "connection", "te", "upgrade")
)
