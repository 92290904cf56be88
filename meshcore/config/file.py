"""A config file that somebody else changes: read anew when it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from meshcore.config.changes import restart_needed
from meshcore.config.document import dotted
from meshcore.config.load import Loaded, examine
from meshcore.config.report import Problem
from meshcore.errors import ConfigError
from meshcore.transport.watch import Stamp, stamp

if TYPE_CHECKING:
    from meshcore.config.mesh import MeshConfig

__all__ = ["ConfigFile"]


@attrs.frozen
class ConfigFile:
    """Where a proxy's configuration comes from, and comes from again.

    Attributes:
        path: the file.
        settings: those of ``--set``, which hold after every reload.
        began: the file's stamp when this was made, which is to be before it is read for the first time.
    """

    path: Path = attrs.field(converter=Path)
    settings: tuple[str, ...] = attrs.field(default=(), converter=tuple[str, ...])
    began: Stamp = attrs.field(
        default=attrs.Factory(lambda self: self.stamp(), takes_self=True), init=False, repr=False, eq=False
    )

    def stamp(self) -> Stamp:
        """Changes whenever the file does, or another one takes its name: see :func:`~meshcore.transport.watch.stamp`.
        A file that is not there has one, too."""
        return stamp((self.path,))

    def load(self, running: MeshConfig) -> Loaded:
        """What the file has now; a change that *running* would have to be restarted for is a problem like any other.

        Raises:
            ConfigError: with everything that is wrong, a line each.
        """
        # Those of [identity] have been read, or are still waited for.
        loaded = examine(self.path, self.settings, waiting=True)
        if loaded.config is None:
            raise ConfigError([str(problem) for problem in loaded.problems])
        document = loaded.document
        refused = [
            str(Problem(document.place(path), dotted(path), text))
            for path, text in restart_needed(running, loaded.config)
        ]
        if refused:
            raise ConfigError(refused)
        return loaded
