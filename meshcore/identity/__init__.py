"""Who this proxy is and whom it trusts: certificates from a source, swapped while connections live, and mutual TLS."""

from meshcore.identity.authority import Authority
from meshcore.identity.credentials import Credentials
from meshcore.identity.dev import DevIdentity
from meshcore.identity.files import FilesIdentity
from meshcore.identity.source import IdentitySource
from meshcore.identity.store import Identity
from meshcore.identity.tls import accept_mesh_tls, connect_mesh_tls

__all__ = [
    "Authority",
    "Credentials",
    "DevIdentity",
    "FilesIdentity",
    "Identity",
    "IdentitySource",
    "accept_mesh_tls",
    "connect_mesh_tls",
]
