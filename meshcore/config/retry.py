"""What is tried again, how often, and when."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import attrs

from meshcore.config.failures import DurationRange, StatusKind
from meshcore.config.kinds import Duration, Number, Size, Whole
from meshcore.config.tables import Listed
from meshcore.http.retry_on import CONDITIONS

__all__ = ["HedgeConfig", "RetryConfig"]

Outcomes: TypeAlias = Annotated[tuple[str, ...], Listed(StatusKind(CONDITIONS, grpc=True), tuple)]


@attrs.frozen(kw_only=True)
class HedgeConfig:
    """A second try beside the first, of requests without a body that may be carried out twice; the first answer wins.

    Attributes:
        after: how long the first try is waited for; with *percentile*, until enough is known.
        percentile: of the latencies of late that is waited for instead, such as 0.95; 0: always *after*.
    """

    after: Duration = 0.1
    percentile: Annotated[float, Number(0, 0.999)] = 0.0


@attrs.frozen(kw_only=True)
class RetryConfig:
    """Further tries, on another endpoint, of what failed and may be repeated.

    Attributes:
        limit: further tries after the first.
        on: what is tried again.  Without a response: ``connect-failure``, ``reset``, ``refused`` (the endpoint
            processed nothing) and ``timeout`` (no head in time), of requests that may be carried out twice, or were not
            carried out.  Responses, whatever the method: ``5xx``, ``gateway-error`` (502 to 504), ``retriable-4xx``
            (409), ``503``, ``500-504``, and gRPC statuses by name (``unavailable``), from headers or from the trailers
            of a short answer.
        budget: retries for each request, on average, at the most.
        replay: bytes of a request's body that are kept for it; a longer one is not tried again.
        timeout: how long each try but the last one may wait for a response's head; absent: no limit.
        backoff: the pause before a further try: the first, and the longest, each with as much again at random; absent:
            none, since another endpoint is tried.
        hedge: a second try beside a slow first one; absent: none.
    """

    limit: Annotated[int, Whole(0, 10)] = 1
    on: Outcomes = CONDITIONS
    budget: Annotated[float, Number(0, 10)] = 0.2
    replay: Size = 65_536
    timeout: Duration | None = None
    backoff: DurationRange | None = None
    hedge: HedgeConfig | None = None
