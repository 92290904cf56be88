"""What a proxy is told: frozen classes with every default, and the reading of options and files into them.

Nothing is opened, bound or started here; a configuration is a value.
"""

from __future__ import annotations

from meshcore.config.ext_authz import ExtAuthzConfig
from meshcore.config.gateway import BackendRef, CertificateFiles, Gateway, GatewayRoute, GatewayTls, Match
from meshcore.config.layers import LayerEdit, edited
from meshcore.config.load import Loaded, examine, load_config, parse_config
from meshcore.config.mesh import AdminConfig, IdentityConfig, Limits, MeshConfig, Service
from meshcore.config.problems import Problems
from meshcore.config.proxy import Listen, ProxyConfig, TlsFiles, proxy_config
from meshcore.config.sidecar import Inbound, Outbound
from meshcore.config.upstream import BackendConfig, ClientTls, Destination, EndpointConfig, RetryConfig, TimeoutConfig
from meshcore.config.words import ACCESS_LOGS, BALANCERS, ENGINES, OPAQUE_PORTS, POLICIES, PROTOCOLS

__all__ = [
    "ACCESS_LOGS",
    "BALANCERS",
    "ENGINES",
    "OPAQUE_PORTS",
    "POLICIES",
    "PROTOCOLS",
    "AdminConfig",
    "BackendConfig",
    "BackendRef",
    "CertificateFiles",
    "ClientTls",
    "Destination",
    "EndpointConfig",
    "ExtAuthzConfig",
    "Gateway",
    "GatewayRoute",
    "GatewayTls",
    "IdentityConfig",
    "Inbound",
    "LayerEdit",
    "Limits",
    "Listen",
    "Loaded",
    "Match",
    "MeshConfig",
    "Outbound",
    "Problems",
    "ProxyConfig",
    "RetryConfig",
    "Service",
    "TimeoutConfig",
    "TlsFiles",
    "edited",
    "examine",
    "load_config",
    "parse_config",
    "proxy_config",
]
