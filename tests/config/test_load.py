from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshcore.config import (
    OPAQUE_PORTS,
    Destination,
    EndpointConfig,
    Inbound,
    Loaded,
    MeshConfig,
    Outbound,
    RetryConfig,
    Service,
    TimeoutConfig,
    examine,
    load_config,
)
from meshcore.errors import ConfigError
from meshcore.http.concurrency import Concurrency, Gradient
from meshcore.pipeline.outbound import backends
from meshcore.pipeline.routes import plain_hosts

Look = Callable[..., Loaded]
Told = Callable[..., list[str]]

SIDECAR = """\
[service]
name = "orders"
namespace = "shop"

[identity]
mode = "files"
trust_domain = "shop.local"
cert = "orders.crt"
key = "orders.key"
trust_anchors = "ca.crt"

[inbound]
listen = "0.0.0.0:4143"
forward = "127.0.0.1:8000"
default_policy = "all-authenticated"

[outbound]
listen = "127.0.0.1:4140"
opaque_ports = [25, 587]

[outbound.to."payments:80"]
endpoints = ["10.0.0.7:4143", { address = "10.0.0.8:4143", weight = 2 }]
identity = "payments.shop"
timeout = { request = "2s", response = "1s", idle = "30s" }
retry = { limit = 2, on = ["5xx", "connect-failure", "reset"], backoff = "25ms..250ms", budget = 0.1 }

[admin]
listen = "127.0.0.1:4191"
"""

GATEWAY = """\
[listen.public]
bind = "0.0.0.0:8443"
tls = { cert = "site.pem", key = "site.key" }
to = [{ backend = "stable" }]

[[listen.public.route]]
match = [{ host = "api.example.com" }, { host = "*.Example.org" }]
to = [{ backend = "canary" }]

[backend.stable]
endpoints = ["h2c://10.0.0.11:8080"]

[backend.canary]
discover = "file:canary.json"
protocol = "h2c"

[[listen.public.layer]]
use = "timeout"
before = "retry"
seconds = 2
"""


def test_a_sidecar_becomes_what_it_says(look: Look, folder: Path) -> None:
    loaded = look(SIDECAR)
    assert (loaded.problems, loaded.warnings) == ((), ())
    config = loaded.config
    assert config is not None
    assert config.identity is not None
    assert (config.identity.cert, config.identity.key) == (folder / "orders.crt", folder / "orders.key")
    assert config.service == Service(name="orders", namespace="shop")
    assert config.inbound == Inbound(forward=("127.0.0.1", 8000), default_policy="all-authenticated")
    assert config.outbound == Outbound(
        opaque_ports=frozenset({25, 587}),
        to={
            "payments:80": Destination(
                endpoints=(
                    EndpointConfig(address=("10.0.0.7", 4143)),
                    EndpointConfig(address=("10.0.0.8", 4143), weight=2.0),
                ),
                identity="payments.shop",
                timeout=TimeoutConfig(request=2.0, response=1.0, idle=30.0),
                retry=RetryConfig(limit=2, on=("5xx", "connect-failure", "reset"), backoff=(0.025, 0.25), budget=0.1),
            )
        },
    )
    assert config.outbound.to["payments:80"].meshed


def test_a_gateway_becomes_what_it_says(look: Look, folder: Path) -> None:
    config = look(GATEWAY).config
    assert config is not None
    gateway = config.listen["public"]
    assert gateway.bind == ("0.0.0.0", 8443)
    assert gateway.tls is not None
    assert [(each.cert.name, each.key.name) for each in gateway.tls.all] == [("site.pem", "site.key")]
    assert plain_hosts(gateway) == {"*": "stable", "api.example.com": "canary", "*.example.org": "canary"}
    assert gateway.opaque_ports == OPAQUE_PORTS
    assert config.backend["stable"].endpoints == (EndpointConfig(address=("10.0.0.11", 8080), protocol="h2c"),)
    assert config.backend["canary"].discover == f"file:{folder}/canary.json"
    assert [(edit.edit, edit.role, repr(edit.layer)) for edit in gateway.layer] == [
        ("before", "retry", "Timeout(seconds=2.0)")
    ]


