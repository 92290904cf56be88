"""``[metrics]``: what is counted, and how much of it is kept."""

from __future__ import annotations

from typing import Annotated

import attrs

from meshcore.config.kinds import Whole

__all__ = ["MetricsConfig"]


@attrs.frozen(kw_only=True)
class MetricsConfig:
    """``[metrics]``: what is counted, and how much of it is kept.

    Attributes:
        authority: whether requests are counted by the authority that they name, too; whoever sends them decides then
            how many series there are (M-04).
        max_series: of each family; what is more is counted together, as ``overflow="true"``.
    """

    authority: bool = False
    max_series: Annotated[int, Whole(1, 100_000)] = 2_000
