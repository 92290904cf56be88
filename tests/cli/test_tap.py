"""``meshcore tap``: events as lines that align and that no peer can make act on a terminal; and tokens of commands."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from meshcore_cli import tap
from meshcore_cli.columns import width
from meshcore_cli.main import main

COMMON: dict[str, Any] = {
    "id": 12,
    "time": 1.0,
    "direction": "outbound",
    "source": {"addr": "127.0.0.1:5000", "identity": None, "secured": False},
    "target": {"addr": "10.0.0.7:4143", "identity": "orders.shop", "secured": True, "labels": {}},
    "secured": True,
    "route": None,
    "backend": "orders:80",
    "method": "GET",
    "scheme": "http",
    "authority": "orders:80",
    "path": "/v1",
    "version": "HTTP/1.1",
    "retries": 0,
    "trace_id": None,
}
END = {
    "event": "response_end",
    "since_ms": 12.44,
    "status": 200,
    "response_bytes": 512,
    "grpc_status": None,
    "failed": False,
    "error": None,
}


def event(**more: Any) -> dict[str, Any]:
    return {**COMMON, **END, **more}


def test_an_event_is_a_line_whose_columns_align() -> None:
    init = event(event="request_init", since_ms=0.0, secured=None, target={**COMMON["target"], "addr": None})
    failed = event(id=1_234, direction="inbound", status=503, since_ms=12_400.0, secured=False, failed=True)
    gone = event(status=None, error="cancelled", grpc_status=None, secured=False, response_bytes=None, retries=2)
    lines = [line for each in (init, event(), failed, gone) for line in tap.told(each)]
    assert [
        "    12 -> req   -         -      127.0.0.1:5000                               GET    orders:80/v1",
        "    12 -> end 200    12.4ms mtls 127.0.0.1:5000 > orders.shop                 GET    orders:80/v1  512B",
        "  1234 <- end 503     12.4s -    127.0.0.1:5000 > orders.shop                 GET    orders:80/v1  512B",
        "    12 -> end err    12.4ms -    127.0.0.1:5000 > orders.shop                 GET    orders:80/v1  retries=2 "
        "error=cancelled",
    ] == lines


def test_header_fields_stand_below() -> None:
    assert ["              > host: x", "              < a: b"] == tap.told(
        event(headers=[["host", "x"]], response_headers=[["a", "b"]])
    )[1:]


def test_what_was_dropped_is_told() -> None:
    dropped = {"event": "dropped", "requests": 4, "events": 1}
    assert ["       .. 4 requests and 1 events more were not shown"] == tap.told(dropped)


@pytest.mark.parametrize("hostile", ["\x1b[31m", "\r\n12 -> end", "\x07", "\u202e", "\x9b1m", "\x00"])
def test_nothing_that_a_peer_sends_acts_on_a_terminal(hostile: str) -> None:
    lines = tap.told(
        event(
            path=f"/{hostile}",
            authority=hostile,
            method=hostile,
            error=hostile,
            route=hostile,
            source={"addr": "1", "identity": hostile, "secured": True},
            headers=[[hostile, hostile]],
        )
    )
    assert 2 == len(lines)
    assert all(line.isprintable() for line in lines)


def test_wide_characters_take_two_columns_each() -> None:
    wide = event(source={**COMMON["source"], "addr": None, "identity": "漢字" * 4})
    head = tap.told(wide)[0].partition("GET")[0]
    assert width(tap.told(event())[0].partition("GET")[0]) == width(head)


def test_long_names_keep_their_ends() -> None:
    (line,) = tap.told(event(source={"addr": "1", "identity": "spiffe://" + "x" * 90 + "/web", "secured": True}))
    assert "mtls ~xxxxxxxxxxxxxxxxxxxxxxxx/web > orders.shop " in line
    assert line.index("GET") == tap.told(event())[0].index("GET")


def test_on_a_terminal_a_line_is_a_line_and_its_end_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    for columns in (80, 100, 200):
        monkeypatch.setenv("COLUMNS", str(columns))
        (line,) = tap.told(event(path="/" + "x" * 300, grpc_status=14))
        assert columns == len(line)
        assert line.endswith("x~  512B grpc=14" if columns > 80 else "~")
    (short,) = tap.told(event())
    assert short.endswith("127.0.0.1:5000 > orders.shop                 GET    orders:80/v1  512B")


# ----- with an admin server -----


class Stub(http.server.BaseHTTPRequestHandler):
    """Answers as a test says."""

    status, body, cut = 200, b"", False
    asked: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        type(self).asked.append((self.path, self.headers.get("authorization")))
        self.send_response(self.status)
        self.send_header("content-length", str(len(self.body) + self.cut))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def admin() -> Iterator[Callable[..., tuple[str, list[tuple[str, str | None]]]]]:
    servers = []

    def start(status: int = 200, body: bytes = b"", cut: bool = False) -> tuple[str, list[tuple[str, str | None]]]:
        asked: list[tuple[str, str | None]] = []
        kind = type("Stub", (Stub,), {"status": status, "body": body, "cut": cut, "asked": asked})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"127.0.0.1:{server.server_address[1]}", asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_options_become_the_question(admin: Any, capsys: pytest.CaptureFixture[str]) -> None:
    where, asked = admin(body=json.dumps(event()).encode() + b"\n")
    words = ["--from", "10.0.0.0/8", "--from", "web.shop", "--to", "orders", "--path-regex", "/v[0-9]",
             "--status", "5xx", "--slower-than", "250ms", "--failed", "--headers=host,accept",
             "--grpc-status", "unavailable",
             "--rate", "5", "--limit", "2", "--seconds", "3"]  # fmt: skip
    assert 0 == main(["tap", "--admin", where, *words])
    assert [
        (
            "/tap?from=10.0.0.0%2F8&from=web.shop&to=orders&status=5xx&grpc_status=unavailable&path_regex=%2Fv%5B0-9%5D"
            "&slower_than=250ms&rate=5&limit=2&seconds=3&failed=1&headers=host%2Caccept",
            None,
        )
    ] == asked
    assert capsys.readouterr().out.startswith("    12 -> end 200 ")


def test_json_is_passed_on_as_it_came(admin: Any, capsys: pytest.CaptureFixture[str]) -> None:
    line = json.dumps(event())
    where, asked = admin(body=f"{line}\n{line}\n".encode())
    assert 0 == main(["tap", "--admin", where, "-o", "json"])
    assert f"{line}\n{line}\n" == capsys.readouterr().out
    assert [("/tap", None)] == asked


def test_a_wrong_question_is_wrong_usage_by_the_options_names(admin: Any, capsys: pytest.CaptureFixture[str]) -> None:
    where, _ = admin(400, b"slower_than: '250' has no unit; did you mean '250ms'?\nfrom: 'x y' is no name\n")
    assert 2 == main(["tap", "--admin", where, "--slower-than", "250"])
    assert [
        "meshcore tap: --slower-than: '250' has no unit; did you mean '250ms'?",
        "meshcore tap: --from: 'x y' is no name",
    ] == capsys.readouterr().err.splitlines()


def test_a_proxy_that_goes_in_the_middle_is_missed(admin: Any, capsys: pytest.CaptureFixture[str]) -> None:
    where, _ = admin(body=json.dumps(event()).encode() + b"\n", cut=True)
    main(["tap", "--admin", where, "-o", "json"])
    assert capsys.readouterr().out


def test_who_may_not_is_told_what_the_proxy_says(admin: Any, capsys: pytest.CaptureFixture[str]) -> None:
    where, _ = admin(401, b"a token is needed: Authorization: Bearer ...\n")
    assert 1 == main(["tap", "--admin", where])
    assert f"meshcore tap: {where} answers 401: a token is needed" in capsys.readouterr().err


def test_a_token_comes_from_a_file_or_from_the_environment(
    admin: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("from-a-file\n")
    where, asked = admin()
    main(["tap", "--admin", where, "--token", f"@{tmp_path / 'token'}"])
    monkeypatch.setenv("MESHCORE_ADMIN_TOKEN", "from-the-environment")
    main(["tap", "--admin", where])
    main(["reload", "--admin", where, "--token", f"@{tmp_path / 'token'}"])
    assert ["Bearer from-a-file", "Bearer from-the-environment"] == [token for _, token in asked]


@pytest.mark.parametrize("token", ["@/nowhere/token", "two words", "a\x1bb", "s3cret-s3cret-s3cret"])
def test_a_token_that_is_none_is_wrong_usage(token: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert 2 == main(["tap", "--admin", "127.0.0.1:9", "--token", token])
    assert capsys.readouterr().err.startswith("meshcore tap: --token: ")


@pytest.mark.parametrize("token", ["two words", "a\x1bb"])
def test_a_token_in_the_environment_that_is_none_is_wrong_usage(
    token: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESHCORE_ADMIN_TOKEN", token)
    assert 2 == main(["tap", "--admin", "127.0.0.1:9"])
    assert "meshcore tap: MESHCORE_ADMIN_TOKEN: it is no token" in capsys.readouterr().err


def test_where_nobody_is_that_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert 1 == main(["tap", "--admin", "127.0.0.1:1"])
    assert "no proxy answers at 127.0.0.1:1" in capsys.readouterr().err


def test_ctrl_c_is_a_good_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(tap, "lines", interrupted)
    assert 0 == main(["tap"])
