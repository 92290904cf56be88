"""Routes, filters and splits of config files, from a client's socket to the backends' and back."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

import meshcore
from meshcore.http.body import Chunks, read_all
from meshcore.stack import stack
from meshcore.transport.tcp import connect_tcp, open_listeners

GATEWAY = """
[listen.public]
bind = "127.0.0.1:0"
{text}
[backend.stable]
endpoints = ["127.0.0.1:{stable}"]
[backend.canary]
endpoints = ["127.0.0.1:{canary}"]
[admin]
listen = "off"
"""


@attrs.define
class Origin:
    """A server that says what it was asked."""

    name: str
    port: int = 0
    asked: list[dict[str, Any]] = attrs.Factory(list)
    stream: Chunks = attrs.Factory(Chunks)

    async def answer(self, request: meshcore.Request) -> meshcore.Response:
        if request.path == b"/stream":
            return meshcore.Response(200, body=self.stream)
        body = await read_all(request.body)
        said = {
            "name": self.name,
            "method": request.method.decode(),
            "authority": request.authority.decode(),
            "path": request.path.decode(),
            "headers": {name.decode(): value.decode() for name, value in request.headers},
            "body": body.decode(),
        }
        self.asked.append(said)
        text = json.dumps(said).encode()
        headers = meshcore.Headers([(b"content-length", b"%d" % len(text)), (b"server", b"origin")])
        return meshcore.Response(200, headers, meshcore.Full(text))


class Fixed:
    def __init__(self, service: Any) -> None:
        self.service = service

    def new_service(self, target: object, nursery: trio.Nursery, /) -> Any:
        return self.service


@attrs.define
class Running:
    """A proxy, the origins behind it, and a client before it."""

    proxy: meshcore.Proxy
    origins: dict[str, Origin]
    client: Any

    async def ask(self, path: str = "/", authority: str = "a.test", **more: Any) -> tuple[int, dict[str, Any], Any]:
        """Status, body and fields of the answer to one request."""
        method, version = more.pop("method", "GET"), more.pop("version", 11)
        body = more.pop("body", b"")
        headers = [(name.replace("_", "-").encode(), value.encode()) for name, value in more.items()]
        if body:
            headers.append((b"content-length", b"%d" % len(body)))
        request = meshcore.Request(
            method.encode(),
            b"http",
            authority.encode(),
            path.encode(),
            meshcore.Headers(headers),
            meshcore.Full(body),
            version=version,
        )
        response = await self.client(request)
        text = await read_all(response.body)
        return response.status, json.loads(text) if text else {}, response.headers


async def served(nursery: trio.Nursery, origin: Origin) -> int:
    listeners = await open_listeners("127.0.0.1", 0)
    new_accept = meshcore.accept(meshcore.Accepted).then(meshcore.ServeHttp()).layer(Fixed(origin.answer))
    await nursery.start(partial(meshcore.serve, new_accept, listeners, upstreams=nursery))
    port: int = listeners[0].socket.getsockname()[1]
    return port


@asynccontextmanager
async def running(tmp_path: Path, text: str, name: str, template: str = GATEWAY) -> AsyncIterator[Running]:
    """The proxy of a config file with origins ``stable`` and ``canary``; the client speaks to its listener *name*."""
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            origins = {each: Origin(each) for each in ("stable", "canary")}
            for each in origins.values():
                each.port = await served(nursery, each)
            ports = {each.name: each.port for each in origins.values()}
            path = tmp_path / "c.toml"
            path.write_text(template.format(text=text, **ports))
            proxy = await nursery.start(meshcore.serve_config, meshcore.load_config(path))
            address = proxy.listeners[name][0]
            endpoint = meshcore.Endpoint(address)
            new = stack(meshcore.Endpoint).then(meshcore.Http()).layer(connect_tcp)
            yield Running(proxy, origins, new.new_service(endpoint, nursery))
            nursery.cancel_scope.cancel()


Run = Callable[..., Any]


@pytest.fixture
def gateway(tmp_path: Path) -> Run:
    return lambda text: running(tmp_path, text, "public")


ROUTES = """
to = [{ backend = "stable" }]
[[listen.public.route]]
match = [{ path = { prefix = "/v1" }, headers = { x-tenant = { regex = "a.*" } } }]
to = [{ backend = "canary" }]
[[listen.public.route]]
match = [{ path = { exact = "/exact" } }, { query = { beta = "1" }, method = "POST" }]
to = [{ backend = "canary" }]
[[listen.public.route]]
match = [{ host = "b.test", path = { regex = "/item/[0-9]+" } }]
to = [{ backend = "canary" }]
"""


@pytest.mark.parametrize("version", [11, 20])
@pytest.mark.parity("X-01", "X-03", "X-04")
async def test_requests_go_where_their_path_and_fields_say(gateway: Run, version: int) -> None:
    async with gateway(ROUTES) as run:
        ask = partial(run.ask, version=version)

        async def who(*where: str, **more: Any) -> str:
            status, said, _ = await ask(*where, **more)
            assert status == 200
            return str(said["name"])

        assert await who("/v1/x", x_tenant="acme") == "canary"
        assert await who("/v1", x_tenant="acme") == "canary"
        assert await who("/v1/x", x_tenant="other") == "stable"
        assert await who("/v1x", x_tenant="acme") == "stable"
        assert await who("/exact?a=b") == "canary"
        assert await who("/exact/no") == "stable"
        assert await who("/?beta=1", method="POST", body=b"x") == "canary"
        assert await who("/?beta=1") == "stable"
        assert await who("/item/12", "b.test:80") == "canary"
        assert await who("/item/x", "b.test") == "stable"


@pytest.mark.parametrize("version", [11, 20])
@pytest.mark.parity("R-24", "X-02")
async def test_what_no_route_takes_is_not_found(gateway: Run, version: int) -> None:
    text = '[[listen.public.route]]\nmatch = [{ path = { exact = "/x" } }]\nto = [{ backend = "stable" }]\n'
    async with gateway(text) as run:
        status, _, headers = await run.ask("/y", version=version)
        assert (404, b"no-route") == (status, headers.get(b"x-meshcore-error"))
        assert (await run.ask("/x", version=version))[0] == 200


FILTERS = """
[[listen.public.route]]
match = [{ path = { prefix = "/v1" } }]
filters = [
  { set_request_headers = { x-env = "prod" }, add_request_headers = { x-seen = "2" } },
  { remove_request_headers = ["x-no"] },
  { remove_response_headers = ["server"], set_response_headers = { x-by = "gateway" } },
  { rewrite = { host = "inner.test", prefix = "/v2" } },
]
to = [{ backend = "stable", filters = [{ set_request_headers = { x-backend = "stable" } }] }]
[[listen.public.route]]
match = [{ path = { prefix = "/old" } }]
filters = [{ redirect = { scheme = "https", prefix = "/new", status = 308 } }]
to = [{ backend = "stable" }]
[[listen.public.route]]
match = [{ path = { exact = "/broken" } }]
filters = [{ inject_failure = { status = 503, message = "on purpose" } }]
to = [{ backend = "stable" }]
[[listen.public.route]]
match = [{ grpc = { service = "a.B" } }]
filters = [{ inject_failure = { grpc_status = "UNAVAILABLE" } }]
to = [{ backend = "stable" }]
"""


@pytest.mark.parity("R-25", "R-26")
async def test_a_routes_filters_change_redirect_and_fail_its_requests(gateway: Run) -> None:
    async with gateway(FILTERS) as run:
        status, said, headers = await run.ask("/v1/a?q=1", x_env="dev", x_seen="1", x_no="x")
        assert (200, "/v2/a?q=1", "inner.test") == (status, said["path"], said["authority"])
        assert said["headers"]["x-env"] == "prod"
        assert said["headers"]["x-seen"] == "2"
        assert said["headers"]["x-backend"] == "stable"
        assert "x-no" not in said["headers"]
        assert (headers.get(b"server"), headers.get(b"x-by")) == (None, b"gateway")

        status, _, headers = await run.ask("/old/a?q=1")
        assert (308, b"https://a.test/new/a?q=1") == (status, headers.get(b"location"))

        status, _, headers = await run.ask("/broken")
        assert (503, b"injected-failure") == (status, headers.get(b"x-meshcore-error"))
        said = headers.get(b"l5d-proxy-error")
        assert said is not None
        assert said.endswith(b": on purpose")

        status, _, headers = await run.ask("/a.B/Get", method="POST", version=20, content_type="application/grpc")
        assert (200, b"14") == (status, headers.get(b"grpc-status"))
        assert [each["path"] for each in run.origins["stable"].asked] == ["/v2/a?q=1"]


ANSWERS = """
[[listen.public.route]]
match = [{ path = { prefix = "/old" } }]
filters = [{ redirect = { path = "/new", status = 308 } }]
[[listen.public.route]]
match = [{ path = { exact = "/gone" } }]
filters = [{ inject_failure = { status = 410, message = "gone" } }]
"""


async def test_a_route_that_answers_by_itself_needs_no_backend(gateway: Run) -> None:
    async with gateway(ANSWERS) as run:
        status, _, headers = await run.ask("/old/a")
        assert (308, b"http://a.test/new") == (status, headers.get(b"location"))
        assert 410 == (await run.ask("/gone"))[0]
        assert 404 == (await run.ask("/else"))[0]


@pytest.mark.parity("B-13", "R-27")
async def test_weights_spread_requests_and_can_be_changed(gateway: Run) -> None:
    text = 'to = [{ backend = "stable", weight = 90 }, { backend = "canary", weight = 10 }]\n'
    async with gateway(text) as run:
        found = Counter([(await run.ask())[1]["name"] for _ in range(300)])
        assert 10 <= found["canary"] <= 60
        run.proxy.weights["listen.public/default"].set({"stable": 0, "canary": 100})
        found = Counter([(await run.ask())[1]["name"] for _ in range(50)])
        assert found == {"canary": 50}
        text = json.dumps(run.proxy.statistics())
        assert '"role": "split"' in text
        assert '"backend": "canary", "weight": 100' in text


@pytest.mark.parametrize("version", [11, 20])
@pytest.mark.parity("B-13", "X-27")
async def test_a_blue_green_switch_under_load_fails_nothing_and_cuts_no_stream(gateway: Run, version: int) -> None:
    text = 'to = [{ backend = "stable", weight = 100 }, { backend = "canary", weight = 0 }]\n'
    async with gateway(text) as run:
        weights = run.proxy.weights["listen.public/default"]
        stable = run.origins["stable"]
        stable.stream.push(b"begun")
        sent = meshcore.Request(b"GET", b"http", b"a.test", b"/stream", version=version)
        stream = await run.client(sent)
        assert await stream.body.receive_some() == b"begun"

        async def load() -> Counter[str]:
            found: Counter[str] = Counter()

            async def client() -> None:
                for _ in range(100):
                    status, said, _ = await run.ask(version=version)
                    assert status == 200
                    found[said["name"]] += 1

            async with trio.open_nursery() as clients:
                for _ in range(20):
                    clients.start_soon(client)
            return found

        assert await load() == {"stable": 2_000}
        weights.set({"stable": 90, "canary": 10})
        found = await load()
        assert found.total() == 2_000
        assert found["canary"] / 2_000 == pytest.approx(0.1, abs=0.03)
        weights.set({"stable": 0, "canary": 100})
        assert await load() == {"canary": 2_000}

        stable.stream.push(b"ended")
        stable.stream.push_end()
        assert await read_all(stream.body) == b"ended"


@pytest.mark.parity("B-13")
async def test_a_backend_stands_in_for_another_that_is_gone(gateway: Run) -> None:
    text = """
