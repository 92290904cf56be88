from __future__ import annotations

import pytest

from meshcore.codec.h1 import ENGINES


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Each HTTP/1 engine that is installed."""
    name: str = request.param
    return name
