"""From a config file to a configuration: read, structured, judged as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from meshcore.config.checks import check
from meshcore.config.document import Document, parse_document, read_document
from meshcore.config.mesh import MeshConfig
from meshcore.config.overrides import override
from meshcore.config.report import At, Problem, Report
from meshcore.config.tables import Table
from meshcore.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Loaded", "examine", "load_config", "parse_config"]


@attrs.frozen
class Loaded:
    """What a config file came to.

    Attributes:
        document: the file as it was read, with ``--set`` applied.
        config: the configuration; None if there are problems.
        problems: everything that is wrong, in the order of the file.
        warnings: what may not be meant.
    """

    document: Document
    config: MeshConfig | None
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]


def examine(path: Path | str, settings: Sequence[str] = (), *, waiting: bool = False) -> Loaded:
    """Everything there is to say about a config file.

    Args:
        path: the file.
        settings: those of ``--set``.
        waiting: whether files of ``[identity]`` that are not there yet are a warning: whoever runs waits for them.

    Raises:
        ConfigError: the file cannot be read or parsed, or a setting is not one: nothing more can be told then.
    """
    return _examine(read_document(Path(path)), settings, waiting)


def _examine(document: Document, settings: Sequence[str] = (), waiting: bool = False) -> Loaded:
    override(document, settings)
    report = Report(document, waiting=waiting)
    config: MeshConfig = Table(MeshConfig).read(document.values, At(report))
    check(config, report)
    report.sort()
    return Loaded(document, None if report.problems else config, tuple(report.problems), tuple(report.warnings))


def load_config(path: Path | str, settings: Sequence[str] = (), *, waiting: bool = False) -> MeshConfig:
    """The configuration of a file; the arguments are those of :func:`examine`.

    Raises:
        ConfigError: with everything that is wrong, a line each.
    """
    return _config(examine(path, settings, waiting=waiting))


def parse_config(text: str, path: Path | str = "config.toml") -> MeshConfig:
    """The configuration of a text, as for tests.

    Args:
        text: TOML, or JSON if *path* ends so.
        path: the file that it would be: names it in messages, and relative paths start there.

    Raises:
        ConfigError: with everything that is wrong, a line each.
    """
    return _config(_examine(parse_document(Path(path), text)))


def _config(loaded: Loaded) -> MeshConfig:
    if loaded.config is None:
        raise ConfigError([str(problem) for problem in loaded.problems])
    return loaded.config
