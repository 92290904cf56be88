"""Load balancing: who gets a request."""

from __future__ import annotations

from meshcore.layers.balance.balancing import Balancing
from meshcore.layers.balance.hashing import ByCookie, ByHeader, BySource, HashBy
from meshcore.layers.balance.layer import Balance
from meshcore.layers.balance.load import PeakEwma, PenaltyPeakEwma, Pending
from meshcore.layers.balance.maglev import Maglev
from meshcore.layers.balance.member import EndpointStatistics
from meshcore.layers.balance.p2c import P2c
from meshcore.layers.balance.round_robin import RoundRobin
from meshcore.layers.balance.statistics import BalanceStatistics
from meshcore.layers.balance.zoned import Zoned

__all__ = [
    "Balance",
    "BalanceStatistics",
    "Balancing",
    "ByCookie",
    "ByHeader",
    "BySource",
    "EndpointStatistics",
    "HashBy",
    "Maglev",
    "P2c",
    "PeakEwma",
    "PenaltyPeakEwma",
    "Pending",
    "RoundRobin",
    "Zoned",
]
