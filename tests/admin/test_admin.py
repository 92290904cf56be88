from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

import meshcore.stack
from meshcore.abc import HttpService, ServiceLayer
from meshcore.admin import Admin
from meshcore.admin.render import config_value, stack_text, stack_value
from meshcore.config.match import ValueConfig
from meshcore.http.body import Full, read_all
from meshcore.http.headers import Headers
from meshcore.http.message import Request, Response
from meshcore.running import Reloaded
from meshcore.transport.drain import Drain
from meshcore.transport.target import Backend

METRICS = "# HELP up whether it is up\n# TYPE up gauge\nup 1\n"


@attrs.frozen
class Pass(ServiceLayer):
    """Does nothing."""

    per: str | None = None

    def wrap(self, inner: HttpService, target: object, /) -> HttpService:
        return inner


@attrs.frozen
class Signs(ServiceLayer):
    """A layer of somebody's own, with a secret."""

    signing_key: str

    def wrap(self, inner: HttpService, target: object, /) -> HttpService:
        return inner


@attrs.frozen
class Settings:
    name: str = "gateway"
    password: str = "hunter2"
    token: str | None = None
    pem: bytes = b"12345"
    salt: str = attrs.field(default="secret salt", metadata={"secret": True})
    upstream: str = "http://admin:hunter2@10.0.0.1:80"
    tls_key: Path = Path("site.key")
    ports: frozenset[int] = frozenset({25, 3306})


class Peer:
    """A connection of which only its peer is asked."""

    def __init__(self, host: str) -> None:
        self.peer = (host, 4711)


class Server:
    """An admin service with what it stands on."""

    def __init__(self, **options: Any) -> None:
        self.drain = Drain()
        self.addresses: list[str] | None = ["127.0.0.1:41243", "[::1]:41243"]
        self.metrics = METRICS
        self.asked: list[tuple[bool, bool]] = []
        self.stack = meshcore.stack.stack(Backend).then(Pass("endpoint")).then(Pass())
        self.admin = Admin(
            self.drain,
            metrics=self._render,
            ready=lambda: self.addresses,
            config=Settings(),
            stacks={"gateway": self.stack},
            live=lambda: {
                "gateway": {"open": 1, "at": ["x", "y"], "endpoints": [{"address": "10.0.0.1:80", "error": ""}]}
            },
            **options,
        )

    async def _render(self, openmetrics: bool, compressed: bool) -> bytes:
        self.asked.append((openmetrics, compressed))
        data = self.metrics.encode()
        return gzip.compress(data) if compressed else data

    async def ask(
        self,
        path: bytes,
        method: bytes = b"GET",
        *,
        peer: str = "127.0.0.1",
        authority: bytes = b"127.0.0.1:4191",
        **headers: str,
    ) -> tuple[int, dict[bytes, bytes], bytes]:
        fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        connection: Any = Peer(peer)
        request = Request(method, b"http", authority, path, Headers(fields), Full(b"ignored"), connection=connection)
        response: Response = await self.admin(request)
        assert request.body.is_end_stream
        return response.status, dict(response.headers), await read_all(response.body)


@pytest.fixture
def server() -> Server:
    return Server()


async def test_live_answers_always(server: Server) -> None:
    server.addresses = None
    status, headers, body = await server.ask(b"/live?x=1")
    assert (200, b"live\n", b"5") == (status, body, headers[b"content-length"])


@pytest.mark.parity("L-01")
async def test_ready_says_where_it_listens_once_everything_is_up(server: Server) -> None:
    server.addresses = None
    assert (503, b"not ready\n") == (await server.ask(b"/ready"))[::2]
    server.addresses = ["127.0.0.1:41243", "[::1]:41243"]
    assert (200, b"ready from=127.0.0.1:41243,[::1]:41243\n") == (await server.ask(b"/ready"))[::2]


async def test_a_draining_proxy_is_live_and_not_ready(server: Server) -> None:
    server.drain.start()
    assert (503, b"draining\n") == (await server.ask(b"/ready"))[::2]
    assert (200, b"live\n") == (await server.ask(b"/live"))[::2]
    assert 200 == (await server.ask(b"/metrics"))[0]


@pytest.mark.parity("M-01")
async def test_metrics_are_prometheus_text(server: Server) -> None:
    status, headers, body = await server.ask(b"/metrics")
    assert (200, METRICS.encode()) == (status, body)
    assert headers[b"content-type"] == b"text/plain; version=0.0.4; charset=utf-8"
    assert server.asked == [(False, False)]


async def test_metrics_are_openmetrics_where_that_is_accepted(server: Server) -> None:
    _, headers, _ = await server.ask(
        b"/metrics", accept="application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.1"
    )
    assert headers[b"content-type"].startswith(b"application/openmetrics-text")
    assert server.asked == [(True, False)]


@pytest.mark.parity("M-01", "X-53")
async def test_metrics_are_compressed_when_the_client_accepts_that(server: Server) -> None:
    server.metrics = METRICS * 100
    _, headers, body = await server.ask(b"/metrics", accept_encoding="br, gzip;q=0.8")
    assert headers[b"content-encoding"] == b"gzip"
    assert int(headers[b"content-length"]) == len(body)
    assert gzip.decompress(body).decode() == METRICS * 100


