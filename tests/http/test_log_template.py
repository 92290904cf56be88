"""Templates of lines: what is known, what is masked, and what is told of mistakes."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies as st

from meshcore.errors import ConfigError
from meshcore.http.log_template import (
    ALIASES,
    FIELDS,
    FORMATS,
    JSON_FORMATS,
    TEXT_FORMATS,
    Field,
    Template,
    is_secret,
    templates,
)
from meshcore.layers.access_log.fields import COMMON, CONSTANT, GETTERS


def wrong(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        Template.parse(text)
    return caught.value.problems


def test_fields_stand_in_text() -> None:
    assert Template.parse("a %{method}%{path} 100%%").parts == ("a ", Field("method"), Field("path"), " 100%")


def test_what_stands_between_quotes_is_known_to() -> None:
    found = Template.parse('%{client} "%{method} %{path}" %{status}').fields
    assert [field.quoted for field in found] == [False, True, True, False]


def test_the_fields_of_linkerd_are_known_by_its_names() -> None:
    names = [field.name for name in ALIASES for field in Template.parse(f"%{{{name}}}").fields]
    assert names == list(ALIASES.values())


def test_header_fields_are_known_by_name_and_secrets_are_masked() -> None:
    found = Template.parse("%{header.X-Tenant} %{header.authorization} %{response.set-cookie}").fields
    assert found == [
        Field("header", b"x-tenant"),
        Field("header", b"authorization", masked=True),
        Field("response", b"set-cookie", masked=True),
    ]
    assert not Template.parse("%{header.x-api-key}", reveal=["X-API-Key"]).fields[0].masked


@pytest.mark.parametrize(
    "name",
    [
        *("authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "apikey", "x-auth-token"),
        *("x-amz-security-token", "x-csrf-token", "x-session-id", "client-secret", "x-auth", "x-goog-api-key"),
        *("x-hub-signature-256", "x-forwarded-client-cert", "Authorization"),
    ],
)
def test_names_of_secrets_are_known(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize("name", ["user-agent", "x-tenant", "x-author", "host", "content-type", "x-forwarded-for"])
def test_other_names_are_none(name: str) -> None:
    assert not is_secret(name)


def test_an_unknown_field_is_an_error_with_a_suggestion() -> None:
    assert wrong("%{statsu}") == ["'%{statsu}': there is no field 'statsu'; did you mean 'status'?"]
    (text,) = wrong("%{colour}")
    assert text.startswith("'%{colour}': there is no field 'colour' (known: time, direction, ")
    assert text.endswith("user_agent, header.NAME, response.NAME)")


def test_everything_that_is_wrong_is_told_at_once() -> None:
    assert wrong("%{statsu} %d %{header.a b}") == [
        "'%{statsu}': there is no field 'statsu'; did you mean 'status'?",
        "'%d %{header.': a field is %{NAME}; a per cent sign is %%",
        "'%{header.a b}': 'a b' is not the name of a header field",
    ]


def test_a_template_is_bounded() -> None:
    assert wrong("a\nb") == ["a template is one line of printable ASCII"]
    assert wrong("x" * 5_000) == ["is longer than 4096 characters"]
    assert wrong("%{path}" * 65) == ["has more than 64 fields"]


def test_the_keys_of_json_are_judged_one_by_one() -> None:
    with pytest.raises(ConfigError) as caught:
        templates({"a": "%{pth}", "b": "%{path}", "c": "%"})
    assert caught.value.problems == [
        "a: '%{pth}': there is no field 'pth'; did you mean 'path'?",
        "c: '%': a field is %{NAME}; a per cent sign is %%",
    ]
    with pytest.raises(ConfigError, match="more than 64 keys"):
        templates({str(number): "" for number in range(65)})


def test_every_field_has_something_that_gives_it() -> None:
    assert set(GETTERS) == set(FIELDS)
    assert CONSTANT | COMMON <= set(FIELDS)


@pytest.mark.parametrize("name", FORMATS)
def test_what_has_a_name_is_a_template(name: str) -> None:
    if name in TEXT_FORMATS:
        assert Template.parse(TEXT_FORMATS[name])
    else:
        assert templates(JSON_FORMATS[name])


@hypothesis.given(st.text(max_size=60) | st.from_regex(r"(%\{[a-z._]{0,12}\}|%%|%|\"| ){0,8}", fullmatch=True))
def test_any_text_is_a_template_or_an_error(text: str) -> None:
    try:
        template = Template.parse(text)
    except ConfigError as error:
        assert error.problems
    else:
        plain = "".join(part for part in template.parts if isinstance(part, str))
        assert plain.isprintable()
