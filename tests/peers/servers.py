"""Origin servers and other people's proxies with minimal configurations of comparable features."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.peers.process import Running, find, free_port, listening, running, scratch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["envoy", "haproxy", "iperf3", "nghttpd", "nginx", "nginx_proxy"]

ANSWER = b"x" * 99 + b"\n"
SIZES = {"1m": 1 << 20, "8m": 8 << 20}


class PeerMissing(Exception):
    """A program is not installed; its name is the message."""


def program(name: str) -> str:
    """The path of *name*.

    Raises:
        PeerMissing: it is not installed.
    """
    path = find(name)
    if path is None:
        raise PeerMissing(name)
    return path


def _nginx_frame(directory: Path, servers: str) -> str:
    # Nothing outside the directory, no fork, no logs: what `root` may and an ordinary user may run alike.
    user = "user root;" if os.geteuid() == 0 else ""
    return f"""
{user}
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    default_type text/plain;
    keepalive_requests 1000000000;
    keepalive_timeout 300s;
    client_max_body_size 0;
    {servers}
}}
"""


@contextmanager
def nginx(*, any_address: bool = False) -> Iterator[Running]:
    """nginx as an origin on ``port`` (HTTP/1.1) and ``ports["h2"]``: ``/`` 100 bytes, ``/1m``, ``/echo-…``; and as a
    collector, which takes spans and forgets them."""
    path = program("nginx")
    port, h2 = free_port(), free_port()
    host = "0.0.0.0" if any_address else "127.0.0.1"
    with scratch("nginx") as directory:
        for name, size in SIZES.items():
            (directory / name).write_bytes(b"x" * size)
        locations = f"""
            root {directory};
            location = / {{ return 200 "{"x" * 99}\\n"; }}
            location = /host {{ return 200 "$host $request_method $http_via"; }}
            location = /missing {{ return 404 "no\\n"; }}
            location = /v1/traces {{ return 200 ""; }}
        """
        configuration = directory / "nginx.conf"
        configuration.write_text(
            _nginx_frame(
                directory,
                f"""
                server {{ listen {host}:{port} backlog=4096; {locations} }}
                server {{ listen {host}:{h2} http2 backlog=4096; {locations} }}
                """,
            )
        )
        command = [path, "-p", str(directory), "-c", str(configuration), "-e", "stderr"]
        with running("nginx", command, port=port) as server:
            server.ports["h2"] = h2
            yield server


@contextmanager
def nghttpd(*options: str) -> Iterator[Running]:
    """nghttpd as an HTTP/2 origin: ``/`` 100 bytes, ``/1m``."""
    path = program("nghttpd")
    port = free_port()
    with scratch("nghttpd") as directory:
        (directory / "index.html").write_bytes(ANSWER)
        for name, size in SIZES.items():
            (directory / name).write_bytes(b"x" * size)
        command = [path, "--no-tls", "-a", "127.0.0.1", "-d", str(directory), *options, str(port)]
        with running("nghttpd", command, port=port) as server:
            yield server


@contextmanager
def iperf3() -> Iterator[Running]:
    """An iperf3 server."""
    port = free_port()
    with running("iperf3", [program("iperf3"), "-s", "-B", "127.0.0.1", "-p", str(port)], port=port) as server:
        yield server


@contextmanager
def nginx_proxy(to: Sequence[int]) -> Iterator[Running]:
    """nginx, one worker, as an HTTP/1.1 reverse proxy with kept connections."""
    path = program("nginx")
    port = free_port()
    endpoints = "".join(f"server 127.0.0.1:{each};" for each in to)
    with scratch("nginx-proxy") as directory:
        configuration = directory / "nginx.conf"
        configuration.write_text(
            _nginx_frame(
                directory,
                f"""
                upstream u {{ least_conn; {endpoints} keepalive 1024; keepalive_requests 1000000000; }}
                server {{
                    listen 127.0.0.1:{port} backlog=4096;
                    location / {{
                        proxy_pass http://u;
                        proxy_http_version 1.1;
                        proxy_set_header connection "";
                        proxy_buffering off;
                        proxy_request_buffering off;
                    }}
                }}
                """,
            )
        )
        command = [path, "-p", str(directory), "-c", str(configuration), "-e", "stderr"]
        with running("nginx", command, port=port) as server:
            yield server


@contextmanager
def haproxy(to: Sequence[int], protocol: str = "http/1") -> Iterator[Running]:
    """haproxy, one thread; *protocol* ``"http/1"``, ``"h2"`` or ``"opaque"`` on both sides."""
    path = program("haproxy")
    port = free_port()
    mode = "tcp" if protocol == "opaque" else "http"
    word = " proto h2" if protocol == "h2" else ""
    endpoints = "\n".join(f"    server s{index} 127.0.0.1:{each}{word}" for index, each in enumerate(to))
    reuse = "" if mode == "tcp" else "    http-reuse always\n"
    with scratch("haproxy") as directory:
        configuration = directory / "haproxy.cfg"
        configuration.write_text(
            f"""
