"""Asking another service about requests, as the configuration says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from meshcore.addresses import format_address
from meshcore.config.upstream import BackendConfig, RetryConfig, TimeoutConfig
from meshcore.layers.balance import Balance
from meshcore.layers.ext_authz import ExtAuthz
from meshcore.layers.retry import Retry
from meshcore.pipeline.endpoint import requesting
from meshcore.pipeline.targets import backend_of
from meshcore.stack import stack
from meshcore.transport.target import Backend

if TYPE_CHECKING:
    from meshcore.client.options import ClientOptions
    from meshcore.config import ExtAuthzConfig
    from meshcore.pipeline.runtime import Runtime

__all__ = ["authorization"]


def authorization(
    asked: ExtAuthzConfig, runtime: Runtime, client: ClientOptions, *, connect_timeout: float
) -> ExtAuthz:
    """The layer, with a stack of its own to the service.

    Args:
        asked: where it is, and how it is asked.
        runtime: what the process gives.
        client: how it is spoken to.
        connect_timeout: seconds for each attempt to connect to it.
    """
    grpc = asked.grpc is not None
    endpoint = asked.grpc or asked.http
    assert endpoint is not None
    address = format_address(endpoint.address)
    spoken = endpoint.protocol or "http"
    if grpc and spoken == "http":
        # By prior knowledge: gRPC is HTTP/2.
        spoken = "h2c"
    described = BackendConfig(
        endpoints=(attrs.evolve(endpoint, protocol=spoken),), protocol=spoken, identity=asked.identity, tls=asked.tls
    )
    backend = backend_of(address, described, retry=RetryConfig(), timeout=TimeoutConfig())
    # The same again for the same service, so that a pipeline that is built anew is seen to be the same.
    key = (backend, client, connect_timeout, repr(asked))
    found = runtime.authorizers.get(key)
    if found is not None:
        return found
    upstream = (
        stack(Backend)
        # What was not processed, as on a connection that was just closed, may be asked again.
        .then(Retry(1))
        # Waits for the service, shorter than the question does, so that the answer can name what is wrong.
        .then(Balance(fail_fast=asked.timeout / 2, owner=runtime.owner, feed=runtime.feed))
        .then(
            requesting(
                runtime,
                client,
                connect_timeout=min(connect_timeout, asked.timeout),
                mesh=asked.identity is not None,
                measured=False,
            )
        )
    )
    made = runtime.authorizers[key] = ExtAuthz(
        upstream.layer(runtime.connect),
        backend,
        protocol="grpc" if grpc else "http",
        timeout=asked.timeout,
        on_error=asked.on_error,
        headers=asked.headers,
        copied=asked.copy_headers,
        prefix=asked.path_prefix or "",
        max_body=asked.max_body,
        authority=address,
        scheme="https" if spoken == "https" else "http",
        extensions=tuple(asked.context.items()),
        clock=runtime.clock,
        registry=runtime.registry,
    )
    return made
