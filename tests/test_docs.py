"""The documentation tells the truth: examples run, code blocks compile, links lead somewhere."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest
import trio
import trio.testing

import meshcore
from meshcore import Endpoint, Headers, Request, Response, ServiceLayer, middleware
from meshcore.config import parse_config
from meshcore.http.body import read_all
from meshcore.stack import stack
from meshcore_cli.main import main

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#:\s]+\.(?:md|py|toml))(?:#[^)]*)?\)")


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def serving(nursery: trio.Nursery, main: Callable[..., Awaitable[None]], *args: Any) -> tuple[str, int]:
    """Starts an example and tells where it listens."""

    async def run(task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        await main(*args, port=0, task_status=task_status)

    started: Any = await nursery.start(run)
    if isinstance(started, tuple):
        return started
    port: int = started[0].socket.getsockname()[1]
    return "127.0.0.1", port


async def origin(task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
    """An HTTP server of our own to send requests to."""

    async def hello(request: Request) -> Response:
        body = b"hello " + request.path
        return Response(200, Headers([(b"content-length", b"%d" % len(body))]), meshcore.Full(body))

    @attrs.frozen
    class Hello:
        def new_service(self, target: object, nursery: trio.Nursery) -> Any:
            return hello

    new_accept = meshcore.ServeHttp().layer(Hello())
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    task_status.started(f"127.0.0.1:{listeners[0].socket.getsockname()[1]}")
    async with trio.open_nursery() as nursery:
        await meshcore.serve(new_accept, listeners, upstreams=nursery)


async def get(address: tuple[str, int], path: str = "/x") -> bytes:
    """One request, spoken by hand; the whole answer."""
    stream = await trio.open_tcp_stream(*address)
    async with stream:
        await stream.send_all(f"GET {path} HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n".encode())
        answer = b""
        async for chunk in stream:
            answer += chunk
        return answer


@pytest.mark.parametrize("name", ["reverse_proxy", "custom_layer", "tcp_forward", "sidecar"])
async def test_an_example_proxies_a_request(name: str, nursery: trio.Nursery) -> None:
    upstream = await nursery.start(origin)
    address = await serving(nursery, load(name).main, upstream)
    with trio.fail_after(60):
        answer = await get(address)
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"hello /x")
    if name == "custom_layer":
        assert b"\r\nx-request-id: " in answer
    nursery.cancel_scope.cancel()


async def test_the_grpc_gateway_sends_calls_to_the_service_that_they_name(nursery: trio.Nursery) -> None:
    upstream = await nursery.start(origin)
    address = await serving(nursery, load("grpc_gateway").main, f"users={upstream}", "orders=127.0.0.1:1")
    gateway = stack(Endpoint).then(meshcore.Http()).layer(meshcore.connect_tcp)
    client = gateway.new_service(Endpoint(address, "h2"), nursery)

    async def call(authority: bytes) -> Response:
        fields = Headers([(b"content-type", b"application/grpc"), (b"te", b"trailers")])
        return await client(Request(b"POST", b"http", authority, b"/Users/Get", fields, version=20))

    with trio.fail_after(20):
        found, unknown = await call(b"users"), await call(b"nobody")
        assert await read_all(found.body) == b"hello /Users/Get"
    assert unknown.headers.get(b"grpc-status") == b"5"
    nursery.cancel_scope.cancel()


async def test_the_canary_gets_its_share_and_everything_that_asks_for_it(nursery: trio.Nursery) -> None:
    stable, canary = await nursery.start(origin), await nursery.start(origin)
    address = await serving(nursery, load("canary_routes").main, stable, canary)
    client = stack(Endpoint).then(meshcore.Http()).layer(meshcore.connect_tcp)
    service = client.new_service(Endpoint(address), nursery)
    with trio.fail_after(20):
        for fields in ([], [(b"x-beta", b"1")]):
            answer = await service(Request(b"GET", b"http", b"a.example", b"/x", Headers(fields)))
            assert await read_all(answer.body) == b"hello /x"
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("path", sorted((ROOT / "examples" / "config").glob("*.toml")), ids=lambda path: path.name)
def test_an_example_of_a_config_file_passes_its_check(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["check", "-c", str(path)])
    assert (code, capsys.readouterr().err) == (0, "")


def test_every_example_is_short_and_says_what_it_is() -> None:
    for path in EXAMPLES:
        source = path.read_text()
        assert len(source.splitlines()) <= 60, path.name
        assert ast.get_docstring(ast.parse(source)), path.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT / "docs")))
def test_python_blocks_of_a_page_compile_and_its_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    for block in BLOCK.findall(text):
        compile(block, str(page), "exec")
    for target in LINK.findall(text):
        assert (page.parent / target).resolve().exists(), f"{page.name}: {target}"


def blocks(page: str) -> dict[str, Any]:
    """What a page's Python blocks define, run one after the other."""
    names: dict[str, Any] = {}
    for block in BLOCK.findall((ROOT / "docs" / page).read_text()):
        exec(compile(block, page, "exec"), names)
    return names