def test_json_means_the_same(look: Look) -> None:
    import tomllib

    text = json.dumps(tomllib.loads(SIDECAR), indent=2)
    assert look(text, name="c.json").config == look(SIDECAR).config


def test_paths_are_relative_to_the_file(folder: Path) -> None:
    (folder / "etc").mkdir()
    (folder / "etc" / "c.toml").write_text(GATEWAY.replace('"site', '"../site').replace("file:", "file:../"))
    config = load_config("etc/c.toml")
    assert config.listen["public"].tls is not None
    assert config.listen["public"].tls.cert == folder / "site.pem"


def test_the_development_identity_is_named_after_the_service(look: Look) -> None:
    config = look('[service]\nname = "a"\nnamespace = "b"\n[identity]\nmode = "dev"\n[inbound]\n').config
    assert config is not None
    assert config.own_name == "a.b"


FAILURES = """\
[outbound.to."payments:80"]
endpoints = ["10.0.0.7:80"]
classify = { status = ["5xx", 429], grpc = ["unavailable"] }
failure_accrual = { consecutive = 5, penalty = "1s..1m", success_rate = 0.8, min_ready_endpoints = 1 }
retry = { on = ["Gateway-Error", 429, "unavailable"], timeout = "1s", hedge = { percentile = 0.95 } }
allow_l5d_headers = true
"""


@pytest.mark.parity("R-09", "R-14", "B-16")
def test_what_is_a_failure_and_what_follows_from_it_becomes_what_it_says(look: Look) -> None:
    config = look(FAILURES).config
    assert config is not None
    assert config.outbound is not None
    (pattern, found), *_ = backends(config.outbound.to).items()

    assert "payments:80" == pattern
    assert frozenset({429, *range(500, 600)}) == found.classification.failed
    assert frozenset({14}) == found.classification.grpc_failed
    assert frozenset({429, 502, 503, 504}) == found.retry_on.statuses
    assert (frozenset({14}), False, False) == (found.retry_on.grpc, found.retry_on.reset, found.retry_on.timeout)
    assert (1.0, None, 0.95, True) == (found.timeout, found.backoff, found.hedge.percentile, found.overrides)
    accrual = found.endpoints[0].failure_accrual
    assert (5, 0.8, 1, "payments:80") == (
        accrual.consecutive,
        accrual.success_rate,
        accrual.min_ready_endpoints,
        accrual.group,
    )
    assert (1.0, 60.0, 0.5) == (accrual.penalty.minimum, accrual.penalty.maximum, accrual.penalty.jitter)


@pytest.mark.parity("B-12")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("100", Concurrency(100)),
        ('{ limit = 50, wait = "1s", waiting = 10 }', Concurrency(50, 1.0, 10)),
        ("{ limit = 50, adaptive = true }", Concurrency(50, adaptive=Gradient(initial=20, minimum=5))),
        ("{ limit = 3, adaptive = true }", Concurrency(3, adaptive=Gradient(initial=3, minimum=3))),
    ],
)
def test_a_limit_is_a_number_or_a_table(text: str, expected: Concurrency, look: Look) -> None:
    config = look(f'[outbound.to."a:1"]\nendpoints = ["b:1"]\nconcurrency_limit = {text}\n').config
    assert config is not None
    assert config.outbound is not None
    assert expected == backends(config.outbound.to)["a:1"].concurrency


@pytest.mark.parametrize("text", ["0", '"100"', "{ limit = 0 }", '{ wait = "soon" }', "[1]", "true"])
def test_a_limit_that_is_none_is_refused(text: str, told: Told) -> None:
    (problem,) = told(f'[outbound.to."a:1"]\nendpoints = ["b:1"]\nconcurrency_limit = {text}\n')
    assert problem.startswith('c.toml:3: outbound.to."a:1".concurrency_limit')


