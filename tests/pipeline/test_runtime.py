"""What a process gives its pipelines, and what they put there."""

from __future__ import annotations

from typing import Any

import attrs

from meshcore.metrics import Registry
from meshcore.pipeline.runtime import Runtime


@attrs.frozen(kw_only=True)
class WithTables(Runtime):
    shares: dict[str, int] = attrs.Factory(dict)


def test_what_a_draft_is_given_is_the_process_s_once_it_is_adopted() -> None:
    runtime: Any = WithTables(registry=Registry(), shares={"kept": 1, "gone": 2})
    table = runtime.shares
    draft: Any = runtime.draft()
    assert draft.registry is runtime.registry
    draft.shares["new"] = 3
    del draft.shares["gone"]
    assert {"kept": 1, "gone": 2} == runtime.shares
    runtime.adopt(draft)
    # The same table as before, for whoever holds it.
    assert runtime.shares is table
    assert {"kept": 1, "new": 3} == table
