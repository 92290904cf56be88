"""Active health checks: an endpoint is asked whether it is well, beside what its traffic tells."""

from __future__ import annotations

from meshcore.layers.health_checks.grpc_check import GrpcCheck
from meshcore.layers.health_checks.http_check import HttpCheck
from meshcore.layers.health_checks.layer import HealthChecks, HealthStatistics
from meshcore.layers.health_checks.tcp_check import TcpCheck

__all__ = ["GrpcCheck", "HealthChecks", "HealthStatistics", "HttpCheck", "TcpCheck"]
