"""What a token has to be like, beside being signed by a known key.  Pure."""

from __future__ import annotations

import attrs

__all__ = ["ALGORITHMS", "MAX_TOKEN", "Rules"]

ALGORITHMS: tuple[str, ...] = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")
"""Signatures that there are keys for (RFC 7518 §3.1, RFC 8037 §3.1).  All of them are of two keys: with a shared one
(``HS256`` …) whoever can check a token could make one, and a public key must never be taken for a shared one."""

MAX_TOKEN = 8_192
"""Bytes of the longest token."""


def _known(rules: Rules, attribute: object, value: tuple[str, ...]) -> None:
    for name in value:
        if name not in ALGORITHMS:
            raise ValueError(f"algorithm {name!r} is not one of {', '.join(ALGORITHMS)}")
    if not value:
        raise ValueError("an algorithm is wanted")


@attrs.frozen
class Rules:
    """What a token has to say.

    Attributes:
        issuer: who made it (``iss``), exactly.
        audience: for whom it is (``aud``): one of these; none: whoever it is for.
        algorithms: how it may be signed.
        leeway: seconds by which clocks may differ, for ``exp`` and ``nbf``.
        max_token: bytes of the longest token.
    """

    issuer: str
    audience: tuple[str, ...] = attrs.field(default=(), converter=tuple[str, ...])
    algorithms: tuple[str, ...] = attrs.field(
        default=("RS256", "ES256", "EdDSA"), converter=tuple[str, ...], validator=_known
    )
    leeway: float = attrs.field(default=30.0, validator=attrs.validators.ge(0))
    max_token: int = attrs.field(default=MAX_TOKEN, validator=attrs.validators.ge(1))
