"""``meshcore proxy`` as a process: its ready line, its answers, its signals, its complaints."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).parent.parent.parent


@contextmanager
def proxy(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, and the line that said it was ready."""
    command = [sys.executable, "-m", "meshcore_cli", "proxy", "--from", "127.0.0.1:0", "--to", "127.0.0.1:9", *options]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        yield process, process.stderr.readline()
    finally:
        process.kill()
        process.communicate(timeout=30)


@pytest.mark.parity("L-02")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_listens_answers_and_drains_on_a_signal(number: signal.Signals) -> None:
    with proxy("--admin", "127.0.0.1:0") as (process, line):
        found = re.search(
            r"INFO +meshcore.proxy: ready from=(127\.0\.0\.1:\d+) admin=(127\.0\.0\.1:\d+) engines=\S+$", line.strip()
        )
        assert found, line
        with urlopen(f"http://{found[2]}/ready", timeout=10) as response:
            assert response.read() == f"ready from={found[1]}\n".encode()
        # Nothing listens at the endpoint, and the answer says so.
        with pytest.raises(HTTPError) as caught:
            urlopen(f"http://{found[1]}/", timeout=10)
        with caught.value as error:
            assert error.code in (502, 503, 504)
            assert error.headers["x-meshcore-error"]
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out) == (0, "")
        assert "Traceback" not in err


def test_the_log_can_be_json() -> None:
    with proxy("--admin", "off", "--log-format", "json") as (_, line):
        value = json.loads(line)
        assert (value["level"], value["logger"]) == ("info", "meshcore.proxy")
        assert value["message"].startswith("ready from=127.0.0.1:")


def complaint(*options: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "meshcore_cli", "proxy", *options]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.stdout == ""
    return result.returncode, result.stderr


def test_wrong_options_are_all_told_at_once_without_a_traceback() -> None:
    assert complaint("--from", "80", "--to", "http://a/x", "--log-level", "inf", "--log-format", "xml") == (
        2,
        "meshcore proxy: --from: '80' has no port: HOST:PORT or :PORT is wanted; did you mean :80?\n"
        "meshcore proxy: --to: 'http://a/x' has a path, which an endpoint has not\n"
        "meshcore proxy: --log-level: 'inf' is no level (trace, debug, info, warning, warn, error, off); "
        "did you mean 'info'?\n"
        "meshcore proxy: --log-format: 'xml' is not one of text, json\n",
    )


def test_an_address_that_is_taken_is_told_without_a_traceback() -> None:
    with proxy("--admin", "off") as (_, line):
        address = line.partition("from=")[2].split()[0]
        code, text = complaint("--from", address, "--to", "127.0.0.1:9", "--admin", "off")
    assert code == 1
    assert text == f"meshcore proxy: --from: cannot listen on {address}: address already in use\n"


def test_a_certificate_that_is_none_is_told_without_a_traceback(tmp_path: Path) -> None:
    path = tmp_path / "site.pem"
    path.write_text("nothing of the kind")
    code, text = complaint(
        "--from",
        "127.0.0.1:0",
        "--to",
        "127.0.0.1:9",
        "--admin",
        "off",
        "--tls-cert",
        str(path),
        "--tls-key",
        str(path),
    )
    assert code == 2
    assert "Traceback" not in text
    assert text.startswith("meshcore proxy: ")
