"""One line for each request, once it is over."""

from __future__ import annotations

import random
import weakref
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs

from meshcore._repr import changes
from meshcore.abc import HttpService, NewHttp, link
from meshcore.http.log_choice import LogChoice
from meshcore.http.log_template import FORMATS
from meshcore.layers.access_log.exchange import Logged
from meshcore.layers.access_log.format import Format
from meshcore.layers.access_log.lines import Lines
from meshcore.layers.access_log.output import Output
from meshcore.metrics.registry import Registry

if TYPE_CHECKING:
    import trio


__all__ = ["AccessLog"]

T = TypeVar("T")


def _pairs(value: Mapping[str, str] | tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    return tuple(value.items() if isinstance(value, Mapping) else ((key, text) for key, text in value))


def _words(value: Iterable[str]) -> tuple[str, ...]:
    return tuple(value)


@attrs.frozen(repr=False)
class AccessLog:
    """Writes one line when the last byte of a response has gone, or its request was given up.

    What a line says is a matter of its format; ``meshcore.http.log_template.FIELDS`` has everything that it can say.
    What a peer sent is escaped and cut at 2 KiB a field.  Values of header fields are told where a template names the
    field, and masked even then where the name is that of a secret.

    Lines are queued, made and written by tasks, many at a time; what the queue cannot hold, or nobody takes, is
    dropped, counted (``access_log_dropped_total``) and told in a line of its own.

    Attributes:
        write: takes one or more whole lines; a function that does not block for long, or an async one.  None: *to*
            has them, in a thread where that may block (``Output``); what is left when the nursery is cancelled has one
            second.
        format: ``"text"`` (``key=value`` after the common part), ``"json"``, ``"apache"`` or ``"linkerd-json"``.
        clock: seconds since the epoch, for the time stamp; None: Trio's clock, whose zero means nothing.
        capacity: lines that may wait.
        to: ``"stdout"``, ``"stderr"`` or a file's path; it is opened anew once it was moved away.
        template: a line of text of one's own, ``'%{client} "%{method} %{path}" %{status}'``, in place of *format*.
        fields: keys of a line of JSON and the template of each, in place of *format*.
        reveal: header fields that look like secrets and are told all the same.
        max_line: characters of a line at the most.
        sample: the share of requests that are told, from 0 to 1; by the trace's id where there is one, so that two
            proxies tell of the same ones.
        statuses: what is always told: HTTP statuses (``5xx``, ``404``, ``500-504``), gRPC statuses (``unavailable``),
            and ``error`` for exchanges that broke.
        slower_than: seconds; what takes longer is always told; None: nothing is for that.
        direction: what the field of that name says.
        registry: where lines are counted; None: nowhere.
        rng: randomness, for tests.

    Raises:
        ConfigError: a template, a status or the share is wrong.
    """

    write: Callable[[str], Awaitable[object] | object] | None = attrs.field(default=None, repr=False)
    format: str = attrs.field(default="text", validator=attrs.validators.in_(FORMATS))
    clock: Callable[[], float] | None = attrs.field(default=None, repr=False)
    capacity: int = attrs.field(default=10_000, validator=attrs.validators.ge(1))
    to: str = attrs.field(default="stdout", kw_only=True)
    template: str = attrs.field(default="", kw_only=True)
    fields: tuple[tuple[str, str], ...] = attrs.field(default=(), kw_only=True, converter=_pairs)
    reveal: tuple[str, ...] = attrs.field(default=(), kw_only=True, converter=_words)
    max_line: int = attrs.field(default=8_192, kw_only=True, validator=attrs.validators.ge(256))
    sample: float = attrs.field(default=1.0, kw_only=True)
    statuses: tuple[str, ...] = attrs.field(default=(), kw_only=True, converter=_words)
    slower_than: float | None = attrs.field(default=None, kw_only=True)
    direction: str = attrs.field(default="", kw_only=True, repr=False)
    registry: Registry | None = attrs.field(default=None, kw_only=True, repr=False)
    rng: random.Random = attrs.field(factory=random.Random, kw_only=True, repr=False, eq=False)

    __repr__ = changes

    def __attrs_post_init__(self) -> None:
        self._choice()
        self._format()

    def _choice(self) -> LogChoice:
        return LogChoice.of(self.sample, self.statuses, self.slower_than)

    def _format(self) -> Format:
        return Format(
            self.format,
            template=self.template,
            fields=dict(self.fields) or None,
            reveal=self.reveal,
            max_line=self.max_line,
        )

    def lines(self) -> Lines:
        """The queue of one nursery's services."""
        registry = self.registry
        counters = None
        write: Any = self.write
        if registry is not None:
            counters = (
                registry.counter("access_log_lines_total", "Total count of lines of access logs written.").labels(),
                registry.counter(
                    "access_log_dropped_total", "Total count of lines of access logs that could not be kept or written."
                ).labels(),
            )
            if write is None:
                # One for all that write there: lines of two pipelines are never mixed.
                write = registry.shared(("access log", self.to), lambda: Output(self.to))
        if write is None:
            write = Output(self.to)
        return Lines(
            self._format(),
            self._choice(),
            write,
            direction=self.direction,
            wall=self.clock,
            capacity=self.capacity,
            rng=self.rng,
            counters=counters,
        )

    def layer(self, inner: NewHttp[T], /) -> NewHttp[T]:
        """Logs what the services that *inner* makes answer; one writer for each nursery."""
        return _NewLogged(self, inner)


class _NewLogged(Generic[T]):
    """Makes logged services."""

    __slots__ = ("_choice", "_inner", "_layer", "_writers")

    def __init__(self, layer: AccessLog, inner: NewHttp[T]) -> None:
        self._layer = layer
        self._inner = inner
        self._choice = LogChoice.of(layer.sample, layer.statuses, layer.slower_than)
        self._writers: weakref.WeakKeyDictionary[trio.Nursery, Lines] = weakref.WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"{self._layer!r} over {self._inner!r}"

    def new_service(self, target: T, nursery: trio.Nursery, /) -> HttpService:
        """The logged service for *target*."""
        inner = self._inner.new_service(target, nursery)
        if self._choice.early and not self._choice.sample:
            return inner
        lines = self._writers.get(nursery)
        if lines is None:
            lines = self._writers[nursery] = self._layer.lines()
            lines.start(nursery)
        return link(Logged(inner, lines, target), inner, self._layer)
