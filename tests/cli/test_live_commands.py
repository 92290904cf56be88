"""The commands that ask a running proxy how it does: what they print, and what they say when there is none."""

from __future__ import annotations

import copy
import io
import json
import socket
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meshcore_cli.bundle import EVENTS, PARTS, masked
from meshcore_cli.main import main
from tests.cli.stub_proxy import ENDPOINTS, IDENTITY, PAGES, STATS, Stub, stub_proxy

COMMANDS = (
    ("stat",),
    ("routes",),
    ("edges",),
    ("diag", "endpoints"),
    ("diag", "stack"),
    ("diag", "identity"),
    ("diag", "tasks"),
)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def proxy() -> Iterator[Stub]:
    with stub_proxy() as stub:
        yield stub


def run(proxy: Stub | str, *words: str) -> int:
    address = proxy if isinstance(proxy, str) else proxy.address
    try:
        return main([*words, "--admin", address])
    except SystemExit as end:
        assert isinstance(end.code, int)
        return end.code


def test_stat_tells_the_golden_metrics_by_route_backend_and_endpoint(
    proxy: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(proxy, "stat") == 0
    assert proxy.asked == ["/stats?window=10"]
    assert capsys.readouterr().out == """\
orders.shop  ready, the last 10 s
  inbound      811.9 rps    99.88%  p50 3.4ms  p95 18.9ms  p99 44.2ms
  outbound    1234.9 rps    97.04%  p50 1.9ms  p95 9.8ms  p99 187ms

PARENT       ROUTE                             DIRECTION    RPS  SUCCESS    P50     P95     P99
payments:80  authorize                         outbound   800.3   99.99%  2.1ms  12.3ms  61.0ms
inbound      default                           inbound    811.9   99.88%  3.4ms  18.9ms  44.2ms
payments:80  refund-<script>alert(1)</script>  outbound     1.2   25.00%  250ms   480ms   496ms
stock:80     default                           outbound     0.0        -      -       -       -

BACKEND      READY  BREAKER  BUDGET     RPS  SUCCESS    P50     P95     P99
payments:80    2/3  1 open      61%  1234.9   97.04%  1.9ms   9.8ms   187ms
application    1/1  -             -   811.9   99.88%  3.4ms  18.9ms  44.2ms
stock:80       0/1  -          100%     0.0        -      -       -       -

ENDPOINT         BACKEND      STATE    BREAKER    LOAD  PEND    RPS  SUCCESS    P50     P95     P99
10.0.0.7:4143    payments:80  ready    shut     0.0041     2  611.9  100.00%  1.9ms   9.1ms  30.2ms
10.0.0.8:4143    payments:80  ready    shut     0.0044     1  609.7  100.00%  1.9ms   9.2ms  31.9ms
10.0.0.9:4143    payments:80  pending  open     0.8120     0   13.2    0.00%  150ms   195ms   199ms
127.0.0.1:8000   application  ready    -        0.0031     3  811.9   99.88%  3.4ms  18.9ms  44.2ms
[fd00::17]:4143  stock:80     failed   -        0.0300     0    0.0        -      -       -       -
"""


def test_stat_is_of_one_thing_and_of_another_window(proxy: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(proxy, "stat", "backends", "--window", "1m") == 0
    assert proxy.asked == ["/stats?window=60"]
    out = capsys.readouterr().out
    assert "BACKEND" in out
    assert "ENDPOINT" not in out
    assert "ROUTE" not in out


def test_what_was_left_out_of_a_list_is_told(proxy: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    told = copy.deepcopy(STATS)
    told["more"]["routes"] = 12
    told["backends"] = []
    proxy.pages["/stats"] = told
    assert run(proxy, "stat") == 0
    out = capsys.readouterr().out
    assert "and 12 more" in out
    assert "no backends yet" in out


def test_tables_respect_the_width_that_is_given(
    proxy: Stub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "72")
    for words in COMMANDS[:4]:
        assert run(proxy, *words) == 0
        assert max(map(len, capsys.readouterr().out.splitlines()[4:])) <= 72


def test_routes_are_listed_by_direction_and_name(proxy: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(proxy, "routes", "--direction", "outbound") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        ["payments:80", "authorize"],
        ["payments:80", "refund-<script>alert(1)</script>"],
        ["stock:80", "default"],
    ]


def test_edges_tell_who_talks_to_whom_and_why_it_is_not_secured(
    proxy: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(proxy, "edges") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["SOURCE", "TARGET"]
    secured = {line.split()[0]: line for line in lines[1:3]}
    assert "√" in secured["web.shop"]
    assert "the client does not speak TLS" in secured["unknown"]
    assert "no identity is configured" in lines[4]


def test_endpoints_are_told_with_what_their_balancer_knows(proxy: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(proxy, "diag", "endpoints") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "payments:80  in outbound  p2c-ewma, 1 of 2 ready, 3 requests wait, fails fast, "
        "panics: busy endpoints get requests, too, not discovered yet"
    )
    assert lines[1] == "  source=dns:payments age=3.25 error=-"
    assert "10.0.0.7:4143" in lines[3]
    assert "4m10s" in lines[3]
    assert "open 8s" in lines[4]
    assert "circuit open �[2J" in lines[4]
    assert lines[-1] == "and 2 endpoints more"


def test_a_stack_is_a_tree_with_what_its_layers_have_counted(
    proxy: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(proxy, "diag", "stack") == 0
    assert capsys.readouterr().out == """\
outbound
└─ Retry(attempts=1)
     retried=3
└─ Balance()
   ┊ one of these per Endpoint
   └─ Http()
      ┊ opaque
      └─ Forward()
  live:
    listen: 127.0.0.1:4140
    server:
      open_connections=1
"""


def test_what_layers_have_done_stands_under_them(proxy: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    account = {
        "calls": 1204,
        "in_flight": 2,
        "mean_us": 3402.1,
        "self_us": 11.3,
        "outcomes": {"2xx": 1197, "error": 5},
        "answered": 0,
        "repeated": 24,
        "raised": 5,
        "errors": {"fail-fast": 5},
    }
    layers = [{"layer": "Retry()", "account": account}, {"layer": "Http()", "account": {"calls": 0}}]
    proxy.pages["/stack"] = {"public": {"layers": layers}}
    assert run(proxy, "diag", "stack") == 0
    assert capsys.readouterr().out == (
        "public\n└─ Retry()\n     calls 1204  in flight 2  mean 3.4ms  self 11.3µs  2xx 1197  error 5  repeated 24  "
        "raised 5  fail-fast 5\n└─ Http()\n"
    )


def test_tasks_are_a_tree_with_where_each_waits(proxy: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(proxy, "diag", "tasks") == 0
    assert capsys.readouterr().out == "<init>\n  sampler  meshcore/x.py:7 run\n3 tasks, 1 of them not shown\n"


def test_an_identity_is_told_and_judged(proxy: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(proxy, "diag", "identity") == 0
    out = capsys.readouterr().out
    assert "names    orders.shop" in out
    assert "valid    2026-11-26T17:40:00Z to 2026-11-27T17:40:00Z, expires in 23h53m" in out
    assert "taken    2 times, refused 0 times" in out
    assert "trusts   CN=ca, until 2033-05-18T03:33:20Z" in out
    expired = copy.deepcopy(IDENTITY)
    expired["certificate"]["remaining"] = -1.0
    proxy.pages["/identity"] = expired
    assert run(proxy, "diag", "identity") == 1
    assert "expired" in capsys.readouterr().out
    proxy.pages["/identity"] = {**IDENTITY, "certified": False, "certificate": None, "refused": "it has expired"}
    assert run(proxy, "diag", "identity") == 1
    assert "not certified yet" in capsys.readouterr().out
    proxy.pages["/identity"] = {"identity": None}
    assert run(proxy, "diag", "identity") == 0
    assert "no mutual TLS" in capsys.readouterr().out


@pytest.mark.parametrize("words", COMMANDS)
def test_json_is_what_the_page_has(proxy: Stub, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    assert run(proxy, *words, "-o", "json") == 0
    told = json.loads(capsys.readouterr().out)
    if words[0] == "diag":
        assert told == PAGES[f"/{words[1]}"]
    elif words[0] == "stat":
        assert told == STATS
    else:
        assert set(told) == {"window", words[0]}
        assert len(told[words[0]]) == len(STATS[words[0]])


def test_json_of_one_thing_leaves_the_other_lists_out(proxy: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(proxy, "stat", "endpoints", "-o", "json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["endpoints"] == STATS["endpoints"]
    assert not {"routes", "backends", "edges"} & set(told)
    assert told["total"] == STATS["total"]


@pytest.mark.parametrize("words", COMMANDS)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_characters_that_cannot_be_printed_end_no_command(
    proxy: Stub, words: tuple[str, ...], encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = json.loads(json.dumps(PAGES).replace("payments", "\\ud83d\\udc80\\udc80\\u202e"))
    proxy.pages.update(hostile)
    for form in ("table", "json"):
        out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr("sys.stdout", out)
        assert run(proxy, *words, "-o", form) == 0
        out.flush()
        text = out.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
        if form == "json":
            json.loads(text)
        else:
            assert "\u202e" not in text


# ----- what goes wrong -----


def free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"


@pytest.mark.parametrize("words", [*COMMANDS, ("diag", "bundle", "--out", "x.tar.gz")])
def test_where_no_proxy_listens_that_is_said(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    address = free_port()
    assert run(address, *words) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert f"no proxy answers at {address}: " in told.err
    assert "Traceback" not in told.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"\x00\xff garbage\r\n\r\n", "no HTTP: BadStatusLine"),
        (b"", "Remote end closed connection without response"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", "is no JSON object: is it meshcore?"),
        (404, "it is of an older version, or no meshcore"),
        (403, "answers 403: not found"),
        ("<html>hello</html>", "is no JSON object: is it meshcore?"),
        ([1, 2], "is no JSON object: is it meshcore?"),
        ("[" * 100_000, "is no JSON object: is it meshcore?"),
    ],
)
@pytest.mark.parametrize("words", COMMANDS)
def test_who_answers_something_else_is_told_about(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], answer: Any, said: str
) -> None:
    with stub_proxy(dict.fromkeys(PAGES, answer)) as stub:
        assert run(stub, *words) == 1
    told = capsys.readouterr()
    assert said in told.err, told.err
    assert told.out == ""
    assert "Traceback" not in told.err


@pytest.mark.parametrize("words", COMMANDS)
@pytest.mark.parametrize(
    "answer",
    [
        {},
        dict.fromkeys((*STATS, *ENDPOINTS, "tasks", "certificate")),
        {name: [None, 1, "x", {}] for name in (*STATS, *ENDPOINTS, "tasks", "anchors")},
        dict.fromkeys((*STATS, *ENDPOINTS, "tasks", "certified"), "x"),
        {"outbound": {"layers": {"x": 1}}, "backends": [{"endpoints": [{"breaker": 7}], "discovery": [[]]}]},
    ],
)
def test_json_of_another_shape_breaks_nothing(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], answer: Any
) -> None:
    with stub_proxy(dict.fromkeys(PAGES, answer)) as stub:
        assert run(stub, *words) in (0, 1)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("stat", "--window", "10"), "'10' is not a duration such as 250ms, 1s or 2m; did you mean 10s?"),
        (("stat", "--window", "2m"), "'2m' is not between 1s and 1m"),
        (("routes", "--window", "0s"), "'0s' is not between 1s and 1m"),
        (("stat", "endpoint"), "'endpoint' is not one of routes, backends, endpoints, all; did you mean endpoints?"),
        (("diag", "task"), "did you mean tasks?"),
        (("diag", "bundle"), "bundle: --out FILE has to be given"),
        (("diag", "tasks", "--out", "x"), "--out: is for bundle alone"),
        (("diag", "tasks", "--force"), "--force: is for bundle alone"),
        (("stat", "--windw", "1m"), "unknown option --windw; did you mean --window?"),
        (("edges", "--cacert", "x"), "--cacert: is for TLS alone: --admin https://127.0.0.1:1"),
        (("top",), "it needs a terminal"),
    ],
)
def test_wrong_usage_is_told(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str) -> None:
    assert run("127.0.0.1:1", *words) == 2
    assert said in capsys.readouterr().err


def test_an_address_that_is_none_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("localhost", "stat") == 2
    assert "--admin: " in capsys.readouterr().err


@pytest.mark.parametrize("words", [("reload",), ("tap",), ("reload", "-o", "json"), *COMMANDS])
@pytest.mark.parametrize("answer", ["no JSON", [1, 2], b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"])
def test_no_answer_ends_in_a_traceback(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], answer: Any
) -> None:
    with stub_proxy({**dict.fromkeys(PAGES, answer), "/reload": answer, "/tap": answer}) as stub:
        assert run(stub, *words) == 1
    assert capsys.readouterr().err.startswith(f"meshcore {words[0]}")


HOSTILE = "\x1b]0;pwned\x07 \x9b2J \u202e"


@pytest.mark.parametrize("words", [("reload",), ("reload", "-o", "json"), ("tap",), ("stat",)])
@pytest.mark.parametrize(
    "answer",
    [
        f"HTTP/1.1 500 x\r\n\r\n{HOSTILE}".encode(),
        f"HTTP/1.1 400 x\r\n\r\npath: {HOSTILE}".encode(),
        json.dumps({"result": "failed", "version": HOSTILE, "changes": HOSTILE, "problems": [HOSTILE]}),
        json.dumps({"result": HOSTILE, "version": HOSTILE, "changes": HOSTILE}),
    ],
)
def test_what_an_admin_server_says_does_not_act_on_a_terminal(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], answer: Any
) -> None:
    with stub_proxy({"/reload": answer, "/tap": answer, "/stats": answer}) as stub:
        run(stub, *words)
    told = capsys.readouterr()
    assert {"\x1b", "\x07", "\x9b", "\u202e"}.isdisjoint(told.out + told.err)


@pytest.mark.parametrize("words", [("stat",), ("edges",), ("diag", "tasks"), ("stat", "--watch")])
def test_json_is_escaped_where_it_would_act_on_a_terminal(
    proxy: Stub, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("select.select", interrupted)
    pages = json.dumps(PAGES).replace("payments", "é漢\\u009b2J\\u202e\\udc80").replace("<init>", "\\u009b")
    proxy.pages.update(json.loads(pages))
    monkeypatch.setattr("meshcore_cli.render.speaks_unicode", lambda: True)
    monkeypatch.setattr("meshcore_cli.stat.speaks_unicode", lambda: True)
    assert run(proxy, *words, "-o", "json") == 0
    out = capsys.readouterr().out
    assert {"\x9b", "\u202e", "\udc80"}.isdisjoint(out)
    assert "\\u009b" in out
    json.loads(out)


@pytest.mark.parametrize("words", [("routes",), ("edges",)])
def test_a_list_alone_tells_what_is_not_in_it(
    proxy: Stub, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    told = copy.deepcopy(STATS)
    told["more"][words[0]] = 12
    proxy.pages["/stats"] = told
    assert run(proxy, *words) == 0
    assert capsys.readouterr().out.endswith("and 12 more\n")
    told["more"][words[0]] = 0
    told[words[0]] = []
    assert run(proxy, *words) == 0
    assert capsys.readouterr().out == f"no {words[0]} yet\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_told(capsys: pytest.CaptureFixture[str], proxy: Stub) -> None:
    command = [sys.executable, "-m", "meshcore_cli", "stat", "-o", "json", "--admin", proxy.address]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (1, "meshcore stat: standard output: no space left on device\n") == (ended.returncode, ended.stderr)


# ----- the bundle -----


def unpacked(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        found = {}
        for entry in archive.getmembers():
            assert entry.mode == 0o600
            folder, _, name = entry.name.partition("/")
            assert folder.startswith("meshcore-diag-")
            file = archive.extractfile(entry)
            assert file is not None
            found[name] = file.read()
        return found


def test_a_bundle_has_every_page_for_its_owner_alone_and_tells_what_is_missing(
    proxy: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "diag.tar.gz"
    assert run(proxy, "diag", "bundle", "--out", str(out)) == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [out]
    files = unpacked(out)
    assert set(files) == {
        *(part.file for part in PARTS if part.path.partition("?")[0] in PAGES),
        "version.json",
        "manifest.json",
    }
    assert json.loads(files["stats.json"]) == STATS
    assert json.loads(files["version.json"])["meshcore"]
    manifest = json.loads(files["manifest.json"])
    assert manifest["admin"] == proxy.address
    told = {each["page"]: each for each in manifest["parts"]}
    assert set(told) == {*(part.path for part in PARTS), EVENTS.path}
    assert told["/tasks"] == {"file": "tasks.json", "page": "/tasks", "status": 200, "ok": True}
    assert told["/env.json"] == {"file": None, "page": "/env.json", "ok": False, "error": "status 404: not found"}
    assert told["/events"]["ok"] is False
    assert "without /env.json: status 404: not found" in capsys.readouterr().out


def test_a_bundle_without_anything_in_it_is_a_problem(proxy: Stub, tmp_path: Path) -> None:
    proxy.pages = {**dict.fromkeys(PAGES, 401), "/ready": PAGES["/ready"]}
    assert run(proxy, "diag", "bundle", "--out", str(tmp_path / "x.tar.gz")) == 1


def test_a_page_that_is_not_whole_is_not_in_it(proxy: Stub, tmp_path: Path) -> None:
    proxy.pages["/metrics"] = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n# HELP up"
    out = tmp_path / "x.tar.gz"
    assert run(proxy, "diag", "bundle", "--out", str(out)) == 0
    with tarfile.open(out) as archive:
        assert not [name for name in archive.getnames() if name.endswith("metrics.txt")]


def test_secrets_are_masked_once_more(proxy: Stub, tmp_path: Path) -> None:
    out = tmp_path / "diag.tar.gz"
    assert run(proxy, "diag", "bundle", "--out", str(out)) == 0
    config = json.loads(unpacked(out)["config.json"])
    assert config == {"admin": {"password": "***", "key": "/etc/x.key"}, "url": "http://***@x/"}
    assert masked({"API_TOKEN": "x", "keys": ["a"], "auth": ""}) == {"API_TOKEN": "***", "keys": ["a"], "auth": ""}


def test_events_are_in_it_where_there_are_any(proxy: Stub, tmp_path: Path) -> None:
    proxy.pages["/events"] = b"HTTP/1.1 200 OK\r\n\r\nevent: happening\ndata: {}\n\n"
    out = tmp_path / "diag.tar.gz"
    assert run(proxy, "diag", "bundle", "--out", str(out), "-o", "json") == 0
    assert unpacked(out)["events.txt"] == b"event: happening\ndata: {}\n\n"


def test_a_page_that_breaks_off_is_told_in_the_bundle_and_keeps_nothing_else_out(proxy: Stub, tmp_path: Path) -> None:
    proxy.pages["/stack"] = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"
    out = tmp_path / "diag.tar.gz"
    assert run(proxy, "diag", "bundle", "--out", str(out)) == 0
    files = unpacked(out)
    assert "tasks.json" in files
    (stack,) = [each for each in json.loads(files["manifest.json"])["parts"] if each["page"] == "/stack"]
    assert stack["error"] == "it broke off, or is no JSON"


def test_a_file_that_is_there_is_not_overwritten_unless_forced(
    proxy: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "diag.tar.gz"
    out.write_text("mine")
    assert run(proxy, "diag", "bundle", "--out", str(out)) == 2
    assert "--force overwrites it" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert run(proxy, "diag", "bundle", "--out", str(out), "--force") == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert unpacked(out)["manifest.json"]


def test_a_file_that_cannot_be_written_is_told(
    proxy: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(proxy, "diag", "bundle", "--out", str(tmp_path / "no" / "diag.tar.gz")) == 2
    assert "cannot be written: No such file or directory" in capsys.readouterr().err
