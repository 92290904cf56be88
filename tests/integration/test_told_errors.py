"""What clients are told of errors, and what is counted, through whole pipelines and real sockets."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

import meshcore

OUTBOUND = """
[outbound]
listen = "127.0.0.1:0"
fail_fast = "50ms"
{more}
[outbound.to."payments:80"]
endpoints = ["127.0.0.1:1"]
timeout = {{ request = "5s" }}
[admin]
listen = "off"
"""
GATEWAY = """
[listen.public]
bind = "127.0.0.1:0"
fail_fast = "50ms"
{more}
to = [{{ backend = "payments" }}]
[backend.payments]
endpoints = ["127.0.0.1:1"]
[admin]
listen = "off"
"""


async def ask(port: int, host: str) -> dict[str, str]:
    """The head of an answer: its fields, and its status under ``""``."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(f"GET / HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
        data = b"".join([chunk async for chunk in stream])
    lines = data.decode().partition("\r\n\r\n")[0].split("\r\n")
    return {"": lines[0].split()[1]} | dict(line.split(": ", 1) for line in lines[1:])


async def serving(nursery: trio.Nursery, tmp_path: Path, text: str) -> tuple[meshcore.Proxy, int]:
    path = tmp_path / "meshcore.toml"
    path.write_text(text)
    proxy: meshcore.Proxy = await nursery.start(meshcore.serve_config, meshcore.load_config(path))
    ((_, port),) = next(iter(proxy.listeners.values()))
    return proxy, port


@pytest.mark.parity("E-03", "E-07", "E-08")
@pytest.mark.parametrize(
    ("text", "backend", "direction"),
    [(OUTBOUND, "payments:80", "outbound"), (GATEWAY, "payments", "inbound")],
    ids=["outbound", "gateway"],
)
async def test_the_chain_leads_from_the_name_that_was_asked_for_to_what_is_wrong(
    tmp_path: Path, text: str, backend: str, direction: str
) -> None:
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            proxy, port = await serving(nursery, tmp_path, text.format(more=""))
            # The connection is closed after it, or this would wait.
            told = await ask(port, "payments")
            assert ("504", "close", "close") == (told[""], told["l5d-proxy-connection"], told["connection"])
            assert "fail-fast" == told["x-meshcore-error"]
            assert told["l5d-proxy-error"].startswith(
                f"logical service payments: backend {backend}: service in fail-fast: endpoint 127.0.0.1:1: "
            )
            assert told["l5d-proxy-error"].endswith("connection refused")
            metrics = proxy.registry.render()
            assert f"{direction}_http_errors_total{{" in metrics
            assert 'error="failfast"} 1' in metrics
            nursery.cancel_scope.cancel()


@pytest.mark.parity("E-06")
@pytest.mark.parametrize("text", [OUTBOUND, GATEWAY], ids=["outbound", "gateway"])
async def test_nothing_is_told_where_the_config_says_so(tmp_path: Path, text: str) -> None:
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            _, port = await serving(nursery, tmp_path, text.format(more="informational_headers = false"))
            told = await ask(port, "payments")
            assert "504" == told[""]
            assert not [name for name in told if name.startswith(("l5d-", "x-meshcore-"))]
            nursery.cancel_scope.cancel()
