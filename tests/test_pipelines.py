"""The built-in pipelines, printed: an order that changes is seen here first."""

from __future__ import annotations

import pytest

from meshcore.config import ProxyConfig, proxy_config
from meshcore.layers import Balance
from meshcore.pipeline import gateway
from meshcore.stack import middleware

PLAIN = """\
Stack
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
