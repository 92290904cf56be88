"""``[access_log]``: its keys, its mistakes, and what they come to in the pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from meshcore.config import parse_config
from meshcore.config.access_log import AccessLogConfig
from meshcore.config.show import config_toml
from meshcore.errors import ConfigError
from meshcore.layers.access_log import AccessLog
from meshcore.pipeline.plan import pipelines
from meshcore.pipeline.runtime import Runtime
from meshcore.stack import Branching

SIDECAR = """
[inbound]
listen = "127.0.0.1:4143"
forward = "127.0.0.1:8000"
[outbound]
listen = "127.0.0.1:4140"
[outbound.to."a:80"]
endpoints = ["127.0.0.1:9000"]
"""


def problems(text: str, path: Path | str = "config.toml") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(SIDECAR + text, path)
    return [problem.partition(": ")[2] for problem in caught.value.problems]


def layers(text: str) -> dict[str, AccessLog]:
    """The access log of each pipeline."""
    found: dict[str, AccessLog] = {}

    def look(name: str, each: Any) -> None:
        if isinstance(each, AccessLog):
            found[name] = each
        if isinstance(each, Branching):
            for branch in each.branches().values():
                for layer in branch.layers:
                    look(name, layer)

    for name, pipeline in pipelines(parse_config(SIDECAR + text), Runtime()).items():
        for layer in pipeline.stack.layers:
            look(name, layer)
    return found


def test_without_the_table_there_is_none() -> None:
    assert layers("") == {}


@pytest.mark.parametrize("form", ["text", "json", "apache", "linkerd-json"])
@pytest.mark.parity("M-11")
def test_the_short_form_is_one_line_for_each_request_on_standard_output(form: str) -> None:
    found = layers(f'[proxy]\naccess_log = "{form}"\n')
    assert {name: (each.format, each.to, each.direction) for name, each in found.items()} == {
        "inbound": (form, "stdout", "inbound"),
        "outbound": (form, "stdout", "outbound"),
    }


def test_every_key_comes_to_the_layer(tmp_path: Path) -> None:
    found = layers(f"""
[access_log]
fields = {{ path = "%{{path}}", tenant = "%{{header.x-tenant}}", key = "%{{header.x-api-key}}" }}
to = "{tmp_path}/access.log"
sample = 0.1
statuses = ["5xx", "404", "unavailable", "error"]
slower_than = "500ms"
sides = ["inbound"]
reveal = ["x-api-key"]
max_line = "1KiB"
capacity = 500
""")
    assert list(found) == ["inbound"]
    layer = found["inbound"]
    assert layer.fields == (("path", "%{path}"), ("tenant", "%{header.x-tenant}"), ("key", "%{header.x-api-key}"))
    assert (layer.to, layer.sample, layer.slower_than) == (f"{tmp_path}/access.log", 0.1, 0.5)
    assert layer.statuses == ("5xx", "404", "unavailable", "error")
    assert (layer.reveal, layer.max_line, layer.capacity) == (("x-api-key",), 1024, 500)


@pytest.mark.parametrize("form", ['format = "json"', 'template = "%{path}"', 'fields = { path = "%{path}" }', ""])
def test_what_is_shown_is_a_config_file_again(form: str) -> None:
    config = parse_config(f"{SIDECAR}[access_log]\n{form}\nstatuses = [\"5xx\"]\n")
    assert parse_config(config_toml(config)) == config


def test_a_template_is_a_line_of_text() -> None:
    found = layers("[access_log]\ntemplate = '%{client} \"%{method} %{path}\"'\nsides = [\"outbound\"]\n")
    assert found["outbound"].template == '%{client} "%{method} %{path}"'


def test_a_path_is_relative_to_the_config_file(tmp_path: Path) -> None:
    config = parse_config(SIDECAR + '[access_log]\nto = "access.log"\n', tmp_path / "mesh.toml")
    assert config.lines is not None
    assert config.lines.to == str(tmp_path / "access.log")


def test_every_mistake_is_told_with_what_may_have_been_meant(tmp_path: Path) -> None:
    assert problems(
        """
