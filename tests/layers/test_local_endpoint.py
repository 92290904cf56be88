"""Endpoints on this host: plaintext to the application, and said so."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from meshcore.codec.transport_header import TransportHeader
from meshcore.layers import LocalEndpoint
from meshcore.metrics.labels import target_labels
from meshcore.transport.target import Endpoint, TlsClient


class New:
    def __init__(self) -> None:
        self.targets: list[Endpoint] = []

    def new_service(self, target: Endpoint, nursery: trio.Nursery, /) -> Any:
        self.targets.append(target)


def meshed(host: str) -> Endpoint:
    return Endpoint(
        (host, 80),
        tls=TlsClient("a.test", identity="a.test", mesh=True),
        mesh_proxy=True,
        transport_header=TransportHeader(80),
    )


@pytest.mark.parity("D-23", "T-16")
async def test_an_endpoint_of_this_host_gets_neither_tls_nor_translation(nursery: trio.Nursery) -> None:
    new = New()
    layered = LocalEndpoint(lambda: ["10.0.0.1", "fd00::1"]).layer(new)
    for host in ("10.0.0.1", "10.0.0.2", "fd00::1"):
        layered.new_service(meshed(host), nursery)

    local = Endpoint(("10.0.0.1", 80), no_tls="loopback")
    assert [local, meshed("10.0.0.2"), Endpoint(("fd00::1", 80), no_tls="loopback")] == new.targets
    assert ("no_identity", "loopback", "") == target_labels("outbound", local)[4:]
    assert ("true", "", "a.test") == target_labels("outbound", meshed("10.0.0.2"))[4:]
    assert ("no_identity", "not_provided_by_service_discovery", "") == target_labels("outbound", Endpoint(("a", 1)))[4:]
    assert "LocalEndpoint" in repr(layered)
