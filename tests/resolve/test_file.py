"""Discovery from a file: what is in it, when that is seen, and what a broken one does."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import trio
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

import meshcore
from meshcore.errors import ConfigError
from meshcore.http.body import Chunks, read_all
from meshcore.http.message import Request, Response
from meshcore.layers.balance import Balance
from meshcore.resolve import Discover, File, Static, parse_endpoints
from meshcore.server.http1 import serve_http1
from meshcore.server.options import ServerOptions
from meshcore.stack import stack
from meshcore.testing import request
from meshcore.transport.target import Backend, Endpoint, TlsClient
from tests.layers.fakes import Network
from tests.server.stacks import MemoryServer

PLAIN = Endpoint(("", 0))
A, B, C = (Endpoint((host, 80)) for host in ("10.0.0.1", "10.0.0.2", "10.0.0.3"))


def written(*endpoints: Endpoint) -> str:
    return json.dumps([{"address": str(endpoint), "weight": endpoint.weight} for endpoint in endpoints])


class Watching:
    """A file that is watched, and what was published."""

    def __init__(self, path: Path, nursery: trio.Nursery, **options: Any) -> None:
        self.path = path
        self.sets: list[Sequence[Endpoint]] = []
        nursery.start_soon(File(**options).watch, Backend("users", discover=f"file:{path}"), self.sets.append)

    def write(self, text: str | bytes) -> None:
        self.path.write_bytes(text.encode() if isinstance(text, str) else text)

    def replace(self, text: str) -> None:
        other = self.path.with_suffix(".new")
        other.write_text(text)
        other.rename(self.path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "endpoints.json"


# ----- what is in it -----


@pytest.mark.parametrize(
    ("text", "suffix"),
    [
        ('["10.0.0.1:80", {"address": "10.0.0.2:80"}]', ".json"),
        ('{"endpoints": ["10.0.0.1:80", "10.0.0.2:80"]}', ".json"),
        ('\ufeff\n ["10.0.0.1:80", "10.0.0.2:80"]\n', ""),
        ('endpoints = ["10.0.0.1:80", { address = "10.0.0.2:80" }]', ".toml"),
        ('# two\nendpoints = [\n  "10.0.0.1:80",\n  "10.0.0.2:80",\n]\n', ""),
    ],
)
def test_json_and_toml_say_the_same(text: str, suffix: str) -> None:
    assert (A, B) == parse_endpoints(text.encode(), PLAIN, suffix=suffix)


@pytest.mark.parametrize("text", ["[]", '{"endpoints": []}', "endpoints = []"])
def test_no_endpoints_are_said_so(text: str) -> None:
    assert () == parse_endpoints(text.encode(), PLAIN)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "empty; no endpoints are written as []"),
        (b" \n", "empty"),
        (b"\xff[]", "not UTF-8"),
        (b'["10.0.0.1:80"', "not JSON"),
        (b'["10.0.0.1:80"]]', "not JSON"),
        (b'[{"address": "a:1", "address": "b:1"}]', "a key is there twice"),
        (b'[{"address": "a:1", "weight": NaN}]', "NaN is not a number"),
        (b"[" * 100_000, "not JSON"),
        (b"[%b]" % (b"1" * 5_000), "not JSON"),
        (b'{"endpoint": []}', "unknown key 'endpoint'; endpoints is the only one"),
        (b"{}", "endpoints: has to be given"),
        (b'{"endpoints": "a:1"}', "a list of endpoints is wanted"),
        (b"endpoints = [", "not TOML"),
        (b"x = 1\nendpoints = []", "unknown key 'x'"),
        (b"x = " + b"[" * 50_000, "not TOML"),
        (b'endpoints = []\n[[endpoints]]\naddress = "a:1"', "[[endpoints]] has no end"),
        (b'["a:1", "a:1"]', "endpoints[1]: a:1 is there twice"),
        (b'["a:1", "b", {"address": 1}]', "endpoints[2].address: HOST:PORT is wanted, not 1"),
        (json.dumps(["a:1"] * 10_001).encode(), "more than 10000"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_endpoints(data, PLAIN)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        '[{"address": "10.0.0.1:80", "weight": 12}, "10.0.0.2:80"]',
        '{"endpoints": ["10.0.0.1:80", "10.0.0.2:80"]}',
        'endpoints = [\n "10.0.0.1:80",\n {address = "10.0.0.2:80", weight = 12},\n]',
    ],
)
def test_no_part_of_a_file_is_taken_for_the_whole(text: str) -> None:
    for suffix in ("", ".json", ".toml"):
        for cut in range(len(text)):
            with pytest.raises(ConfigError):
                parse_endpoints(text[:cut].encode(), PLAIN, suffix=suffix)


@hypothesis.given(st.binary(max_size=60) | st.text('[]{}":,.0123456789a \n=#endpoits', max_size=60).map(str.encode))
def test_whatever_is_in_a_file_is_endpoints_or_a_problem(data: bytes) -> None:
    for suffix in ("", ".json", ".toml"):
        try:
            parse_endpoints(data, PLAIN, suffix=suffix)
        except ConfigError as error:
            assert error.problems


# ----- when it is seen -----


async def test_a_change_is_published_within_two_seconds_and_nothing_else_is(
    path: Path, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    watching = Watching(path, nursery)
    watching.write(written(A, B))
    await trio.sleep(1.9)
    assert [(A, B)] == watching.sets

    for change in (watching.write, watching.replace):
        change(written(B, C))
        await trio.sleep(1.9)
        assert (B, C) == watching.sets[-1]
        change(written(A))
        await trio.sleep(1.9)
        assert (A,) == watching.sets[-1]
    assert 5 == len(watching.sets)

    watching.replace(written(A) + "\n \n")
    os.utime(path)
    await trio.sleep(60)
    assert 5 == len(watching.sets)


async def test_a_write_that_the_file_systems_clock_does_not_show_is_seen(
    path: Path, nursery: trio.Nursery, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshcore.resolve.file._signature", lambda found: (found.st_ino, found.st_size))
    path.write_text(written(A))
    watching = Watching(path, nursery)
    await wait_all_tasks_blocked()
    assert [(A,)] == watching.sets

    # As long, and in the same tick as the read before.
    watching.write(written(B))
    await trio.sleep(1.9)
    assert [(A,), (B,)] == watching.sets


async def test_a_directory_that_kubernetes_swaps_by_a_symbolic_link_is_followed(
    tmp_path: Path, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    for name, endpoints in (("..2026_01", (A, B)), ("..2026_02", (B, C))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "endpoints.json").write_text(written(*endpoints))
    (tmp_path / "..data").symlink_to("..2026_01")
    (tmp_path / "endpoints.json").symlink_to("..data/endpoints.json")
    watching = Watching(tmp_path / "endpoints.json", nursery)
    await wait_all_tasks_blocked()
    assert [(A, B)] == watching.sets

    (tmp_path / "..data_tmp").symlink_to("..2026_02")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    (tmp_path / "..2026_01" / "endpoints.json").unlink()
    (tmp_path / "..2026_01").rmdir()
    await trio.sleep(1.9)
    assert [(A, B), (B, C)] == watching.sets


async def test_a_half_written_file_keeps_the_last_good_endpoints_and_warns_once(
    path: Path, nursery: trio.Nursery, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text(written(A, B))
    watching = Watching(path, nursery)
    await trio.sleep(5)
    caplog.set_level("INFO")
    whole = written(B, C)
    for cut in (0, 1, len(whole) // 2, len(whole) - 1):
        watching.write(whole[:cut])
        await trio.sleep(5)
        warnings = [record for record in caplog.records if record.levelname == "WARNING"]
        assert 1 == len(warnings)
        assert "backend users: " in caplog.text
        assert "the endpoints stay as they were" in caplog.text
        caplog.clear()
    assert [(A, B)] == watching.sets

    watching.write(whole)
    await trio.sleep(1.9)
    assert [(A, B), (B, C)] == watching.sets
    assert "is right again" in caplog.text


async def test_a_file_that_comes_late_goes_and_comes_again(
    path: Path, nursery: trio.Nursery, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    watching = Watching(path, nursery)
    await trio.sleep(5)
    assert [] == watching.sets
    assert "No such file or directory; there are no endpoints yet" in caplog.text

    path.write_text(written(A))
    await trio.sleep(1.9)
    path.unlink()
    await trio.sleep(5)
    assert [(A,)] == watching.sets
    path.write_text(written(A))
    await trio.sleep(1.9)
    assert [(A,)] == watching.sets
    path.write_text(written(B))
    await trio.sleep(1.9)
    assert [(A,), (B,)] == watching.sets


@pytest.mark.parametrize("kind", ["directory", "pipe", "large", "loop", "unreadable name"])
async def test_what_is_no_file_to_be_read_is_refused_and_blocks_nothing(
    kind: str, path: Path, nursery: trio.Nursery, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "large":
        with path.open("wb") as file:
            file.truncate((4 << 20) + 1)
    elif kind == "loop":
        path.symlink_to(path)
    else:
        path = path / "below"
    watching = Watching(path, nursery)
    with trio.fail_after(60):
        await trio.sleep(10)
    assert [] == watching.sets
    assert 1 == len([record for record in caplog.records if record.levelname == "WARNING"])


# ----- which file, with what template -----


async def test_a_relative_path_is_relative_to_the_directory_and_the_template_may_depend_on_the_backend(
    tmp_path: Path, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    (tmp_path / "a.json").write_text('["10.0.0.1:80"]')
    secured = TlsClient("users.shop", alpn=(), identity="users.shop", mesh=True)
    seen: list[Sequence[Endpoint]] = []
    file = File(lambda backend: Endpoint(("", 0), tls=secured, zone=backend.name, mesh_proxy=True), directory=tmp_path)
    nursery.start_soon(file.watch, Backend("users", discover="file:a.json"), seen.append)
    await wait_all_tasks_blocked()
    assert [(Endpoint(("10.0.0.1", 80), tls=secured, zone="users", mesh_proxy=True),)] == seen


@pytest.mark.parametrize("discover", [None, "", "file", "file:", "dns:a"])
async def test_what_names_no_file_is_refused(discover: str | None) -> None:
    with pytest.raises(ConfigError, match="is not file:PATH"):
        await File().watch(Backend("b", discover=discover), lambda endpoints: None)


async def test_a_backend_is_watched_by_the_resolver_of_its_scheme(
    path: Path, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    seen: list[Sequence[Endpoint]] = []
    await Discover().watch(Backend("b", (A, B)), seen.append)
    path.write_text(written(C))
    nursery.start_soon(Discover().watch, Backend("c", discover=f"file:{path}"), seen.append)
    await wait_all_tasks_blocked()
    assert [(A, B), (C,)] == seen

    await Discover({"none": Static(())}).watch(Backend("d", discover="none:x"), seen.append)
    assert () == seen[-1]
    with pytest.raises(ConfigError, match=r"unknown scheme \(known: file:, dns:, dns\+srv:\); did you mean 'file'"):
        await Discover().watch(Backend("e", discover="files:x"), seen.append)
    assert "Discover(schemes=['file', 'dns', 'dns+srv'])" == repr(Discover())
    assert "File(interval=0.5)" == repr(File())


# ----- under a balancer -----


async def test_unchanged_endpoints_keep_their_services_their_load_and_what_is_in_flight(
    path: Path, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    network = Network()
    bodies: list[Chunks] = []

    def stream() -> Chunks:
        bodies.append(Chunks())
        return bodies[-1]

    path.write_text(written(A, B))
    service: Any = Balance(File()).layer(network).new_service(Backend("users", discover=f"file:{path}"), nursery)
    for _ in range(200):
        await read_all((await service(request())).body)
    network[A.address].body = network[B.address].body = stream
    open_responses = [(sent, await service(sent)) for sent in (request() for _ in range(8))]
    before = {found.address: found for found in service.statistics().endpoints}

    heavier = Endpoint(B.address, weight=3.0)
    path.write_text(written(heavier, C))
    await trio.sleep(2.0)

    after = {found.address: found for found in service.statistics().endpoints}
    assert {A.address, B.address, C.address} == set(after)
    # B is the very same: no second service, its counts, its estimate and its open exchanges are as they were.
    assert (1, 0) == (network[B.address].made, network[B.address].stopped)
    assert (before[B.address].rtt, before[B.address].successes) == (after[B.address].rtt, after[B.address].successes)
    assert before[B.address].in_flight == after[B.address].in_flight > 0
    assert after[B.address].age > before[B.address].age + 1.9
    assert 3.0 == after[B.address].weight
    # A has gone, but for what it has in flight; C has come.
    assert ("draining", "ready") == (after[A.address].state, after[C.address].state)
    assert (1, 0) == (network[A.address].made, network[A.address].stopped)

    for _, response in open_responses:
        assert response.body.end is None
    for body in bodies:
        body.push(b"x")
        body.push_end()
    for _, response in open_responses:
        assert b"x" == await read_all(response.body)
    await wait_all_tasks_blocked()
    assert 1 == network[A.address].stopped
    assert {B.address, C.address} == {found.address for found in service.statistics().endpoints}


async def test_unchanged_endpoints_keep_their_connections(
    path: Path, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    async def hello(sent: Request) -> Response:
        return Response(204)

    async def serve(connection: Any) -> None:
        await serve_http1(connection, hello, ServerOptions())

    servers = {found.address: MemoryServer(nursery, serve) for found in (A, B, C)}

    async def connect(endpoint: Endpoint, /) -> Any:
        return await servers[endpoint.address](endpoint)

    path.write_text(written(A, B))
    clients = stack(Endpoint).then(meshcore.Http(meshcore.ClientOptions(idle_timeout=3_600.0)))
    new = Balance(File(), policy="round-robin").layer(clients.layer(connect))
    service = new.new_service(Backend("users", discover=f"file:{path}"), nursery)

    async def ask() -> None:
        for _ in range(12):
            await read_all((await service(request())).body)

    await ask()
    made = {address: len(server.connected) for address, server in servers.items()}
    for endpoints in ((B, A, C), (C, B), (B,), (A, B, C)):
        path.write_text(written(*endpoints))
        await trio.sleep(2.0)
        await ask()
    assert made[B.address] == len(servers[B.address].connected)
    assert not any(connection.closed for connection in servers[B.address].connected)
    assert made[A.address] < len(servers[A.address].connected)
    assert all(connection.closed for connection in servers[A.address].connected[: made[A.address]])


@pytest.mark.parity("X-10")
async def test_a_file_without_endpoints_empties_a_backend_and_the_next_fills_it(
    path: Path, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    network = Network()
    path.write_text("[]")
    service = Balance(File()).layer(network).new_service(Backend("users", discover=f"file:{path}"), nursery)
    with pytest.raises(meshcore.errors.NoEndpoints):
        await service(request())
    path.write_text(written(A))
    await trio.sleep(2.0)
    assert 200 == (await service(request())).status


def test_a_resolver_is_found_by_its_name() -> None:
    from meshcore import registry

    make: Callable[..., Any] = registry.make
    assert File(interval=0.25) == make("file", {"interval": 0.25}, group=registry.RESOLVERS)
    assert {"discover", "file", "static"} <= set(registry.names(registry.RESOLVERS))