@pytest.mark.parametrize("accepted", ["identity", "gzip;q=0", "gzip;q=0.00, *", "br"])
async def test_metrics_are_not_compressed_otherwise(server: Server, accepted: str) -> None:
    server.metrics = METRICS * 100
    _, headers, body = await server.ask(b"/metrics", accept_encoding=accepted)
    assert b"content-encoding" not in headers
    assert body.decode() == METRICS * 100


async def test_the_stack_as_json_has_layers_in_request_order_and_what_runs(server: Server) -> None:
    status, headers, body = await server.ask(b"/stack", accept="*/*")
    assert (200, b"application/json") == (status, headers[b"content-type"])
    assert json.loads(body) == {
        "gateway": {
            "layers": [
                {"role": "pass", "layer": "Pass(per='endpoint')", "per": "endpoint"},
                {"role": "pass", "layer": "Pass(per=None)"},
            ],
            "live": {"open": 1, "at": ["x", "y"], "endpoints": [{"address": "10.0.0.1:80", "error": ""}]},
        }
    }


async def test_others_have_their_turn_while_a_large_stack_is_told() -> None:
    endpoints = [{"address": f"10.0.0.1:{port}", "labels": {"pod": str(port)}} for port in range(1_000)]
    told = {"gateway": {"endpoints": endpoints}}
    server = Server()
    server.admin._live = lambda: told
    turns = 0
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await trio.lowlevel.checkpoint()

        _, _, body = await server.ask(b"/stack")
        nursery.cancel_scope.cancel()

    assert endpoints == json.loads(body)["gateway"]["live"]["endpoints"]
    assert turns > 100


async def test_the_stack_as_text_is_the_tree_that_is_printed_everywhere(server: Server) -> None:
    _, headers, body = await server.ask(b"/stack", accept="text/plain")
    assert headers[b"content-type"].startswith(b"text/plain")
    assert body.decode() == (
        "gateway\n"
        "└─ Pass(per='endpoint')\n"
        "   ┊ one of these per Endpoint\n"
        "   └─ Pass(per=None)\n"
        "  open=1\n"
        "  at: x, y\n"
        "  endpoints:\n"
        "    address=10.0.0.1:80 error=-\n"
    )


async def test_the_configuration_is_shown_with_its_secrets_masked(server: Server) -> None:
    status, _, body = await server.ask(b"/config")
    assert status == 200
    assert json.loads(body) == {
        "name": "gateway",
        "password": "***",
        "token": None,
        "pem": "5 bytes",
        "salt": "***",
        "upstream": "http://***@10.0.0.1:80",
        "tls_key": "site.key",
        "ports": [25, 3306],
    }
    assert b"hunter2" not in body


@pytest.mark.parametrize("name", ["authorization", "Cookie", "x-api-key"])
async def test_headers_that_carry_secrets_are_masked_in_the_configuration(name: str) -> None:
    value = config_value({"set": {name: "hunter2", "x-env": "prod"}, "headers": {name: ValueConfig(exact="hunter2")}})

    assert value == {"set": {name: "***", "x-env": "prod"}, "headers": {name: "***"}}
    # A name of somebody's own is none of a header.
    assert config_value({"session-store:80": Settings(name=name)})["session-store:80"]["name"] == name


def test_a_password_is_masked_to_its_end() -> None:
    assert config_value("http://a:p@ss@host/x?token=hunter2") == "http://***@host/x?token=***"


async def test_what_a_layer_prints_of_itself_has_no_secrets() -> None:
    told = meshcore.stack.stack(Backend).then(Signs("hunter2"))

    assert "hunter2" not in json.dumps(await stack_value(told)) + stack_text("gateway", told)


@pytest.mark.parametrize("path", [b"/live", b"/ready", b"/metrics", b"/stack", b"/config"])
async def test_head_is_get_without_the_body(server: Server, path: bytes) -> None:
    got = await server.ask(path)
    head = await server.ask(path, b"HEAD")
    assert (got[0], got[1], b"") == head


@pytest.mark.parametrize("path", [b"/live", b"/ready", b"/metrics", b"/stack", b"/config"])
@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE"])
async def test_other_methods_are_refused_with_those_allowed(server: Server, path: bytes, method: bytes) -> None:
    status, headers, _ = await server.ask(path, method)
    assert (405, b"GET, HEAD") == (status, headers[b"allow"])


@pytest.mark.parametrize("path", [b"/", b"/tasks", b"/live/", b"//live", b"/LIVE", b"*", b"", b"/shutdown/x"])
async def test_any_other_path_is_not_found(server: Server, path: bytes) -> None:
    assert 404 == (await server.ask(path))[0]


@pytest.mark.parametrize(
    "authority", [b"127.0.0.1:4191", b"[::1]:4191", b"10.1.2.3", b"localhost:4191", b"LocalHost", b"localhost.", b""]
)
async def test_addresses_and_localhost_may_be_asked(server: Server, authority: bytes) -> None:
    assert 200 == (await server.ask(b"/live", authority=authority))[0]


