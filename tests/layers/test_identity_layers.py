"""Who the client is, who has to answer, and what nobody may say of either."""

from __future__ import annotations

from typing import Any

import attrs
import hypothesis
import pytest
import trio
from hypothesis import strategies as st

from meshcore.errors import AuthorizationError, GoAway, IdentityError
from meshcore.http.headers import Headers
from meshcore.http.message import Request, Response, Timeouts
from meshcore.http.reserved import FROM_PROXIES, NEVER_FROM_PEERS, strip_reserved
from meshcore.layers import ProxyErrors, RequireId, Rescue, Retry, SetClientId, UpgradeOrigProto
from meshcore.testing import MockNewService, memory_connection_pair, mock_service, request, response
from meshcore.transport.target import Endpoint, TlsClient

PLAIN = Endpoint(("10.0.0.1", 80))
MESHED = attrs.evolve(PLAIN, mesh_proxy=True)


def accepted(identity: str | None, *fields: tuple[bytes, bytes], version: int = 11) -> Request:
    """A request on a connection whose client is *identity*."""
    made = request(headers=list(fields), version=version)
    made.connection = memory_connection_pair()[0]
    made.connection.identity = identity
    return made


# ----- SetClientId -----


@pytest.mark.parity("T-18", "X-24")
@pytest.mark.parametrize("identity", ["web.shop", "spiffe://shop.local/ns/shop/sa/web"])
async def test_the_application_is_told_the_verified_identity_and_nothing_else(identity: str) -> None:
    inner = mock_service()
    sent = accepted(identity, (b"l5d-client-id", b"root"), (b"x-one", b"1"), (b"l5d-client-id", b"admin"))

    await SetClientId().wrap(inner, None)(sent)

    assert [(b"x-one", b"1"), (b"l5d-client-id", identity.encode())] == inner.requests[0].headers.raw
    assert identity == inner.requests[0].client_id


@pytest.mark.parity("T-18", "X-24")
async def test_a_client_without_an_identity_has_none_whatever_it_says() -> None:
    inner = mock_service()
    service = SetClientId().wrap(inner, None)

    for sent in (accepted(None, (b"l5d-client-id", b"root")), request(headers=[(b"l5d-client-id", b"root")])):
        sent.client_id = "root"
        await service(sent)

        assert [] == inner.requests[-1].headers.raw
        assert inner.requests[-1].client_id is None


@pytest.mark.parity("T-18")
@pytest.mark.parametrize("identity", ["", "a\r\nx: y", "a\0b", "käse.shop", " a", "a" * 3_000])
async def test_an_identity_that_cannot_stand_in_a_field_is_refused(identity: str) -> None:
    inner = mock_service()

    answer = await Rescue().wrap(SetClientId().wrap(inner, None), None)(accepted(identity))

    assert (403, []) == (answer.status, inner.requests)
    with pytest.raises(AuthorizationError):
        await SetClientId().wrap(inner, None)(accepted(identity))


@pytest.mark.parity("T-20")
async def test_the_canonical_name_is_believed_of_a_peer_with_an_identity_alone() -> None:
    inner = mock_service()
    service = SetClientId().wrap(inner, None)
    canonical = (b"l5d-dst-canonical", b"users.shop:80")

    await service(accepted("web.shop", canonical))
    await service(accepted(None, canonical))

    assert canonical in inner.requests[0].headers.raw
    assert [] == inner.requests[1].headers.raw


UNDERSCORED = [name.replace(b"-", b"_") for name in (*FROM_PROXIES, *NEVER_FROM_PEERS)]


@pytest.mark.parametrize("name", [*NEVER_FROM_PEERS, *UNDERSCORED, b"l5d-client_id", b"x-meshcore_error"])
@pytest.mark.parametrize("meshed", [False, True])
def test_what_no_peer_may_say_is_removed(name: bytes, meshed: bool) -> None:
    headers = Headers([(b"a", b"1"), (name, b"x"), (b"b", b"2"), (name, b"y")])
    strip_reserved(headers, meshed=meshed)
    assert [(b"a", b"1"), (b"b", b"2")] == headers.raw


