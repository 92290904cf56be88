"""The layers between the two ends of a pipeline, one file each."""

from __future__ import annotations

from meshcore.layers.access_log import AccessLog
from meshcore.layers.balance import Balance
from meshcore.layers.connect_metrics import ConnectMetrics
from meshcore.layers.connect_timeout import ConnectTimeout
from meshcore.layers.idle_cache import IdleCache
from meshcore.layers.metrics import Metrics
from meshcore.layers.prevent_loop import PreventLoop
from meshcore.layers.rescue import Rescue
from meshcore.layers.retry import Retry
from meshcore.layers.route import Route
from meshcore.layers.tcp_metrics import TcpMetrics
from meshcore.layers.timeout import Timeout
from meshcore.layers.tls import Tls
from meshcore.layers.to_backend import ToBackend
from meshcore.layers.transport_header import SendTransportHeader

__all__ = [
    "AccessLog",
    "Balance",
    "ConnectMetrics",
    "ConnectTimeout",
    "IdleCache",
    "Metrics",
    "PreventLoop",
    "Rescue",
    "Retry",
    "Route",
    "SendTransportHeader",
    "TcpMetrics",
    "Timeout",
    "Tls",
    "ToBackend",
]
