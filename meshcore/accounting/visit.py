"""A visit: one measured request at one layer."""

from __future__ import annotations

__all__ = ["Visit"]


class Visit:
    """What is known of a measured request at one layer, while it is there.

    Attributes:
        weight: how many requests it stands for.
        level: the layer's; -1 above all of them.
        above: the visit that it is a part of.
        asked: how often what is below was asked.
        responded: the last answer from below was one, not an error.
        error: the last error from below.
        seconds: spent below.
    """

    __slots__ = ("above", "asked", "error", "level", "responded", "seconds", "weight")

    def __init__(self, weight: int, level: int, above: Visit | None) -> None:
        self.weight = weight
        self.level = level
        self.above = above
        self.asked = 0
        self.responded = False
        self.error: BaseException | None = None
        self.seconds = 0.0
