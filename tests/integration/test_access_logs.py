"""Access logs of whole proxies: both sides agree, with headers and metrics too, and a reload changes what is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio

from meshcore.config import parse_config
from meshcore.http.body import read_all
from meshcore.http.message import Request, Response
from meshcore.testing import MemoryMesh, request, response

APP, INBOUND, OUTBOUND = ("app", 80), ("server", 4143), ("client", 4140)
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
FIELDS = (
    'fields = { side = "%{direction}", trace = "%{trace_id}", status = "%{status}", path = "%{path}", '
    'error = "%{error}", backend = "%{backend}", endpoint = "%{endpoint}", bytes = "%{response_bytes}" }'
)
SECONDS = 20


def server(path: Path, log: str = FIELDS) -> Any:
    return parse_config(
        '[inbound]\nlisten = "server:4143"\nforward = "app:80"\n[admin]\nlisten = "off"\n'
        f'[access_log]\nto = "{path}"\n{log}\n'
    )


def client(path: Path, log: str = FIELDS) -> Any:
    return parse_config(
        '[outbound]\nlisten = "client:4140"\n[outbound.to."orders:80"]\nendpoints = ["server:4143"]\n'
        f'[admin]\nlisten = "off"\n[access_log]\nto = "{path}"\n{log}\n'
    )


async def lines_of(path: Path, count: int) -> list[Any]:
    """The lines of a file, once there are so many: a thread writes them, in its own time."""
    with trio.fail_after(SECONDS):
        while not path.exists() or path.read_text().count("\n") < count:
            await trio.sleep(0.01)
    return [json.loads(line) for line in path.read_text().splitlines()]


async def world(nursery: trio.Nursery) -> MemoryMesh:
    async def answer(seen: Request) -> Response:
        return response(503 if seen.path == b"/fail" else 200, b"hello")

    mesh = MemoryMesh(nursery)
    await mesh.serve(APP, answer)
    return mesh


async def ask(mesh: MemoryMesh, path: bytes = b"/") -> int:
    sent = request(path=path, authority=b"orders:80", headers=[(b"traceparent", TRACE.encode())])
    answer = await mesh.client(OUTBOUND)(sent)
    await read_all(answer.body)
    return answer.status


@pytest.mark.parity("M-13")
async def test_both_sides_tell_of_one_request_and_agree(nursery: trio.Nursery, tmp_path: Path) -> None:
    mesh = await world(nursery)
    await mesh.start(server(tmp_path / "inbound"))
    proxy = await mesh.start(client(tmp_path / "outbound"))

    assert await ask(mesh, b"/a?b=c") == 200

    ((inbound,), (outbound,)) = [await lines_of(tmp_path / side, 1) for side in ("inbound", "outbound")]
    shared = {"trace": "4bf92f3577b34da6a3ce929d0e0e4736", "status": 200, "path": "/a?b=c", "error": None, "bytes": 5}
    assert outbound == {"side": "outbound", **shared, "backend": "orders:80", "endpoint": "server:4143"}
    assert {name: inbound[name] for name in ("side", *shared)} == {"side": "inbound", **shared}
    # The thread that writes is done before the task that counts has heard of it.
    with trio.fail_after(SECONDS):
        while "access_log_lines_total 1" not in proxy.registry.render():
            await trio.sleep(0.01)


async def test_an_error_of_the_proxys_is_told_by_the_code_that_its_answer_has(
    nursery: trio.Nursery, tmp_path: Path
) -> None:
    mesh = await world(nursery)
    mesh.network.faults(INBOUND).connect = "refuse"
    await mesh.start(client(tmp_path / "outbound"))

    sent = request(authority=b"orders:80")
    answer = await mesh.client(OUTBOUND)(sent)

    ((line,), code) = (await lines_of(tmp_path / "outbound", 1), answer.headers.get(b"x-meshcore-error"))
    assert (line["status"], line["error"]) == (answer.status, (code or b"").decode())
    assert code is not None


async def test_a_reload_changes_what_is_told_and_where(nursery: trio.Nursery, tmp_path: Path) -> None:
    mesh = await world(nursery)
    await mesh.start(server(tmp_path / "inbound"))
    proxy = await mesh.start(client(tmp_path / "first"))
    asking = mesh.client(OUTBOUND)

    async def get(path: bytes) -> None:
        await read_all((await asking(request(path=path, authority=b"orders:80"))).body)

    await get(b"/1")
    await proxy.reload(client(tmp_path / "second", 'fields = { path = "%{path}" }\nsample = 0\nstatuses = ["5xx"]'))
    await get(b"/2")
    await get(b"/fail")
    assert await lines_of(tmp_path / "second", 1) == [{"path": "/fail"}]
    assert [line["path"] for line in await lines_of(tmp_path / "first", 1)] == ["/1"]
