"""Metadata of calls as fields: ``-bin`` ones in base64, those of the protocol itself apart.

The gRPC protocol's "Custom-Metadata".
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Final

from meshcore.codec.validate import CONNECTION_FIELDS, FRAMING_FIELDS, is_field_name, is_field_value

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshcore.codec.events import Fields

__all__ = ["decode_metadata", "encode_metadata"]

_OURS: Final = CONNECTION_FIELDS | FRAMING_FIELDS | {b"content-type", b"te", b"user-agent"}
_DETAILS: Final = b"grpc-status-details-bin"


def encode_metadata(metadata: Iterable[tuple[bytes, bytes]]) -> Fields:
    """Metadata as fields; names are in lower case, values of names that end with ``-bin`` are any bytes.

    Raises:
        ValueError: a name or a value cannot stand in a field, or belongs to the protocol.
    """
    fields: Fields = []
    for name, value in metadata:
        if not is_field_name(name) or name in _OURS or name.startswith((b"grpc-", b":")):
            raise ValueError(f"not a name for metadata: {name!r}")
        if name.endswith(b"-bin"):
            value = base64.b64encode(value).rstrip(b"=")
        elif not is_field_value(value) or not value.isascii():
            raise ValueError(f"not a value for metadata {name.decode()!r}: names that end with -bin take any bytes")
        fields.append((name, value))
    return fields


def decode_metadata(fields: Iterable[tuple[bytes, bytes]], *, details: bool = False) -> Fields:
    """The metadata among fields: those of the protocol are left out, and ``-bin`` values decoded.

    A ``-bin`` field may hold several values between commas, padded or not; what is no base64 is left out, for it
    says nothing.

    Args:
        details: whether ``grpc-status-details-bin`` counts.
    """
    found: Fields = []
    for name, value in fields:
        if name in _OURS or (name.startswith(b"grpc-") and not (details and name == _DETAILS)):
            continue
        if not name.endswith(b"-bin"):
            found.append((name, value))
            continue
        for part in value.split(b","):
            part = part.strip().rstrip(b"=")
            try:
                found.append((name, base64.b64decode(part + b"=" * (-len(part) % 4), validate=True)))
            except binascii.Error:
                continue
    return found
