"""Tracing as a configuration describes it: who decides, and how spans get to the collector."""

from __future__ import annotations

import os
import socket
from importlib import metadata
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from meshcore.client.http import Http
from meshcore.errors import ConfigError
from meshcore.layers.connect_timeout import ConnectTimeout
from meshcore.layers.retry import Retry
from meshcore.layers.tls import Tls
from meshcore.layers.trace import Trace
from meshcore.stack import Stack, stack
from meshcore.tracing.exporter import Collector, Exporter
from meshcore.tracing.sampling import Tracing
from meshcore.transport.target import Endpoint, TlsClient

if TYPE_CHECKING:
    from collections.abc import Mapping

    import trio

    from meshcore.abc import Connect, HttpService, NewHttp
    from meshcore.config import MeshConfig, TracingConfig
    from meshcore.pipeline.runtime import Runtime
    from meshcore.tracing.tracer import Tracer

__all__ = ["TracedProcess", "served", "tracer_of", "tried"]

_CONNECT_TIMEOUT = 5.0
_PATH = "/v1/traces"


def tracer_of(config: MeshConfig, runtime: Runtime) -> Tracer | None:
    """Who traces the requests of a configuration's pipelines; None: nobody."""
    return runtime.tracer if config.tracing is not None or runtime.tracer.always else None


def served(top: Stack[Any, Any], tracer: Tracer | None, direction: str) -> Stack[Any, Any]:
    """*top* with what records requests as they are accepted, where they are recorded."""
    return top if tracer is None else top.then(Trace(tracer, "server", direction))


def tried(top: Stack[Any, Any], tracer: Tracer | None, direction: str) -> Stack[Any, Any]:
    """*top* with what records each try at an endpoint, where they are recorded."""
    return top if tracer is None else top.then(Trace(tracer, "client", direction, name="trace_endpoint"))


class TracedProcess:
    """The tracing of one running proxy: its tracer's settings follow the configuration, and an exporter runs from when
    it is first wanted.

    Args:
        runtime: has the tracer; one whose recorder somebody has set keeps it, and its settings where there is no
            ``[tracing]``.
        resource: what else is told of the process; the configuration has the last word.
    """

    def __init__(self, runtime: Runtime, resource: Mapping[str, str] | None = None) -> None:
        self._runtime = runtime
        self._resource = dict(resource or {})
        self._given = runtime.tracer.recorder is not None
        self._settings = runtime.tracer.tracing
        self._exporter: Exporter | None = None
        self._told: TracingConfig | None = None

    def prepare(self, config: MeshConfig) -> Collector | None:
        """The collector of a configuration, for :meth:`use`; the same one again if nothing of it has changed.

        Raises:
            ConfigError: a file that it names cannot be read.
        """
        if config.tracing is None or self._given:
            return None
        made = _collector(config, config.tracing, self._runtime.connect, self._resource)
        known = self._exporter.collector if self._exporter is not None else None
        return known if known is not None and config.tracing == self._told and _same(known, made) else made

    def use(self, config: MeshConfig, collector: Collector | None, nursery: trio.Nursery) -> None:
        """From now on it is as the configuration says; *nursery* is where spans are sent from."""
        self._told = told = config.tracing
        tracer = self._runtime.tracer
        tracer.use(self._settings if told is None else _settings(told))
        if self._given:
            return
        if self._exporter is not None:
            if collector is not self._exporter.collector:
                self._exporter.use(collector)
        elif collector is not None:
            self._exporter = Exporter(collector, self._runtime.registry, self._runtime.clock)
            nursery.start_soon(self._exporter.run, name="span exporter")
        tracer.recorder = self._exporter if collector is not None else None

    def end(self) -> None:
        """No more requests will come: the last spans are sent, as far as that does not take long."""
        if self._exporter is not None:
            self._exporter.end()


def _settings(told: TracingConfig) -> Tracing:
    return Tracing(sample=told.sample, continued=told.continued, propagation=told.propagation, query=told.query)


def _same(one: Collector, other: Collector) -> bool:
    """Whether requests would be the same; files may have changed."""
    return (one.headers, one.resource) == (other.headers, other.resource)


def _collector(config: MeshConfig, told: TracingConfig, connect: Connect, resource: Mapping[str, str]) -> Collector:
    parts = urlsplit(told.collector)
    host, secure = parts.hostname or "", parts.scheme == "https"
    anchors = None
    if told.trust_anchors is not None:
        try:
            anchors = told.trust_anchors.read_bytes()
        except OSError as error:
            raise ConfigError([f"{told.trust_anchors}: {(error.strerror or str(error)).lower()}"]) from error
    tls = TlsClient(host, ("http/1.1",), anchors) if secure else None
    endpoint = Endpoint((host, parts.port or (443 if secure else 80)), "http/1", tls=tls)
    upstream: Stack[Connect, NewHttp[Endpoint]] = (
        stack(Endpoint)
        # What was not processed, as on a connection that was just closed, is sent again at once.
        .then(Retry(1))
        .then(Http())
        .then(Tls())
        .then(ConnectTimeout(_CONNECT_TIMEOUT))
    )

    def reach(nursery: trio.Nursery) -> HttpService:
        return upstream.layer(connect).new_service(endpoint, nursery)

    path = parts.path if parts.path.endswith(_PATH) else f"{parts.path.rstrip('/')}{_PATH}"
    return Collector(
        url=told.collector,
        authority=parts.netloc.encode("ascii"),
        path=path.encode("ascii"),
        scheme=parts.scheme.encode("ascii"),
        connect=reach,
        headers=tuple((name.encode(), secret.value()) for name, secret in told.headers.items()),
        resource=_described(config, told, resource),
        version=_version(),
        compressed=told.compression == "gzip",
        timeout=told.timeout,
        batch=told.batch,
        interval=told.interval,
        queue=told.queue,
    )


def _version() -> str:
    return metadata.version("meshcore-sidecar")


def _described(config: MeshConfig, told: TracingConfig, resource: Mapping[str, str]) -> dict[str, object]:
    """What is told of the process: what the configuration says before what its environment says, before what is
    known anyway."""
    service = config.service
    found: dict[str, object] = {"service.name": "meshcore" if service is None else service.name}
    if service is not None:
        found["service.namespace"] = service.namespace
    found |= {
        "host.name": socket.gethostname(),
        "process.pid": os.getpid(),
        "telemetry.sdk.name": "meshcore",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": _version(),
    }
    found |= resource
    found |= told.attributes
    if told.service_name is not None:
        found["service.name"] = told.service_name
    return found
