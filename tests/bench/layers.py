"""What each layer costs a request: a service with it and without it, in turns, in this process and without a socket."""

from __future__ import annotations

import gc
import statistics
import time
from functools import partial
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import trio

from meshcore import layers
from meshcore.abc import Status
from meshcore.compiled import is_compiled
from meshcore.http.body import Full
from meshcore.http.classification import Classification
from meshcore.http.headers import Headers
from meshcore.http.message import Request, Response
from meshcore.http.retry_on import RetryOn
from meshcore.http.timeouts import Timeouts
from meshcore.layers.rate_limit import Rate, RateLimits
from meshcore.metrics.registry import Registry
from meshcore.testing import MockNewService, memory_connection_pair
from meshcore.tracing.sampling import Tracing
from meshcore.tracing.tracer import Tracer
from meshcore.transport.accrual import Accrual
from meshcore.transport.target import Accepted, Backend, BackendRef, Endpoint, HttpRoute
from tests.bench.guarded import guarded
from tests.bench.report import number, table

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore.abc import HttpService
    from tests.bench.measure import Settings

__all__ = ["ACCEPTED", "BACKEND", "Answers", "each_layer", "get", "layer_costs"]


class _Spans:
    """A recorder that throws spans away."""

    def began(self, span: Any, above: Any, /) -> None:
        pass

    def ended(self, span: Any, /) -> None:
        pass


ENDPOINT = Endpoint(("127.0.0.1", 80), "h2")
BACKEND = Backend("origin", (ENDPOINT,))
REF = BackendRef(BACKEND, route="route", parent="public")
OTHER = BackendRef(Backend("other", (ENDPOINT,)), route="route", parent="public")
ROUTE = HttpRoute("route", (REF,), parent="public")
SPLIT = HttpRoute("route", (REF, OTHER), parent="public")
ACCEPTED = Accepted("public", ("127.0.0.1", 80), ("127.0.0.1", 50_000))

# By the name of the entry point, and what is special: the layer, as one configures it, and what it is made for.
MEASURED: dict[str, tuple[Callable[[], Any], Any]] = {
    "access_log": (lambda: layers.AccessLog(write=lambda line: None), ACCEPTED),
    "authorize": (lambda: layers.Authorize("all-unauthenticated", registry=Registry()), ACCEPTED),
    "balance": (layers.Balance, BACKEND),
    "classify": (lambda: layers.Classify(Classification.of(["503"], [])), ROUTE),
    "concurrency_limit": (layers.ConcurrencyLimit, ROUTE),
    "downgrade_orig_proto": (layers.DowngradeOrigProto, ACCEPTED),
    "failure_accrual": (lambda: layers.FailureAccrual(Accrual()), ENDPOINT),
    "filters": (lambda: layers.Filters((layers.RequestHeaders(set={"x-team": "shop"}),)), ROUTE),
    "idle_cache": (layers.IdleCache, ROUTE),
    "inject_delay": (lambda: layers.InjectDelay(1.0, ratio=1e-9), ROUTE),
    "inject_failure": (lambda: layers.InjectFailure(503, ratio=1e-9), ROUTE),
    "load_shed": (layers.LoadShed, ROUTE),
    "metrics": (lambda: layers.Metrics(Registry()), ENDPOINT),
    "proxy_errors": (layers.ProxyErrors, ENDPOINT),
    "rate_limit": (lambda: layers.RateLimit(RateLimits(Rate(1e6, 1_000_000_000))), ROUTE),
    "read_overrides": (lambda: layers.ReadOverrides(True), ROUTE),
    "request_headers": (lambda: layers.RequestHeaders(set={"x-team": "shop"}), ROUTE),
    "require_id": (layers.RequireId, ENDPOINT),
    "rescue": (layers.Rescue, ACCEPTED),
    "response_headers": (lambda: layers.ResponseHeaders(set={"x-team": "shop"}), ROUTE),
    "retry": (layers.Retry, ROUTE),
    "retry (gRPC, by status)": (lambda: layers.Retry(on=RetryOn.of(["unavailable"])), ROUTE),
    "rewrite": (lambda: layers.Rewrite(host="inner.test"), ROUTE),
    "route": (lambda: layers.Route({"a.test": BACKEND}), ACCEPTED),
    "route_metrics": (lambda: layers.RouteMetrics(Registry()), ROUTE),
    "set_client_id": (layers.SetClientId, ACCEPTED),
    "split (one backend)": (layers.Split, ROUTE),
    "split (two backends)": (layers.Split, SPLIT),
    "stream_timeouts": (lambda: layers.StreamTimeouts(Timeouts(request=10.0)), ROUTE),
    "timeout": (lambda: layers.Timeout(10.0), ROUTE),
    "to_backend": (lambda: layers.ToBackend(BACKEND), ACCEPTED),
    "trace (nothing to continue)": (lambda: layers.Trace(Tracer(_Spans())), ACCEPTED),
    "trace (begins 1 %)": (lambda: layers.Trace(Tracer(_Spans(), Tracing(sample=0.01))), ACCEPTED),
    "trace (begins all)": (lambda: layers.Trace(Tracer(_Spans(), Tracing(sample=1.0))), ACCEPTED),
    "upgrade_orig_proto": (layers.UpgradeOrigProto, ENDPOINT),
}
LEFT_OUT = {
    "connect_metrics": "once a connection",
    "connect_timeout": "once a connection",
    "ext_authz": "asks another service: a request of its own, and the wait for it",
    "health_checks": "nothing a request",
    "jwt": "needs keys; a token's signature is checked once and remembered",
    "local_endpoint": "nothing a request",
    "mirror": "what it copies is a request of its own",
    "prevent_loop": "once a connection",
    "redirect": "answers itself, there is nothing below to compare with",
    "send_transport_header": "once a connection",
    "tcp_errors": "once a connection",
    "tcp_metrics": "once a connection",
    "tls": "once a connection",
}
TURNS = 9


