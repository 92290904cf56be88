from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from meshcore_cli.main import COMMANDS, command_parser, main

ROOT = Path(__file__).parent.parent.parent


def python(script: str) -> str:
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.stderr == ""
    assert result.returncode == 0
    return result.stdout


@pytest.mark.parametrize("words", [["--help"], ["version"], ["explain"], ["explain", "fail-fast"]])
def test_what_only_tells_does_not_load_trio(words: list[str]) -> None:
    script = f"import sys; from meshcore_cli.main import main; main({words!r}); assert 'trio' not in sys.modules"
    assert python(script) != ""


def test_help_loads_no_command_and_nothing_of_the_library() -> None:
    script = (
        "import sys; from meshcore_cli.main import main; main(['--help']);"
        "assert [m for m in sys.modules if m.startswith('meshcore')]"
        " == ['meshcore_cli', 'meshcore_cli.parser', 'meshcore_cli.main']"
    )
    assert python(script).startswith("usage: meshcore COMMAND")


def test_the_module_runs_as_the_command_does() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "meshcore_cli", "nonsense"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (2, "") == (result.returncode, result.stdout)
    assert result.stderr.startswith("meshcore: no command 'nonsense'")


def test_no_command_at_all_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("usage: meshcore COMMAND")


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["help"], ["help", "nonsense"]])
def test_help_lists_every_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    text = capsys.readouterr().out
    assert [name for name in COMMANDS if f"\n  {name} " in text] == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_of_its_own(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["help", name])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: meshcore {name}")


def test_a_misspelt_command_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["proxi", "--from", ":1"]) == 2
    assert capsys.readouterr().err.splitlines()[0] == "meshcore: no command 'proxi'; did you mean proxy?"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["version", "--josn"], "meshcore version: unknown option --josn"),
        (["proxy", "--form=:80"], "meshcore proxy: unknown option --form=:80; did you mean --from?"),
        (["proxy", "--retry", "3"], "meshcore proxy: unknown option --retry; did you mean --retries?"),
        (["proxy", "--time", "3s"], "meshcore proxy: unknown option --time; did you mean --timeout?"),
        (["proxy", ":80"], "meshcore proxy: unexpected argument :80"),
        (["proxy", "--from"], "meshcore proxy: argument --from: expected one argument"),
        (
            ["version", "-o", "jsn"],
            "meshcore version: argument -o/--output: 'jsn' is not one of table, json; did you mean json?",
        ),
    ],
)
def test_a_wrong_option_is_named_and_ends_with_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    captured = capsys.readouterr()
    assert (2, "") == (caught.value.code, captured.out)
    assert captured.err.splitlines() == [message, f"`meshcore {words[0]} --help` lists the options."]


def test_version_names_the_engines_in_use(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHCORE_ENGINE", "pure")
    assert main(["--version"]) == 0
    lines = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert lines["http/1 engine"].startswith("h11 ")
    assert lines["http/2 engine"].startswith("h2 ")
    assert "openssl" in lines


def test_version_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version", "-o", "json"]) == 0
    assert {"meshcore", "python", "trio", "http/1 engine", "http/2 engine", "openssl"} <= set(
        json.loads(capsys.readouterr().out)
    )


def test_output_into_a_closed_pipe_ends_quietly() -> None:
    script = f"{sys.executable} -m meshcore_cli explain | head -n 1"
    result = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {script}"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (0, "") == (result.returncode, result.stderr)


def test_every_option_has_help() -> None:
    bare = [(name, action.dest) for name in COMMANDS for action in command_parser(name)[0]._actions if not action.help]
    assert bare == []


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_form_of_the_output_has_the_same_names_everywhere(name: str) -> None:
    options = command_parser(name)[0].options()
    assert ("-o" in options) == ("--output" in options)


@pytest.mark.parametrize("words", [["stat", "--windw", "1m"], ["identity", "issue", "x", "--caa", "y"]])
def test_an_unknown_option_is_told_before_what_follows_it(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    option = next(word for word in words if word.startswith("--"))
    assert f"unknown option {option}; did you mean " in capsys.readouterr().err
