"""One file with all that a running proxy knows, for whoever looks into a problem later or elsewhere."""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import os
import re
import sys
import tarfile
import threading  # noqa: TID251 (there is no Trio here; events go on for as long as the proxy likes)
from typing import TYPE_CHECKING, Any, NamedTuple

from meshcore_cli.ask import Answer, NoAnswer, ask, lines
from meshcore_cli.columns import clean
from meshcore_cli.parser import OK, PROBLEM, fail
from meshcore_cli.render import print_json
from meshcore_cli.version import versions

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

__all__ = ["PARTS", "Part", "bundle", "masked"]


class Part(NamedTuple):
    """A part of the bundle.

    Attributes:
        file: its name there.
        path: the page it comes from.
    """

    file: str
    path: str


PARTS = (
    Part("ready.txt", "/ready"),
    Part("config.json", "/config"),
    Part("stats.json", "/stats?window=10"),
    Part("endpoints.json", "/endpoints"),
    Part("stack.json", "/stack"),
    Part("identity.json", "/identity"),
    Part("tasks.json", "/tasks"),
    Part("metrics.txt", "/metrics"),
    Part("env.json", "/env.json"),
)
EVENTS = Part("events.txt", "/events")

_EVENTS_FOR = 2.0
"""Seconds for which events are listened to: those that are kept come at once."""
_MOST_EVENTS = 1_000
_MASK = "***"
_SECRET = re.compile(r"(^|[_.-])(key|password|passphrase|secret|token|credentials?|auth)$", re.IGNORECASE)
_USER_INFO = re.compile(r"(?<=://)[^/@\s\"]*@")


def bundle(command: str, arguments: argparse.Namespace, out: Path, *, force: bool) -> int:
    """Asks for every part and writes the file, readable by its owner alone; the exit code.

    A part that is not there, or failed, is told in ``manifest.json`` and does not keep the others from being there.
    """
    if out.exists() and not force:
        return fail(command, [f"--out: {out} is there already; --force overwrites it"])
    try:
        # First, so that it is known before anything is asked whether there is a proxy at all.
        first = ask(command, arguments, "GET", PARTS[0].path)
    except NoAnswer as error:
        return error.code
    now = datetime.datetime.now(datetime.UTC)
    files: dict[str, bytes] = {}
    told: list[dict[str, Any]] = []
    for part in PARTS:
        _progress(f"asking for {part.path}")
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            try:
                found = first if part is PARTS[0] else ask(command, arguments, "GET", part.path)
            except NoAnswer:
                told.append(_failed(part, said.getvalue()))
                continue
        # A proxy that is not ready says so with a 503, which is an answer.
        if found.status != 200 and part is not PARTS[0]:
            told.append(_failed(part, f"status {found.status}: {found.text.strip()[:200]}"))
            continue
        content = _content(part, found)
        if content is None:
            told.append(_failed(part, "it broke off, or is no JSON"))
            continue
        files[part.file] = content
        told.append({"file": part.file, "page": part.path, "status": found.status, "ok": True})
    _events(command, arguments, files, told)
    _progress("")
    files["version.json"] = _json(versions())
    manifest = {"made": now.isoformat(), "by": command, "admin": arguments.admin, "parts": told}
    files["manifest.json"] = _json(manifest)
    try:
        _write(out, f"meshcore-diag-{now:%Y%m%dT%H%M%SZ}", files, now.timestamp())
    except OSError as error:
        return fail(command, [f"--out: {out} cannot be written: {error.strerror or error}"])
    missing = [each for each in told if not each["ok"]]
    if arguments.output == "json":
        print_json({"file": str(out), **manifest})
    else:
        print(f"{out}: {len(files)} files, {out.stat().st_size} bytes")
        for each in missing:
            print(f"  without {each['page']}: {clean(each['error'])}")
    # There is nothing in it but what everybody may know: whether it is ready.
    return PROBLEM if all(each in missing for each in told[1:]) else OK


def masked(value: Any, name: str = "") -> Any:
    """*value* without what looks like a secret by its name; the proxy has masked what it knows to be one."""
    if isinstance(value, dict):
        return {key: masked(item, str(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [masked(item, name) for item in value]
    if not isinstance(value, str):
        return value
    # What is secret about a file is not where it is.
    if value and _SECRET.search(name) and not value.startswith(("/", "./", "../")):
        return _MASK
    return _USER_INFO.sub(f"{_MASK}@", value)


def _content(part: Part, found: Answer) -> bytes | None:
    """What goes into the file; None: not all of it came, or nothing that could be masked."""
    if not found.whole:
        return None
    if not part.file.endswith(".json"):
        return found.text.encode()
    try:
        return _json(masked(json.loads(found.text)))
    except (ValueError, RecursionError):
        return None


def _failed(part: Part, why: str) -> dict[str, Any]:
    return {"file": None, "page": part.path, "ok": False, "error": " ".join(why.split()) or "no answer"}


def _events(
    command: str, arguments: argparse.Namespace, files: dict[str, bytes], told: list[dict[str, Any]]
) -> None:
    """What happened of late, as ``/events`` tells at first to whoever listens."""
    _progress(f"listening to {EVENTS.path}")
    found: list[str] = []
    why: list[str] = []
    said = io.StringIO()

    def listen() -> None:
        try:
            for line in lines(command, arguments, EVENTS.path):
                found.append(line)
                if len(found) >= _MOST_EVENTS:
                    return
        except NoAnswer:
            why.append(said.getvalue())
        except Exception as error:
            # The stream broke within a piece.
            why.append(type(error).__name__)

    with contextlib.redirect_stderr(said):
        # It goes on for as long as the proxy likes; this process does not.
        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        thread.join(_EVENTS_FOR)
    if why and not found:
        told.append(_failed(EVENTS, why[0]))
        return
    files[EVENTS.file] = "".join(f"{line}\n" for line in list(found)).encode()
    told.append({"file": EVENTS.file, "page": EVENTS.path, "status": 200, "ok": True})


def _write(out: Path, folder: str, files: dict[str, bytes], now: float) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mtime, entry.mode = len(content), int(now), 0o600
            archive.addfile(entry, io.BytesIO(content))
    # Never readable by others, not for a moment; whole, or not there.
    beside = out.with_name(f".{out.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data.getvalue())
        os.replace(beside, out)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode(errors="backslashreplace") + b"\n"


def _progress(text: str) -> None:
    """On a terminal alone."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