@pytest.mark.parametrize(
    "authority", [b"evil.example:4191", b"127.0.0.1.evil.example", b"localhost.evil.example", b"[evil]:1", b"\xff"]
)
async def test_a_name_that_was_pointed_here_is_refused(server: Server, authority: bytes) -> None:
    assert 403 == (await server.ask(b"/metrics", authority=authority))[0]


async def test_a_host_field_that_differs_from_the_authority_is_checked_too(server: Server) -> None:
    assert 403 == (await server.ask(b"/metrics", host="evil.example"))[0]


async def test_further_hosts_can_be_allowed() -> None:
    server = Server(hosts=frozenset({"admin.internal"}))
    assert 200 == (await server.ask(b"/live", authority=b"admin.internal:4191"))[0]
    assert 403 == (await server.ask(b"/live", authority=b"localhost"))[0]


@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_shutdown_does_not_exist_unless_it_is_enabled(server: Server, method: bytes) -> None:
    assert (404, b"shutdown endpoint is not enabled\n") == (await server.ask(b"/shutdown", method))[::2]
    assert not server.drain.started


@pytest.mark.parity("L-02")
async def test_shutdown_starts_the_drain() -> None:
    server = Server(shutdown=True)
    assert (200, b"shutdown\n") == (await server.ask(b"/shutdown", b"POST"))[::2]
    assert (True, "POST /shutdown") == (server.drain.started, server.drain.reason)


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"PUT"])
async def test_shutdown_takes_a_post_and_nothing_else(method: bytes) -> None:
    server = Server(shutdown=True)
    status, headers, _ = await server.ask(b"/shutdown", method)
    assert (405, b"POST", False) == (status, headers[b"allow"], server.drain.started)


@pytest.mark.parametrize("peer", ["10.0.0.5", "::ffff:10.0.0.5", "2001:db8::1", "fe80::1%eth0", "not an address"])
async def test_shutdown_is_for_loopback_clients_only(peer: str) -> None:
    server = Server(shutdown=True)
    assert 403 == (await server.ask(b"/shutdown", b"POST", peer=peer))[0]
    assert not server.drain.started


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
async def test_every_loopback_address_is_one(peer: str) -> None:
    server = Server(shutdown=True)
    assert 200 == (await server.ask(b"/shutdown", b"POST", peer=peer))[0]


@pytest.mark.parametrize(
    "headers", [{"origin": "http://evil.example"}, {"origin": "null"}, {"sec_fetch_site": "cross-site"}]
)
async def test_a_form_on_a_web_page_cannot_shut_the_proxy_down(headers: dict[str, str]) -> None:
    server = Server(shutdown=True)
    assert 403 == (await server.ask(b"/shutdown", b"POST", **headers))[0]
    assert not server.drain.started


async def test_nothing_is_kept_in_caches(server: Server) -> None:
    _, headers, _ = await server.ask(b"/metrics")
    assert (b"no-store", b"nosniff") == (headers[b"cache-control"], headers[b"x-content-type-options"])


class Reloads:
    """A config file that a test has changed."""

    source: Any = Path("mesh.toml")

    def __init__(self, result: str = "applied") -> None:
        self.result = result
        self.causes: list[str] = []

    def value(self) -> dict[str, Any]:
        return {"version": 2}

    async def reload(self, cause: str, /) -> Reloaded:
        self.causes.append(cause)
        problems = ("mesh.toml:1: wrong",) if self.result == "failed" else ()
        return Reloaded(self.result, 2, "+1 route", problems, cause)  # type: ignore[arg-type]


@pytest.mark.parametrize(("result", "status"), [("applied", 200), ("unchanged", 200), ("failed", 422)])
async def test_reload_tells_what_came_of_it(result: str, status: int) -> None:
    reloads = Reloads(result)
    server = Server(reloader=lambda: reloads)
    found, _, body = await server.ask(b"/reload", b"POST")
    value = json.loads(body)
    assert (status, result, 2, ["POST /reload"]) == (found, value["result"], value["version"], reloads.causes)
    assert (value["problems"] != []) is (result == "failed")
    assert {"version": 2} == json.loads((await server.ask(b"/config"))[2])["reload"]


async def test_a_proxy_without_a_file_cannot_be_reloaded(server: Server) -> None:
    assert 404 == (await server.ask(b"/reload", b"POST"))[0]
    assert "reload" not in json.loads((await server.ask(b"/config"))[2])


async def test_reload_takes_a_post_from_this_host_and_from_no_web_page() -> None:
    reloads = Reloads()
    server = Server(reloader=lambda: reloads)
    assert 405 == (await server.ask(b"/reload"))[0]
    assert 403 == (await server.ask(b"/reload", b"POST", peer="10.0.0.9"))[0]
    assert 403 == (await server.ask(b"/reload", b"POST", origin="https://evil.test"))[0]
    assert 403 == (await server.ask(b"/reload", b"POST", sec_fetch_site="cross-site"))[0]
    assert 403 == (await server.ask(b"/reload", b"POST", authority=b"evil.test"))[0]
    assert [] == reloads.causes
