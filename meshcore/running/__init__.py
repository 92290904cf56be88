"""The parts of a running proxy: its listeners and clients, and what a reload does to them."""

from __future__ import annotations

from meshcore.running.bind import AddressError
from meshcore.running.reload import Reloaded, Reloader, reload_on_signal

__all__ = ["AddressError", "Reloaded", "Reloader", "reload_on_signal"]