[[listen.public.route]]
failover = true
to = [{ backend = "gone" }, { backend = "stable" }, { backend = "canary" }]
[backend.gone]
endpoints = ["127.0.0.1:1"]
"""
    async with gateway(text) as run:
        found = Counter([(await run.ask())[1]["name"] for _ in range(20)])
        assert found == {"stable": 20}


@pytest.mark.parity("X-31")
async def test_each_route_has_retries_of_its_own(gateway: Run) -> None:
    text = """
to = [{ backend = "stable", filters = [{ inject_failure = { status = 503 } }] }, { backend = "canary" }]
[[listen.public.route]]
match = [{ path = { prefix = "/again" } }]
retry = { limit = 10, on = ["5xx"], budget = 10 }
to = [
  { backend = "stable", weight = 1, filters = [{ inject_failure = { status = 503 } }] },
  { backend = "canary", weight = 4 },  # all eleven tries of one of the 30 requests fail once in a million runs
]
"""
    async with gateway(text) as run:
        found = Counter([(await run.ask("/again", method="POST"))[0] for _ in range(30)])
        assert found == {200: 30}
        found = Counter([(await run.ask("/once"))[0] for _ in range(30)])
        assert 3 <= found[503] <= 27


async def test_the_filters_of_a_backend_are_for_its_requests_alone(gateway: Run) -> None:
    text = """