@pytest.mark.parity("X-33")
@pytest.mark.parametrize("budget", ["-0.1", "11", '"x"'])
def test_a_budget_that_is_none_is_refused(budget: str, told: Told) -> None:
    (problem,) = told(FAILURES.replace("retry = { ", f"retry = {{ budget = {budget}, "))
    assert problem.startswith('c.toml:5: outbound.to."payments:80".retry.budget: ')


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("failure_accrual = { consecutive = 0 }", "failure_accrual: nothing would ever take an endpoint out"),
        ('failure_accrual = { window = "5ms" }', "failure_accrual.window: has to be at least 10ms"),
        ('failure_accrual = { penalty = "0s" }', "failure_accrual.penalty: '0s' has to begin above 0"),
        ('retry = { limit = 0, timeout = "1s" }', "retry.timeout: would not be used"),
        ('classify = { grpc = ["UNAVAILABLE"] }', "classify.grpc[0]: 'UNAVAILABLE' is not one of"),
        ('classify = { status = ["600"] }', "classify.status[0]: '600' is not one of"),
    ],
)
def test_what_would_be_said_in_vain_is_told(line: str, what: str, told: Told) -> None:
    (problem,) = told(f'[outbound.to."a:1"]\nendpoints = ["b:1"]\n{line}\n')
    assert problem.startswith(f'c.toml:3: outbound.to."a:1".{what}')


MISTAKES = '''\
[service]
nam = "orders"

[identity]
mode = "fils"
cert = "order.crt"
key = """-----BEGIN PRIVATE KEY-----
c2VjcmV0"""
trust_anchors = "ca.crt"

[inbound]
listen = "4143"
forward = 8000
default-policy = "deny"

[outbound]
listen = "127.0.0.1:4191"
opaque_ports = [25, "x", 70000]
detect_timeout = 3
fail_fast = "0s"

[outbound.to."payments:80"]
endpoints = ["10.0.0.7:4143",
  "http://a/x"]
identity = "payments.shop:80"
timeout = { request = 2, idle = "3x" }
retry = { limit = 2, on = ["5xy"], backoff = "250ms..25", budget = 0.2 }
failure_accrual = { consecutiv = 7, penalty = "1m..1s" }

[outbound.to."x:80"]
discover = "etcd:/payments/shop"

[listen.public]
bind = "https://:8443"
tls = { cert = "site.pem" }
to = [{ backend = "stabl" }]

[[listen.public.route]]
match = [{ host = "a*b", path = { prefix = "v1" }, headers = { x-a = { regex = "(a" } } }]
filters = [{ set_request_header = { x-env = "prod" } }, { inject_failure = { grpc_status = "UNAVAILBLE" } }]
to = [{ backend = "stable", weight = -1 }]

[[listen.public.layer]]
use = "tmeout"
before = "retry"

[[listen.public.layer]]
use = "timeout"
befor = "retry"
seconds = "x"

[backend.stable]
endpoints = ["https://a:1", "https://a:1"]
tls = { verify = "false" }

[outboud]
'''

