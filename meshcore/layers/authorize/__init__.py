"""Authorize, and the policies that it judges by."""

from __future__ import annotations

from meshcore.layers.authorize.layer import Authorize
from meshcore.layers.authorize.policies import Policies
from meshcore.layers.authorize.policy import Authorization, Client, DefaultPolicy, ServerPolicy, Verdict

__all__ = ["Authorization", "Authorize", "Client", "DefaultPolicy", "Policies", "ServerPolicy", "Verdict"]