[access_log]
template = "%{statsu}"
to = "stdot"
sample = 2
statuses = ["6xx", 404]
slower_than = 500
sides = ["inbond"]
max_line = 100
capcity = 3
""",
        tmp_path / "mesh.toml",
    ) == [
        "access_log.template: '%{statsu}': there is no field 'statsu'; did you mean 'status'?",
        "access_log.to: 'stdot' is not stdout, stderr or a file such as \"access.log\"; did you mean 'stdout'?",
        "access_log.sample: 2 is not a number from 0 to 1",
        "access_log.statuses[0]: '6xx' is no status such as 404, 5xx or 500-504, no gRPC status such as unavailable, "
        "and not error; did you mean '5xx'?",
        'access_log.statuses[1]: 404 is not text; did you mean "404"?',
        'access_log.slower_than: 500 is not a duration such as "250ms", "1s" or "2m"; did you mean "500s"?',
        "access_log.sides[0]: 'inbond' is not one of inbound, outbound, gateway; did you mean 'inbound'?",
        "access_log.max_line: has to be 256 at the least",
        "access_log.capcity: unknown key; did you mean 'capacity'?",
    ]


def test_places_that_cannot_take_lines_are_told(tmp_path: Path) -> None:
    (told,) = problems(f'[access_log]\nto = "{tmp_path}"\n')
    assert told.endswith("is a folder; a file is wanted")
    assert problems('[access_log]\nto = "/no/such/access.log"\n') == [
        "access_log.to: '/no/such/access.log': there is no folder '/no/such'"
    ]
    assert problems('[access_log]\nto = "off"\n') == [
        "access_log.to: 'off' is not stdout, stderr or a file such as \"access.log\"; without [access_log] there is "
        "none"
    ]


def test_two_forms_of_a_line_are_one_too_many() -> None:
    assert problems('[access_log]\nformat = "json"\ntemplate = "%{path}"\n') == [
        "access_log.template: format and template are different forms of a line; leave one of them out"
    ]


def test_the_short_form_and_the_table_are_one_too_many() -> None:
    assert problems('[proxy]\naccess_log = "json"\n[access_log]\nformat = "json"\n') == [
        "proxy.access_log: [access_log] says it; leave one of them out"
    ]


def test_what_is_never_told_or_never_masked_is_warned_of(tmp_path: Path) -> None:
    from meshcore.config.load import examine

    path = tmp_path / "mesh.toml"
    path.write_text(SIDECAR + '[access_log]\nsample = 0\nreveal = ["x-tenant"]\n')
    said = [f"{warning.key}: {warning.text}" for warning in examine(path).warnings]
    assert "access_log.sample: nothing is ever told; add statuses or slower_than" in said
    assert "access_log.reveal[0]: 'x-tenant' is not masked anyway" in said


def test_the_option_takes_a_name_or_a_template() -> None:
    assert AccessLogConfig.short("off") is None
    assert AccessLogConfig.short("apache") == AccessLogConfig(format="apache")
    assert AccessLogConfig.short("%{path}", "stderr") == AccessLogConfig(template="%{path}", to="stderr")


# ----- levels of the log -----


def test_levels_by_logger_are_read_from_the_file() -> None:
    config = parse_config(SIDECAR + '[proxy]\nlog_level = "warn,meshcore.layers=debug"\n')
    assert config.proxy.log_level == "warn,meshcore.layers=debug"


def test_a_wrong_level_is_told_with_the_one_that_may_have_been_meant() -> None:
    assert problems('[proxy]\nlog_level = "debgu"\n') == [
        "proxy.log_level: 'debgu' is no level (trace, debug, info, warning, warn, error, off); did you mean 'debug'?"
    ]
