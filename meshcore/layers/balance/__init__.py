"""Load balancing: who gets a request."""

from __future__ import annotations

from meshcore.layers.balance.layer import Balance
from meshcore.layers.balance.load import PeakEwma, Pending
from meshcore.layers.balance.member import EndpointStatistics
from meshcore.layers.balance.p2c import P2c
from meshcore.layers.balance.round_robin import RoundRobin
from meshcore.layers.balance.statistics import BalanceStatistics

__all__ = ["Balance", "BalanceStatistics", "EndpointStatistics", "P2c", "PeakEwma", "Pending", "RoundRobin"]
