"""Which pipelines a configuration means, and where each of them accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from meshcore.config import MeshConfig
from meshcore.config.layers import edited
from meshcore.pipeline.gateway import gateway, listener
from meshcore.pipeline.inbound import inbound
from meshcore.pipeline.outbound import destination, outbound

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore.abc import Connect, NewAccept
    from meshcore.config import ProxyConfig
    from meshcore.identity.source import IdentitySource
    from meshcore.identity.store import Identity
    from meshcore.metrics.feed import Feed
    from meshcore.metrics.registry import Registry
    from meshcore.pipeline.runtime import Runtime
    from meshcore.stack import Stack
    from meshcore.transport.target import Accepted, Address

__all__ = ["Pipeline", "identity_of", "pipelines"]


@attrs.frozen
class Pipeline:
    """A pipeline and where it accepts.

    Attributes:
        listen: the address.
        where: the option or key that says so, for messages.
        stack: the pipeline.
    """

    listen: Address
    where: str
    stack: Stack[Connect, NewAccept[Accepted]]


def pipelines(config: ProxyConfig | MeshConfig, runtime: Runtime) -> dict[str, Pipeline]:
    """The pipelines by the name of their listener, in the order in which they are told about.

    Raises:
        ConfigError: one cannot be built: a file cannot be read, a role of ``[[….layer]]`` is not there.
    """
    if not isinstance(config, MeshConfig):
        return {
            "gateway" if index == 0 else f"gateway-{index}": Pipeline(
                listen.address,
                "--from",
                gateway(
                    config,
                    listen,
                    registry=runtime.registry,
                    write=runtime.write,
                    clock=runtime.clock,
                    owner=runtime.owner,
                    own=runtime.own,
                ),
            )
            for index, listen in enumerate(config.listen)
        }
    found: dict[str, Pipeline] = {}
    if config.inbound is not None:
        stack = edited(inbound(config, runtime), config.inbound.layer)
        found["inbound"] = Pipeline(config.inbound.listen, "inbound.listen", stack)
    if config.outbound is not None:
        stack = edited(outbound(config, runtime), config.outbound.layer)
        found["outbound"] = Pipeline(config.outbound.listen, "outbound.listen", stack)
        for name, each in config.outbound.to.items():
            if each.listen is not None:
                stack = edited(destination(config, name, runtime), config.outbound.layer)
                found[name] = Pipeline(each.listen, f'outbound.to."{name}".listen', stack)
    for name, gate in config.listen.items():
        found[name] = Pipeline(gate.bind, f"listen.{name}.bind", edited(listener(config, name, runtime), gate.layer))
    return found


def identity_of(
    config: MeshConfig, clock: Callable[[], float], registry: Registry, feed: Feed | None = None
) -> tuple[Identity, IdentitySource]:
    """The identity that ``[identity]`` describes, not certified yet, and what will certify it.

    Args:
        config: with an ``[identity]``.
        clock: seconds since the epoch.
        registry: where its metrics go.
        feed: is told what becomes of its certificates.
    """
    # OpenSSL takes 9 MiB, which is for those to pay who use it.
    from meshcore.identity import DevIdentity, FilesIdentity, Identity

    told = config.identity
    assert told is not None
    identity = Identity(config.own_name, clock=clock, registry=registry, feed=feed)
    if told.mode == "dev":
        return identity, DevIdentity(config.own_name, told.folder)
    assert told.cert is not None
    assert told.key is not None
    assert told.trust_anchors is not None
    return identity, FilesIdentity(told.cert, told.key, told.trust_anchors)