TOLD = """\
c.toml:2: service.nam: unknown key; did you mean 'name'?
c.toml:5: identity.mode: 'fils' is not one of files, dev; did you mean 'files'?
c.toml:6: identity.cert: 'order.crt': no such file; did you mean 'orders.crt'?
c.toml:7: identity.key: this is the content of a PEM file; the path of a file is wanted
c.toml:12: inbound.listen: '4143' has no port: HOST:PORT or :PORT is wanted; did you mean :4143?
c.toml:13: inbound.forward: 8000 is not HOST:PORT; did you mean "127.0.0.1:8000"?
c.toml:14: inbound.default-policy: unknown key; did you mean 'default_policy'?
c.toml:17: outbound.listen: '127.0.0.1:4191' is taken already: admin.listen listens at '127.0.0.1:4191'
c.toml:18: outbound.opaque_ports[1]: 'x' is not a whole number from 1 to 65535
c.toml:18: outbound.opaque_ports[2]: 70000 is not a whole number from 1 to 65535
c.toml:19: outbound.detect_timeout: 3 is not a duration such as "250ms", "1s" or "2m"; did you mean "3s"?
c.toml:20: outbound.fail_fast: has to be above 0
c.toml:24: outbound.to."payments:80".endpoints[1]: 'http://a/x' has a path, which an endpoint has not
c.toml:25: outbound.to."payments:80".identity: 'payments.shop:80' is neither a DNS name nor \
spiffe://TRUST-DOMAIN/PATH; did you mean 'payments.shop'?
c.toml:26: outbound.to."payments:80".timeout.request: 2 is not a duration such as "250ms", "1s" or "2m"; \
did you mean "2s"?
c.toml:26: outbound.to."payments:80".timeout.idle: '3x' is not a duration such as 250ms, 1s or 2m
c.toml:27: outbound.to."payments:80".retry.on[0]: '5xy' is not one of 5xx, gateway-error, 4xx, retriable-4xx, \
connect-failure, reset, refused, timeout, nor a status such as 503, nor a gRPC status such as unavailable; \
did you mean '5xx'?
c.toml:27: outbound.to."payments:80".retry.backoff: '25' is not a duration such as 250ms, 1s or 2m; did you mean 25s?
c.toml:28: outbound.to."payments:80".failure_accrual.consecutiv: unknown key; did you mean 'consecutive'?
c.toml:28: outbound.to."payments:80".failure_accrual.penalty: '1m..1s' is the wrong way round; did you mean "1s..1m"?
c.toml:31: outbound.to."x:80".discover: 'etcd:/payments/shop': etcd: is not in this release; file, dns, dns+srv are
c.toml:34: listen.public.bind: 'https://:8443' has a scheme: HOST:PORT is wanted; TLS is `tls = { cert = …, key = … }`
c.toml:35: listen.public.tls.cert: key is needed with it
c.toml:36: listen.public.to[0].backend: there is no backend 'stabl'; did you mean 'stable'?
c.toml:39: listen.public.route[0].match[0].path.prefix: 'v1' is not a path: it begins with /
c.toml:39: listen.public.route[0].match[0].headers.x-a.regex: '(a' is not a regular expression: a ( without its ) \
(at 4)
c.toml:39: listen.public.route[0].match[0].host: 'a*b': a * stands alone, or before the first dot
c.toml:40: listen.public.route[0].filters[0].set_request_header: unknown key; did you mean 'set_request_headers'?
c.toml:40: listen.public.route[0].filters[1].inject_failure.grpc_status: 'UNAVAILBLE' is not a gRPC status: 1 to 16, \
or its name; did you mean 'UNAVAILABLE'?
c.toml:41: listen.public.route[0].to[0].weight: -1 is not a number from 0 to 1e+06
c.toml:44: listen.public.layer[0].use: no layer 'tmeout'; did you mean 'timeout'?
c.toml:49: listen.public.layer[1].befor: unknown key; did you mean 'before'?
c.toml:50: listen.public.layer[1].seconds: 'x' is not float
c.toml:53: backend.stable.endpoints[1]: 'a:1' is there twice
c.toml:54: backend.stable.tls.verify: 'false' is not true or false; did you mean false?
c.toml:56: outboud: unknown key; did you mean 'outbound'?"""


