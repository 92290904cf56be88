"""HTTP/1.0 and HTTP/1.1 (RFC 9112): one interface, two engines.

A strict scan of each head comes first, then the engine takes the head apart, then one set of rules
judges the message; bodies are framed by code that both engines share.  So the verdict on a byte
stream does not depend on the engine.
"""

from __future__ import annotations

from meshcore.codec.h1.client import ClientCodec
from meshcore.codec.h1.engines import ENGINES, default_engine, load
from meshcore.codec.h1.interface import H1Client, H1Server
from meshcore.codec.h1.server import ServerCodec
from meshcore.codec.limits import H1Limits

__all__ = ["ENGINES", "H1Client", "H1Server", "client_codec", "default_engine", "server_codec"]

_LIMITS = H1Limits()


def server_codec(limits: H1Limits = _LIMITS, engine: str = "auto") -> H1Server:
    """The codec of an accepted connection.

    *engine* is ``"auto"`` (see :func:`default_engine`), ``"pure"`` or one of :data:`ENGINES`.

    Raises:
        LookupError: there is no such engine here.
    """
    return ServerCodec(limits, load(engine))


def client_codec(limits: H1Limits = _LIMITS, engine: str = "auto") -> H1Client:
    """The codec of a connection to an upstream; *engine* as for :func:`server_codec`."""
    return ClientCodec(limits, load(engine))
