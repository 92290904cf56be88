"""Fixtures for tests of layers."""

from __future__ import annotations

import pytest

from tests.layers.fakes import Network


@pytest.fixture
def network() -> Network:
    """Endpoints whose behaviour the test decides."""
    return Network()
