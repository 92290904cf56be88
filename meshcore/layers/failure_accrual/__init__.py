"""Circuit breaking: an endpoint that fails is left alone for a while."""

from __future__ import annotations

from meshcore.layers.failure_accrual.breaker import Breaker, State
from meshcore.layers.failure_accrual.layer import BreakerStatistics, FailureAccrual
from meshcore.transport.accrual import Accrual

__all__ = ["Accrual", "Breaker", "BreakerStatistics", "FailureAccrual", "State"]
