"""The store: what it takes, what it refuses and says of it, and that the old one stays."""

from __future__ import annotations

import logging

import pytest
import trio
import trio.testing

from meshcore.errors import TlsError
from meshcore.identity import Identity
from meshcore.metrics.registry import Registry
from tests.identity.issued import DAY, NOW, authority, credentials


def store(name: str = "a.shop") -> tuple[Identity, Registry]:
    registry = Registry()
    return Identity(name, clock=lambda: NOW, registry=registry), registry


@pytest.mark.parity("T-06", "T-14")
def test_new_credentials_replace_the_old_ones_and_are_counted() -> None:
    ca = authority()
    kept, registry = store()
    assert kept.publish(credentials(ca, "a.shop"))
    first = kept.server_context(), kept.client_context()
    assert first == (kept.server_context(), kept.client_context())
    newer = credentials(ca, "a.shop", days=2)
    assert kept.publish(newer)

    assert newer is kept.current
    assert 2 == kept.generation
    assert first[0] is not kept.server_context()
    assert first[1] is not kept.client_context()
    text = registry.render()
    assert 'control_identity_cert_refreshes_total{result="ok"} 2' in text
    assert 'control_identity_cert_refreshes_total{result="error"} 0' in text
    values = dict(line.split(" ") for line in text.splitlines() if line.startswith("control_identity_cert_"))
    assert newer.not_after == float(values["control_identity_cert_expiration_timestamp_seconds"])
    assert pytest.approx(NOW) == float(values["control_identity_cert_refresh_timestamp_seconds"])


def test_what_must_not_be_used_is_refused_and_the_old_one_stays(caplog: pytest.LogCaptureFixture) -> None:
    ca, other = authority(), authority("another CA")
    kept, registry = store()
    good = credentials(ca, "a.shop")
    assert kept.publish(good)
    contexts = kept.server_context(), kept.client_context()
    for bad, expected in [
        (credentials(ca, "a.shop", now=NOW - 9 * DAY), "certificate has expired: it is valid from "),
        (credentials(ca, "a.shop", now=NOW + 9 * DAY), "certificate is not valid yet: it is valid from "),
        (credentials(ca, "b.shop"), "certificate does not match TLS identity: expected a.shop, found b.shop"),
        (credentials(ca, "a.shop", trusting=[other]), "certificate is not trusted: unknown issuer (CN=test CA)"),
    ]:
        caplog.clear()
        assert not kept.publish(bad)
        (record,) = caplog.records
        assert logging.WARNING == record.levelno
        assert record.getMessage().startswith(f"identity a.shop refused: {expected}")
        assert "the old one stays" in record.getMessage()
    assert good is kept.current
    assert contexts == (kept.server_context(), kept.client_context())
    assert 1 == kept.generation
    assert 'control_identity_cert_refreshes_total{result="error"} 4' in registry.render()


def test_an_authority_that_has_expired_vouches_for_nobody(caplog: pytest.LogCaptureFixture) -> None:
    old = authority(now=NOW - 30 * DAY, days=30.5)
    issued = credentials(old, "a.shop", days=0.5)
    kept = Identity("", clock=lambda: issued.not_after + 1)

    assert not kept.publish(issued)
    assert "has expired" in caplog.text


@pytest.mark.parametrize("name", ["A.Shop", "a.shop.", ""])
def test_the_own_name_is_compared_as_host_names_are(name: str) -> None:
    kept, _ = store(name)

    assert kept.publish(credentials(authority(), "a.shop"))


def test_own_spiffe_ids_are_compared_exactly() -> None:
    kept, _ = store("spiffe://m/Orders")

    assert not kept.publish(credentials(authority(), "spiffe://m/orders"))
    assert kept.publish(credentials(authority(), "spiffe://m/Orders"))


@pytest.mark.parity("T-13")
async def test_before_the_first_certificate_nobody_is_met(autojump_clock: object) -> None:
    kept, _ = store()
    assert not kept.certified
    for context in (kept.server_context, kept.client_context):
        with pytest.raises(TlsError, match="identity is not certified yet"):
            context()
    waited = []

    async def wait() -> None:
        await kept.wait_certified()
        waited.append(kept.certified)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        kept.refuse("no file")
        await trio.testing.wait_all_tasks_blocked()
        assert [] == waited
        kept.publish(credentials(authority(), "a.shop"))
    assert [True] == waited
    await kept.wait_certified()


def test_settings_that_cannot_be_made_leave_the_old_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    ca = authority()
    kept, _ = store()
    kept.publish(credentials(ca, "a.shop"))
    before = kept.current, kept.server_context(), kept.client_context()

    def broken(_: object) -> None:
        raise ValueError("not usable for TLS: broken")

    monkeypatch.setattr("meshcore.identity.store._client", broken)
    assert not kept.publish(credentials(ca, "a.shop"))

    assert before == (kept.current, kept.server_context(), kept.client_context())


def test_its_repr_has_names_and_validity_only() -> None:
    kept, _ = store()
    assert "<Identity a.shop generation=0 not certified>" == repr(kept)
    kept.publish(credentials(authority(), "a.shop"))

    assert repr(kept).startswith(
        "<Identity a.shop generation=1 Credentials(name='a.shop', names=('a.shop',), not_before="
    )
    assert "key" not in repr(kept).lower()
