"""Makes the pages of docs/reference that the code itself knows best.

``python docs/generate.py`` makes all of them, ``python docs/generate.py parity`` one.  ``conf.py`` makes those that
are not committed before each build.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "reference"


def layers() -> str:
    """reference/layers.md: every built-in layer with its fields."""
    from meshcore import registry

    lines = [
        "# Layers",
        "",
        "The layers that come with meshcore, by the name under which a config file and `meshcore layers` know them.",
        "A field whose type is a `Param` takes the value, or a function of the target, called once for each target.",
    ]
    for name in registry.names():
        plugin = registry.describe(name)
        if plugin.source != "meshcore-sidecar":
            continue
        cls = registry.load(name)
        lines += ["", f"## `{name}`", "", _prose(cls.__doc__), "", f"`{plugin.path.replace(':', '.')}`"]
        if plugin.fields:
            lines += ["", "| field | type | default |", "| --- | --- | --- |"]
            lines += [
                f"| `{field.name}` | `{_cell(field.type)}` | "
                f"{'required' if field.default is None else f'`{_cell(field.default)}`'} |"
                for field in plugin.fields
            ]
    return "\n".join(lines) + "\n"


def errors() -> str:
    """reference/errors.md: every error code, how it is answered and what it means."""
    from meshcore.explain import EXPLANATIONS, error_classes

    lines = [
        "# Errors",
        "",
        "An answer that the proxy made itself carries `x-meshcore-error: CODE` and `l5d-proxy-error` with the chain of",
        "causes, from the name that was asked for to what is wrong:",
        "",
        "```text",
        "logical service a.ns:80: route default: backend users: endpoint 10.0.0.7:4143: connect timed out after 1s",
        "```",
        "",
        "Who sees that: an application, of its own proxy (`[outbound]`), and a gateway's clients, unless",
        "`informational_headers = false` says otherwise; on `[inbound]` clients with a verified identity alone.",
        "A client of gRPC gets 200 with `grpc-status` and, where it may know, `grpc-message`. An answer that has begun",
        "and breaks ends in trailers with a status for gRPC, and broken off for everybody else.",
        "`meshcore explain CODE` prints what stands here.",
        "",
        "| code | HTTP | gRPC | at fault | client connection |",
        "| --- | --- | --- | --- | --- |",
    ]
    for code, cls in error_classes().items():
        if code != "config":
            kept = "closed" if cls.closes else "kept"
            lines.append(f"| [`{code}`](#{code}) | {cls.status_hint} | {cls.grpc_hint} | {cls.source} | {kept} |")
    for code, text in sorted(EXPLANATIONS.items()):
        lines += ["", f"({code})=", f"## `{code}`", "", text.meaning, "", "Usual causes:", ""]
        lines += [f"* {cause}" for cause in text.causes]
        lines += ["", "Look at:", ""]
        lines += [f"* {place}" for place in text.look_at]
    return "\n".join(lines) + "\n"


def cli() -> str:
    """reference/cli.md: every command with its options."""
    from meshcore_cli.main import COMMANDS, command_parser

    lines = [
        "# Command line",
        "",
        "`meshcore COMMAND [OPTION …]`. Exit codes: 0 fine, 1 a problem was found, 2 wrong usage or configuration.",
        "Wrong input is answered with one line for each mistake, never with a traceback. Colour is used on terminals",
        "only, and never where `NO_COLOR` is set.",
    ]
    for name in COMMANDS:
        parser, command = command_parser(name)
        lines += ["", f"## `meshcore {name}`", "", "```text", command.DESCRIPTION.strip(), "```"]
        for group in parser._action_groups:
            actions = [action for action in group._group_actions if action.dest != "help"]
            if not actions:
                continue
            title = group.title if group.title and group.title not in ("options", "positional arguments") else "option"
            lines += ["", f"| {title} | what |", "| --- | --- |"]
            for action in actions:
                metavar = action.metavar or ("|".join(map(str, action.choices)) if action.choices else None)
                flag = ", ".join(action.option_strings) or str(metavar)
                takes_value = bool(action.option_strings) and action.nargs != 0
                text = f"{flag} {metavar}" if takes_value and metavar else flag
                lines.append(f"| `{_cell(text)}` | {_cell(' '.join((action.help or '').split()))} |")
    return "\n".join(lines) + "\n"


def config() -> str:
    """reference/config.md: every table of a config file with its keys."""
    from meshcore.config.schema import keys, tables

    lines = [
        "# Config file",
        "",
        "What `meshcore run`, `check`, `config show` take with `-c FILE`: TOML, or JSON if its name ends in `.json`.",
        "Unknown keys are errors. Paths are relative to the file. Durations are `250ms`, `1s`, `2m`; sizes `64KiB`.",
        "[config.schema.json](config.schema.json) is the same as a JSON Schema (`meshcore config schema`).",
        "How to write one: [Configure a sidecar or a gateway](../how-to/configure.md).",
    ]
    for name, cls in tables().items():
        later: dict[str, str] = getattr(cls, "LATER", {})
        lines += ["", f"({name.lower()})=", f"## {name}", "", _prose(cls.__doc__).partition("\n\n")[0]]
        lines += ["", "| key | value | default | what |", "| --- | --- | --- | --- |"]
        for key in keys(cls):
            default = "required" if key.required else f"`{_cell(key.default)}`" if key.default else ""
            value = f"[{_cell(key.value)}](#{key.table.lower()})" if key.table else _cell(key.value)
            lines.append(f"| `{key.name}` | {value} | {default} | {_cell(key.text.replace('``', '`'))} |")
        if later:
            lines += ["", f"Known and not in this release, hence refused: {', '.join(f'`{key}`' for key in later)}."]
    lines += [
        "",
        "(layer)=",
        "## Layer",
        "",
        "`[[inbound.layer]]`, `[[outbound.layer]]`, `[[listen.NAME.layer]]` change the built-in pipeline: `use` names",
        "a layer (`meshcore layers` lists them), one of `before`, `after` and `replace` the role that it goes to, and",
        "all other keys are the layer's own fields. With `remove = true` the layer with the role `use` goes.",
    ]
    return "\n".join(lines) + "\n"


def access_log() -> str:
    """reference/access-log.md: everything that a line of an access log can say."""
    from meshcore.http.log_template import ALIASES, FIELDS, JSON_FORMATS, TEXT_FORMATS

    lines = [
        "# Access log fields",
        "",
        "What a template of `[access_log]` or `--access-log` may name as `%{NAME}`.",
        "How to write one: [Write access logs](../how-to/access-logs.md).",
        "",
        "| field | what |",
        "| --- | --- |",
    ]
    lines += [f"| `{name}` | {_cell(text)} |" for name, text in FIELDS.items()]
    lines += [
        "| `header.NAME` | a field of the request, as it came; repeats joined by commas |",
        "| `response.NAME` | a field of the answer, as it went |",
        "",
        f"linkerd's names are understood, too: {', '.join(f'`{one}` ({other})' for one, other in ALIASES.items())}.",
        "",
        "## Forms that have a name",
    ]
    for name, template in TEXT_FORMATS.items():
        lines += ["", f"`{name}`:", "", "```text", template, "```"]
    for name, fields in JSON_FORMATS.items():
        lines += ["", f"`{name}` has the keys {', '.join(f'`{key}`' for key in fields)}."]
    return "\n".join(lines) + "\n"


def config_schema() -> str:
    """reference/config.schema.json: the JSON Schema of a config file."""
    from meshcore.config.schema import schema

    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def parity() -> str:
    """reference/parity.md: every ID of linkerd2-proxy's behaviour and where this project stands."""
    table = tomllib.loads((REFERENCE / "parity_ids.toml").read_text())
    different: dict[str, str] = table.pop("different")
    passed_file = REFERENCE / "parity_passed.json"
    passed: dict[str, list[str]] = json.loads(passed_file.read_text()) if passed_file.exists() else {}
    tests: dict[str, list[str]] = {}
    for test, ids in passed.items():
        for identifier in ids:
            tests.setdefault(identifier, []).append(test)

    def state(identifier: str) -> str:
        return "different" if identifier in different else "done" if identifier in tests else "not yet"

    every = [identifier for section in table.values() for identifier in section]
    count = {name: sum(state(identifier) == name for identifier in every) for name in ("done", "different", "not yet")}
    lines = [
        "# Parity with linkerd2-proxy",
        "",
        "Each row is a behaviour of linkerd2-proxy under a stable ID. *Done*: a test that carries the ID passes.",
        "*Different*: done otherwise on purpose, with the reason. *Not yet*: neither. Generated by `nox -s parity`",
        "from `parity_ids.toml` and the tests that passed.",
        "",
        f"{count['done']} done, {count['different']} different, {count['not yet']} not yet, of {len(every)}.",
    ]
    for section, ids in table.items():
        title = section.partition("-")[2].replace("-", " ").capitalize()
        lines += ["", f"## {title}", "", "| ID | behaviour | state | shown by |", "| --- | --- | --- | --- |"]
        for identifier, text in ids.items():
            shown = "<br>".join(f"`{_short(test)}`" for test in sorted(tests.get(identifier, ())))
            why = f"different: {different[identifier]}" if identifier in different else state(identifier)
            lines.append(f"| {identifier} | {_cell(text)} | {_cell(why)} | {shown} |")
    return "\n".join(lines) + "\n"


