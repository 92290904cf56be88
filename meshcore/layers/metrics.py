"""Requests counted and timed, by linkerd's names."""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

import attrs

from meshcore.abc import HttpService, NewHttp, link
from meshcore.metrics.by_authority import MeasuredByAuthority
from meshcore.metrics.labels import extra_labels, target_labels
from meshcore.metrics.registry import Registry
from meshcore.metrics.requests import Measured, RequestSeries

if TYPE_CHECKING:
    import trio

    from meshcore.metrics.prometheus import Labels

__all__ = ["Metrics"]

T = TypeVar("T")


@attrs.frozen
class Metrics:
    """Counts requests and responses, and times responses up to the first byte of their body.

    ``request_total`` counts at the call; ``response_total{status_code, classification, grpc_status, error}``
    at the end of the body, when it is known whether it was a success; ``response_latency_ms{status_code}``
    is observed when the first chunk of the body is taken.  The labels of the target (``direction``,
    ``target_addr`` …) are bound when the stack is built.  An exchange that ends without a response counts in
    ``response_total`` without a status code.

    Attributes:
        registry: where the series are.
        scope: ``"inbound"``, ``"outbound"`` or ``"admin"``: the label ``direction``.  ``"endpoint"`` is outbound.  One
            layer for each direction, or the same request is counted twice.
        authority: whether there is a label for the authority that requests name.  Their senders decide then how many
            series there are, up to the registry's bound.
        name: the role, where a stack has more than one.
    """

    registry: Registry = attrs.field(repr=False)
    scope: str = attrs.field(
        default="outbound", validator=attrs.validators.in_(("inbound", "outbound", "endpoint", "admin"))
    )
    name: str = attrs.field(default="metrics", repr=False)
    authority: bool = attrs.field(default=False, repr=False, kw_only=True)

    def layer(self, inner: NewHttp[T], /) -> NewHttp[T]:
        """Measures every service that *inner* makes; equal labels share their series."""
        return _NewMeasured(self, inner)


class _Series(RequestSeries):
    """Series that can be held weakly."""

    __slots__ = ("__weakref__",)


class _NewMeasured(Generic[T]):
    """Makes measured services; the series of one set of labels live as long as a service with them."""

    __slots__ = ("_direction", "_inner", "_layer", "_series")

    def __init__(self, layer: Metrics, inner: NewHttp[T]) -> None:
        self._layer = layer
        self._inner = inner
        self._direction = "outbound" if layer.scope == "endpoint" else layer.scope
        self._series: weakref.WeakValueDictionary[tuple[tuple[str, ...], Labels], _Series] = (
            weakref.WeakValueDictionary()
        )

    def __repr__(self) -> str:
        return f"{self._layer!r} over {self._inner!r}"

    def new_service(self, target: T, nursery: trio.Nursery, /) -> HttpService:
        """The measured service for *target*."""
        inner = self._inner.new_service(target, nursery)
        labels, extra = target_labels(self._direction, target), extra_labels(target)
        if self._layer.authority:
            by_authority = partial(self._of_authority, labels, extra)
            return link(MeasuredByAuthority(inner, by_authority), inner, self._layer)
        return link(Measured(inner, self._bound(labels, extra)), inner, self._layer)

    def _of_authority(self, labels: tuple[str, ...], extra: Labels, authority: str) -> RequestSeries:
        return self._bound(labels, (("authority", authority), *extra))

    def _bound(self, labels: tuple[str, ...], extra: Labels) -> RequestSeries:
        key = (labels, extra)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = _Series(self._layer.registry, *key)
        return series
