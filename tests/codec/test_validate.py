"""The rules for fields and messages that both protocols share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshcore.codec import validate
from meshcore.codec.events import Fields
from meshcore.errors import LocalProtocolError, RemoteProtocolError

BAD_NAMES = [b"", b"A", b"a b", b"a:", b":a", b"a\r", b"a\n", b"a\x00", b"\xe9", b"a(", b"a@b", b'"a"', b" a", b"a/b"]
BAD_VALUES = [b" a", b"a ", b"\ta", b"a\t", b" ", b"a\rb", b"a\nb", b"a\x00b", b"\x01", b"\x7f", b"\x0b", b"a\r\n b"]
GOOD_NAMES = [b"a", b"x-1", b"!#$%&'*+-.^_`|~", b"0"]
GOOD_VALUES = [b"", b"a", b"a b", b"a\tb", b"\xe9\xff", b"a: b, c"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_are_no_lower_case_token(name: bytes) -> None:
    assert not validate.is_field_name(name)
    assert not validate.fields_are_valid([(b"a", b"b"), (name, b"c")])
    with pytest.raises(RemoteProtocolError, match="field name not valid"):
        validate.check_fields([(b"a", b"b"), (name, b"c")])


@pytest.mark.parametrize("value", BAD_VALUES)
def test_values_with_control_characters_or_outer_white_space(value: bytes) -> None:
    assert not validate.is_field_value(value)
    assert not validate.fields_are_valid([(b"a", value), (b"b", b"c")])
    with pytest.raises(LocalProtocolError, match="value of 'a' not valid"):
        validate.check_fields([(b"b", b"c"), (b"a", value)], LocalProtocolError)


def test_names_and_values_that_are_valid() -> None:
    assert all(map(validate.is_field_name, GOOD_NAMES))
    assert all(map(validate.is_field_value, GOOD_VALUES))
    fields = [(name, value) for name in GOOD_NAMES for value in GOOD_VALUES]
    assert validate.fields_are_valid(fields)
    validate.check_fields(fields)
    assert validate.fields_are_valid([])


@given(st.lists(st.tuples(st.sampled_from(BAD_NAMES + GOOD_NAMES * 3), st.sampled_from(BAD_VALUES + GOOD_VALUES * 4))))
def test_a_list_is_valid_exactly_where_each_field_is(fields: Fields) -> None:
    each = all(validate.is_field_name(name) and validate.is_field_value(value) for name, value in fields)
    assert each == validate.fields_are_valid(fields)


@given(st.lists(st.tuples(st.binary(max_size=6), st.binary(max_size=6)), max_size=4))
def test_no_bytes_confuse_the_check_of_a_list(fields: Fields) -> None:
    each = all(validate.is_field_name(name) and validate.is_field_value(value) for name, value in fields)
    assert each == validate.fields_are_valid(fields)


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        (b"a", b"a"),
        (b"A.Test:80", b"a.test"),
        (b"a:", b"a"),
        (b"10.0.0.1:65535", b"10.0.0.1"),
        (b"[::1]", b"[::1]"),
        (b"[::1]:80", b"[::1]"),
        (b"[fe80::1%eth0]:1", b"[fe80::1%eth0]"),
        (b"a_b~!$&'()*+;=%41", b"a_b~!$&'()*+;=%41"),
    ],
)
def test_authorities_and_their_hosts(authority: bytes, host: bytes) -> None:
    assert validate.is_authority(authority)
    assert host == validate.authority_host(authority)
    has_port = authority.rpartition(b":")[2].isdigit()
    assert has_port == validate.is_authority_with_port(authority)


NO_AUTHORITIES = [b"", b"a b", b"a,b", b"u@a", b"u:p@a", b"a/", b"a?", b"a#", b"a:b", b":80", b"a:65536", b"a:123456"]
NO_AUTHORITIES += [b"::1", b"[::1", b"[]", b"[a]b", b"[g::]", b"\xe9", b"%4", b"%zz", b"a\r\n", b"a\x00", b"a\\b"]


@pytest.mark.parametrize("authority", [*NO_AUTHORITIES, b"a:80:80"])
def test_what_is_no_authority(authority: bytes) -> None:
    assert not validate.is_authority(authority)
    assert not validate.is_authority_with_port(authority)


def test_methods_paths_and_protocols() -> None:
    assert [True, True, False, False, False] == [
        validate.is_method(method) for method in (b"GET", b"x-!", b"", b"G T", b"A" * 65)
    ]
    assert [True, True, False, False, False, False] == [
        validate.is_path(path) for path in (b"/", b"/a?b=%20{}", b"", b"a", b"/a b", b"/\xe9")
    ]
    assert not validate.is_path(b"/#")
    assert [True, True, False, False] == [
        validate.is_protocol(name) for name in (b"websocket", b"TLS/1.0", b"a/b/c", b"a b")
    ]


@pytest.mark.parametrize(
    ("value", "length"),
    [
        (b"0", 0),
        (b"007", 7),
        (b"9223372036854775807", 2**63 - 1),
        (b"9223372036854775808", None),
        (b"00000000000000000000", None),
        (b"", None),
        (b"+1", None),
        (b"1, 1", None),
        (b"0x1", None),
        (b"1_0", None),
        (b"\xb2", None),
    ],
)
def test_content_lengths(value: bytes, length: int | None) -> None:
    assert length == validate.parse_content_length(value)


def test_lists_of_tokens() -> None:
    assert [b"a", b"b c", b"d"] == validate.tokens(b"A ,\t, b C,d,")
    assert [] == validate.tokens(b"")


@pytest.mark.parametrize("name", [b"l5d-x", b"x-meshcore-error"])
def test_reserved_names_are_so_with_underscores_too(name: bytes) -> None:
    for spelled in (name, name.replace(b"-", b"_"), name.replace(b"-", b"_", 1), b"_".join(name.rsplit(b"-", 1))):
        assert validate.is_reserved(spelled)


@pytest.mark.parametrize("name", [b"x-l5d-", b"x_l5d_x", b"l5d", b"x-meshcore", b"xmeshcore-error", b"l5dx-"])
def test_other_names_are_not_reserved(name: bytes) -> None:
    assert not validate.is_reserved(name)


@pytest.mark.parametrize("name", sorted(validate.REFUSED_TRAILERS))
def test_trailers_that_frame_or_route_are_refused(name: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="trailer field not allowed"):
        validate.check_trailers([(b"a", b"b"), (name, b"c")])
    with pytest.raises(LocalProtocolError):
        validate.check_trailers([(name, b"c")], LocalProtocolError)


def test_trailers_that_would_be_merged_by_the_naive_are_left_out() -> None:
    kept = [(b"grpc-status", b"0"), (b"a", b"b")]
    ours = [(b"l5d-client-id", b"y"), (b"l5d_client_id", b"y")]
    assert kept == validate.check_trailers([kept[0], (b"authorization", b"x"), *ours, kept[1]])


def test_cookie_crumbs_are_joined_where_the_first_was() -> None:
    fields = [(b"a", b"b"), (b"cookie", b"c=1"), (b"d", b"e"), (b"cookie", b"f=2"), (b"cookie", b"g=3")]
    assert [(b"a", b"b"), (b"cookie", b"c=1; f=2; g=3"), (b"d", b"e")] == validate.join_cookies(fields)
    assert fields[:3] == validate.join_cookies(fields[:3])
