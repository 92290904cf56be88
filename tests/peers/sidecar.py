"""``meshcore run -c FILE`` as a subprocess, and what it needs: an authority, files, a config, its metrics."""

from __future__ import annotations

import http.client
import json
import re
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshcore.identity import Authority
from tests.peers.meshcore import command_line
from tests.peers.process import Running, running, scratch

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["DAY", "Issuer", "admin", "config", "metric", "sidecar"]

DAY = 86_400.0
ANY = "127.0.0.1:0"
_SERIES = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Issuer:
    """An authority and the files of what it issued.

    Attributes:
        folder: where the files are.
        authority: who issues.
        anchors: the file with its certificate.
    """

    def __init__(self, folder: Path, name: str = "mesh") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.authority = Authority.make(name, now=time.time() - 30 * DAY)
        self.anchors = self.write("ca.crt", self.authority.cert_pem())

    def write(self, name: str, data: bytes) -> Path:
        """A file, replaced as a whole."""
        new = self.folder / f"{name}.new"
        new.write_bytes(data)
        new.chmod(0o600)
        return new.rename(self.folder / name)

    def issue(self, name: str, *, stem: str | None = None, now: float | None = None) -> tuple[Path, Path]:
        """The files of a certificate and its key."""
        cert, key = self.authority.issue(name, now=time.time() if now is None else now)
        stem = stem or name.rpartition("/")[2]
        return self.write(f"{stem}.crt", cert), self.write(f"{stem}.key", key)

    def identity(self, name: str, **more: object) -> dict[str, object]:
        """An ``[identity]`` with that name, its files written."""
        cert, key = self.issue(name)
        return {"cert": str(cert), "key": str(key), "trust_anchors": str(self.anchors), **more}


def config(
    identity: dict[str, object] | None = None,
    *,
    forward: int | None = None,
    to: dict[str, dict[str, object]] | None = None,
    inbound: dict[str, object] | None = None,
    outbound: dict[str, object] | None = None,
    **tables: object,
) -> dict[str, Any]:
    """A config file's tables; every listener takes a free port.

    Args:
        identity: ``[identity]``.
        forward: the application's port: with it there is an inbound side.
        to: destinations: with them there is an outbound side.
        inbound: more of ``[inbound]``.
        outbound: more of ``[outbound]``.
        tables: others.
    """
    made: dict[str, Any] = {"service": {"name": "service"}, "admin": {"listen": ANY}, **tables}
    if identity is not None:
        made["identity"] = identity
    if forward is not None:
        made["inbound"] = {"listen": ANY, "forward": f"127.0.0.1:{forward}", **(inbound or {})}
    if to is not None:
        made["outbound"] = {"listen": ANY, "to": to, **(outbound or {})}
    return made


@contextmanager
def sidecar(
    told: dict[str, Any], *command: str, serving: bool = True, env: dict[str, str] | None = None
) -> Iterator[Running]:
    """``meshcore run`` with that config; ``ports`` are its listeners' by name, ``port`` the first of them.

    Args:
        told: the config file's tables.
        command: an application that it wraps.
        serving: whether to wait until it serves; else until the admin server answers (at a port that was told).
        env: more of its environment.
    """

    def ready(program: Running) -> bool:
        if not serving:
            program.ports["admin"] = int(told["admin"]["listen"].rpartition(":")[2])
            try:
                return admin(program, "/live")[0] == 200
            except OSError:
                return False
        line = re.search(r"ready (.*)", program.output())
        if line is None:
            return False
        for name, _, where in (each.rpartition("=") for each in line[1].split()):
            port = where.rpartition(":")[2]
            if port.isdigit():
                program.ports[name] = int(port)
        program.port = next(iter(program.ports.values()))
        return True

    with scratch("sidecar") as directory:
        file = directory / "mesh.json"
        file.write_text(json.dumps(told))
        words = [*command_line(), "run", "-c", str(file)]
        if command:
            words += ["--", *command]

        with running("sidecar", words, ready=ready, env=env or {}) as program:
            program.config = file
            yield program


def admin(program: Running, path: str) -> tuple[int, str]:
    """The status and the body that the admin server answers."""
    client = http.client.HTTPConnection("127.0.0.1", program.ports["admin"], timeout=10)
    try:
        client.request("GET", path)
        answer = client.getresponse()
        return answer.status, answer.read().decode()
    finally:
        client.close()


def metric(program: Running, family: str, **labels: str) -> float:
    """The sum of a family's series that have those labels."""
    total = 0.0
    for line in admin(program, "/metrics")[1].splitlines():
        found = _SERIES.fullmatch(line)
        if found and found[1] == family:
            has = dict(_LABEL.findall(found[2] or ""))
            if all(has.get(name) == value for name, value in labels.items()):
                total += float(found[3])
    return total
