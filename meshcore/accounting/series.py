"""The accounts as metrics, written into their series when somebody scrapes them."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from meshcore.accounting.account import OUTCOMES

if TYPE_CHECKING:
    from meshcore.accounting.account import Account
    from meshcore.accounting.ledger import Ledger
    from meshcore.metrics.registry import Counter, Gauge, Registry

__all__ = ["count_layers"]


def count_layers(ledger: Ledger, registry: Registry) -> None:
    """Adds ``stack_layer_*`` for each layer's place in each pipeline, and linkerd's ``stack_create_total`` and
    ``stack_drop_total`` (M-06).  Costs nothing between scrapes."""
    registry.collect(_Series(ledger, registry).collect)


class _Series:
    def __init__(self, ledger: Ledger, registry: Registry) -> None:
        self._ledger = ledger
        place = ("pipeline", "layer")
        self._requests = registry.counter(
            "stack_layer_requests_total",
            "Total count of calls of a layer that have ended, by how they did; estimated where there are many.",
            *place,
            "outcome",
        )
        self._seconds = registry.counter(
            "stack_layer_seconds_total",
            "Time spent in a layer and what is below it until the response's head, or the connection's end.",
            *place,
        )
        self._own = registry.counter(
            "stack_layer_self_seconds_total", "Time spent in a layer itself, without what is below it.", *place
        )
        self._in_flight = registry.gauge(
            "stack_layer_in_flight", "Calls of a layer that have not ended; estimated where there are many.", *place
        )
        stack = ("direction", "protocol", "name")
        self._created = registry.counter("stack_create_total", "Total number of services created", *stack)
        self._dropped = registry.counter("stack_drop_total", "Total number of services dropped", *stack)
        self._cells: weakref.WeakKeyDictionary[Account, _Cells] = weakref.WeakKeyDictionary()
        # What the same labels have in several pipelines is added up.
        self._services: dict[tuple[str, str, str], tuple[Counter, Counter]] = {}

    def collect(self) -> None:
        """Brings all series up to date."""
        for account in self._ledger.accounts():
            if not account.created:
                # Nobody has come this way.
                continue
            cells = self._cells.get(account)
            if cells is None:
                cells = self._cells[account] = _Cells(self, account)
                # What came since the last scrape, and nothing in flight any more.
                account.gone.append(cells.update)
            cells.update(account)

    def services(self, account: Account) -> tuple[Counter, Counter]:
        """Counters of services made and gone."""
        key = (account.direction, account.protocol, account.place)
        if key not in self._services:
            self._services[key] = (self._created.labels(*key), self._dropped.labels(*key))
        return self._services[key]

    def outcome(self, account: Account, outcome: str) -> Counter:
        """The counter of an end."""
        return self._requests.labels(account.pipeline, account.place, outcome)

    def place(self, account: Account) -> tuple[Counter, Counter, Gauge]:
        """Seconds, own seconds and what is in flight."""
        key = (account.pipeline, account.place)
        return self._seconds.labels(*key), self._own.labels(*key), self._in_flight.labels(*key)


class _Cells:
    """The cells of one account, and what it had come to when it was last looked at: a pipeline that comes back after
    it was gone has a new account, and goes on counting in the old series."""

    def __init__(self, series: _Series, account: Account) -> None:
        self._series = series
        self._place = series.place(account)
        self._services = series.services(account)
        self._outcomes: dict[int, Counter] = {}
        self._known = [0] * len(OUTCOMES)
        self._times = [0.0, 0.0]
        self._made = [0, 0]

    def update(self, account: Account) -> None:
        """Adds what is new."""
        for index, count in enumerate(account.outcomes):
            more = count - self._known[index]
            if more:
                cell = self._outcomes.get(index)
                if cell is None:
                    cell = self._outcomes[index] = self._series.outcome(account, OUTCOMES[index])
                cell.value += more
                self._known[index] = count
        seconds, own, in_flight = self._place
        for index, (cell, value) in enumerate(((seconds, account.seconds), (own, account.own_seconds))):
            cell.value += value - self._times[index]
            self._times[index] = value
        in_flight.value = account.in_flight
        for index, (cell, number) in enumerate(zip(self._services, (account.created, account.dropped), strict=True)):
            cell.value += number - self._made[index]
            self._made[index] = number
