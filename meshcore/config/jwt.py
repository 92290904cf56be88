"""Tokens that clients have to show, and what does not go together in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias
from urllib.parse import urlsplit

import attrs

from meshcore.addresses import parse_upstream, suggest
from meshcore.config.kinds import Choice, Duration, Kind, Seconds, Size, Text, text
from meshcore.config.places import File, beside, unreadable
from meshcore.config.rate_limit import FieldNameKind
from meshcore.config.report import WRONG, At, right, shown
from meshcore.config.tables import Listed, Tables
from meshcore.errors import ConfigError

if TYPE_CHECKING:
    from meshcore.config.report import Report
    from meshcore.config.toml_lines import KeyPath

__all__ = ["JwtConfig", "check_jwt"]

_LOCAL = ("127.0.0.1", "::1", "localhost")


class KeysKind(Kind):
    """Where an issuer's keys are."""

    title = "`file:PATH` or `https://…`"

    def read(self, value: object, at: At, /) -> Any:
        """``file:`` and the absolute path, or the address."""
        word = text(value, at)
        if word is WRONG:
            return WRONG
        scheme, colon, rest = word.partition(":")
        if scheme == "file" and rest:
            path = beside(at, rest)
            problem = unreadable(path)
            return at.error(f"{shown(word)}: {problem}") if problem else f"file:{path}"
        if scheme not in ("http", "https") or not rest.startswith("//"):
            hint = suggest(scheme, ["file", "https"]) if colon else f"; did you mean {'file:' + word!r}?"
            return at.error(f"{shown(word)} is neither file:PATH nor https://…{hint}")
        return self._address(word, at)

    def _address(self, word: str, at: At) -> Any:
        try:
            parts = urlsplit(word)
            host = parts.hostname or ""
            parse_upstream(f"[{host}]:{parts.port or 1}" if ":" in host else f"{host}:{parts.port or 1}")
        except (ValueError, ConfigError):
            return at.error(f"{shown(word)} is not an address such as https://id.example.com/jwks.json")
        if parts.username is not None or parts.fragment or not word.isascii() or not word.isprintable() or " " in word:
            return at.error(f"{shown(word)} is not an address such as https://id.example.com/jwks.json")
        if parts.scheme == "http" and host not in _LOCAL:
            return at.error(f"{shown(word)}: whoever is on the way could forge the keys; https:// is wanted")
        return word

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"type": "string", "pattern": "^(file:.+|https?://.+)$"}


Keys: TypeAlias = Annotated[str, KeysKind()]
_WORDS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")


class AlgorithmKind(Choice):
    """A kind of signature."""

    def __init__(self) -> None:
        super().__init__(_WORDS)

    def read(self, value: object, at: At, /) -> Any:
        """The word."""
        if value in ("HS256", "HS384", "HS512"):
            return at.error(f"{shown(value)}: with a shared key whoever checks a token could make one; {_WORDS[0]} is")
        if isinstance(value, str) and value.lower() == "none":
            return at.error(f"{shown(value)}: anybody could make such a token")
        return super().read(value, at)


def _field(value: str) -> str:
    name = FieldNameKind.check(value)
    if name in ("host", "content-length", "transfer-encoding", "connection", "te", "authorization") or name[:1] == ":":
        raise ConfigError([f"{shown(value)} says something else already"])
    return name


@attrs.frozen(kw_only=True)
class JwtConfig:
    """Lets in requests with a JSON Web Token of one issuer: ``authorization: Bearer …`` (401 without).

    Attributes:
        issuer: who made it (``iss``), exactly.
        audience: for whom it is (``aud``): one of these.
        keys: the issuer's keys, a JSON Web Key Set: ``file:PATH``, read anew whenever it changes, or ``https://…``,
            fetched now and then.
        algorithms: how it may be signed.
        leeway: by how much clocks may differ.
        claims: fields to set for the application, by name, from claims; what a client sends under these names is
            removed.
        required: whether requests without a token are refused; one that has one must have a good one in any case.
        forward: whether the token is passed on.
        max_token: of the longest token.
        refresh: time between two fetches of the keys, a tenth more or less.
        trust_anchors: PEM file of the authorities that are trusted for the keys' ``https://``; absent: the system's.
    """

    issuer: Annotated[str, Text()]
    audience: tuple[str, ...]
    keys: Keys
    algorithms: Annotated[tuple[str, ...], Listed(AlgorithmKind(), tuple)] = ("RS256", "ES256", "EdDSA")
    leeway: Annotated[float, Seconds(zero=True)] = 30.0
    claims: Annotated[dict[str, str], Tables(Text(), _field)] = attrs.Factory(dict)
    required: bool = True
    forward: bool = True
    max_token: Size = 8_192
    refresh: Duration = 300.0
    trust_anchors: File | None = None


def check_jwt(here: KeyPath, jwt: JwtConfig | None, report: Report) -> None:
    """Reports what does not go together in the demand for a token."""
    if jwt is None or not right(jwt):
        return
    for name in ("audience", "algorithms"):
        if getattr(jwt, name) == ():
            report.error((*here, name), "has to name one at least")
    if not right(jwt.keys):
        return
    fetched = not jwt.keys.startswith("file:")
    if jwt.trust_anchors is not None and not jwt.keys.startswith("https:"):
        report.error((*here, "trust_anchors"), "would not be used: the keys do not come by https://")
    if not fetched:
        from meshcore.layers.jwt.keys import KeySet

        try:
            with open(jwt.keys.removeprefix("file:"), "rb") as file:
                KeySet.parse(file.read(1 << 20))
        except (OSError, ValueError) as error:
            report.error((*here, "keys"), str(error))
    if right(jwt.max_token) and not 256 <= jwt.max_token <= 65_536:
        report.error((*here, "max_token"), "has to be from 256 to 64KiB")
