"""The admin server's answers: liveness, readiness, metrics, the stack, the configuration, shutdown."""

from __future__ import annotations

from meshcore.admin.service import Admin

__all__ = ["Admin"]