def test_every_mistake_is_told_at_once_with_its_line_and_what_was_meant(told: Told) -> None:
    assert "\n".join(told(MISTAKES)) == TOLD


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a = ", "c.toml:1: invalid value"),
        ("a = 1\nb = [", "c.toml:2: "),
        ("a = 1\n\na = 2\n", "c.toml:3: cannot overwrite a value"),
        (f"a = {'9' * 5_000}", "c.toml: exceeds the limit"),
        (f"a = {'[' * 100_000}", "c.toml: nested too deeply"),
    ],
)
def test_what_is_no_toml_is_told_with_its_line(look: Look, text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        look(text)
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].lower().startswith(problem.lower())


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("c.json", '{\n  "a": 1,\n}', "c.json:"),
        ("c.json", "[]", "c.json: an object is wanted"),
        ("c.json", '{"a": NaN}', "c.json: NaN is not JSON"),
        ("c.json", '{"admin": 1,\n "admin": 2}', "c.json:2: admin: is there already"),
        ("c.yaml", "a: 1", "c.yaml: YAML is not in this release; TOML and JSON are"),
    ],
)
def test_what_is_no_json_is_told(look: Look, name: str, text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        look(text, name=name)
    assert caught.value.problems[0].startswith(problem)


def test_a_file_that_is_not_there_is_told_with_a_way_on(folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        examine("nowhere.toml")
    assert caught.value.problems == [
        "nowhere.toml: no such file or directory; `meshcore config init` writes one to start from"
    ]


def test_a_file_that_is_not_utf_8_is_told_with_its_line(folder: Path) -> None:
    (folder / "c.toml").write_bytes(b"a = 1\nb = '\xff'\n")
    with pytest.raises(ConfigError) as caught:
        examine("c.toml")
    assert caught.value.problems == ["c.toml:2: not UTF-8"]


def test_a_setting_goes_over_the_file(look: Look) -> None:
    config = look(
        SIDECAR,
        "admin.listen=off",
        'outbound.to."payments:80".endpoints.0=10.0.0.9:1',
        "proxy.grace_period=5s",
        'proxy = { access_log = "json" }',
    ).config
    assert config is not None
    assert config.outbound is not None
    assert config.admin.listen is None
    assert config.outbound.to["payments:80"].endpoints[0].address == ("10.0.0.9", 1)
    assert (config.proxy.access_log, config.proxy.grace_period) == ("json", 120.0)


def test_a_mistake_in_a_setting_is_told_with_the_setting(told: Told) -> None:
    assert told(SIDECAR, "admin.lissen=off", 'identity={mode="dev", cert="ca.crt"}') == [
        "--set admin.lissen: admin.lissen: unknown key; did you mean 'listen'?",
        '--set identity: identity.cert: is for mode = "files"; mode = "dev" makes its own',
    ]


def test_what_is_no_setting_is_told(look: Look) -> None:
    with pytest.raises(ConfigError) as caught:
        look(SIDECAR, "admin", "a..b=1", "service.name.x=1", 'outbound.to."payments:80".endpoints.7="a:1"', "[a]=1")
    assert caught.value.problems == [
        "--set 'admin': is not KEY=VALUE; did you mean KEY=VALUE, as in admin.listen=off?",
        "--set 'a..b=1': is not KEY=VALUE",
        "--set service.name.x: service.name is 'orders', not a table",
        "--set outbound.to.payments:80.endpoints.7: '7' is none of the 2 items there",
        "--set '[a]=1': is not KEY=VALUE",
    ]


# Each is one mistake: a key of SIDECAR, and what to put there.
SINGLE = {
    "service.name": "3",
    "service.namespace": '""',
    "identity.cert": '"none.crt"',
    "identity.key": "[1]",
    "identity.trust_domain": "true",
    "inbound.listen": '"x"',
    "inbound.forward": '"127.0.0.1:0"',
    "inbound.default_policy": '"all"',
    "inbound.detect_timeout": '"soon"',
    "inbound.forwrad": '"a:1"',
    "outbound.listen": '"127.0.0.1:99999"',
    "outbound.opaque_ports": '["x"]',
    "outbound.connect_timeout": "1",
    'outbound.to."b:1"': "{}",
    'outbound.to."http://c:1"': '{ endpoints = ["a:1"] }',
    'outbound.to."d:1"': '{ endpoints = ["a:1"], tls = { verify = true } }',
    'outbound.to."e:1"': '{ endpoints = ["a:1"], mesh = true }',
    'outbound.to."f:1"': '{ endpoints = ["a:1"], retry = { limit = 0, timeout = "1s" } }',
    'outbound.to."g:1"': '{ endpoints = ["a:1"], protocol = "tcp", timeout = { idle = "1s" } }',
    'outbound.to."h:1"': '{ endpoints = ["https://a:1"], identity = "a.b" }',
    "admin.shutdown": '"yes"',
    "proxy.engine": '"fast"',
    "proxy.workers": "3",
    "backend.x": '{ endpoints = ["a"] }',
    "unknown": "1",
}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sets(st.sampled_from(sorted(SINGLE)), min_size=1))
def test_so_many_mistakes_so_many_lines(look: Look, keys: set[str]) -> None:
    loaded = look(SIDECAR, *(f"{key}={SINGLE[key]}" for key in keys))
    found = [problem.place.removeprefix("--set ") for problem in loaded.problems]
    assert sorted(found) == sorted(keys)
    assert loaded.config is None


WORDS = ["service", "identity", "inbound", "outbound", "listen", "backend", "admin", "proxy", "to", "mode", "cert"]
WORDS += ["filters", "weight", "path", "headers", "rewrite", "mirror", "prefix", "name", "inject_failure", "grpc"]
WORDS += ["tls", "endpoints", "route", "layer", "use", "match", "certificates"]


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_whatever_stands_at_a_key_is_told_or_taken_and_never_a_crash(look: Look, data: st.DataObject) -> None:
    texts = st.text(st.characters(blacklist_categories=["Cs"]), max_size=8)
    scalar = st.one_of(st.integers(), st.booleans(), st.floats(), texts, st.sampled_from(["file:x", "*.a", ":80"]))
    words = st.sampled_from(WORDS)
    keys = st.one_of(words, texts)
    value = st.recursive(
        scalar, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3))
    )
    document = data.draw(st.dictionaries(words, value, max_size=4))
    text = json.dumps(document).replace("NaN", "0").replace("-Infinity", "0").replace("Infinity", "0")
    loaded = look(text, name="c.json")
    assert (loaded.config is None) == bool(loaded.problems)


