"""Tokens and key sets, right and wrong: what strangers write is never believed before its signature is checked."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshcore.layers.jwt.keys import KeySet
from meshcore.layers.jwt.rules import ALGORITHMS, Rules
from meshcore.layers.jwt.token import TokenError, Verified, verify
from tests.layers.tokens import ISSUER, NOW, Issuer, encoded, number

RULES = Rules(ISSUER, ("orders", "payments"), ALGORITHMS)
KNOWN = Issuer()
KEYS = KeySet.parse(KNOWN.jwks())


def check(token: bytes, rules: Rules = RULES, keys: KeySet = KEYS, now: float = NOW) -> Verified:
    return verify(token, keys, rules, now)


def refused(token: bytes, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(TokenError) as caught:
        check(token, *args, **kwargs)
    return caught.value.reason


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_checks_what_its_key_has_signed_and_nothing_else(algorithm: str) -> None:
    token = KNOWN.token(algorithm, tenant="a")
    assert check(token).claims["tenant"] == "a"
    head, claims, signature = token.split(b".")
    other = encoded(json.dumps({"iss": ISSUER, "aud": "orders", "exp": NOW + 60, "tenant": "b"}).encode())
    assert refused(b".".join([head, other, signature])) == "signature"
    assert refused(b".".join([head, claims, encoded(b"\0" * 64)])) == "signature"
    assert refused(b".".join([head, claims, b""])) == "signature"
    if algorithm[:2] in ("ES", "Ed"):
        # All issuers of these tests have the same RSA key, for it takes long to make one.
        assert refused(Issuer().token(algorithm)) == "signature"
    assert refused(token, Rules(ISSUER, algorithms=[each for each in ALGORITHMS if each != algorithm])) == "algorithm"


def test_nobody_is_let_in_without_a_signature() -> None:
    claims = {"iss": ISSUER, "aud": "orders", "exp": NOW + 60}
    for name in ("none", "None", "NONE", "", None, 0, ["ES256"], {"a": 1}):
        head = {"alg": name} if name is not None else {}
        token = b".".join(encoded(json.dumps(part).encode()) for part in (head, claims)) + b"."
        assert refused(token) == "algorithm"


def test_a_public_key_is_never_a_shared_one() -> None:
    public = KNOWN.private["RSA"].public_key()
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    for secret in (
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        KNOWN.jwks("RSA"),
    ):
        head = {"alg": "HS256", "kid": "RSA"}
        claims = {"iss": ISSUER, "aud": "orders", "exp": NOW + 60}
        signed = b".".join(encoded(json.dumps(part).encode()) for part in (head, claims))
        token = signed + b"." + encoded(hmac.new(secret, signed, hashlib.sha256).digest())
        assert refused(token) == "algorithm"
    with pytest.raises(ValueError, match="algorithm 'HS256' is not one of"):
        Rules(ISSUER, algorithms=("HS256",))


def test_a_key_is_used_for_what_it_is_and_never_for_what_a_token_says() -> None:
    # An RSA key that is for RS256 does not check PS256, and one of a curve nothing of another kind.
    keys = KeySet.parse(json.dumps({"keys": [KNOWN.jwk("RSA", alg="RS256"), KNOWN.jwk("P-256")]}).encode())
    assert check(KNOWN.token("RS256"), keys=keys)
    assert refused(KNOWN.token("PS256"), keys=keys) == "unknown_key"
    assert refused(KNOWN.token("ES256", {"kid": "RSA"}), keys=keys) == "unknown_key"
    # Nor is a key taken out of the token.
    stranger = Issuer()
    for name in ("jwk", "jku", "x5u", "x5c"):
        token = stranger.token("ES256", {name: stranger.jwk("P-256") if name == "jwk" else "https://evil.test"})
        assert refused(token) == "signature"


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"iss": "https://other.test"}, "issuer"),
        ({"iss": None}, "issuer"),
        ({"iss": [ISSUER]}, "issuer"),
        ({"aud": "billing"}, "audience"),
        ({"aud": None}, "audience"),
        ({"aud": ["billing", 7]}, "audience"),
        ({"aud": {"orders": 1}}, "audience"),
        ({"exp": NOW - 30}, "expired"),
        ({"exp": None}, "malformed"),
        ({"exp": "soon"}, "malformed"),
        ({"exp": True}, "malformed"),
        ({"exp": 10**400}, "malformed"),
        ({"nbf": NOW + 31}, "not_yet"),
        ({"nbf": "now"}, "malformed"),
    ],
)
def test_what_a_token_says_has_to_fit(claims: dict[str, Any], reason: str) -> None:
    assert refused(KNOWN.token(**claims)) == reason


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": ["x", "payments"]},
        {"exp": NOW - 29.5},
        {"exp": NOW + 0.5},
        {"nbf": NOW + 29.5},
        {"nbf": NOW - 1},
        {"iat": NOW + 1e6},
    ],
)
def test_clocks_may_differ_a_little(claims: dict[str, Any]) -> None:
    assert check(KNOWN.token(**claims)).claims["sub"] == "user-1"


def test_a_check_holds_for_as_long_as_the_token_says() -> None:
    verified = check(KNOWN.token(exp=NOW + 100, nbf=NOW - 5))
    assert (verified.begins, verified.ends) == (NOW - 35, NOW + 130)


GOOD = KNOWN.token()
HEAD, CLAIMS, SIGNATURE = GOOD.split(b".")


@pytest.mark.parametrize(
    "token",
    [
        b"",
        b"..",
        b"a.b",
        GOOD + b".",
        GOOD + b"=",
        GOOD + b"==",
        GOOD.replace(b".", b" .", 1),
        b"." + CLAIMS + b"." + SIGNATURE,
        encoded(b"[]") + b"." + CLAIMS + b"." + SIGNATURE,
        encoded(b"null") + b"." + CLAIMS + b"." + SIGNATURE,
        encoded(b'{"alg":"ES256","alg":"ES256"}') + b"." + CLAIMS + b"." + SIGNATURE,
        encoded(b'{"alg":NaN}') + b"." + CLAIMS + b"." + SIGNATURE,
        encoded(b"[" * 4_000) + b"." + CLAIMS + b"." + SIGNATURE,
        encoded(b'{"alg":"\xff"}') + b"." + CLAIMS + b"." + SIGNATURE,
        KNOWN.token("ES256", {"typ": "secevent+jwt"}),
        KNOWN.token("ES256", {"typ": 7}),
        KNOWN.token("ES256", {"crit": ["b64"], "b64": False}),
        KNOWN.token("ES256", {"kid": "x" * 257}),
        KNOWN.token("ES256", {"kid": 7}),
    ],
)
def test_what_is_no_token_is_refused(token: bytes) -> None:
    assert refused(token) == "malformed"


def test_a_token_is_not_longer_than_allowed() -> None:
    assert refused(KNOWN.token(fill="x" * 8_192)) == "too_long"
    assert check(KNOWN.token(fill="x" * 8_192), Rules(ISSUER, algorithms=("ES256",), max_token=65_536))


def test_without_a_name_any_key_that_fits_may_have_signed_it_if_they_are_few() -> None:
    assert check(KNOWN.token("ES256", {"kid": None}))
    others = [Issuer() for _ in range(3)]
    jwks = [each.jwk("P-256", kid=None) for each in (*others, KNOWN)]
    assert check(KNOWN.token("ES256", {"kid": None}), keys=KeySet.parse(json.dumps({"keys": jwks}).encode()))
    jwks.append(Issuer().jwk("P-256"))
    assert refused(KNOWN.token("ES256", {"kid": None}), keys=KeySet.parse(json.dumps({"keys": jwks}).encode())) == (
        "malformed"
    )
    assert refused(KNOWN.token("ES256", {"kid": "P-521"})) == "unknown_key"


@given(st.binary(max_size=200))
def test_strangers_bytes_are_refused_and_nothing_else_happens(data: bytes) -> None:
    with pytest.raises(TokenError):
        check(data)


@given(st.data())
def test_a_token_that_was_changed_anywhere_is_refused(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(GOOD) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != GOOD[place]))
    with pytest.raises(TokenError):
        check(GOOD[:place] + bytes([byte]) + GOOD[place + 1 :])


# ----- key sets -----


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is no JSON"),
        (b"\xff", "is no JSON"),
        (b"[" * 200_000, "is nested too deeply"),
        (b"[]", 'has no list "keys"'),
        (b'{"keys": {}}', 'has no list "keys"'),
        (b'{"keys": []}', "has no key that could check a signature"),
        (b'{"keys": [1, null, {}, {"kty": "RSA"}, {"kty": "oct", "k": "c2VjcmV0"}]}', "has no key that could"),
        (b'{"keys": [' + b"{}," * 100 + b"{}]}", "has more than 100 keys"),
        (b" " * 262_145, "is longer than 262144 bytes"),
    ],
)
def test_what_is_no_key_set_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        KeySet.parse(data)


def test_keys_for_something_else_or_of_another_kind_are_left_out() -> None:
    small = {"kty": "RSA", "n": number((1 << 1023) + 1), "e": "AQAB"}
    large = {"kty": "RSA", "n": number((1 << 8_200) + 1), "e": "AQAB"}
    off_the_curve = KNOWN.jwk("P-256") | {"y": number(5, 32)}
    told = [
        KNOWN.jwk("RSA", use="enc"),
        KNOWN.jwk("P-384", key_ops=["sign"]),
        KNOWN.jwk("P-384", kid=7),
        {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"},
        {"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"},
        {"kty": "OKP", "crv": "X25519", "x": KNOWN.jwk("Ed25519")["x"]},
        {"kty": "OKP", "crv": "Ed25519", "x": "AA"},
        {"kty": "RSA", "n": "!!!", "e": "AQAB"},
        small,
        large,
        off_the_curve,
        KNOWN.jwk("P-256", key_ops=["verify"], use=None),
    ]
    keys = KeySet.parse(json.dumps({"keys": told}).encode())
    assert [(key.kid, key.kind) for key in keys.keys] == [("P-256", "P-256")]
    assert "EllipticCurve" not in repr(keys)
