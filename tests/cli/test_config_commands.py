from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from meshcore_cli.main import main

FINE = '[inbound]\nforward = "127.0.0.1:1"\n[service]\nname = "a"\n[identity]\nmode = "dev"\n'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fine.toml").write_text(FINE)
    (tmp_path / "wrong.toml").write_text("[inbund]\n[admin]\nlisten = 1\n[identity]\nmode = 'dev'\nname = 'a.b'\n")
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(words)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_fine_file_is_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "check", "-c", "fine.toml")
    assert (code, err) == (0, "")
    assert out.endswith("fine.toml: fine\n")


def test_a_wrong_file_is_told_whole_with_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "check", "-c", "wrong.toml") == (
        2,
        "",
        "meshcore check: wrong.toml:1: inbund: unknown key; did you mean 'inbound'?\n"
        'meshcore check: wrong.toml:3: admin.listen: 1 is not HOST:PORT; did you mean ":1"?\n',
    )


def test_a_warning_is_told_and_the_file_is_fine(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "plain.toml").write_text('[inbound]\nforward = "127.0.0.1:1"\n')
    code, _, err = run(capsys, "check", "-c", "plain.toml")
    assert code == 0
    assert err.startswith("meshcore check: warning: plain.toml: NO [identity]: everything")


def test_check_as_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "check", "--json", "-c", "wrong.toml")
    value: dict[str, Any] = json.loads(out)
    assert (code, err, value["ok"]) == (2, "", False)
    assert value["problems"][1] == {
        "place": "wrong.toml:3",
        "key": "admin.listen",
        "text": '1 is not HOST:PORT; did you mean ":1"?',
        "line": 3,
    }
    code, out, err = run(capsys, "check", "--json", "-c", "fine.toml")
    assert (code, err, json.loads(out)["ok"]) == (0, "", True)
    code, out, _ = run(capsys, "check", "--json", "-c", "nowhere.toml")
    assert (code, json.loads(out)["problems"][0]["text"].partition(";")[0]) == (
        2,
        "nowhere.toml: no such file or directory",
    )


def test_the_stacks_are_printed_and_their_problems_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import meshcore.process
    from meshcore import Accepted, accept
    from meshcore.errors import ConfigError
    from meshcore.server.http import ServeHttp

    def made(config: object) -> dict[str, Any]:
        return {"inbound": accept(Accepted).then(ServeHttp())}

    monkeypatch.setattr(meshcore.proxy, "stacks", made, raising=False)
    code, out, _ = run(capsys, "check", "-c", "fine.toml")
    assert (code, out.splitlines()[0]) == (0, "inbound")
    assert "└─ ServeHttp" in out

    def refused(config: object) -> dict[str, Any]:
        raise ConfigError(["fine.toml:1: inbound.layer[0]: no layer with role 'x'"])

    monkeypatch.setattr(meshcore.proxy, "stacks", refused)
    assert run(capsys, "check", "-c", "fine.toml") == (
        2,
        "",
        "meshcore check: fine.toml:1: inbound.layer[0]: no layer with role 'x'\n",
    )


def test_show_prints_the_effective_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "config", "show", "-c", "fine.toml", "--set", "admin.listen=off")
    assert (code, err) == (0, "")
    assert '[admin]\nlisten = "off"\n' in out
    code, out, _ = run(capsys, "config", "show", "-c", "fine.toml", "-o", "json")
    assert json.loads(out)["proxy"]["grace_period"] == "2m"
    assert run(capsys, "config", "show", "-c", "wrong.toml")[0] == 2


def test_schema_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "config", "schema")
    assert (code, json.loads(out)["title"]) == (0, "meshcore config file")


def test_init_writes_a_file_once(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    code, out, _ = run(capsys, "config", "init")
    assert (code, out.startswith("# A sidecar")) == (0, True)
    assert run(capsys, "config", "init", "g.toml", "--gateway")[0] == 0
    assert (folder / "g.toml").read_text().startswith("# A gateway")
    assert run(capsys, "config", "init", "g.toml") == (
        2,
        "",
        "meshcore config: g.toml: is there already; --force overwrites it\n",
    )
    assert run(capsys, "config", "init", "g.toml", "--force")[0] == 0
    assert run(capsys, "config", "init", "none/g.toml")[0] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show"], "show: -c FILE is needed"),
        (["show", "c.toml"], "unexpected argument c.toml; did you mean -c c.toml?"),
        (["schema", "--force"], "--force: is for init"),
        (["init", "--set", "a=1"], "--set: is for show"),
    ],
)
def test_an_option_of_another_subcommand_is_refused(
    capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert run(capsys, "config", *words) == (2, "", f"meshcore config: {message}\n")


def test_run_refuses_a_wrong_file_and_a_command_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "run", "-c", "wrong.toml")[0] == 2
    assert run(capsys, "run", "-c", "nowhere.toml")[0] == 2
    assert run(capsys, "run", "-c", "fine.toml", "--", "no-such-program", "-x") == (
        127,
        "",
        "meshcore run: 'no-such-program': no such command, or it cannot be run\n",
    )


def test_run_hands_the_configuration_and_the_command_over(monkeypatch: pytest.MonkeyPatch) -> None:
    import meshcore.process
    from meshcore.config import MeshConfig

    seen: list[Any] = []

    def main_mesh(config: MeshConfig, command: list[str] | None, **more: Any) -> int:
        seen.append((config.own_name, command))
        # Where it is read from again, and who is told then.
        more["reloaded"](config)
        assert (Path("fine.toml"), ()) == (more["file"].path, more["file"].settings)
        return 7

    monkeypatch.setattr(meshcore.process, "main_mesh", main_mesh, raising=False)
    monkeypatch.setattr("meshcore_cli.logs.configure", lambda *_: None)
    assert main(["run", "-c", "fine.toml", "--", "sh", "-c", "exit 3", "--", "x"]) == 7
    assert main(["run", "-c", "fine.toml"]) == 7
    assert seen == [("a.default", ["sh", "-c", "exit 3", "--", "x"]), ("a.default", None)]
