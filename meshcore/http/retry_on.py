"""What is tried again, in the words of a configuration.  Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from meshcore.http.classification import GRPC_NAMES, statuses

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["CONDITIONS", "RetryOn"]

CONDITIONS = ("connect-failure", "reset", "refused", "timeout")
"""Words for what is no response."""


@attrs.frozen(cache_hash=True)
class RetryOn:
    """Which outcomes of a try are followed by another one.

    Without a response, a request is tried again where nothing of it was processed, or where it may be carried out
    twice: its method is idempotent, or it is a gRPC request and *grpc* names statuses.  A response is followed by
    another try whatever the method, since whoever lists its status knows what the service does.

    Attributes:
        statuses: HTTP statuses of responses; and of what errors would be answered with.
        grpc: gRPC statuses, from headers, or from trailers that follow at most one piece of data; and of errors.
        connect_failure: no connection could be made.
        reset: the connection or the stream broke, or the answer was malformed; includes *refused*.
        refused: the endpoint said that it did not process the request (REFUSED_STREAM, GOAWAY).
        timeout: no response headers came in time.
    """

    statuses: frozenset[int] = frozenset()
    grpc: frozenset[int] = frozenset()
    connect_failure: bool = True
    reset: bool = True
    refused: bool = True
    timeout: bool = True

    @classmethod
    def of(cls, words: Iterable[str]) -> RetryOn:
        """From the words of a configuration: ``CONDITIONS``, statuses (``5xx``, ``503``, ``500-504``, …), and gRPC
        statuses by name.

        Raises:
            ValueError: a word means nothing.
        """
        found: set[int] = set()
        codes: set[int] = set()
        conditions: set[str] = set()
        for word in words:
            if word in CONDITIONS:
                conditions.add(word)
            elif word in GRPC_NAMES:
                codes.add(GRPC_NAMES[word])
            else:
                low, high = statuses(word)
                found.update(range(low, high + 1))
        return cls(
            frozenset(found),
            frozenset(codes),
            connect_failure="connect-failure" in conditions,
            reset="reset" in conditions,
            refused=bool(conditions & {"refused", "reset"}),
            timeout="timeout" in conditions,
        )
