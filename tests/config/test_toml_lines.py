from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meshcore.config.document import dotted
from meshcore.config.json_lines import json_lines
from meshcore.config.toml_lines import KeyPath, toml_lines

KEYS = st.one_of(
    st.sampled_from(["a", "b", "c", "listen", "x-y", "1"]),
    st.text(st.characters(blacklist_categories=["Cs"]), max_size=6),
)
# Text that looks like what the scanner looks for.
TEXTS = st.text(st.sampled_from(list("ab[]{}=#,.\"'\\ \n\té")), max_size=12)
NUMBERS = st.one_of(st.integers(-(10**9), 10**9), st.floats(allow_nan=False, allow_infinity=False))
SCALARS = st.one_of(TEXTS, NUMBERS, st.booleans())
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(KEYS, VALUES, max_size=5)


def paths(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    """Every key and item, as the parser found them."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from paths(item, (*path, key))


class Writer:
    """Writes a document in whichever of TOML's forms the draw says."""

    def __init__(self, draw: Any) -> None:
        self.pick = lambda *options: draw(st.sampled_from(options))

    def text(self, text: str) -> str:
        escaped = json.dumps(text).replace("\x7f", "\\u007f")
        if any(ord(char) > 0xFFFF for char in text):
            escaped = json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
        plain = "'" not in text and all(char.isprintable() or char == "\t" for char in text)
        forms = [escaped]
        if plain:
            forms.append(f"'{text}'")
        if text.isprintable() or set(text) <= set("ab[]{}=#,.\"'\\ \n\té"):
            forms.append('"""\n' + text.replace("\\", "\\\\").replace('"', '\\"') + '"""')
            if "''" not in text and not text.endswith("'") and "\\" not in text:
                forms.append("'''" + "\n" + text + "'''")
        return str(self.pick(*forms))

    def key(self, key: str) -> str:
        if key and key.isascii() and key.replace("-", "").replace("_", "").isalnum() and self.pick(True, False):
            return key
        if all(ord(char) <= 0xFFFF for char in key):
            return json.dumps(key).replace("\x7f", "\\u007f")
        return json.dumps(key, ensure_ascii=False).replace("\x7f", "\\u007f")

    def value(self, value: Any) -> str:
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            gap = self.pick("", " ", "\n  ", " # a ] comment\n")
            return "[" + gap + f",{gap}".join(map(self.value, value)) + (gap or " ") + "]"
        if isinstance(value, dict):
            return "{ " + ", ".join(f"{self.key(key)} = {self.value(item)}" for key, item in value.items()) + " }"
        return repr(value)

    def table(self, table: dict[str, Any], path: str) -> str:
        lines, later = [], []
        for key, value in table.items():
            name = self.key(key)
            full = f"{path}.{name}" if path else name
            tables = isinstance(value, list) and value and all(isinstance(item, dict) for item in value)
            if tables and self.pick(True, False):
                later += [f"{self.pick('', '# [[no]]')}\n[[{full}]]\n{self.table(item, full)}" for item in value]
            elif isinstance(value, dict) and value and self.pick(True, False):
                later.append(f"[ {full} ]  # said\n{self.table(value, full)}")
            else:
                lines.append(f"{self.pick('', '  ')}{name}{self.pick('=', ' = ')}{self.value(value)}")
        return "\n".join([*lines, *later])


@given(DOCUMENTS, st.data())
def test_the_scanner_finds_the_very_keys_that_tomllib_finds(document: dict[str, Any], data: Any) -> None:
    text = Writer(data.draw).table(document, "")
    assert tomllib.loads(text) == document
    found = toml_lines(text)
    assert set(found) == set(paths(document))
    assert all(1 <= line <= text.count("\n") + 1 for line in found.values())


@given(DOCUMENTS, st.sampled_from([None, 2]))
@example({"a": {"b": [1, {"c": "}"}]}}, 2)
def test_the_json_scanner_finds_the_very_keys_that_json_finds(document: dict[str, Any], indent: int | None) -> None:
    text = json.dumps(document, indent=indent)
    assert set(json_lines(text)) == set(paths(document))


TOML = '''\
# [no] table
[service]
name = "orders" # = 3
"quoted.key" = """
[not.a.table]
x = 1"""

[outbound.to."payments:80"]
endpoints = [
    "a:1",  # one
    { address = "b:2",
      weight = 2 },
]
timeout.request = '2s'

[[listen.public.route]]
to = [{ backend = "x" }]
[[listen.public.route]]
[listen.public.route.deep]
z = 1
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("service",), 2),
        (("service", "quoted.key"), 4),
        (("outbound",), 8),
        (("outbound", "to", "payments:80", "endpoints", 0), 10),
        (("outbound", "to", "payments:80", "endpoints", 1), 11),
        (("outbound", "to", "payments:80", "endpoints", 1, "weight"), 12),
        (("outbound", "to", "payments:80", "timeout", "request"), 14),
        (("listen", "public", "route", 0, "to", 0, "backend"), 17),
        (("listen", "public", "route", 1), 18),
        (("listen", "public", "route", 1, "deep", "z"), 20),
    ],
)
def test_each_key_has_the_line_on_which_it_stands(path: KeyPath, line: int) -> None:
    # TOML 1.0 has no line ends in inline tables.
    text = TOML.replace('"b:2",\n      weight', '"b:2", weight') if tomllib_refuses(TOML) else TOML
    shift = 1 if text != TOML and line > 11 else 0
    assert toml_lines(text)[path] == line - shift


def tomllib_refuses(text: str) -> bool:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return True
    return False


def test_windows_line_ends_count_once() -> None:
    assert toml_lines("a = 1\r\n\r\nb = 2\r\n") == {("a",): 1, ("b",): 3}


def test_a_path_is_shown_as_people_write_it() -> None:
    assert dotted(("outbound", "to", "payments:80", "endpoints", 0)) == 'outbound.to."payments:80".endpoints[0]'