RESERVED = (b"l5d-", b"l5d_", b"x-meshcore-", b"x_meshcore_", b"x-meshcore_", b"x_meshcore-")
names = st.sampled_from([b"accept", b"l5dx", b"x-l5d-a", *RESERVED, *FROM_PROXIES, *NEVER_FROM_PEERS, *UNDERSCORED])


@hypothesis.given(
    st.lists(st.tuples(names | st.binary(max_size=8).map(lambda tail: b"l5d-" + tail), st.just(b"x"))), st.booleans()
)
def test_only_reserved_fields_are_removed_and_all_of_them(fields: list[tuple[bytes, bytes]], meshed: bool) -> None:
    headers = Headers(list(fields))
    strip_reserved(headers, meshed=meshed)
    left = [name for name, _ in headers.raw if name.startswith(RESERVED)]
    assert set(left) <= (set(FROM_PROXIES) if meshed else set())
    assert [f for f in fields if not f[0].startswith(RESERVED) or f[0] in left] == headers.raw


def test_every_reserved_name_has_its_reason_in_one_table() -> None:
    assert not set(FROM_PROXIES) & set(NEVER_FROM_PEERS)
    assert all({**FROM_PROXIES, **NEVER_FROM_PEERS}.values())


# ----- RequireId -----

DNS = attrs.evolve(MESHED, tls=TlsClient("users.shop", alpn=(), identity="users.shop", mesh=True))
URI = attrs.evolve(MESHED, tls=TlsClient("users", alpn=(), identity="spiffe://shop/users", mesh=True))
NAMED = attrs.evolve(PLAIN, tls=TlsClient("users.shop"))
UNVERIFIED = attrs.evolve(PLAIN, tls=TlsClient("users.shop", verify=False))


@pytest.mark.parity("T-19", "X-22")
@pytest.mark.parametrize(
    ("endpoint", "required"),
    [(DNS, b"users.shop"), (DNS, b"USERS.shop"), (URI, b"spiffe://shop/users"), (NAMED, b"users.shop")],
)
async def test_the_right_identity_lets_a_request_pass_without_the_field(endpoint: Endpoint, required: bytes) -> None:
    inner = mock_service()
    sent = request(headers=[(b"l5d-require-id", required), (b"x-one", b"1")])

    assert 200 == (await RequireId().wrap(inner, endpoint)(sent)).status

    assert [(b"x-one", b"1")] == inner.requests[0].headers.raw
    # Another try is judged, too.
    assert b"l5d-require-id" in sent.headers


@pytest.mark.parity("T-19", "X-22", "X-23")
@pytest.mark.parametrize(
    ("endpoint", "required", "found"),
    [
        (DNS, b"orders.shop", "users.shop"),
        (DNS, b"users.shop.", "users.shop"),
        (DNS, b"", "users.shop"),
        (URI, b"spiffe://shop/USERS", "spiffe://shop/users"),
        (URI, b"users", "spiffe://shop/users"),
        (PLAIN, b"users.shop", "none"),
        (PLAIN, b"", "none"),
        (PLAIN, b"none", "none"),
        (MESHED, b"users.shop", "none"),
        (UNVERIFIED, b"users.shop", "none"),
    ],
)
async def test_the_wrong_identity_is_a_502_that_names_both_and_sends_nothing(
    endpoint: Endpoint, required: bytes, found: str
) -> None:
    inner = mock_service()
    sent = request(headers=[(b"l5d-require-id", required)])

    answer = await Rescue().wrap(RequireId().wrap(inner, endpoint), None)(sent)

    assert (502, b"identity-mismatch") == (answer.status, answer.headers.get(b"x-meshcore-error"))
    assert b"required id %b; found %b" % (required, found.encode()) in (answer.headers.get(b"l5d-proxy-error") or b"")
    assert [] == inner.requests


