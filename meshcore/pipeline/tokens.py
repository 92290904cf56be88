"""Tokens that clients have to show: the layer that the configuration describes, and how it gets its keys."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import trio

from meshcore.client.http import Http
from meshcore.errors import ConfigError, ConnectError, MeshError, leaves
from meshcore.http.body import read_all
from meshcore.http.headers import Headers
from meshcore.http.message import Request
from meshcore.layers.connect_timeout import ConnectTimeout
from meshcore.layers.jwt import FetchedKeys, FileKeys, Jwt, Keys, Rules
from meshcore.layers.tls import Tls
from meshcore.stack import Stack
from meshcore.transport.target import Endpoint, TlsClient

if TYPE_CHECKING:
    from meshcore.abc import Connect, NewHttp
    from meshcore.config import JwtConfig
    from meshcore.layers.jwt import KeySource
    from meshcore.pipeline.runtime import Runtime

__all__ = ["fetch", "jwt_of"]

_LONGEST = 262_144
"""Bytes of what is fetched."""
_CONNECT_TIMEOUT = 5.0


def jwt_of(config: JwtConfig, runtime: Runtime, name: str) -> Jwt:
    """The layer that a table of the configuration describes; *name* is the server's, for metrics.

    Raises:
        ConfigError: a file that it names cannot be read.
    """
    return Jwt(
        Rules(config.issuer, config.audience, config.algorithms, config.leeway, config.max_token),
        _keys(config, runtime),
        tuple((field.encode(), claim) for field, claim in config.claims.items()),
        required=config.required,
        forward=config.forward,
        registry=runtime.registry,
        clock=runtime.clock,
        of=name,
    )


def _keys(config: JwtConfig, runtime: Runtime) -> Keys:
    """The keys that a table means: the same for all that mean the same, and for pipelines that are built anew."""
    means = (config.keys, config.trust_anchors, config.refresh)
    keys = runtime.keys.get(means)
    if keys is None:
        keys = runtime.keys[means] = Keys(_source(config, runtime), runtime.registry)
    return keys


def _source(config: JwtConfig, runtime: Runtime) -> KeySource:
    if config.keys.startswith("file:"):
        return FileKeys(Path(config.keys.removeprefix("file:")))
    anchors = None
    if config.trust_anchors is not None:
        try:
            anchors = config.trust_anchors.read_bytes()
        except OSError as error:
            raise ConfigError([f"{config.trust_anchors}: {(error.strerror or str(error)).lower()}"]) from error
    return FetchedKeys(config.keys, partial(fetch, config.keys, runtime.connect, anchors), config.refresh)


async def fetch(url: str, connect: Connect, trust_anchors: bytes | None = None) -> bytes:
    """What is at *url*, up to 256 KiB; redirections are not followed.

    Args:
        url: ``https://…``, or ``http://…``.
        connect: how connections are made.
        trust_anchors: PEM of the authorities that are trusted; None: the system's.

    Raises:
        MeshError: it could not be had.
        ValueError: something else came than a 200, or too much.
    """
    parts = urlsplit(url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    tls = TlsClient(host, ("http/1.1",), trust_anchors) if secure else None
    endpoint = Endpoint((host, parts.port or (443 if secure else 80)), "http/1", tls=tls)
    empty: Stack[Connect, NewHttp[Endpoint]] = Stack((Http(),))
    stack = empty.then(Tls()).then(ConnectTimeout(_CONNECT_TIMEOUT))
    authority = parts.netloc.encode("ascii")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = Headers([(b"accept", b"application/jwk-set+json, application/json")])
    request = Request(b"GET", parts.scheme.encode(), authority, path.encode("ascii"), headers)
    try:
        async with trio.open_nursery() as nursery:
            # Seldom enough that no connection is kept.
            response = await stack.layer(connect).new_service(endpoint, nursery)(request)
            data = await read_all(response.body, _LONGEST)
            nursery.cancel_scope.cancel()
    except* (MeshError, OSError, ValueError) as group:
        error = leaves(group)[0]
        raise error if isinstance(error, MeshError | ValueError) else ConnectError(str(error)) from None
    if response.status != 200:
        raise ValueError(f"answered {response.status}")
    return data
