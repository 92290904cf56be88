"""Tokens of a config file, from the wire to the application; their keys by https:// from a server of the test."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

import meshcore
from meshcore.errors import MeshError
from meshcore.pipeline.tokens import fetch
from meshcore.server.terminate_tls import TerminateTls
from meshcore.transport.server_tls import ServerTls
from meshcore.transport.tcp import connect_tcp, open_listeners
from tests.layers.tokens import ISSUER, NOW, Issuer

CONFIG = """
[inbound]
listen = "127.0.0.1:0"
forward = "127.0.0.1:{port}"
jwt = {{ issuer = "{issuer}", audience = ["orders"], keys = "https://localhost:{keys}/jwks", trust_anchors = "{ca}", \
claims = {{ x-user = "sub" }}, forward = false }}
[listen.public]
bind = "127.0.0.1:0"
to = [{{ backend = "app" }}]
jwt = {{ issuer = "{issuer}", audience = ["orders"], keys = "file:jwks.json", required = false }}
[backend.app]
endpoints = ["127.0.0.1:{port}"]
[admin]
listen = "off"
"""


class Fixed:
    def __init__(self, service: Any) -> None:
        self.service = service

    def new_service(self, target: object, nursery: trio.Nursery, /) -> Any:
        return self.service


async def serve(nursery: trio.Nursery, service: Any, tls: ServerTls | None = None) -> int:
    listeners = await open_listeners("127.0.0.1", 0)
    top = meshcore.accept(meshcore.Accepted)
    if tls is not None:
        top = top.then(TerminateTls(tls))
    new_accept = top.then(meshcore.ServeHttp()).layer(Fixed(service))
    await nursery.start(partial(meshcore.serve, new_accept, listeners, upstreams=nursery))
    port: int = listeners[0].socket.getsockname()[1]
    return port


def answering(body: bytes, status: int = 200) -> Any:
    async def answer(request: meshcore.Request) -> meshcore.Response:
        shown = body or (request.headers.get(b"x-user") or b"nobody") + b" " + (
            b"with" if b"authorization" in request.headers else b"without"
        )
        headers = meshcore.Headers([(b"content-length", b"%d" % len(shown))])
        return meshcore.Response(status, headers, meshcore.Full(shown))

    return answer


async def ask(address: tuple[str, int], data: bytes) -> bytes:
    stream = await trio.open_tcp_stream(*address)
    async with stream:
        await stream.send_all(data)
        got = b""
        try:
            while chunk := await stream.receive_some():
                got += chunk
        except trio.BrokenResourceError:
            pass
    return got


def get(token: bytes | None, *fields: bytes) -> bytes:
    lines = [b"GET / HTTP/1.1", b"host: a", b"connection: close", *fields]
    if token is not None:
        lines.append(b"authorization: Bearer " + token)
    return b"\r\n".join(lines) + b"\r\n\r\n"


async def test_a_token_opens_the_application_and_nothing_else_does(tmp_path: Path, pki: Any) -> None:
    issuer = Issuer()
    cert, key = pki.issue("localhost")
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            keys = await serve(nursery, answering(issuer.jwks("P-256", "Ed25519")), ServerTls(cert, key))
            port = await serve(nursery, answering(b""))
            (tmp_path / "jwks.json").write_bytes(issuer.jwks("RSA"))
            text = CONFIG.format(port=port, keys=keys, ca=pki.ca_file, issuer=ISSUER)
            (tmp_path / "c.toml").write_text(text)
            run = partial(meshcore.serve_config, clock=lambda: NOW)
            mesh: meshcore.Proxy = await nursery.start(run, meshcore.load_config(tmp_path / "c.toml"))
            inbound, public = (mesh.listeners[name][0] for name in ("inbound", "public"))

            for algorithm in ("ES256", "EdDSA"):
                answer = await ask(inbound, get(issuer.token(algorithm), b"x-user: root"))
                assert answer.startswith(b"HTTP/1.1 200 ")
                # Who it is for the application comes from the token, and the token stays here.
                assert answer.endswith(b"\r\n\r\nuser-1 without")
            for refused in (None, issuer.token(exp=NOW - 31), issuer.token("RS256"), b"x.y.z"):
                answer = await ask(inbound, get(refused, b"x-user: root"))
                assert answer.startswith(b"HTTP/1.1 401 ")
                assert b"www-authenticate: Bearer" in answer
            # Bytes that are no requests do not get around it.
            assert await ask(inbound, b"\x00\x01\x02") == b""

            assert (await ask(public, get(None))).endswith(b"nobody without")
            assert (await ask(public, get(issuer.token("RS256")))).endswith(b"nobody with")
            assert (await ask(public, get(issuer.token("ES256")))).startswith(b"HTTP/1.1 401 ")
            text = mesh.registry.render()
            assert 'inbound_http_jwt_total{srv_name="inbound",result="ok"} 2' in text
            assert 'inbound_http_jwt_total{srv_name="public",result="unknown_key"} 1' in text
            nursery.cancel_scope.cancel()


async def test_what_is_fetched_is_what_is_there_and_nobody_else_may_answer(pki: Any, tmp_path: Path) -> None:
    cert, key = pki.issue("localhost")
    anchors = pki.ca_file.read_bytes()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            secure = await serve(nursery, answering(b"the keys"), ServerTls(cert, key))
            url = f"https://localhost:{secure}/jwks?x=1"
            assert await fetch(url, connect_tcp, anchors) == b"the keys"
            with pytest.raises(MeshError, match="certificate"):
                await fetch(url, connect_tcp)
            with pytest.raises(MeshError, match="certificate"):
                await fetch(url.replace("localhost", "127.0.0.1"), connect_tcp, anchors)
            plain = await serve(nursery, answering(b"x" * 300_000))
            with pytest.raises(ValueError, match="longer than 262144 bytes"):
                await fetch(f"http://127.0.0.1:{plain}", connect_tcp)
            away = await serve(nursery, answering(b"look elsewhere", 302))
            with pytest.raises(ValueError, match="answered 302"):
                await fetch(f"http://127.0.0.1:{away}/", connect_tcp)
            with pytest.raises(MeshError):
                await fetch("http://127.0.0.1:1/", connect_tcp)
            nursery.cancel_scope.cancel()
