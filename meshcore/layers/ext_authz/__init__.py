"""Another service decides about requests: Envoy's external authorization, over gRPC and over HTTP."""

from __future__ import annotations

from meshcore.layers.ext_authz.layer import ExtAuthz
from meshcore.layers.ext_authz.verdict import Change, Verdict

__all__ = ["Change", "ExtAuthz", "Verdict"]
