"""Tokens taken apart and judged (RFC 7515, RFC 7519; RFC 8725 for what others got wrong).  Pure: time is handed in.

A token is bytes of a stranger until its signature has been checked.  Nothing that it says of itself is believed for
the check: the algorithm has to be one that is allowed and that its key is for, and no key is taken out of it.
"""

from __future__ import annotations

import base64
import json
import math
import re
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from meshcore.layers.jwt.keys import KeySet
    from meshcore.layers.jwt.rules import Rules

__all__ = ["TokenError", "Verified", "verify"]

_SEGMENT = re.compile(rb"[A-Za-z0-9_-]*")
_TYPES = ("jwt", "at+jwt", "application/jwt", "application/at+jwt")
_LONGEST_KID = 256
_MOST_CANDIDATES = 4
"""Keys that are tried for one token, where more than one may have signed it."""


class TokenError(Exception):
    """A token is not accepted.

    Attributes:
        reason: why, in a word for a metric's label.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Verified:
    """What a token says, once it has been checked.

    Attributes:
        claims: all of it.
        begins, ends: when it is valid, in seconds since the epoch, leeway included.
    """

    __slots__ = ("begins", "claims", "ends")

    def __init__(self, claims: dict[str, Any], begins: float, ends: float) -> None:
        self.claims = claims
        self.begins = begins
        self.ends = ends


def verify(token: bytes, keys: KeySet, rules: Rules, now: float) -> Verified:
    """What *token* says.

    Args:
        token: the three parts with their dots.
        keys: those of the issuer.
        rules: what it has to say.
        now: seconds since the epoch.

    Raises:
        TokenError: it is not accepted.
    """
    if len(token) > rules.max_token:
        raise TokenError("too_long", f"token is longer than {rules.max_token} bytes")
    parts = token.split(b".")
    if len(parts) != 3:
        raise TokenError("malformed", "token does not have three parts")
    header = _object(_decoded(parts[0]), "header")
    signature = _decoded(parts[2])
    algorithm = header.get("alg")
    if algorithm not in rules.algorithms:
        raise TokenError("algorithm", "token is signed by an algorithm that is not allowed")
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise TokenError("malformed", "token is of another type")
    if "crit" in header:
        # RFC 7515 §4.1.11: extensions that have to be understood, and none is.
        raise TokenError("malformed", "token has extensions that are not understood")
    kid = header.get("kid")
    if kid is not None and (not isinstance(kid, str) or len(kid) > _LONGEST_KID):
        raise TokenError("malformed", "token names no key")
    candidates = keys.find(kid, algorithm)
    if not candidates:
        raise TokenError("unknown_key", "token is signed by a key that is not known")
    if len(candidates) > _MOST_CANDIDATES:
        raise TokenError("malformed", "token does not say which key it is signed by")
    signed = parts[0] + b"." + parts[1]
    if not any(key.verify(algorithm, signature, signed) for key in candidates):
        raise TokenError("signature", "token has a wrong signature")
    # From here on it is the issuer who speaks.
    return _judged(_object(_decoded(parts[1]), "claims"), rules, now)


def _judged(claims: dict[str, Any], rules: Rules, now: float) -> Verified:
    if claims.get("iss") != rules.issuer:
        raise TokenError("issuer", "token is of another issuer")
    if rules.audience:
        audience = claims.get("aud")
        told = audience if isinstance(audience, list) else [audience]
        if not any(isinstance(each, str) and each in rules.audience for each in told):
            raise TokenError("audience", "token is for somebody else")
    ends = _time(claims, "exp")
    if ends is None:
        raise TokenError("malformed", "token does not say when it expires")
    begins = _time(claims, "nbf")
    begins = -math.inf if begins is None else begins - rules.leeway
    ends += rules.leeway
    if now >= ends:
        raise TokenError("expired", "token has expired")
    if now < begins:
        raise TokenError("not_yet", "token is not valid yet")
    return Verified(claims, begins, ends)


def _time(claims: dict[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TokenError("malformed", f"token's {name} is no number")
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    if not math.isfinite(seconds):
        raise TokenError("malformed", f"token's {name} is no time")
    return seconds


def _decoded(segment: bytes) -> bytes:
    """base64url without padding (RFC 7515 §2): only what an encoder would have written."""
    if not _SEGMENT.fullmatch(segment) or len(segment) % 4 == 1:
        raise TokenError("malformed", "token is not base64url")
    data = base64.urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))
    if base64.urlsafe_b64encode(data).rstrip(b"=") != segment:
        raise TokenError("malformed", "token is not base64url")
    return data


def _object(data: bytes, what: str) -> dict[str, Any]:
    """A JSON object whose names are all different (RFC 7515 §4, RFC 7519 §4)."""
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_distinct, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise TokenError("malformed", f"token's {what} are no JSON object" if what == "claims" else
                         "token's header is no JSON object")  # fmt: skip
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