@pytest.mark.parity("T-19")
async def test_of_several_requirements_each_has_to_be_met() -> None:
    inner = mock_service()
    sent = request(headers=[(b"l5d-require-id", b"users.shop"), (b"l5d-require-id", b"orders.shop")])
    with pytest.raises(IdentityError):
        await RequireId().wrap(inner, DNS)(sent)
    assert [] == inner.requests


@pytest.mark.parity("T-19")
async def test_without_a_requirement_the_very_request_passes() -> None:
    inner = mock_service()
    sent = request()
    await RequireId().wrap(inner, DNS)(sent)
    assert inner.requests[0] is sent


async def test_a_requirement_too_long_to_be_told_is_cut() -> None:
    with pytest.raises(IdentityError) as caught:
        await RequireId().wrap(mock_service(), DNS)(request(headers=[(b"l5d-require-id", b"a" * 10_000)]))
    assert len(str(caught.value)) < 700


# ----- ProxyErrors -----

TOLD = [
    (b"l5d-proxy-error", b"endpoint x: connect timed out"),
    (b"l5d-proxy-connection", b"close"),
    (b"x-meshcore-error", b"connect-timeout"),
    (b"x-one", b"1"),
]


@pytest.mark.parity("E-07", "U-07")
@pytest.mark.parametrize(
    ("endpoint", "forwards", "closes"), [(PLAIN, True, False), (MESHED, False, False), (MESHED, True, True)]
)
async def test_a_far_proxys_words_end_here_and_close_only_what_it_may_close(
    endpoint: Endpoint, forwards: bool, closes: bool
) -> None:
    answer = await ProxyErrors(forwards).wrap(mock_service(response(504, headers=list(TOLD))), endpoint)(request())

    assert closes == answer.close
    kept = [TOLD[2], TOLD[3]] if endpoint.mesh_proxy else [TOLD[3]]
    assert kept == answer.headers.raw


@pytest.mark.parity("E-07", "U-07")
async def test_any_other_word_about_the_connection_closes_nothing() -> None:
    said = response(200, headers=[(b"l5d-proxy-connection", b"keep-alive")])
    answer = await ProxyErrors(True).wrap(mock_service(said), MESHED)(request())
    assert (False, []) == (answer.close, answer.headers.raw)


async def test_what_a_far_proxy_says_is_logged_on_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    said = response(502, headers=[(b"l5d-proxy-error", b"a\x1b[31m\xff" + b"b" * 5_000)])
    await ProxyErrors().wrap(mock_service(said), MESHED)(request())
    assert "its proxy says: 'a\\x1b[31m\\xffbbb" in caplog.text
    assert len(caplog.text) < 1_300


# ----- Rescue -----


@pytest.mark.parity("E-06", "U-04")
@pytest.mark.parametrize(("identity", "told"), [("web.shop", True), (None, False)])
async def test_only_a_meshed_client_is_told_what_went_wrong(identity: str | None, told: bool) -> None:
    answer = await Rescue("meshed").wrap(mock_service(IdentityError("secret")), None)(accepted(identity))
    assert told == (b"l5d-proxy-error" in answer.headers)
    assert told == (b"x-meshcore-error" in answer.headers)
    made_here = await Rescue("meshed").wrap(mock_service(IdentityError("secret")), None)(request())
    assert b"l5d-proxy-error" not in made_here.headers


@pytest.mark.parametrize("wrong", ["mesh", 1, None])
def test_rescue_takes_no_other_word(wrong: Any) -> None:
    with pytest.raises(ValueError, match="informational"):
        Rescue(wrong)


# ----- UpgradeOrigProto and the request that it sends -----


@pytest.mark.parity("D-24", "D-27")
@pytest.mark.parametrize(
    ("endpoint", "changes"),
    [
        (PLAIN, {}),
        (attrs.evolve(MESHED, protocol="http/1"), {}),
        (MESHED, {"version": 20}),
        (MESHED, {"protocol": b"websocket"}),
        (MESHED, {"method": b"CONNECT"}),
    ],
    ids=["plain", "http/1", "http/2", "upgrade", "connect"],
)
async def test_what_is_not_to_be_translated_passes_without_a_mark(endpoint: Endpoint, changes: dict[str, Any]) -> None:
    inner = mock_service(response(200, headers=[(b"l5d-orig-proto", b"HTTP/1.0")]))
    sent = request(headers=[(b"l5d-orig-proto", b"HTTP/1.1")])
    for name, value in changes.items():
        setattr(sent, name, value)

    answer = await UpgradeOrigProto().wrap(inner, endpoint)(sent)

    assert inner.requests[0] is sent
    assert [] == sent.headers.raw == answer.headers.raw