RUN = [
    "how-to/discovery-from-a-file.md",
    "how-to/embed.md",
    "how-to/edit-the-built-in-pipeline.md",
    "explanation/timeouts.md",
    "explanation/what-it-costs.md",
]


@pytest.mark.parametrize("page", RUN)
def test_python_blocks_of_a_page_run(page: str) -> None:
    assert blocks(page)


@pytest.mark.parametrize(("page", "count"), [("test-a-layer", 4), ("test-a-mesh", 3)])
def test_the_tests_of_a_how_to_page_pass(page: str, count: int) -> None:
    names = blocks(f"how-to/{page}.md")

    async def run(test: Callable[..., Awaitable[None]], clock: trio.testing.MockClock) -> None:
        given = {"autojump_clock": clock}
        async with trio.open_nursery() as nursery:
            wanted = inspect.signature(test).parameters
            await test(**{name: given.get(name, nursery) for name in wanted})
            nursery.cancel_scope.cancel()

    tests = [value for name, value in names.items() if name.startswith("test_")]
    for test in tests:
        if inspect.iscoroutinefunction(inspect.unwrap(test)) and not inspect.iscoroutinefunction(test):
            test()
        else:
            clock = trio.testing.MockClock(autojump_threshold=0)
            trio.run(run, test, clock, clock=clock)
    assert len(tests) == count


async def test_the_layers_of_the_how_to_page_do_what_it_says() -> None:
    names: dict[str, Any] = {}
    for block in BLOCK.findall((ROOT / "docs" / "how-to" / "write-a-layer.md").read_text()):
        exec(compile(block, "write-a-layer.md", "exec"), names)

    async def inner(request: Request) -> Response:
        return Response(200)

    answer = await names["no_store"].wrap(inner, None)(Request(b"GET", b"http", b"a.example", b"/"))
    await names["test_every_response_carries_the_id_of_its_request"]()

    assert answer.headers.get(b"cache-control") == b"no-store"
    assert isinstance(names["RequestId"](), ServiceLayer)
    assert callable(middleware)


async def test_the_pipeline_with_a_breaker_is_one(nursery: trio.Nursery) -> None:
    names = blocks("how-to/circuit-breaking.md")
    assert ["retry", "balance", "failure_accrual"] == names["pipeline"].roles()


@pytest.mark.parametrize("page", ["retries", "circuit-breaking", "limit-requests"])
def test_the_tables_of_a_page_on_failures_are_right(page: str) -> None:
    text = (ROOT / "docs" / "how-to" / f"{page}.md").read_text()
    for block in re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        whole = block if block.startswith("[") else f'[outbound.to."a:1"]\nendpoints = ["b:1"]\n{block}'
        parse_config(whole)
