"""The layers between the two ends of a pipeline, one file each."""

from __future__ import annotations

from meshcore.layers.access_log import AccessLog
from meshcore.layers.authorize import Authorize
from meshcore.layers.balance import Balance
from meshcore.layers.classify import Classify
from meshcore.layers.concurrency_limit import ConcurrencyLimit
from meshcore.layers.connect_metrics import ConnectMetrics
from meshcore.layers.connect_timeout import ConnectTimeout
from meshcore.layers.downgrade_orig_proto import DowngradeOrigProto
from meshcore.layers.ext_authz import ExtAuthz
from meshcore.layers.failure_accrual import FailureAccrual
from meshcore.layers.filters import Filters
from meshcore.layers.health_checks import HealthChecks
from meshcore.layers.idle_cache import IdleCache
from meshcore.layers.inject_delay import InjectDelay
from meshcore.layers.inject_failure import InjectFailure
from meshcore.layers.jwt import Jwt
from meshcore.layers.load_shed import LoadShed
from meshcore.layers.local_endpoint import LocalEndpoint
from meshcore.layers.metrics import Metrics
from meshcore.layers.mirror import Mirror
from meshcore.layers.prevent_loop import PreventLoop
from meshcore.layers.proxy_errors import ProxyErrors
from meshcore.layers.rate_limit import RateLimit
from meshcore.layers.read_overrides import ReadOverrides
from meshcore.layers.redirect import Redirect
from meshcore.layers.request_headers import RequestHeaders
from meshcore.layers.require_id import RequireId
from meshcore.layers.rescue import Rescue
from meshcore.layers.response_headers import ResponseHeaders
from meshcore.layers.retry import Retry
from meshcore.layers.rewrite import Rewrite
from meshcore.layers.route import Route
from meshcore.layers.route_metrics import RouteMetrics
from meshcore.layers.set_client_id import SetClientId
from meshcore.layers.split import Split, Weights
from meshcore.layers.stream_timeouts import StreamTimeouts
from meshcore.layers.tap import Tap
from meshcore.layers.tcp_errors import TcpErrors
from meshcore.layers.tcp_metrics import TcpMetrics
from meshcore.layers.timeout import Timeout
from meshcore.layers.tls import Tls
from meshcore.layers.to_backend import ToBackend
from meshcore.layers.trace import Trace
from meshcore.layers.transport_header import SendTransportHeader
from meshcore.layers.upgrade_orig_proto import UpgradeOrigProto

__all__ = [
    "AccessLog",
    "Authorize",
    "Balance",
    "Classify",
    "ConcurrencyLimit",
    "ConnectMetrics",
    "ConnectTimeout",
    "DowngradeOrigProto",
    "ExtAuthz",
    "FailureAccrual",
    "Filters",
    "HealthChecks",
    "IdleCache",
    "InjectDelay",
    "InjectFailure",
    "Jwt",
    "LoadShed",
    "LocalEndpoint",
    "Metrics",
    "Mirror",
    "PreventLoop",
    "ProxyErrors",
    "RateLimit",
    "ReadOverrides",
    "Redirect",
    "RequestHeaders",
    "RequireId",
    "Rescue",
    "ResponseHeaders",
    "Retry",
    "Rewrite",
    "Route",
    "RouteMetrics",
    "SendTransportHeader",
    "SetClientId",
    "Split",
    "StreamTimeouts",
    "Tap",
    "TcpErrors",
    "TcpMetrics",
    "Timeout",
    "Tls",
    "ToBackend",
    "Trace",
    "UpgradeOrigProto",
    "Weights",
]
