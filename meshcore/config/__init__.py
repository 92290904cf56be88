"""What a proxy is told: frozen classes with every default, and the reading of options and files into them.

Nothing is opened, bound or started here; a configuration is a value.
"""

from __future__ import annotations

from meshcore.config.admin import AdminConfig, AdminTls
from meshcore.config.ext_authz import ExtAuthzConfig
from meshcore.config.file import ConfigFile
from meshcore.config.filters import (
    DelayConfig,
    FailureConfig,
    FilterConfig,
    MirrorConfig,
    RedirectConfig,
    RewriteConfig,
)
from meshcore.config.gateway import CertificateFiles, Gateway, GatewayTls
from meshcore.config.jwt import JwtConfig
from meshcore.config.layers import LayerEdit, edited
from meshcore.config.load import Loaded, examine, load_config, parse_config
from meshcore.config.match import GrpcConfig, Match, PathConfig, RequestConfig, ValueConfig
from meshcore.config.mesh import IdentityConfig, Limits, MeshConfig, Service
from meshcore.config.metrics import MetricsConfig
from meshcore.config.policy import PolicyConfig
from meshcore.config.problems import Problems
from meshcore.config.proxy import Listen, ProxyConfig, TlsFiles, proxy_config
from meshcore.config.rate_limit import HeaderRateConfig, OverrideConfig, RateConfig, RateLimitConfig
from meshcore.config.route import BackendRef, GatewayRoute, InboundRoute
from meshcore.config.sidecar import Inbound, Outbound
from meshcore.config.tracing import Secret, TracingConfig
from meshcore.config.upstream import (
    BackendConfig,
    ClientTls,
    Destination,
    DestinationRef,
    DestinationRoute,
    EndpointConfig,
    RetryConfig,
    TimeoutConfig,
)
from meshcore.config.words import ACCESS_LOGS, BALANCERS, ENGINES, OPAQUE_PORTS, POLICIES, PROTOCOLS

__all__ = [
    "ACCESS_LOGS",
    "BALANCERS",
    "ENGINES",
    "OPAQUE_PORTS",
    "POLICIES",
    "PROTOCOLS",
    "AdminConfig",
    "AdminTls",
    "BackendConfig",
    "BackendRef",
    "CertificateFiles",
    "ClientTls",
    "ConfigFile",
    "DelayConfig",
    "Destination",
    "DestinationRef",
    "DestinationRoute",
    "EndpointConfig",
    "ExtAuthzConfig",
    "FailureConfig",
    "FilterConfig",
    "Gateway",
    "GatewayRoute",
    "GatewayTls",
    "GrpcConfig",
    "HeaderRateConfig",
    "IdentityConfig",
    "Inbound",
    "InboundRoute",
    "JwtConfig",
    "LayerEdit",
    "Limits",
    "Listen",
    "Loaded",
    "Match",
    "MeshConfig",
    "MetricsConfig",
    "MirrorConfig",
    "Outbound",
    "OverrideConfig",
    "PathConfig",
    "PolicyConfig",
    "Problems",
    "ProxyConfig",
    "RateConfig",
    "RateLimitConfig",
    "RedirectConfig",
    "RequestConfig",
    "RetryConfig",
    "RewriteConfig",
    "Secret",
    "Service",
    "TimeoutConfig",
    "TlsFiles",
    "TracingConfig",
    "ValueConfig",
    "edited",
    "examine",
    "load_config",
    "parse_config",
    "proxy_config",
]
