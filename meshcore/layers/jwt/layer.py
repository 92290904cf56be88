"""The layer that lets in who has a token."""

from __future__ import annotations

import datetime
import json
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs

from meshcore.abc import HttpService, NewHttp, link
from meshcore.codec.validate import is_field_value
from meshcore.errors import AuthenticationError, KeysUnavailable
from meshcore.layers.jwt.rules import Rules
from meshcore.layers.jwt.source import Keys
from meshcore.layers.jwt.token import TokenError, Verified, verify
from meshcore.metrics.jwt import JwtCounts
from meshcore.metrics.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Awaitable

    import trio

    from meshcore.codec.events import Fields
    from meshcore.http.message import Request, Response

__all__ = ["Jwt"]

T = TypeVar("T")

_AUTHORIZATION = b"authorization"
_REMEMBERED = 1_024
"""Tokens whose check is remembered."""
_LONGEST_VALUE = 4_096
"""Bytes of a claim that goes into a field."""
_FIRST_KEYS = 5.0
"""Seconds that requests wait for the first keys."""
_NEWER_KEYS = 2.0
"""Seconds that a request waits for newer ones."""


def _wall_clock() -> float:
    return datetime.datetime.now(datetime.UTC).timestamp()


@attrs.frozen
class Jwt:
    """Lets in requests with a JSON Web Token that the issuer has signed (RFC 7519): 401, or UNAUTHENTICATED for gRPC.

    The token is the ``Bearer`` one in ``authorization`` (RFC 6750).  Tokens that were checked are remembered, the last
    1,024 of them, for as long as they and the keys are valid.  It stands below ``Rescue``, and above whatever reads
    the fields that it sets.

    Attributes:
        rules: what a token has to say.
        keys: the issuer's.
        claims: fields to set, by name in lower case, from claims; whatever a client sent under these names is
            removed.  Text is set as it is, everything else as JSON.
        required: whether requests without a token are refused; one that has one must have a good one in any case.
        forward: whether the token is passed on.
        registry: where it is counted; None: nowhere.
        clock: seconds since the epoch; None: the machine's.
        of: the server's name, for metrics.
        name: the role, where a stack has more than one.

    Raises:
        AuthenticationError: when called, without a token, or with one that is not accepted.
        KeysUnavailable: when called, while there are no keys.
    """

    rules: Rules
    keys: Keys = attrs.field(repr=str)
    claims: tuple[tuple[bytes, str], ...] = attrs.field(default=(), converter=tuple[tuple[bytes, str], ...], repr=False)
    required: bool = True
    forward: bool = attrs.field(default=True, repr=False)
    registry: Registry | None = attrs.field(default=None, repr=False)
    clock: Callable[[], float] | None = attrs.field(default=None, repr=False)
    of: str = attrs.field(default="", repr=False, kw_only=True)
    name: str = attrs.field(default="", repr=False, kw_only=True)

    def layer(self, inner: NewHttp[T], /) -> NewHttp[T]:
        """Checks what the services of *inner* get; they share keys and memory.

        Raises:
            ConfigError: the keys cannot be used.
        """
        return _NewChecked(self, inner)


class _NewChecked(Generic[T]):
    """Makes checked services; what keeps the keys new runs in their nursery."""

    __slots__ = ("_check", "_inner", "_layer")

    def __init__(self, layer: Jwt, inner: NewHttp[T]) -> None:
        self._layer = layer
        self._inner = inner
        counts = None if layer.registry is None else JwtCounts(layer.registry, layer.of)
        layer.keys.load()
        self._check = _Check(layer, counts)

    def __repr__(self) -> str:
        return f"{self._layer!r} over {self._inner!r}"

    def new_service(self, target: T, nursery: trio.Nursery, /) -> HttpService:
        """The checked service for *target*."""
        inner = self._inner.new_service(target, nursery)
        self._layer.keys.start(nursery)
        return link(_Checked(inner, self._check), inner, self._layer)