def _short(test: str) -> str:
    path, _, name = test.partition("::")
    return f"{path.removeprefix('tests/')}: {name}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _prose(docstring: str | None) -> str:
    """A docstring as Markdown: reStructuredText's literals, roles and sections turned."""
    import inspect
    import re

    text = inspect.cleandoc(docstring or "")
    text = re.sub(r":[a-z:]+:`~?([^`]+)`", r"`\1`", text)
    text = text.replace("``", "`")
    text, _, attributes = text.partition("\nAttributes:\n")
    if attributes:
        # Each attribute is an item; its further lines belong to it.
        items = re.sub(r"(?m)^    (\w[\w, ]*): ", r"* `\1`: ", attributes)
        items = re.sub(r"(?m)^ {6,}", "  ", items)
        text = f"{text.rstrip()}\n\n{inspect.cleandoc(items)}"
    return re.sub(r"(?m)^(Raises|Args|Returns):$", r"**\1**\n", text).strip()


PAGES = {
    "layers": layers,
    "errors": errors,
    "cli": cli,
    "config": config,
    "access-log": access_log,
    "config.schema.json": config_schema,
    "parity": parity,
}
COMMITTED = {"parity"}


def write(names: list[str]) -> None:
    """Writes pages, those alone that changed, so that nothing is rebuilt for nothing."""
    for name in names:
        path = REFERENCE / (name if name.endswith(".json") else f"{name}.md")
        text = PAGES[name]()
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", nargs="*", choices=[*PAGES, []], help="default: all of them")
    write(parser.parse_args().page or list(PAGES))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
