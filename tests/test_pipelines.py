"""The built-in pipelines, printed: an order that changes is seen here first."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from meshcore.config import (
    BackendConfig,
    BackendRef,
    Destination,
    DestinationRoute,
    FilterConfig,
    Gateway,
    GatewayRoute,
    Inbound,
    InboundRoute,
    Match,
    MeshConfig,
    MirrorConfig,
    Outbound,
    PathConfig,
    ProxyConfig,
    TimeoutConfig,
    proxy_config,
)
from meshcore.config.concurrency import ConcurrencyConfig
from meshcore.config.failures import ClassifyConfig, FailureAccrualConfig
from meshcore.config.upstream import EndpointConfig
from meshcore.layers import Balance
from meshcore.pipeline import gateway, listener
from meshcore.pipeline.inbound import inbound
from meshcore.pipeline.outbound import outbound
from meshcore.stack import Stack, middleware, role

PLAIN = """\
Stack
└─ TcpErrors(direction='inbound')
└─ TcpMetrics(direction='inbound')
└─ Detect(timeout=1.0)
   ┊ http
   └─ ServeHttp(options=ServerOptions())
   └─ Metrics(scope='inbound')
   └─ Rescue(informational=True)
   └─ ToBackend(backend='gateway')
   └─ Retry(attempts=1, budget=Budget(ratio=0.2, minimum=10.0, ttl=10.0), replay=65536)
   └─ Balance(resolve=Static(endpoints=None), load=PeakEwma(decay=10.0, default_rtt=0.03), policy='p2c-ewma', \
fail_fast=3.0, capacity=10000)
      ┊ one of these per Endpoint
      └─ Metrics(scope='outbound')
      └─ Http(options=ClientOptions())
      └─ Tls(handshake_timeout=10.0)
      └─ ConnectMetrics(direction='outbound')
      └─ ConnectTimeout(seconds=1.0)
   ┊ opaque
   └─ ToBackend(backend='gateway')
   └─ Balance(resolve=Static(endpoints=None), load=PeakEwma(decay=10.0, default_rtt=0.03), policy='p2c-ewma', \
fail_fast=3.0, capacity=10000)
      ┊ one of these per Endpoint
      └─ Forward(idle_timeout=3600.0)
      └─ Tls(handshake_timeout=10.0)
      └─ ConnectMetrics(direction='outbound')
      └─ ConnectTimeout(seconds=1.0)"""


def config(**options: str) -> ProxyConfig:
    return proxy_config([":8080"], ["10.0.0.1:80,10.0.0.2:80"], opaque_ports="", **options)


def test_the_gateway_is_these_layers_in_this_order() -> None:
    assert repr(gateway(config())) == PLAIN


def test_what_is_asked_for_is_added_in_its_place() -> None:
    roles = gateway(config(timeout="2s", access_log="json")).roles()
    assert roles.index("server_metrics") < roles.index("access_log") < roles.index("rescue")
    assert roles.index("retry") < roles.index("timeout") < roles.index("balance")


def test_limits_per_try_stand_below_retry_and_what_the_client_sees_above_rescue() -> None:
    roles = gateway(config(timeout="2s", access_log="text")).roles()
    http = roles[roles.index("serve_http") : roles.index("endpoint_metrics") + 1]
    assert http == [
        "serve_http",
        "server_metrics",
        "access_log",
        "rescue",
        "to_backend",
        "retry",
        "timeout",
        "balance",
        "endpoint_metrics",
    ]


def test_the_shipped_pipeline_can_be_edited_by_role() -> None:
    @middleware
    async def audit(request, inner):  # type: ignore[no-untyped-def]
        return await inner(request)

    roles = gateway(config()).insert_before("retry", audit).roles()
    assert roles[roles.index("retry") - 1] == "audit"
    with pytest.raises(LookupError, match="2 layers with role 'Balance'"):
        gateway(config()).remove(Balance)


def test_no_role_is_there_twice() -> None:
    roles = gateway(config(timeout="2s", access_log="text"), own=list).roles()
    assert sorted(set(roles)) == sorted(roles)


def test_endpoints_whose_servers_speak_first_are_opaque_at_once() -> None:
    database = proxy_config([":8080"], ["10.0.0.1:5432"])
    assert "Detect(protocol='opaque')" in repr(gateway(database))


INBOUND = """\
Stack
└─ TcpErrors(direction='inbound')
└─ DetectTls(identity=None, timeout=1.0)
   ┊ plain
   └─ TcpMetrics(direction='inbound')
   └─ ReadTransportHeader(timeout=10.0, ports=None)
   └─ Detect(timeout=1.0)
      ┊ http
      └─ ServeHttp(options=ServerOptions())
      └─ Metrics(scope='inbound')
      └─ Rescue(informational='meshed')
      └─ Authorize(policy=all-unauthenticated)
      └─ DowngradeOrigProto()
      └─ SetClientId()
      └─ ToBackend(backend='application')
      └─ Balance(resolve=Static(endpoints=None), load=PeakEwma(decay=10.0, default_rtt=0.03), policy='p2c-ewma', \
fail_fast=1.0, capacity=10000)
         ┊ one of these per Endpoint
         └─ ProxyErrors(forwards=False)
         └─ Http(options=ClientOptions())
         └─ Tls(handshake_timeout=10.0)
         └─ ConnectMetrics(direction='inbound')
         └─ ConnectTimeout(seconds=0.3)
      ┊ opaque
      └─ Authorize(policy=all-unauthenticated)
      └─ ToBackend(backend='application')
      └─ Balance(resolve=Static(endpoints=None), load=PeakEwma(decay=10.0, default_rtt=0.03), policy='p2c-ewma', \
fail_fast=1.0, capacity=10000)
         ┊ one of these per Endpoint
         └─ Forward(idle_timeout=3600.0)
         └─ Tls(handshake_timeout=10.0)
         └─ ConnectMetrics(direction='inbound')
         └─ ConnectTimeout(seconds=0.3)
   ┊ passthrough
   └─ TcpMetrics(direction='inbound')
   └─ Authorize(policy=all-unauthenticated)
   └─ ToBackend(backend='application')
   └─ Balance(resolve=Static(endpoints=None), load=PeakEwma(decay=10.0, default_rtt=0.03), policy='p2c-ewma', \
fail_fast=1.0, capacity=10000)
      ┊ one of these per Endpoint
      └─ Forward(idle_timeout=3600.0)
      └─ Tls(handshake_timeout=10.0)
      └─ ConnectMetrics(direction='inbound')
      └─ ConnectTimeout(seconds=0.3)"""

OUTBOUND = """\
Stack
└─ TcpErrors(direction='outbound')
└─ TcpMetrics(direction='outbound')
└─ Detect(timeout=1.0)
   ┊ http
   └─ ServeHttp(options=ServerOptions())
   └─ Rescue(informational=True)
   └─ Route(routes={'orders:80': 'orders:80'})
   └─ RouteMetrics(scope='route')
   └─ LoadShed(at=closed)
   └─ ReadOverrides(allowed=operator.attrgetter('overrides'))
   └─ StreamTimeouts(timeouts=operator.attrgetter('timeouts'))
   └─ Retry(attempts=operator.attrgetter('retries'), \
budget=by backend, replay=operator.attrgetter('replay'))
   └─ Balance(resolve=Discover(schemes=['file', 'dns', 'dns+srv']), load=PeakEwma(decay=10.0, default_rtt=0.03), \
policy=operator.attrgetter('balance'), fail_fast=3.0, capacity=10000)
      ┊ one of these per Endpoint
      └─ ProxyErrors(forwards=False)
      └─ RequireId()
      └─ Metrics(scope='outbound')
      └─ UpgradeOrigProto()
      └─ Http(options=ClientOptions())
      └─ Tls(handshake_timeout=10.0)
      └─ ConnectMetrics(direction='outbound')
      └─ ConnectTimeout(seconds=1.0)
   ┊ opaque
   └─ DetectTls(identity=None, timeout=1.0)
      ┊ plain
      └─ ToBackend(backend=by SNI)
      └─ Balance(resolve=Discover(schemes=['file', 'dns', 'dns+srv']), load=PeakEwma(decay=10.0, default_rtt=0.03), \
policy=operator.attrgetter('balance'), fail_fast=3.0, capacity=10000)
         ┊ one of these per Endpoint
         └─ Forward(idle_timeout=3600.0)
         └─ SendTransportHeader()
         └─ Tls(handshake_timeout=10.0)
         └─ ConnectMetrics(direction='outbound')
         └─ ConnectTimeout(seconds=1.0)
      ┊ passthrough
      └─ ToBackend(backend=by SNI)
      └─ Balance(resolve=Discover(schemes=['file', 'dns', 'dns+srv']), load=PeakEwma(decay=10.0, default_rtt=0.03), \
policy=operator.attrgetter('balance'), fail_fast=3.0, capacity=10000)
         ┊ one of these per Endpoint
         └─ Forward(idle_timeout=3600.0)
         └─ SendTransportHeader()
         └─ Tls(handshake_timeout=10.0)
         └─ ConnectMetrics(direction='outbound')
         └─ ConnectTimeout(seconds=1.0)"""

NONE: frozenset[int] = frozenset()


def sidecar() -> MeshConfig:
    endpoint = EndpointConfig(address=("10.0.0.7", 4143))
    return MeshConfig(
        inbound=Inbound(forward=("127.0.0.1", 8000), opaque_ports=NONE),
        outbound=Outbound(
            opaque_ports=NONE, to={"orders:80": Destination(endpoints=(endpoint,), identity="orders.shop")}
        ),
    )


def test_the_inbound_side_of_a_sidecar_is_these_layers_in_this_order() -> None:
    assert repr(inbound(sidecar())) == INBOUND


def test_the_outbound_side_of_a_sidecar_is_these_layers_in_this_order() -> None:
    assert repr(outbound(sidecar())) == OUTBOUND


def before(roles: list[str], *wanted: str) -> bool:
    return [role for role in roles if role in wanted] == list(wanted)


def test_nothing_of_a_peer_is_believed_before_it_was_asked_who_it_is() -> None:
    roles = list(inbound(sidecar()).roles())
    # TLS first; then what only a verified proxy may say; whom it may reach; its name for the application last.
    assert before(roles, "detect_tls", "read_transport_header", "detect", "authorize", "set_client_id", "to_backend")
    # Every branch asks before it connects to the application.
    for branch in ("opaque_", "passthrough_"):
        assert before(roles, f"{branch}authorize", f"{branch}to_backend")
    # A refusal is answered and counted, so: Authorize below what does both.
    assert before(roles, "metrics", "rescue", "authorize")


def test_a_try_is_counted_once_its_endpoint_is_known_to_be_the_right_one() -> None:
    roles = list(outbound(sidecar()).roles())
    assert before(roles, "stream_timeouts", "retry", "balance", "require_id", "endpoint_metrics", "upgrade_orig_proto")
    # The header is the first thing inside of TLS, and the version is changed directly above what speaks it.
    assert roles[roles.index("upgrade_orig_proto") + 1] == "http"
    for branch in ("plain_", "opaque_"):
        assert before(roles, f"{branch}send_transport_header", f"{branch}tls")


ROUTED = """\
Route(routes=RouteTable(route-0, default))
RouteMetrics(scope='route')
Filters(filters=operator.attrgetter('filters'))
LoadShed(at=closed)
StreamTimeouts(timeouts=operator.attrgetter('timeouts'))
Mirror(mirrors=operator.attrgetter('mirrors'), body_limit=65536, in_flight=100, timeout=30.0)
Retry(attempts=operator.attrgetter('retries'), budget=by backend, replay=operator.attrgetter('replay'))
Split()
RouteMetrics(scope='backend')
Filters(filters=operator.attrgetter('filters'))
ToBackend(backend=operator.attrgetter('backend'))"""


def routed_gateway(*routes: GatewayRoute) -> Stack[Any, Any]:
    backends = {name: BackendConfig(endpoints=(EndpointConfig(address=(name, 80)),)) for name in ("a", "b")}
    to = (BackendRef(backend="a"),)
    config = MeshConfig(
        listen={"p": Gateway(bind=("127.0.0.1", 0), opaque_ports=NONE, to=to, route=routes)}, backend=backends
    )
    return listener(config, "p")


def http_layers(stack: Stack[Any, Any]) -> list[str]:
    detect: Any = next(layer for layer in stack if role(layer) == "detect")
    return [repr(layer) for layer in detect.branches()["http"]]


def test_what_routes_need_stands_between_them_and_their_backends_in_this_order() -> None:
    edit = FilterConfig(set_request_headers={"x": "1"})
    route = GatewayRoute(
        match=(Match(path=PathConfig(prefix="/v1")),),
        filters=(edit, FilterConfig(mirror=MirrorConfig(backend="b"))),
        timeout=TimeoutConfig(request=1.0),
        to=(BackendRef(backend="a", weight=90), BackendRef(backend="b", weight=10, filters=(edit,))),
    )
    layers = http_layers(routed_gateway(route))
    first = layers.index("Route(routes=RouteTable(route-0, default))")
    assert "\n".join(layers[first : first + 11]) == ROUTED
    assert layers[first + 11].startswith("Balance(")


def test_routes_that_name_hosts_alone_cost_what_they_did() -> None:
    route = GatewayRoute(match=(Match(host="b.test"),), to=(BackendRef(backend="b"),))
    roles = routed_gateway(route).roles()
    assert before(roles, "rescue", "set_client_id", "route", "retry", "balance")
    assert not {"split", "filters", "route_metrics", "to_backend"} & set(roles)


def test_no_role_is_there_twice_with_routes() -> None:
    edit = FilterConfig(set_request_headers={"x": "1"}, mirror=MirrorConfig(backend="b"))
    to = (BackendRef(backend="a", filters=(edit,)), BackendRef(backend="b"))
    roles = routed_gateway(GatewayRoute(filters=(edit,), match=(Match(method="GET"),), to=to)).roles()
    assert sorted(set(roles)) == sorted(roles)


def test_routes_of_destinations_and_of_the_application_have_their_places() -> None:
    config = sidecar()
    assert config.inbound is not None
    assert config.outbound is not None
    edit = FilterConfig(set_request_headers={"x": "1"})
    inner = attrs.evolve(config.inbound, route=(InboundRoute(filters=(edit,)),))
    routes = (DestinationRoute(filters=(edit,)),)
    to = {name: attrs.evolve(each, route=routes) for name, each in config.outbound.to.items()}
    config = attrs.evolve(config, inbound=inner, outbound=attrs.evolve(config.outbound, to=to))
    roles = inbound(config).roles()
    # The route is a part of what is asked, and nothing is done to the request of somebody who may not ask.
    assert before(roles, "set_client_id", "route", "route_metrics", "authorize", "filters", "to_backend", "balance")
    roles = outbound(config).roles()
    assert before(roles, "rescue", "route", "route_metrics", "filters", "retry", "split", "to_backend", "balance")


def test_limits_and_verdicts_stand_above_what_they_are_for() -> None:
    endpoint = EndpointConfig(address=("10.0.0.7", 4143))
    limit = ConcurrencyConfig(limit=100)
    told = Destination(
        endpoints=(endpoint,),
        classify=ClassifyConfig(status=("429",)),
        failure_accrual=FailureAccrualConfig(),
        concurrency_limit=limit,
    )
    plain = list(outbound(sidecar()).roles())
    roles = list(outbound(MeshConfig(outbound=Outbound(to={"orders:80": told}))).roles())

    # What is not asked for is not there.
    assert {"classify", "concurrency_limit", "failure_accrual"} == set(roles) - set(plain)
    # A verdict is known to all that ask; a request is one however often it is tried; a breaker judges one endpoint.
    assert before(roles, "classify", "load_shed", "concurrency_limit", "retry", "balance", "failure_accrual", "http")
    assert before(roles, "require_id", "failure_accrual", "endpoint_metrics")
    inner = Inbound(forward=("127.0.0.1", 8000), concurrency_limit=limit)
    assert before(list(inbound(MeshConfig(inbound=inner)).roles()), "rescue", "listener_limit", "authorize")


def test_what_records_requests_stands_above_the_access_log_and_at_each_try_and_only_where_it_is_told() -> None:
    from meshcore.config import parse_config

    text = """
[inbound]
listen = "127.0.0.1:4143"
forward = "127.0.0.1:8000"
[outbound]
[outbound.to."orders:80"]
endpoints = ["10.0.0.7:4143"]
health_check = {}
[listen.public]
bind = ":8080"
to = [{ backend = "site" }]
[backend.site]
endpoints = ["10.0.0.8:80"]
[proxy]
access_log = "text"
"""
    plain, traced = parse_config(text), parse_config(text + '[tracing]\ncollector = "http://127.0.0.1:4318"\n')
    for make in (inbound, outbound, lambda config: listener(config, "public")):
        assert not any("trace" in found for found in make(plain).roles())
        roles = make(traced).roles()
        assert roles.index("serve_http") < roles.index("trace") < roles.index("access_log") < roles.index("rescue")
        assert roles.index("balance") < roles.index("trace_endpoint") < roles.index("http")
        assert 2 == sum("trace" in found for found in roles)
    roles = outbound(traced).roles()
    # A question whether an endpoint is well is nobody's request.
    assert roles.index("endpoint_metrics") < roles.index("trace_endpoint") < roles.index("health_checks")
