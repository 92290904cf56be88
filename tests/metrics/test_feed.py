"""The feed of what has happened."""

from __future__ import annotations

from meshcore.metrics.feed import Feed


def test_what_happened_is_kept_in_order_and_the_oldest_is_forgotten_first() -> None:
    feed = Feed(lambda: 5.0, keep=2)
    for name in ("a", "b", "c"):
        feed.tell("endpoint_removed", f"{name} is gone", endpoint=name)
    assert [(each.number, each.fields["endpoint"]) for each in feed.since()] == [(2, "b"), (3, "c")]
    assert [each.time for each in feed.since(2)] == [5.0]


def test_listeners_hear_of_each_until_they_stop() -> None:
    feed = Feed(lambda: 0.0)
    heard: list[str] = []
    stop = feed.listen(lambda happening: heard.append(happening.text))
    feed.tell("x", "first")
    stop()
    feed.tell("x", "second")
    assert heard == ["first"]
