"""Discovery: who are the endpoints of a target.

Every resolver has one method, ``watch(target, publish)``, which publishes whole sets of endpoints
(:class:`meshcore.abc.Resolve`).
"""

from __future__ import annotations

from meshcore.resolve.discover import Discover
from meshcore.resolve.dns import Dns, DnsStatistics
from meshcore.resolve.file import File, parse_endpoints
from meshcore.resolve.static import Static
from meshcore.resolve.update import Update, changes

__all__ = ["Discover", "Dns", "DnsStatistics", "File", "Static", "Update", "changes", "parse_endpoints"]
