"""What the compiler is told of classes; without it, nothing.

The data path may be compiled (``.ci/compile.py`` lists its modules).  Its classes are closed to subclasses in Python
then, unless they say otherwise by ``mypyc_attr``, which costs nothing where nothing is compiled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["i64", "mypyc_attr"]

if TYPE_CHECKING:
    from mypy_extensions import i64, mypyc_attr
else:
    # A number that a compiler need not expect to be large.
    i64 = int

    def mypyc_attr(**_):
        """Leaves the class as it is."""
        return lambda cls: cls