def route(text: str) -> str:
    """A listener whose one route, from line 5 on, says *text*."""
    return (
        f'[listen.p]\nbind = ":1"\n[[listen.p.route]]\nto = [{{backend = "x"}}]\n{text}\n'
        '[backend.x]\nendpoints = ["a:1"]'
    )


CHECKED = [
    (
        '[inbound]\ndefault_policy = "cluster-unauthenticated"',
        "c.toml:2: inbound.default_policy: 'cluster-unauthenticated' needs cluster_networks",
    ),
    ('[inbound]\ncluster_networks = ["10.0.0.0/8"]', "c.toml:2: inbound.cluster_networks: would not be used"),
    (
        '[inbound]\ndefault_policy = "cluster-unauthenticated"\ncluster_networks = ["10.0.0.1/8"]',
        "c.toml:3: inbound.cluster_networks[0]: '10.0.0.1/8' is not a network such as 10.0.0.0/8; did you mean",
    ),
    ("", "c.toml: nothing to run: there is no [inbound]"),
    ('[identity]\nmode = "dev"\n[inbound]', 'c.toml:2: identity.mode: "dev" takes its name from [service]'),
    ('[identity]\nmode = "spiffe"\n[inbound]', "c.toml:2: identity.mode: 'spiffe' is not in this release"),
    ('[identity]\nmode = "dev"\nname = "a.b"\nkey = "site.key"\n[inbound]', "c.toml:4: identity.key: is for mode"),
    (
        '[identity]\nmode = "dev"\nname = "spiffe://x/y"\ntrust_domain = "z"\n[inbound]',
        "c.toml:3: identity.name: 'spiffe://x/y' is not in the trust domain 'z'",
    ),
    ('[inbound]\ndefault_policy = "all-authenticated"', "c.toml:2: inbound.default_policy: 'all-authenticated' lets"),
    ('[inbound]\nforward = "127.0.0.1:4143"', "c.toml:2: inbound.forward: '127.0.0.1:4143' is where this proxy itself"),
    ('[inbound]\nlisten = ":4140"\n[outbound]', "c.toml:3: outbound.listen: '127.0.0.1:4140' is taken already"),
    (
        '[outbound.to."a:1"]\nendpoints = ["b:1"]\nidentity = "b.c"',
        'c.toml:3: outbound.to."a:1".identity: cannot be asked for: this proxy has no [identity]',
    ),
    (
        '[outbound.to."a:1"]\nendpoints = ["127.0.0.1:4140"]',
        "c.toml:2: outbound.to.\"a:1\".endpoints[0]: '127.0.0.1:4140' is where this proxy itself",
    ),
    (
        '[outbound.to."a:1"]\nendpoints = ["b:1"]\ndiscover = "file:canary.json"',
        'c.toml:3: outbound.to."a:1".discover: endpoints are given, too',
    ),
    (
        '[outbound.to."a:1"]\nendpoints = ["tcp://b:1", "c:1"]',
        'c.toml:2: outbound.to."a:1".endpoints[0]: requests and bytes do not mix',
    ),
    ('[outbound.to."A:1"]\n[outbound.to."a:1"]\nendpoints = ["b:1"]', None),
    ('[listen.p]\nbind = ":1"', "c.toml:1: listen.p.to: has to be given"),
    ('[listen.p]\nbind = ":1"\nto = [{backend = "x"}]', "c.toml:3: listen.p.to[0].backend: there is no backend 'x'"),
    (
        '[listen.p]\nbind = ":1"\nto = [{backend = "x"}]\n[backend.x]\nendpoints = ["tcp://a:1"]\nprotocol = "tcp"',
        "c.toml:3: listen.p.to[0].backend: requests and bytes do not mix",
    ),
    (
        '[listen.p]\nbind = ":1"\nprotocol = "tcp"\nto = [{backend = "x"}, {backend = "x"}]\n[backend.x]\n'
        'endpoints = ["a:1"]\nprotocol = "tcp"',
        "c.toml:4: listen.p.to[1]: bytes go to one backend",
    ),
    (
        '[listen.p]\nbind = ":1"\ntls = { cert = "site.pem", key = "site.key", client_certificates = "required" }\n'
        'to = [{backend = "x"}]\n[backend.x]\nendpoints = ["a:1"]',
        "c.toml:3: listen.p.tls.client_certificates: 'required' needs trust_anchors",
    ),
    (
        '[listen.p]\nbind = ":1"\nto = [{backend = "x"}]\n[[listen.p.route]]\nto = [{backend = "x"}]\n'
        '[[listen.p.route]]\nmatch = [{host = "a"}]\nto = [{backend = "x"}]\n'
        '[[listen.p.route]]\nmatch = [{host = "A"}]\nto = [{backend = "x"}]\n[backend.x]\nendpoints = ["a:1"]',
        "c.toml:10: listen.p.route[2].match[0]: the same as in c.toml:7, which comes first: it is never used",
    ),
    (
        route('match = [{ path = { prefix = "/a", exact = "/a" } }]'),
        "c.toml:5: listen.p.route[0].match[0].path: one of",
    ),
    (route("match = [{ grpc = {} }]"), "c.toml:5: listen.p.route[0].match[0].grpc: service, method, or both"),
    (
        route('match = [{ method = "get" }]'),
        "c.toml:5: listen.p.route[0].match[0].method: 'get': methods are told apart",
    ),
    (
        route('match = [{ grpc = { service = "a.B" }, method = "GET" }]'),
        "c.toml:5: listen.p.route[0].match[0].method: grpc says what it has to be",
    ),
    (route("filters = [{}]"), "c.toml:5: listen.p.route[0].filters[0]: does nothing"),
    (
        route('filters = [{ set_request_headers = { connection = "x" } }]'),
        "c.toml:5: listen.p.route[0].filters[0].set_request_headers.connection: 'connection' says how messages",
    ),
    (
        route('filters = [{ remove_response_headers = ["l5d-proxy-error"] }]'),
        "c.toml:5: listen.p.route[0].filters[0].remove_response_headers[0]: 'l5d-proxy-error' is what proxies say",
    ),
    (
        route('filters = [{ rewrite = { prefix = "/b" } }]'),
        "c.toml:5: listen.p.route[0].filters[0].rewrite.prefix: no prefix is matched",
    ),
    (
        route("filters = [{ redirect = { status = 302 } }]"),
        "c.toml:5: listen.p.route[0].filters[0].redirect: nothing is said",
    ),
    (
        route('filters = [{ redirect = { path = "/", status = 304 } }]'),
        "c.toml:5: listen.p.route[0].filters[0].redirect.status: 304 is not 301, 302,",
    ),
    (
        route("filters = [{ inject_failure = { status = 503, grpc_status = 14 } }]"),
        "c.toml:5: listen.p.route[0].filters[0].inject_failure: one of status and grpc_status",
    ),
    (
        route('filters = [{ mirror = { backend = "y" } }]'),
        "c.toml:5: listen.p.route[0].filters[0].mirror.backend: there is no backend 'y'",
    ),
    (
        route('name = "a"\n[[listen.p.route]]\nname = "a"\nmatch = [{ host = "h" }]\nto = [{ backend = "x" }]'),
        "c.toml:7: listen.p.route[1].name: 'a' is there already",
    ),
    (
        '[outbound.to."a:1"]\nendpoints = ["b:1"]\n[[outbound.to."a:1".route]]\nto = [{ backend = "z" }]',
        "c.toml:4: outbound.to.\"a:1\".route[0].to[0].backend: there is no backend 'z'; add [backend.z]",
    ),
    (
        '[outbound.to."a:1"]\nendpoints = ["b:1"]\n[[outbound.to."a:1".route]]\nmatch = [{ host = "b" }]',
        'c.toml:4: outbound.to."a:1".route[0].match[0].host: unknown key',
    ),
    (
        '[inbound]\nforward = "a:1"\n[[inbound.route]]\nfilters = [{ mirror = { backend = "z" } }]\n'
        '[backend.z]\nendpoints = ["a:1"]',
        "c.toml:4: inbound.route[0].filters[0].mirror: is for what is sent elsewhere",
    ),
]


