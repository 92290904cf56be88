"""The state of a limit that is found.  Pure: time is handed in."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshcore.http.concurrency import Gradient

__all__ = ["Adaptive"]

_HISTORY = 600
"""Windows that the usual latency is the average of, more or less."""
_WARM = 10
"""Windows until that average is one."""
_RECOVERY = 0.95
"""What is left of the usual latency, each window, when it is far above what it has become."""
_BACKOFF = 0.9
"""What is left of the limit after a window in which the service said that it was too much."""


class Adaptive:
    """Compares the latency of a window with the usual one.

    Attributes:
        value: the limit.
        usual: the usual latency in seconds; 0.0: none known yet.
        recent: that of the last window.
    """

    __slots__ = (
        "_began",
        "_count",
        "_dropped",
        "_gradient",
        "_most",
        "_peak",
        "_sum",
        "_windows",
        "recent",
        "usual",
        "value",
    )

    def __init__(self, gradient: Gradient, most: int, now: float) -> None:
        self._gradient = gradient
        self._most = most
        self.value = float(min(max(gradient.initial, gradient.minimum), most))
        self.usual = 0.0
        self.recent = 0.0
        self._windows = 0
        self._began = now
        self._sum = 0.0
        self._count = 0
        self._peak = 0
        self._dropped = False

    @property
    def limit(self) -> int:
        """The limit as a whole number."""
        return max(int(self.value), 1)

    def sample(self, now: float, latency: float, in_flight: int, dropped: bool) -> bool:
        """The end of one request; whether the limit may have changed.

        Args:
            now: the time.
            latency: seconds it took.
            in_flight: requests in flight, itself included.
            dropped: whether it failed because there was too much to do.
        """
        self._peak = max(self._peak, in_flight)
        if dropped:
            self._dropped = True
        else:
            self._sum += latency
            self._count += 1
        if now - self._began < self._gradient.window or self._count + self._dropped < self._gradient.samples:
            return False
        self._step()
        self._began = now
        self._sum = 0.0
        self._count = 0
        self._peak = 0
        self._dropped = False
        return True

    def _step(self) -> None:
        gradient = self._gradient
        if self._dropped:
            self.value = max(self.value * _BACKOFF, float(gradient.minimum))
            return
        recent = self.recent = self._sum / self._count
        self._windows += 1
        weight = 1.0 / self._windows if self._windows <= _WARM else 2.0 / (_HISTORY + 1)
        self.usual += (recent - self.usual) * weight
        if self.usual > 2.0 * recent:
            # It was slow for long and is well again: that was not the usual.
            self.usual *= _RECOVERY
        if self._peak * 2 < self.limit:
            # Nothing is learnt from what nobody has made use of.
            return
        slope = min(max(gradient.tolerance * self.usual / recent, 0.5), 1.0) if recent > 0 else 1.0
        # Room for a queue, without which the limit would never grow.
        wanted = self.value * slope + math.sqrt(self.value)
        value = self.value + (wanted - self.value) * gradient.smoothing
        self.value = min(max(value, float(gradient.minimum)), float(self._most))
