"""What the project's own tests are made of, for those who write layers or embed a mesh.

An in-memory network with faults, mock services, scripted peers, and schedule exploration.  Everything
runs under ``trio.testing.MockClock``.
"""

from __future__ import annotations

from meshcore.testing.schedules import explore_schedules
from meshcore.testing.streams import (
    MemoryConnection,
    MemoryStream,
    Wire,
    memory_connection_pair,
    memory_stream_pair,
)

__all__ = [
    "MemoryConnection",
    "MemoryStream",
    "Wire",
    "explore_schedules",
    "memory_connection_pair",
    "memory_stream_pair",
]