def layer_costs(settings: Settings) -> str:
    """Both tables of it."""
    each = trio.run(partial(each_layer, 0.02 if settings.seconds < 2 else 0.1))
    reasons = "; ".join(f"`{name}` ({why})" for name, why in LEFT_OUT.items())
    return (
        "Each layer by itself, over a service that answers at once: what it adds to a request whose head has come over "
        "HTTP/2, in µs of this process. "
        f"The data path is {'compiled' if is_compiled() else 'interpreted'}.\n\n"
        f"{each}\n\nLeft out: {reasons}.\n\n"
        "And together: a gateway that only forwards, and one whose route has retries with gRPC statuses, limits, a "
        "breaker and a policy.\n\n"
        f"{guarded(settings)}"
    )


class Answers:
    """The service at the bottom; it can tell that it is ready, as a balancer can."""

    def status(self) -> Status:
        return Status.OPEN

    async def ready(self) -> None:
        """It is."""

    async def __call__(self, request: Request, /) -> Response:
        end = request.body.end
        if end is None:
            request.body.receive_nowait()
        return Response(200, Headers([(b"content-type", b"text/plain")]), Full(b"x" * 100), 20)


async def each_layer(seconds: float) -> str:
    """The table: µs a request that each layer adds."""
    known = {point.name for point in entry_points(group="meshcore.layers") if point.value.startswith("meshcore.")}
    forgotten = known - {name.partition(" ")[0] for name in MEASURED} - set(LEFT_OUT)
    assert not forgotten, f"neither measured nor left out: {forgotten}"
    connection, _ = memory_connection_pair()
    rows = []
    async with trio.open_nursery() as nursery:
        bare = Answers()
        for name, (make, target) in MEASURED.items():
            # Endpoints' services and those of everything else are the same one here.
            new = make().layer(MockNewService(lambda _: bare))
            service = new.new_service(target, nursery)
            rows.append([f"`{name}`", number(await _added(bare, service, connection, seconds, "gRPC" in name), 2)])
        nursery.cancel_scope.cancel()
    rows.sort(key=lambda row: -float(row[1]))
    return table(["layer", "µs/request"], rows)


async def _added(bare: HttpService, service: HttpService, connection: Any, seconds: float, grpc: bool) -> float:
    """Median over the turns of what *service* takes longer than *bare*."""
    make = _call if grpc else get
    for each in (bare, service):
        await _turn(each, make, connection, 200)
    count = max(100, round(seconds / (await _turn(service, make, connection, 500))))
    found = []
    for _ in range(TURNS):
        without = await _turn(bare, make, connection, count)
        found.append(await _turn(service, make, connection, count) - without)
    return max(0.0, statistics.median(found) * 1e6)


async def _turn(service: HttpService, make: Callable[[Any], Request], connection: Any, count: int) -> float:
    """Seconds a request."""
    await trio.lowlevel.checkpoint()
    gc.collect()
    gc.disable()
    try:
        began = time.perf_counter()
        for _ in range(count):
            response = await service(make(connection))
            body = response.body
            if body.end is None:
                body.receive_nowait()
        return (time.perf_counter() - began) / count
    finally:
        gc.enable()


def get(connection: Any) -> Request:
    """A small request that has come over HTTP/2."""
    fields = [(b"accept", b"*/*"), (b"user-agent", b"bench")]
    return Request(b"GET", b"http", b"a.test", b"/", Headers(fields), version=20, connection=connection)


def _call(connection: Any) -> Request:
    fields = [(b"content-type", b"application/grpc"), (b"te", b"trailers")]
    body = Full(b"\0\0\0\0\x20" + b"x" * 32)
    return Request(b"POST", b"http", b"a.test", b"/s.S/M", Headers(fields), body, version=20, connection=connection)