global
    nbthread 1
    maxconn 8192
defaults
    mode {mode}
    timeout connect 1s
    timeout client 300s
    timeout server 300s
frontend f
    bind 127.0.0.1:{port}{word}
    default_backend b
backend b
    balance leastconn
{reuse}{endpoints}
"""
        )
        with running("haproxy", [path, "-db", "-f", str(configuration)], port=port) as server:
            yield server


@contextmanager
def envoy(
    to: Sequence[int], protocol: str = "http/1", *, addresses: Sequence[str] = (), authz: int | None = None
) -> Iterator[Running]:
    """Envoy with ``--concurrency 1``: one listener, router, one least-request cluster; *protocol* as for haproxy.

    *authz* is the port of an authorization service that it asks by gRPC about each request.
    """
    path = program("envoy")
    port = free_port()
    hosts = addresses or [f"127.0.0.1:{each}" for each in to]
    kind = "type.googleapis.com/envoy.extensions"
    if protocol == "opaque":
        chain = {
            "name": "envoy.filters.network.tcp_proxy",
            "typed_config": {
                "@type": f"{kind}.filters.network.tcp_proxy.v3.TcpProxy",
                "stat_prefix": "in",
                "cluster": "u",
            },
        }
    else:
        chain = {
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": f"{kind}.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": "in",
                "codec_type": "AUTO",
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
                        "typed_config": {"@type": f"{kind}.filters.http.router.v3.Router"},
                    }
                ],
            },
        }
        if authz is not None:
            asking = {
                "@type": f"{kind}.filters.http.ext_authz.v3.ExtAuthz",
                "transport_api_version": "V3",
                "grpc_service": {"envoy_grpc": {"cluster_name": "authz"}, "timeout": "5s"},
            }
            filters: Any = chain["typed_config"]["http_filters"]  # type: ignore[index]
            filters.insert(0, {"name": "envoy.filters.http.ext_authz", "typed_config": asking})
    cluster: dict[str, object] = {
        "name": "u",
        "type": "STATIC",
        "lb_policy": "LEAST_REQUEST",
        "connect_timeout": "1s",
        "circuit_breakers": {
            "thresholds": [{"max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000}]
        },
        "load_assignment": {
            "cluster_name": "u",
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": _socket_address(*host.rsplit(":", 1))}} for host in hosts]}
            ],
        },
    }
    if protocol == "h2":
        cluster["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{kind}.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
    clusters = [cluster]
    if authz is not None:
        clusters.append(
            {
                "name": "authz",
                "type": "STATIC",
                "connect_timeout": "1s",
                "typed_extension_protocol_options": {
                    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                        "@type": f"{kind}.upstreams.http.v3.HttpProtocolOptions",
                        "explicit_http_config": {"http2_protocol_options": {}},
                    }
                },
                "load_assignment": {
                    "cluster_name": "authz",
                    "endpoints": [
                        {"lb_endpoints": [{"endpoint": {"address": _socket_address("127.0.0.1", str(authz))}}]}
                    ],
                },
            }
        )
    configuration = {
        "static_resources": {
            "listeners": [
                {"name": "l", "address": _socket_address("127.0.0.1", port), "filter_chains": [{"filters": [chain]}]}
            ],
            "clusters": clusters,
        }
    }
    with scratch("envoy") as directory:
        file = directory / "envoy.json"
        file.write_text(json.dumps(configuration))
        command = [path, "-c", str(file), "--concurrency", "1", "--disable-hot-restart", "-l", "warning"]
        with running("envoy", command, port=port, ready=lambda server: listening(server.port)) as server:
            yield server


def _socket_address(host: str, port: str | int) -> dict[str, object]:
    return {"socket_address": {"address": host, "port_value": int(port)}}
