"""Policies as values: networks, kinds of clients, order, routes, and what holds where none is for what is asked."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshcore.layers.authorize import Authorization, Client, ServerPolicy

WORKLOAD = "spiffe://some-root/some-workload"


# The nine cases of the reference, by its names.
MATCHES = [
    ("matching_spiffe_ids", WORKLOAD, (WORKLOAD,), (), True),
    ("non_matching_spiffe_ids", f"{WORKLOAD}-1", (f"{WORKLOAD}-2",), (), False),
    ("matching_dns_ids", "some.id.local", ("some.id.local",), (), True),
    ("non_matching_dns_ids", "some.id.local.one", ("some.id.local.two",), (), False),
    ("matching_dns_suffixes", "some.id.local", (), ("*.id.local",), True),
    ("non_matching_dns_suffixes", "some.id.local", (), ("*.another-id.local",), False),
    ("suffixes_and_a_spiffe_id", f"{WORKLOAD}-1", (), ("*.some-workload-1",), False),
    ("one_matching_spiffe_id", WORKLOAD, (WORKLOAD, "some.workload.one", "some.workload.two"), (), True),
    ("one_matching_dns_id", "some.workload.one", (WORKLOAD, "some.workload.one"), (), True),
    ("a_host_name_in_other_letters", "some.ID.local", ("Some.id.Local",), (), True),
    ("a_uri_in_other_letters", WORKLOAD.upper().replace("SPIFFE", "spiffe"), (WORKLOAD,), (), False),
    ("a_suffix_alone", "id.local", (), ("*.id.local",), False),
    ("a_suffix_that_is_no_label", "forbidden-id.local", (), ("*.id.local",), False),
    ("a_dot_and_a_suffix", ".id.local", (), ("*.id.local",), False),
    ("deeper_names", "a.b.id.local", (), ("*.id.local",), True),
    ("a_uri_that_ends_like_a_name", "spiffe://a.id.local", (), ("*.id.local",), False),
]


@pytest.mark.parity("R-29", "U-05")
@pytest.mark.parametrize(("identity", "identities", "suffixes", "permitted"), [case[1:] for case in MATCHES],
                         ids=[case[0] for case in MATCHES])  # fmt: skip
def test_identities_match_whole_and_suffixes_by_label(
    identity: str, identities: tuple[str, ...], suffixes: tuple[str, ...], permitted: bool
) -> None:
    authorization = Authorization("x", identities=identities, identity_suffixes=suffixes)
    assert authorization.permits(Client.at("10.0.0.1", identity, secure=True)) is permitted
    assert not authorization.permits(Client.at("10.0.0.1", None, secure=True))


ANYBODY, IN_TLS, MESHED = Client.at("10.0.0.1"), Client.at("10.0.0.1", None, True), Client.at("10.0.0.1", "a.b", True)


@pytest.mark.parity("R-29", "U-05")
def test_each_kind_of_client_has_its_own_word() -> None:
    def let_in(**kind: Any) -> list[bool]:
        return [Authorization(**kind).permits(client) for client in (ANYBODY, IN_TLS, MESHED)]

    assert let_in(unauthenticated=True) == [True, True, True]
    assert let_in(unauthenticated_tls=True) == [False, True, True]
    assert let_in(mesh_tls=True) == [False, False, True]
    assert let_in(identities=["A.b"]) == [False, False, True]
    assert let_in() == [False, False, False]


@pytest.mark.parity("R-29")
@pytest.mark.parametrize(
    ("host", "permitted"),
    [
        ("10.0.0.1", True),
        ("10.1.2.3", False),
        ("10.2.0.0", True),
        ("::ffff:10.2.0.1", True),
        ("::ffff:10.1.0.1", False),
        ("11.0.0.1", False),
        ("fd00::1", True),
        ("fd00:bad::1", False),
        ("fe80::1%eth0", False),
        ("", False),
        ("nonsense", False),
    ],
)
def test_networks_have_exceptions(host: str, permitted: bool) -> None:
    authorization = Authorization(
        networks=("10.0.0.0/8", "fd00::/8"), exceptions=("10.1.0.0/16", "fd00:bad::/32"), unauthenticated=True
    )
    assert authorization.permits(Client.at(host)) is permitted


def test_exceptions_alone_are_from_everywhere_and_nowhere_is_not_an_exception() -> None:
    authorization = Authorization(exceptions=("10.1.0.0/16",), unauthenticated=True)
    assert [authorization.permits(Client.at(host)) for host in ("10.2.0.1", "10.1.0.1", "fd00::1", "")] == [
        True,
        False,
        True,
        False,
    ]


def named(name: str, **more: Any) -> Authorization:
    return Authorization(name, unauthenticated=True, **more)


@pytest.mark.parity("R-28", "R-29")
def test_the_first_that_permits_decides() -> None:
    policy = ServerPolicy(
        "deny",
        authorizations=(
            Authorization("web", identities=("web.shop",)),
            named("inside", networks=("10.0.0.0/8",)),
            Authorization("mesh", mesh_tls=True),
        ),
        name="inbound",
    )

    def decides(host: str, identity: str | None) -> tuple[bool, str]:
        verdict = policy.judge(Client.at(host, identity, identity is not None))
        assert verdict.server == ("server", "inbound")
        return verdict.allowed, verdict.authorization[1]

    assert decides("10.0.0.1", "web.shop") == (True, "web")
    assert decides("10.0.0.1", "other.shop") == (True, "inside")
    assert decides("11.0.0.1", "other.shop") == (True, "mesh")
    assert decides("11.0.0.1", None) == (False, "")


@pytest.mark.parity("R-31", "R-33")
def test_the_default_holds_where_no_policy_is_for_what_is_asked_and_nowhere_else() -> None:
    only_admin = ServerPolicy("all-authenticated", authorizations=(named("ops", networks=("10.9.0.0/16",),
                                                                         routes=("admin",)),))  # fmt: skip
    stranger, operator, meshed = Client.at("11.0.0.1"), Client.at("10.9.0.1"), Client.at("11.0.0.1", "a.b", True)
    # The route's own policy is all that counts for it.
    assert [only_admin.judge(each, "admin").allowed for each in (stranger, operator, meshed)] == [False, True, False]
    # The default is for the other routes, for requests of no route, and for bytes.
    for route in ("other", ""):
        assert [only_admin.judge(each, route).allowed for each in (stranger, operator, meshed)] == [False, False, True]
    assert only_admin.judge(meshed, "other").server == ("default", "all-authenticated")
    # What the server permits is permitted on its routes as well.
    both = ServerPolicy("deny", authorizations=(*only_admin.authorizations, Authorization("mesh", mesh_tls=True)))
    assert [both.judge(each, "admin").allowed for each in (stranger, operator, meshed)] == [False, True, True]
    assert [both.judge(each, "other").allowed for each in (stranger, operator, meshed)] == [False, False, True]


@pytest.mark.parity("R-30")
def test_clients_on_this_host_need_no_policy_unless_they_are_asked_like_everybody() -> None:
    nobody = (Authorization("nobody", identities=("a.b",)),)
    for host in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"):
        assert ServerPolicy("deny", authorizations=nobody).judge(Client.at(host)).authorization[1] == "localhost"
        assert not ServerPolicy("deny", loopback=False, authorizations=nobody).judge(Client.at(host)).allowed


@pytest.mark.parametrize("pattern", ["*", "shop", "*.", "*shop", "*.*.shop", "spiffe://*.shop", ""])
def test_what_is_no_suffix_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="is not a suffix"):
        Authorization(identity_suffixes=(pattern,))


# ----- against an obvious model -----

HOSTS = ["10.0.0.1", "10.1.0.1", "10.1.2.1", "192.0.2.1", "fd00::1", "fd00:1::1", ""]
NETWORKS = ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "::/0", "fd00::/8", "fd00:1::/32"]
NAMES = [None, "a.shop", "b.shop", "a.b.shop", "shop", "spiffe://t/a", "spiffe://t/a.shop"]
networks = st.lists(st.sampled_from(NETWORKS), max_size=3).map(tuple)
authorizations = st.builds(
    Authorization,
    networks=networks,
    exceptions=networks,
    unauthenticated=st.booleans(),
    unauthenticated_tls=st.booleans(),
    mesh_tls=st.booleans(),
    identities=st.lists(st.sampled_from([name for name in NAMES if name]), max_size=2).map(tuple),
    identity_suffixes=st.lists(st.sampled_from(["*.shop", "*.b.shop"]), max_size=2).map(tuple),
    routes=st.lists(st.sampled_from(["r", "s"]), max_size=2).map(tuple),
)


def obviously(each: Authorization, host: str, name: str | None, secure: bool) -> bool:
    def within(texts: tuple[str, ...]) -> bool:
        return host != "" and any(ipaddress.ip_address(host) in ipaddress.ip_network(text) for text in texts)

    if each.networks and not within(each.networks):
        return False
    if each.exceptions and (host == "" or within(each.exceptions)):
        return False
    if each.unauthenticated:
        return True
    if secure and each.unauthenticated_tls:
        return True
    if name is None:
        return False
    dns = not name.startswith("spiffe:")
    ends = any(dns and name.endswith(suffix[1:]) for suffix in each.identity_suffixes)
    return each.mesh_tls or name in each.identities or ends


@pytest.mark.parity("R-29")
@given(
    st.lists(authorizations, max_size=4),
    st.sampled_from(HOSTS),
    st.sampled_from(NAMES),
    st.booleans(),
    st.sampled_from(["", "r", "s", "t"]),
    st.sampled_from(["deny", "all-unauthenticated", "all-authenticated"]),
)
def test_a_verdict_is_what_reading_the_policy_out_loud_gives(
    policies: list[Authorization], host: str, name: str | None, tls: bool, route: str, default: Any
) -> None:
    secure = tls or name is not None
    asked = [each for each in policies if not each.routes or route in each.routes]
    expected = (
        any(obviously(each, host, name, secure) for each in asked)
        if asked
        else default == "all-unauthenticated" or (default == "all-authenticated" and name is not None)
    )
    policy = ServerPolicy(default, loopback=False, authorizations=tuple(policies))
    assert policy.judge(Client.at(host, name, secure), route).allowed is expected
