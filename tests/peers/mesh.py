"""Two sidecars between a client and an origin, with mTLS between them: Envoy's, for comparison and as a peer."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.peers.process import Running, free_port, listening, running, scratch
from tests.peers.servers import program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["envoy_inbound", "envoy_outbound"]

_KIND = "type.googleapis.com/envoy.extensions"


def _address(host: str, port: int) -> dict[str, object]:
    return {"socket_address": {"address": host, "port_value": port}}


def _http(codec: str) -> dict[str, Any]:
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": f"{_KIND}.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "in",
            "codec_type": codec,
            "upgrade_configs": [{"upgrade_type": "websocket"}],
            "route_config": {
                "virtual_hosts": [
                    {
                        "name": "all",
                        "domains": ["*"],
                        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "u", "timeout": "0s"}}],
                    }
                ]
            },
            "http_filters": [
                {
                    "name": "envoy.filters.http.router",
                    "typed_config": {"@type": f"{_KIND}.filters.http.router.v3.Router"},
                }
            ],
        },
    }


def _tcp() -> dict[str, Any]:
    return {
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": f"{_KIND}.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "in",
            "cluster": "u",
        },
    }


def _cluster(host: str, port: int, protocol: str) -> dict[str, Any]:
    cluster: dict[str, Any] = {
        "name": "u",
        "type": "STATIC",
        "connect_timeout": "1s",
        "circuit_breakers": {
            "thresholds": [{"max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000}]
        },
        "load_assignment": {
            "cluster_name": "u",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(host, port)}}]}],
        },
    }
    if protocol == "h2":
        cluster["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_KIND}.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
    return cluster


def _common(cert: Path, key: Path, anchors: Path, name: str | None) -> dict[str, Any]:
    validation: dict[str, Any] = {"trusted_ca": {"filename": str(anchors)}}
    if name is not None:
        kind = "URI" if "://" in name else "DNS"
        validation["match_typed_subject_alt_names"] = [{"san_type": kind, "matcher": {"exact": name}}]
    return {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [{"certificate_chain": {"filename": str(cert)}, "private_key": {"filename": str(key)}}],
        "validation_context": validation,
    }


@contextmanager
def _envoy(chain: dict[str, Any], cluster: dict[str, Any], port: int) -> Iterator[Running]:
    configuration = {
        "static_resources": {
            "listeners": [{"name": "l", "address": _address("127.0.0.1", port), "filter_chains": [chain]}],
            "clusters": [cluster],
        }
    }
    with scratch("envoy") as directory:
        file = directory / "envoy.json"
        file.write_text(json.dumps(configuration))
        command = [program("envoy"), "-c", str(file), "--concurrency", "1", "--disable-hot-restart", "-l", "warning"]
        with running("envoy", command, port=port, ready=lambda server: listening(server.port)) as server:
            yield server


@contextmanager
def envoy_inbound(
    to: int, cert: Path, key: Path, anchors: Path, *, protocol: str = "h2", client: str | None = None
) -> Iterator[Running]:
    """Envoy as the sidecar of the application at port *to*: mTLS in, plaintext out.

    *protocol* is the application's: ``"h2"``, ``"http/1"`` or ``"opaque"``; *client* the name that a client's
    certificate must have, None for any of the same authority.
    """
    context = {"@type": f"{_KIND}.transport_sockets.tls.v3.DownstreamTlsContext", "require_client_certificate": True}
    context["common_tls_context"] = _common(cert, key, anchors, client)
    chain = {
        "filters": [_tcp() if protocol == "opaque" else _http("AUTO")],
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": context},
    }
    with _envoy(chain, _cluster("127.0.0.1", to, protocol), free_port()) as server:
        yield server


@contextmanager
def envoy_outbound(
    to: int, cert: Path, key: Path, anchors: Path, *, server: str, protocol: str = "h2"
) -> Iterator[Running]:
    """Envoy as the sidecar of a client: plaintext in, mTLS out to port *to*, whose certificate must name *server*."""
    context: dict[str, Any] = {"@type": f"{_KIND}.transport_sockets.tls.v3.UpstreamTlsContext"}
    context["common_tls_context"] = _common(cert, key, anchors, server)
    if "://" not in server:
        context["sni"] = server
    cluster = _cluster("127.0.0.1", to, protocol)
    cluster["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": context}
    chain = {"filters": [_tcp() if protocol == "opaque" else _http("AUTO")]}
    with _envoy(chain, cluster, free_port()) as running_server:
        yield running_server
