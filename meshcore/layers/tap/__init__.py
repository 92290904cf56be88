"""Tap: requests as they pass, for whoever asks to see them."""

from __future__ import annotations

from meshcore.layers.tap.filter import KINDS, TapFilter
from meshcore.layers.tap.hub import Subscription, TapHub
from meshcore.layers.tap.layer import Tap
from meshcore.layers.tap.query import TapQuery, parse_query

__all__ = ["KINDS", "Subscription", "Tap", "TapFilter", "TapHub", "TapQuery", "parse_query"]
