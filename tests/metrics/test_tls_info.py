"""Which TLS library is told, and when."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from meshcore.metrics.registry import Registry
from meshcore.metrics.tls_info import tls_info


def value(registry: Registry, series: str) -> float:
    (found,) = [line for line in registry.render().splitlines() if line.startswith(f"{series} ")]
    return float(found.rpartition(" ")[2])


def test_tls_is_told_of_once_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry()
    tls_info(registry)
    monkeypatch.delitem(sys.modules, "OpenSSL.SSL", raising=False)
    assert "tls_info" not in [line.partition("{")[0] for line in registry.render().splitlines()]
    loaded = SimpleNamespace(SSLEAY_VERSION=0, SSLeay_version=lambda _: b"OpenSSL 3.0.17 1 Jul 2025")
    monkeypatch.setitem(sys.modules, "OpenSSL.SSL", loaded)
    assert 1 == value(registry, 'tls_info{library="OpenSSL 3.0.17 1 Jul 2025"}')


def test_openssl_itself_tells_its_version() -> None:
    from OpenSSL import SSL

    registry = Registry()
    tls_info(registry)
    assert f'library="{SSL.SSLeay_version(SSL.SSLEAY_VERSION).decode()}"' in registry.render()
