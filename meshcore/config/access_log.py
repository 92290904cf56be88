"""``[access_log]``: which requests are told of, how, and where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import attrs

from meshcore.addresses import suggest
from meshcore.config.kinds import Duration, Kind, Number, Size, Whole, parsed, text
from meshcore.config.places import beside
from meshcore.config.report import WRONG, At, right, shown
from meshcore.config.tables import Listed, Tables
from meshcore.errors import ConfigError
from meshcore.http.log_choice import LogChoice
from meshcore.http.log_template import FORMATS, Template, is_secret

if TYPE_CHECKING:
    from meshcore.config.mesh import MeshConfig
    from meshcore.config.report import Report

__all__ = ["AccessLogConfig", "Destination", "check_access_log", "read_word"]

LogFormat: TypeAlias = Literal["text", "json", "apache", "linkerd-json"]
Side: TypeAlias = Literal["inbound", "outbound", "gateway"]

SIDES: tuple[Side, ...] = ("inbound", "outbound", "gateway")
_STREAMS = ("stdout", "stderr")


@attrs.frozen
class Destination(Kind):
    """Where lines go: standard output or error, or a file, whose path is relative to the config file."""

    title = "`stdout`, `stderr` or a file"

    def read(self, value: object, at: At, /) -> Any:
        """The word, or the path as text."""
        word = text(value, at)
        if word is WRONG or word in _STREAMS:
            return word
        if not word:
            return at.error("must not be empty")
        near = suggest(word.lower(), [*_STREAMS, "off"])
        if "/" not in word and "." not in word and near:
            hint = "; without [access_log] there is none" if near.endswith("'off'?") else near
            return at.error(f"{shown(word)} is not stdout, stderr or a file such as \"access.log\"{hint}")
        path = beside(at, word)
        if path.is_dir():
            return at.error(f"{shown(word)} is a folder; a file is wanted")
        if not path.parent.is_dir():
            return at.error(f"{shown(word)}: there is no folder {str(path.parent)!r}")
        return str(path)

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"type": "string", "minLength": 1}


@attrs.frozen
class TemplateKind(Kind):
    """A line, or a value in it, with fields in it."""

    title = "a template"

    def read(self, value: object, at: At, /) -> Any:
        """The text."""
        return WRONG if parsed(value, at, Template.parse) is WRONG else value

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"type": "string"}


@attrs.frozen
class FieldsKind(Tables):
    """Keys of a line of JSON, each with a template."""

    title = "templates by key"

    def refused(self, value: object, at: At, /) -> Any:
        """Says that *value* is none."""
        return at.error(f'{shown(value)} is not a table of templates, such as {{ path = "%{{path}}" }}')


@attrs.frozen
class OutcomeKind(Kind):
    """A status, or several, or ``error``."""

    title = "a status"

    def read(self, value: object, at: At, /) -> Any:
        """The word."""
        if isinstance(value, int) and not isinstance(value, bool):
            return at.error(f'{shown(value)} is not text; did you mean "{value}"?')
        return WRONG if parsed(value, at, lambda word: LogChoice.of(1.0, [word])) is WRONG else value

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"type": "string", "minLength": 3}


@attrs.frozen(kw_only=True)
class AccessLogConfig:
    """``[access_log]``: a line for each request, or for some.  Without the table, ``[proxy] access_log`` says it.

    Attributes:
        format: a form that has a name: ``text``, ``json``, ``apache`` or ``linkerd-json`` (linkerd's names); absent:
            ``text``.
        template: a line of text of one's own, in place of *format*: ``%{method} %{path} %{header.x-tenant}``.
        fields: a line of JSON of one's own, in place of *format*: keys, and the template of each.
        to: where lines go.  A file may be moved away at any time: it is opened anew.
        sample: the share of requests that are told; by the trace's id where there is one, so that every proxy with the
            same share tells of the same requests.
        statuses: what is told whatever the sample: ``5xx``, ``404``, ``500-504``, gRPC statuses (``unavailable``), and
            ``error`` for exchanges that broke or were never answered.
        slower_than: what takes longer is told, too; absent: nothing is for that.
        sides: where requests are told of.
        reveal: header fields whose values are told although their names are those of secrets.
        max_line: characters of a line at the most; values in it are cut for that.
        capacity: lines that may wait for whoever takes them; more are dropped and counted.
    """

    format: LogFormat | None = None
    template: Annotated[str, TemplateKind()] | None = None
    fields: Annotated[dict[str, str], FieldsKind(TemplateKind())] | None = None
    to: Annotated[str, Destination()] = "stdout"
    sample: Annotated[float, Number(0, 1)] = 1.0
    statuses: Annotated[tuple[str, ...], Listed(OutcomeKind(), tuple)] = ()
    slower_than: Duration | None = None
    sides: tuple[Side, ...] = SIDES
    reveal: tuple[str, ...] = ()
    max_line: Size = 8_192
    capacity: Annotated[int, Whole(1, 1_000_000)] = 10_000

    @classmethod
    def short(cls, word: str, to: str = "stdout") -> AccessLogConfig | None:
        """What ``--access-log`` and ``[proxy] access_log`` mean: None for ``off``; a text with fields is a template."""
        if word == "off":
            return None
        return cls(template=word, to=to) if "%{" in word else cls(format=word, to=to)  # type: ignore[arg-type]

    @property
    def silent(self) -> bool:
        """Whether nothing is ever told."""
        return self.sample == 0 and not self.statuses and self.slower_than is None


def check_access_log(config: MeshConfig, report: Report) -> None:
    """Reports what does not go together in ``[access_log]``, and with ``[proxy]``."""
    told = config.access_log
    if not right(told) or told is None:
        return
    here = ("access_log",)
    if right(config.proxy) and right(config.proxy.access_log) and config.proxy.access_log != "off":
        report.error(("proxy", "access_log"), "[access_log] says it; leave one of them out")
    given = report.document.values.get("access_log")
    given = given if isinstance(given, dict) else {}
    forms = [name for name in ("format", "template", "fields") if name in given]
    if len(forms) > 1:
        report.error((*here, forms[-1]), f"{' and '.join(forms)} are different forms of a line; leave one of them out")
    if right(told.max_line) and told.max_line < 256:
        report.error((*here, "max_line"), "has to be 256 at the least")
    if all(map(right, (told.sample, told.statuses))) and told.slower_than is None and told.silent:
        report.warn((*here, "sample"), "nothing is ever told; add statuses or slower_than")
    if right(told.reveal):
        for index, name in enumerate(told.reveal):
            if right(name) and not is_secret(name):
                report.warn((*here, "reveal", index), f"{shown(name)} is not masked anyway")


def read_word(word: str) -> str:
    """The word of ``--access-log`` itself: ``off``, a form's name, or a template.

    Raises:
        ConfigError: it is none of them.
    """
    if "%{" in word:
        Template.parse(word)
        return word
    known = ["off", *FORMATS]
    if word not in known:
        raise ConfigError([f"{word!r} is not one of {', '.join(known)}{suggest(word, known)}"])
    return word
