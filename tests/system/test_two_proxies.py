"""Two proxies of the mesh on real sockets: real clients before the one, a real server behind the other."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

import meshcore
from meshcore import Accepted, Backend, Endpoint, layers
from meshcore.resolve import Discover, File
from meshcore.stack import accept, stack
from meshcore.transport.target import Address
from tests.peers.process import Running

client = pytest.importorskip("websockets.sync.client")

MESH = Endpoint(("", 0), mesh_proxy=True)


def inbound(port: int) -> Any:
    """The proxy of the application at *port*."""
    return (
        accept(Accepted)
        .then(meshcore.ServeHttp())
        .then(layers.Rescue("meshed"))
        .then(layers.DowngradeOrigProto())
        .then(layers.SetClientId())
        .then(layers.ToBackend(Backend("application", (Endpoint(("127.0.0.1", port), "http/1"),))))
        .then(layers.Balance())
        .then(meshcore.Http())
        .layer(meshcore.connect_tcp)
    )


def outbound(file: Path) -> Any:
    """The proxy of a client, whose endpoints are in *file*."""
    return (
        accept(Accepted)
        .then(meshcore.ServeHttp())
        .then(layers.Rescue())
        .then(layers.ToBackend(Backend("users", discover=f"file:{file}")))
        .then(layers.Balance(Discover({"file": File(MESH, interval=0.1)})))
        .then(stack(Endpoint).then(layers.ProxyErrors()).then(layers.RequireId()).then(layers.UpgradeOrigProto()))
        .then(meshcore.Http())
        .layer(meshcore.connect_tcp)
    )


class Mesh:
    """Running proxies.

    Attributes:
        outbound: where clients connect.
        inbound: where the endpoints' proxies listen.
        accepted: connections that each of those has accepted.
    """

    def __init__(self, nursery: trio.Nursery, file: Path) -> None:
        self._nursery = nursery
        self._file = file
        self.inbound: list[Address] = []
        self.accepted: list[int] = []
        self.outbound: Address = ("", 0)

    async def _listen(self, new_accept: Any) -> Address:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")

        async def serve() -> None:
            await meshcore.serve(new_accept, listeners, upstreams=self._nursery)

        self._nursery.start_soon(serve)
        address: Address = listeners[0].socket.getsockname()[:2]
        return address

    async def start(self, port: int, count: int) -> None:
        for index in range(count):
            self.accepted.append(0)
            self.inbound.append(await self._listen(_Counted(inbound(port), self.accepted, index)))
        self.write(self.inbound)
        self.outbound = await self._listen(outbound(self._file))

    def write(self, addresses: list[Address]) -> None:
        """Makes these the endpoints."""
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps([f"{host}:{port}" for host, port in addresses]))
        new.rename(self._file)

    @property
    def url(self) -> str:
        return "http://{}:{}".format(*self.outbound)


class _Counted:
    def __init__(self, inner: Any, counts: list[int], index: int) -> None:
        self._inner, self._counts, self._index = inner, counts, index

    def new_service(self, target: Any, nursery: trio.Nursery, /) -> Any:
        self._counts[self._index] += 1
        return self._inner.new_service(target, nursery)


@contextlib.asynccontextmanager
async def mesh(port: int, directory: Path, count: int = 1) -> AsyncIterator[Mesh]:
    async with trio.open_nursery() as nursery:
        running = Mesh(nursery, directory / "endpoints.json")
        await running.start(port, count)
        with trio.fail_after(60):
            yield running
        nursery.cancel_scope.cancel()


async def run(*command: str) -> bytes:
    done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    assert done.returncode == 0, done.stderr
    return bytes(done.stdout)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("version", ["--http1.0", "--http1.1", "--http2-prior-knowledge"])
async def test_curl_gets_what_the_application_answers(
    peer: Callable[[str], str], origin: Running, tmp_path: Path, version: str
) -> None:
    curl = (peer("curl"), "-sS", "--max-time", "20", version)
    upload = tmp_path / "upload"
    upload.write_bytes(b"u" * 3_000_000)
    async with mesh(origin.port, tmp_path) as proxies:
        seen = json.loads(await run(*curl, "-H", "l5d-client-id: root", f"{proxies.url}/info"))
        assert "l5d-" not in json.dumps(seen)
        assert 2_000_000 == len(await run(*curl, f"{proxies.url}/big?2000000"))
        assert b"3000000" == await run(*curl, "-T", str(upload), f"{proxies.url}/sink")
        assert b"abc" == await run(*curl, "-d", "abc", f"{proxies.url}/echo")
        assert b"l5d-" not in await run(*curl, "-i", f"{proxies.url}/trailers")


@pytest.mark.parity("D-24")
async def test_fifty_keep_alive_clients_are_one_connection_between_the_proxies(
    peer: Callable[[str], str], nginx: Running, tmp_path: Path
) -> None:
    async with mesh(nginx.port, tmp_path) as proxies:
        said = await run(peer("h2load"), "--h1", "-c", "50", "-n", "2000", f"{proxies.url}/")
        assert b"2000 succeeded, 0 failed, 0 errored" in said, said
        assert [1] == proxies.accepted


@pytest.mark.parity("D-27")
async def test_a_websocket_passes_both_proxies(websocket_origin: Running, tmp_path: Path) -> None:
    def talk(url: str) -> None:
        with client.connect(url, max_size=1 << 24, proxy=None) as socket:
            for message in ("hello", b"\x00" * 70_000, "x" * 1_000_000):
                socket.send(message)
                assert socket.recv(timeout=10) == message

    async with mesh(websocket_origin.port, tmp_path) as proxies:
        await trio.to_thread.run_sync(talk, proxies.url.replace("http", "ws"))


async def test_endpoints_that_come_and_go_under_load_fail_no_request(
    peer: Callable[[str], str], nginx: Running, tmp_path: Path
) -> None:
    async with mesh(nginx.port, tmp_path, count=3) as proxies:
        a, b, c = proxies.inbound
        proxies.write([a, b])
        load = (peer("h2load"), "--h1", "-c", "20", "-D", "4", f"{proxies.url}/")
        said = b""

        async def loaded() -> None:
            nonlocal said
            said = await run(*load)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(loaded)
            for addresses in ([b, c], [b], [a, b, c], [c, b]):
                await trio.sleep(0.6)
                proxies.write(addresses)
        assert b" 0 failed, 0 errored, 0 timeout" in said, said
        # b was there all the time and was connected to once.
        assert proxies.accepted[1] == 1
        assert all(proxies.accepted)
