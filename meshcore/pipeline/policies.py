"""Who may call, as layers take it, made from what the configuration says; and how that is changed while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.layers.authorize import Authorization, Policies, ServerPolicy

if TYPE_CHECKING:
    from meshcore.config import Gateway, Inbound, MeshConfig, PolicyConfig
    from meshcore.pipeline.runtime import Runtime

__all__ = ["INBOUND", "policies_of", "replace_policies", "server_policy"]

INBOUND = "inbound"
"""The name of a sidecar's own side among those of its gateway's listeners."""


def server_policy(side: Inbound | Gateway, name: str) -> ServerPolicy:
    """The policy of a side that others call.

    Args:
        side: its table.
        name: what it is called in messages and metrics.
    """
    return ServerPolicy(
        side.default_policy,
        side.cluster_networks,
        # Who shares the host is not trusted for that: sidecars of a host are told apart by their identities.
        loopback=False,
        authorizations=tuple(_authorization(index, each) for index, each in enumerate(side.policy)),
        name=name,
    )


def _authorization(index: int, told: PolicyConfig) -> Authorization:
    return Authorization(
        told.name or f"policy-{index}",
        told.networks,
        told.exceptions,
        unauthenticated=told.unauthenticated,
        unauthenticated_tls=told.unauthenticated_tls,
        mesh_tls=told.mesh_tls,
        identities=told.identities,
        identity_suffixes=told.identity_suffixes,
        routes=told.routes,
    )


def policies_of(runtime: Runtime, side: Inbound | Gateway, name: str) -> Policies:
    """What holds a side's policy: the same for all pipelines of one process, so that it can be replaced for those
    that run already; it is not replaced here."""
    held = runtime.policies.get(name)
    if held is None:
        held = runtime.policies[name] = Policies(server_policy(side, name))
    return held


def replace_policies(config: MeshConfig, runtime: Runtime) -> None:
    """Makes the policies of *config* those that hold, for live connections too (R-32)."""
    sides: dict[str, Inbound | Gateway] = dict(config.listen)
    if config.inbound is not None:
        sides[INBOUND] = config.inbound
    for name, held in runtime.policies.items():
        if name in sides:
            held.replace(server_policy(sides[name], name))