@pytest.mark.parity("D-25", "D-26")
@pytest.mark.parametrize(
    ("mark", "version"), [(b"HTTP/1.0", 10), (b"HTTP/1.1", 11), (b"HTTP/9", 11), (None, 11)], ids=str
)
async def test_the_answers_version_is_what_the_far_side_says(mark: bytes | None, version: int) -> None:
    fields = [(b"l5d-orig-proto", mark)] if mark is not None else []
    said = response(200, headers=[*fields, (b"x-one", b"1")])
    said.version = 20
    sent = request(headers=[(b"keep-alive", b"5"), (b"te", b"trailers")])

    answer = await UpgradeOrigProto().wrap(inner := mock_service(said), MESHED)(sent)

    assert (version, [(b"x-one", b"1")]) == (answer.version, answer.headers.raw)
    assert [(b"te", b"trailers"), (b"l5d-orig-proto", b"HTTP/1.1")] == inner.requests[0].headers.raw
    assert (20, 11) == (inner.requests[0].version, sent.version)


@pytest.mark.parity("D-25", "T-19")
async def test_another_try_goes_to_another_kind_of_endpoint_as_if_it_were_the_first(nursery: trio.Nursery) -> None:
    first, second = mock_service(GoAway("gone")), mock_service()
    services = [
        RequireId().wrap(UpgradeOrigProto().wrap(first, DNS), DNS),
        RequireId().wrap(UpgradeOrigProto().wrap(second, NAMED), NAMED),
    ]

    async def each_in_turn(sent: Request) -> Response:
        return await services.pop(0)(sent)

    retried = Retry(1).layer(MockNewService(lambda _: each_in_turn)).new_service(None, nursery)
    answer = await retried(request(headers=[(b"l5d-require-id", b"users.shop"), (b"x-one", b"1")]))

    assert 200 == answer.status
    assert [(b"x-one", b"1"), (b"l5d-orig-proto", b"HTTP/1.1")] == first.requests[0].headers.raw
    assert [(b"x-one", b"1")] == second.requests[0].headers.raw
    assert (20, 11) == (first.requests[0].version, second.requests[0].version)


_SHARED = (
    "method",
    "scheme",
    "authority",
    "path",
    "body",
    "protocol",
    "absolute_form",
    "expect_continue",
    "timeouts",
    "informational",
    "connection",
    "endpoint",
    "avoid",
    "started",
    "client_id",
)


async def test_a_variant_shares_all_but_fields_and_version_and_the_clock_of_its_limits() -> None:
    sent = accepted("web.shop", (b"a", b"1"))
    sent.timeouts = Timeouts(request=1.0)
    sent.absolute_form = sent.expect_continue = True
    sent.protocol, sent.endpoint, sent.avoid, sent.client_id = b"x", PLAIN, (PLAIN,), "web.shop"
    sent.informational = lambda status, fields: None

    variant = sent.variant(Headers([]), 20)

    assert sent.started is not None
    for name in _SHARED:
        assert getattr(sent, name) is getattr(variant, name), name
    assert (20, []) == (variant.version, variant.headers.raw)


def test_the_layers_print_as_they_are_written() -> None:
    shown = [repr(layer) for layer in (SetClientId(), RequireId(), ProxyErrors(), UpgradeOrigProto(), Rescue("meshed"))]
    assert [
        "SetClientId()",
        "RequireId()",
        "ProxyErrors(forwards=False)",
        "UpgradeOrigProto()",
        "Rescue(informational='meshed')",
    ] == shown
