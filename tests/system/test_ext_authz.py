"""External authorization beside Envoy's: the same service asks the same of both, and its answers do the same."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meshcore.grpc.protobuf import fields, nested, number, strings, text
from tests.peers import python, servers
from tests.peers.process import Running
from tests.peers.sidecar import config, sidecar

pytest.importorskip("grpc")


def option(name: str, value: str, append: bool | None = None, action: int = 0) -> bytes:
    flag = b"" if append is None else nested(2, number(1, int(append)))
    return nested(1, text(1, name) + text(2, value)) + flag + number(3, action)


def allowed(*parts: bytes) -> bytes:
    return nested(1, b"") + nested(3, b"".join(parts))


def denied(code: int, *parts: bytes) -> bytes:
    return nested(1, number(1, code)) + (nested(2, b"".join(parts)) if parts else b"")


ANSWERS = {
    "plain": allowed(),
    "sets": allowed(
        nested(2, option("x-user", "alice")),
        nested(2, option("x-group", "b", append=True)),
        nested(2, option("x-new", "1")),
        text(5, "authorization"),
        nested(6, option("x-seen", "yes", append=False)),
    ),
    "denied": denied(7),
    "login": denied(16, nested(1, number(1, 302)), nested(2, option("location", "/login")), text(3, "go there")),
    "teapot": denied(7, nested(1, number(1, 418)), nested(2, option("x-why", "tea")), text(3, "short and stout")),
    "forbidden": denied(7, text(3, "never")),
}


@pytest.fixture(scope="module")
def authz() -> Iterator[tuple[Running, Path]]:
    with python.authz_server(ANSWERS) as found:
        yield found


@pytest.fixture(scope="module", params=["envoy", "meshcore"])
def guarded(request: pytest.FixtureRequest, authz: tuple[Running, Path], origin: Running) -> Iterator[Running]:
    """A proxy that asks the service, before the origin."""
    port = authz[0].port
    if request.param == "envoy":
        try:
            with servers.envoy([origin.port], authz=port) as proxy:
                yield proxy
        except servers.PeerMissing as missing:
            pytest.skip(f"peer not installed: {missing}")
        return
    told = config(forward=origin.port, inbound={"ext_authz": {"grpc": f"127.0.0.1:{port}", "timeout": "5s"}})
    with sidecar(told) as proxy:
        proxy.port = proxy.ports["inbound"]
        yield proxy


def ask(proxy: Running, case: str, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
    client = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=10)
    try:
        client.request("GET", f"/info?case={case}", headers={"host": "shop.test", **(headers or {})})
        answer = client.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        client.close()


def test_leave_lets_the_request_pass_as_it_is(guarded: Running) -> None:
    status, _, body = ask(guarded, "plain", {"x-user": "mallory"})
    assert 200 == status
    assert ["x-user", "mallory"] in json.loads(body)["headers"]


def test_leave_sets_and_removes_fields_on_both_ways(guarded: Running) -> None:
    sent = {"x-user": "mallory", "x-group": "a", "authorization": "secret"}
    status, back, body = ask(guarded, "sets", sent)
    assert 200 == status
    got: dict[str, str] = {}
    for name, value in json.loads(body)["headers"]:
        got[name] = f"{got[name]},{value}" if name in got else value
    assert ("alice", "a,b", "1") == (got["x-user"], got["x-group"], got["x-new"])
    assert "authorization" not in got
    assert "yes" == back["x-seen"]


@pytest.mark.parametrize(
    ("case", "status", "name", "value", "body"),
    [
        ("denied", 403, None, None, b""),
        ("login", 302, "location", "/login", b"go there"),
        ("teapot", 418, "x-why", "tea", b"short and stout"),
        ("forbidden", 403, None, None, b"never"),
    ],
)
def test_a_refusal_is_what_the_service_says(
    guarded: Running, case: str, status: int, name: str | None, value: str | None, body: bytes
) -> None:
    found, back, content = ask(guarded, case)
    assert (status, body) == (found, content)
    assert name is None or back[name] == value


def test_both_tell_the_service_the_same(authz: tuple[Running, Path], origin: Running) -> None:
    _, record = authz
    told: list[dict[str, Any]] = []
    sent = {"x-one": "1", "cookie": "a=1; b=2", "accept-encoding": "identity"}
    settings = config(forward=origin.port, inbound={"ext_authz": {"grpc": f"127.0.0.1:{authz[0].port}"}})
    for make in (lambda: servers.envoy([origin.port], authz=authz[0].port), lambda: sidecar(settings)):
        try:
            with make() as proxy:  # type: ignore[no-untyped-call]
                proxy.port = proxy.ports.get("inbound", proxy.port)
                assert 200 == ask(proxy, "plain", sent)[0]
        except servers.PeerMissing as missing:
            pytest.skip(f"peer not installed: {missing}")
        told.append(question(bytes.fromhex(record.read_text().splitlines()[-1])))
    theirs, ours = told
    # What a proxy adds of its own before it asks.
    for added in ("x-forwarded-proto", "x-request-id"):
        theirs["headers"].pop(added, None)
    theirs.pop("id", None)
    assert theirs == ours


def question(message: bytes) -> dict[str, Any]:
    """What is comparable of a question."""
    attributes = strings(strings(message)[1])
    asked = strings(attributes[4])
    found: dict[str, Any] = {"headers": {}}
    names = {1: "id", 2: "method", 4: "path", 5: "host", 6: "scheme", 9: "size", 10: "protocol"}
    for place, value in fields(asked[2]):
        if place == 3:
            assert isinstance(value, bytes)
            entry = strings(value)
            found["headers"][entry[1].decode()] = entry.get(2, b"").decode()
        else:
            found[names[place]] = value
    for place, name in ((1, "source"), (2, "destination")):
        found[name] = dict(fields(strings(strings(attributes[place])[1])[1]))[2]
    found["time"] = sorted(place for place, _ in fields(asked[1]))
    return found
