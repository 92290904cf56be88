"""What is said of the difference between two config files."""

from __future__ import annotations

import pytest

from meshcore.config import parse_config
from meshcore.config.changes import differences, restart_needed

BASE = """
[service]
name = "orders"
[identity]
mode = "dev"
[outbound.to."payments:80"]
endpoints = ["10.0.0.7:4143", "10.0.0.8:4143"]
identity = "payments.shop"
[listen.public]
bind = "0.0.0.0:8443"
to = [{ backend = "stable" }]
[[listen.public.route]]
match = [{ host = "a.test" }]
to = [{ backend = "stable" }]
[backend.stable]
endpoints = ["10.0.0.11:8080", { address = "10.0.0.12:8080", weight = 2 }]
"""
ROUTE = '[[listen.public.route]]\nmatch = [{ host = "b.test" }]\nto = [{ backend = "stable" }]\n'


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("", "", ""),
        ("[backend.stable]", f"{ROUTE}[backend.stable]", "+1 route"),
        ('["10.0.0.7:4143", "10.0.0.8:4143"]', '["10.0.0.9:4143"]', "+1 endpoint, -2 endpoints"),
        ("weight = 2", "weight = 3", "changed: backend.stable.endpoints[1].weight"),
        ("[backend.stable]", '[backend.canary]\nendpoints = ["h:1"]\n[backend.stable]', "+1 backend"),
        ('[outbound.to."payments:80"]', '[outbound.to."pay:80"]', "+1 destination, -1 destination"),
        (
            "[[listen.public.route]]",
            '[[listen.public.policy]]\nnetworks = ["10.0.0.0/8"]\nunauthenticated = true\n'
            '[[listen.public.policy]]\nnetworks = ["10.1.0.0/16"]\nunauthenticated = true\n'
            "[[listen.public.route]]",
            "+2 policies",
        ),
        (
            '"a.test" }]\nto = [{ backend = "stable" }]',
            '"a.test" }]\ntimeout = { request = "1s" }\nto = [{ backend = "stable", weight = 2 }]',
            "changed: listen.public.route[0].timeout, listen.public.route[0].to",
        ),
        ("[service]", '[proxy]\ngrace_period = "5s"\n[service]', "changed: proxy.grace_period"),
        ('mode = "dev"', 'mode = "dev"\ndirectory = "d"', "changed: identity.directory"),
        (
            '["10.0.0.11:8080", { address = "10.0.0.12:8080", weight = 2 }]',
            '[{ address = "10.0.0.12:8080", weight = 2 }, "10.0.0.11:8080"]',
            "changed: order of backend.stable.endpoints",
        ),
    ],
)
def test_a_change_is_told_in_a_few_words(old: str, new: str, said: str) -> None:
    assert old in BASE
    changed = BASE.replace(old, new, 1) if old else BASE
    assert said == differences(parse_config(BASE), parse_config(changed))


def test_many_settings_are_not_all_named() -> None:
    settings = "\n".join(
        [
            "[proxy]",
            'engine = "pure"',
            'grace_period = "1s"',
            'log_level = "debug"',
            'log_format = "json"',
            'access_log = "text"',
            'max_connection_age = "1h"',
        ]
    )
    told = differences(parse_config(BASE), parse_config(BASE + settings))
    assert told.startswith("changed: proxy.")
    assert told.endswith(" and 1 more")


@pytest.mark.parametrize(
    ("old", "new", "keys"),
    [
        ("[service]", '[admin]\nlisten = "127.0.0.1:9"\n[service]', [("admin", "listen")]),
        ("[service]", '[proxy]\nengine = "pure"\n[service]', [("proxy", "engine")]),
        ("[service]", '[proxy]\naccess_log = "text"\n[service]', []),
        ('mode = "dev"', 'mode = "dev"\ndirectory = "d"', [("identity",)]),
        ('name = "orders"', 'name = "payments"', [("service",)]),
        ("10.0.0.7", "10.0.0.9", []),
    ],
)
def test_what_no_running_proxy_can_take_is_known(old: str, new: str, keys: list[object]) -> None:
    changed = parse_config(BASE.replace(old, new, 1))
    assert keys == [path for path, _ in restart_needed(parse_config(BASE), changed)]