to = [
  { backend = "stable", weight = 1, filters = [{ set_request_headers = { x-b = "stable" } }] },
  { backend = "canary", weight = 1, filters = [
    { rewrite = { path = "/other" }, mirror = { backend = "stable" }, inject_delay = { duration = "1ms" } },
  ] },
]
"""
    async with gateway(text) as run:
        for _ in range(40):
            status, said, _ = await run.ask("/x")
            assert status == 200
            if said["name"] == "stable":
                assert (said["path"], said["headers"]["x-b"]) == ("/x", "stable")
            else:
                assert (said["path"], "x-b" in said["headers"]) == ("/other", False)
        canary = len(run.origins["canary"].asked)
        assert 5 <= canary <= 35
        while len(run.origins["stable"].asked) < 40:
            await trio.sleep(0.01)
        copies = [each for each in run.origins["stable"].asked if "x-b" not in each["headers"]]
        assert len(copies) == canary


async def test_a_copy_of_each_request_goes_to_the_mirror(gateway: Run) -> None:
    text = '[[listen.public.route]]\nfilters = [{ mirror = { backend = "canary" } }]\nto = [{ backend = "stable" }]\n'
    async with gateway(text) as run:
        status, said, _ = await run.ask("/a?b", method="POST", body=b"hello")
        assert (200, "stable", "hello") == (status, said["name"], said["body"])
        while not run.origins["canary"].asked:
            await trio.sleep(0.01)
        copy = run.origins["canary"].asked[0]
        assert ("POST", "/a?b", "hello") == (copy["method"], copy["path"], copy["body"])


OUTBOUND = """
[outbound]
listen = "127.0.0.1:0"
[outbound.to."orders:80"]
endpoints = ["127.0.0.1:{stable}"]
{text}
[outbound.to."*"]
endpoints = ["127.0.0.1:{canary}"]
[backend.canary]
endpoints = ["127.0.0.1:{canary}"]
[admin]
listen = "off"
"""


@pytest.mark.parity("X-02", "X-03", "U-09")
async def test_a_destinations_routes_are_all_there_are_for_it(tmp_path: Path) -> None:
    text = """