class _Check:
    """Tokens checked, and the checks remembered."""

    __slots__ = ("_keys", "_layer", "_now", "_seen", "_strip", "count")

    def __init__(self, layer: Jwt, counts: JwtCounts | None) -> None:
        self._layer = layer
        self._keys = layer.keys
        self._now = layer.clock or _wall_clock
        self._strip = frozenset(name.replace(b"_", b"-") for name, _ in layer.claims)
        # By the token's hash: the generation of its keys, until when it is good, and the fields that it gives.
        self._seen: OrderedDict[bytes, tuple[int, Verified, Fields]] = OrderedDict()
        self.count: Callable[[str], None] = (lambda _: None) if counts is None else counts.result

    def token(self, request: Request) -> bytes | None:
        """The request's token, None if it needs none; takes away what only this layer may say.

        Raises:
            AuthenticationError: there is none, and one is needed, or more than one.
        """
        raw = request.headers.raw
        strip = self._strip
        found: bytes | None = None
        taken = False
        for name, value in raw:
            if name == _AUTHORIZATION:
                if found is not None:
                    self.count("malformed")
                    raise AuthenticationError("token refused: there is more than one authorization field", invalid=True)
                found = value
            elif name in strip or (b"_" in name and name.replace(b"_", b"-") in strip):
                taken = True
        if taken:
            # Many an application takes x_user for x-user.
            raw[:] = [field for field in raw if field[0].replace(b"_", b"-") not in strip]
        if found is not None and found[:7].lower() == b"bearer ":
            return found[7:].strip(b" ")
        if self._layer.required:
            self.count("none")
            raise AuthenticationError("no token: authorization: Bearer is wanted")
        self.count("none")
        return None

    def known(self, digest: bytes) -> Fields | None:
        """The fields of a token that was checked before and is still good."""
        seen = self._seen.get(digest)
        if seen is None:
            return None
        generation, verified, fields = seen
        if generation != self._keys.generation or not verified.begins <= self._now() < verified.ends:
            del self._seen[digest]
            return None
        self._seen.move_to_end(digest)
        self.count("ok")
        return fields

    async def fields(self, token: bytes, digest: bytes) -> Fields:
        """The fields that a token gives.

        Raises:
            AuthenticationError: it is not accepted.
            KeysUnavailable: there are no keys to check it with.
        """
        source, layer = self._keys, self._layer
        keys = await source.wait(_FIRST_KEYS)
        if keys is None:
            self.count("no_keys")
            raise KeysUnavailable(f"keys of {layer.rules.issuer} are not there yet")
        try:
            try:
                verified = verify(token, keys, layer.rules, self._now())
            except TokenError as error:
                if error.reason != "unknown_key" or not await source.look_again(_NEWER_KEYS):
                    raise
                assert source.current is not None
                verified = verify(token, source.current, layer.rules, self._now())
            fields = [field for name, claim in layer.claims for field in _field(name, claim, verified.claims)]
        except TokenError as error:
            self.count(error.reason)
            raise AuthenticationError(f"token refused: {error}", invalid=True) from None
        seen = self._seen
        if len(seen) >= _REMEMBERED:
            seen.popitem(last=False)
        seen[digest] = (source.generation, verified, fields)
        self.count("ok")
        return fields

    def apply(self, request: Request, fields: Fields) -> None:
        """Sets the fields on a request."""
        if not self._layer.forward:
            request.headers.remove(_AUTHORIZATION)
        request.headers.raw.extend(fields)


class _Checked:
    """A checked service: no coroutine of its own for a token that was seen before."""

    __slots__ = ("__layer__", "__weakref__", "__wrapped__", "_check", "_inner")

    def __init__(self, inner: HttpService, check: _Check) -> None:
        self._inner = inner
        self._check = check

    def __call__(self, request: Request, /) -> Awaitable[Response]:
        check = self._check
        token = check.token(request)
        if token is None:
            return self._inner(request)
        digest = blake2b(token, digest_size=32).digest()
        fields = check.known(digest)
        if fields is None:
            return self._look(request, token, digest)
        check.apply(request, fields)
        return self._inner(request)

    async def _look(self, request: Request, token: bytes, digest: bytes) -> Response:
        self._check.apply(request, await self._check.fields(token, digest))
        return await self._inner(request)


def _field(name: bytes, claim: str, claims: dict[str, Any]) -> Fields:
    """The field of a claim; none where the token does not have it."""
    value = claims.get(claim)
    if value is None:
        return []
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError:
        # Half of a character.
        data = b"\0"
    if len(data) > _LONGEST_VALUE or not is_field_value(data):
        # The application must not take such a client for one without the claim.
        raise TokenError("claims", f"claim {claim} cannot be passed on")
    return [(name, data)]