@pytest.mark.parametrize(("text", "problem"), CHECKED)
def test_what_does_not_go_together_is_told_with_a_way_out(told: Told, text: str, problem: str | None) -> None:
    found = told(text)
    assert any(line.startswith(problem) for line in found) if problem is not None else found, found


def test_no_identity_is_a_loud_warning(look: Look) -> None:
    loaded = look('[inbound]\nforward = "127.0.0.1:1"')
    assert loaded.config is not None
    assert [str(warning) for warning in loaded.warnings] == [
        "c.toml: NO [identity]: everything between the proxies is plain TCP, readable and forgeable on the way; for "
        'mutual TLS add [identity] (mode = "dev" to try it)'
    ]


def test_a_private_key_that_everybody_can_read_is_a_warning(look: Look, folder: Path) -> None:
    (folder / "orders.key").chmod(0o644)
    assert [warning.key for warning in look(SIDECAR).warnings] == ["identity.key"]


def test_what_can_be_reached_from_elsewhere_or_is_not_used_is_a_warning(look: Look) -> None:
    text = '[outbound]\nlisten = "0.0.0.0:4140"\n[backend.x]\nendpoints = ["a:1"]'
    assert [warning.key for warning in look(text).warnings] == ["", "outbound", "outbound.listen", "backend.x"]


def test_the_whole_configuration_has_a_default_for_everything() -> None:
    assert MeshConfig().admin.listen == ("127.0.0.1", 4191)