[[outbound.to."orders:80".route]]
match = [{ path = { prefix = "/new" }, headers = { x-a = "1" } }]
to = [{ weight = 0 }, { backend = "canary" }]
[[outbound.to."orders:80".route]]
match = [{ path = { prefix = "/" }, method = "GET" }]
filters = [{ set_request_headers = { x-route = "get" } }]
"""
    async with running(tmp_path, text, "outbound", OUTBOUND) as run:
        assert (await run.ask("/new/x", "orders", x_a="1"))[1]["name"] == "canary"
        status, said, _ = await run.ask("/new/x", "orders:80")
        assert (status, said["name"], said["headers"]["x-route"]) == (200, "stable", "get")
        assert (await run.ask("/", "orders", method="DELETE"))[0] == 404
        assert (await run.ask("/", "elsewhere", method="DELETE"))[1]["name"] == "canary"
        own = await run.proxy.client("orders:80")(meshcore.Request(b"GET", b"http", b"orders", b"/"))
        assert json.loads(await read_all(own.body))["headers"]["x-route"] == "get"


INBOUND = """
[inbound]
listen = "127.0.0.1:0"
forward = "127.0.0.1:{stable}"
{text}
[admin]
listen = "off"
"""


@pytest.mark.parity("U-05")
async def test_routes_to_the_application_change_and_fail_its_requests(tmp_path: Path) -> None:
    text = """
[[inbound.route]]
match = [{ path = { prefix = "/api" } }]
filters = [{ set_request_headers = { x-in = "1" } }]
[[inbound.route]]
match = [{ path = { exact = "/broken" } }]
filters = [{ inject_failure = { status = 500 } }]
[[inbound.route]]
match = [{ grpc = { service = "a.B", method = "Get" } }]
filters = [{ inject_failure = { grpc_status = 8 } }]
"""
    async with running(tmp_path, text, "inbound", INBOUND) as run:
        status, said, _ = await run.ask("/api/x")
        assert (200, "1") == (status, said["headers"]["x-in"])
        assert (await run.ask("/broken"))[0] == 500
        assert (await run.ask("/other"))[0] == 404
        assert "inbound_http_route_not_found_total 1" in run.proxy.registry.render()
        answered = await run.ask("/a.B/Get", method="POST", version=20, content_type="application/grpc")
        assert (200, b"8") == (answered[0], answered[2].get(b"grpc-status"))
