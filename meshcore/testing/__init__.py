"""What the project's own tests are made of, for those who write layers or embed a mesh.

An in-memory network with faults, mock services, scripted peers, discovery that a test drives, and
schedule exploration.  Everything runs under ``trio.testing.MockClock``.
"""

from __future__ import annotations

from meshcore.testing.mesh import MemoryMesh
from meshcore.testing.network import Faults, MemoryListener, MemoryNetwork
from meshcore.testing.schedules import explore_schedules
from meshcore.testing.script import FaultScript, Script, ScriptFailed
from meshcore.testing.services import (
    FakeResolve,
    MockNewService,
    MockService,
    Step,
    mock_service,
    request,
    response,
)
from meshcore.testing.streams import (
    MemoryConnection,
    MemoryStream,
    Wire,
    memory_connection_pair,
    memory_stream_pair,
)

__all__ = [
    "FakeResolve",
    "FaultScript",
    "Faults",
    "MemoryConnection",
    "MemoryListener",
    "MemoryMesh",
    "MemoryNetwork",
    "MemoryStream",
    "MockNewService",
    "MockService",
    "Script",
    "ScriptFailed",
    "Step",
    "Wire",
    "explore_schedules",
    "memory_connection_pair",
    "memory_stream_pair",
    "mock_service",
    "request",
    "response",
]
