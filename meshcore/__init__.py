"""A service-mesh proxy as a library: services, layers and stacks on Trio.

The names below are loaded when they are first used, so that ``import meshcore`` costs nothing and its trio-free
modules (codecs, addresses, explanations) stay so.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str

    from meshcore.abc import Body as Body
    from meshcore.abc import Connect as Connect
    from meshcore.abc import HttpService as HttpService
    from meshcore.abc import Layer as Layer
    from meshcore.abc import NewAccept as NewAccept
    from meshcore.abc import NewHttp as NewHttp
    from meshcore.abc import NewService as NewService
    from meshcore.abc import Resolve as Resolve
    from meshcore.abc import Service as Service
    from meshcore.abc import ServiceLayer as ServiceLayer
    from meshcore.abc import Status as Status
    from meshcore.accounting import Ledger as Ledger
    from meshcore.accounting import accounted as accounted
    from meshcore.client.http import Http as Http
    from meshcore.client.options import ClientOptions as ClientOptions
    from meshcore.config import MeshConfig as MeshConfig
    from meshcore.config import ProxyConfig as ProxyConfig
    from meshcore.config import load_config as load_config
    from meshcore.errors import MeshError as MeshError
    from meshcore.http.body import Empty as Empty
    from meshcore.http.body import EndOfStream as EndOfStream
    from meshcore.http.body import Full as Full
    from meshcore.http.headers import Headers as Headers
    from meshcore.http.matching import GrpcMatch as GrpcMatch
    from meshcore.http.matching import PathMatch as PathMatch
    from meshcore.http.matching import RequestMatch as RequestMatch
    from meshcore.http.matching import RouteRule as RouteRule
    from meshcore.http.matching import ValueMatch as ValueMatch
    from meshcore.http.message import Request as Request
    from meshcore.http.message import Response as Response
    from meshcore.http.message import Timeouts as Timeouts
    from meshcore.http.route_table import RouteTable as RouteTable
    from meshcore.proxy import Proxy as Proxy
    from meshcore.proxy import serve_config as serve_config
    from meshcore.server.detect import Detect as Detect
    from meshcore.server.detect_tls import DetectTls as DetectTls
    from meshcore.server.http import ServeHttp as ServeHttp
    from meshcore.server.opaque import Forward as Forward
    from meshcore.server.options import ServerOptions as ServerOptions
    from meshcore.server.read_transport_header import ReadTransportHeader as ReadTransportHeader
    from meshcore.server.serve import drain_on_signal as drain_on_signal
    from meshcore.server.serve import serve as serve
    from meshcore.server.terminate_tls import TerminateTls as TerminateTls
    from meshcore.stack import Param as Param
    from meshcore.stack import Stack as Stack
    from meshcore.stack import accept as accept
    from meshcore.stack import middleware as middleware
    from meshcore.transport.connection import Connection as Connection
    from meshcore.transport.drain import Drain as Drain
    from meshcore.transport.target import Accepted as Accepted
    from meshcore.transport.target import Authority as Authority
    from meshcore.transport.target import Backend as Backend
    from meshcore.transport.target import BackendRef as BackendRef
    from meshcore.transport.target import Endpoint as Endpoint
    from meshcore.transport.target import HttpRoute as HttpRoute
    from meshcore.transport.tcp import connect_tcp as connect_tcp

_HOMES = {
    "abc": "Body Connect HttpService Layer NewAccept NewHttp NewService Resolve Service ServiceLayer Status",
    "accounting": "Ledger accounted",
    "client.http": "Http",
    "client.options": "ClientOptions",
    "config": "MeshConfig ProxyConfig load_config",
    "errors": "MeshError",
    "http.body": "Empty EndOfStream Full",
    "http.headers": "Headers",
    "http.matching": "GrpcMatch PathMatch RequestMatch RouteRule ValueMatch",
    "http.message": "Request Response Timeouts",
    "http.route_table": "RouteTable",
    "proxy": "Proxy serve_config",
    "server.detect": "Detect",
    "server.detect_tls": "DetectTls",
    "server.http": "ServeHttp",
    "server.opaque": "Forward",
    "server.options": "ServerOptions",
    "server.read_transport_header": "ReadTransportHeader",
    "server.serve": "drain_on_signal serve",
    "server.terminate_tls": "TerminateTls",
    "stack": "Param Stack accept middleware",
    "transport.connection": "Connection",
    "transport.drain": "Drain",
    "transport.target": "Accepted Authority Backend BackendRef Endpoint HttpRoute",
    "transport.tcp": "connect_tcp",
}
_HOME = {name: f"meshcore.{module}" for module, names in _HOMES.items() for name in names.split()}
_PACKAGES = frozenset({"accounting", "admin", "errors", "grpc", "layers", "metrics", "pipeline", "resolve", "testing"})

__all__ = [
    "Accepted",
    "Authority",
    "Backend",
    "BackendRef",
    "Body",
    "ClientOptions",
    "Connect",
    "Connection",
    "Detect",
    "DetectTls",
    "Drain",
    "Empty",
    "EndOfStream",
    "Endpoint",
    "Forward",
    "Full",
    "GrpcMatch",
    "Headers",
    "Http",
    "HttpRoute",
    "HttpService",
    "Layer",
    "Ledger",
    "MeshConfig",
    "MeshError",
    "NewAccept",
    "NewHttp",
    "NewService",
    "Param",
    "PathMatch",
    "Proxy",
    "ProxyConfig",
    "ReadTransportHeader",
    "Request",
    "RequestMatch",
    "Resolve",
    "Response",
    "RouteRule",
    "RouteTable",
    "ServeHttp",
    "ServerOptions",
    "Service",
    "ServiceLayer",
    "Stack",
    "Status",
    "TerminateTls",
    "Timeouts",
    "ValueMatch",
    "accept",
    "accounted",
    "connect_tcp",
    "drain_on_signal",
    "load_config",
    "middleware",
    "serve",
    "serve_config",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata

        return metadata.version("meshcore-sidecar")
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    if name in _PACKAGES:
        return importlib.import_module(f"meshcore.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, *_PACKAGES})
