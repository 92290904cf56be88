"""Who may call: the tables of policies, and what does not go together in them."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import attrs

from meshcore.config.kinds import Name, Text, parsed
from meshcore.config.places import Network, Peer
from meshcore.config.report import At, right, shown
from meshcore.errors import ConfigError

if TYPE_CHECKING:
    from meshcore.config.report import Report
    from meshcore.config.toml_lines import KeyPath

__all__ = ["PolicyConfig", "check_policies"]


def _suffix(value: str) -> str:
    if value == "*":
        raise ConfigError(["'*' is everybody with a certificate; `mesh_tls = true` says that"])
    labels = value.removeprefix("*.").split(".")
    if not value.startswith("*.") or any(not label or "*" in label for label in labels):
        near = f"; did you mean {'*.' + value.lstrip('*.')!r}?" if "://" not in value and value.strip("*.") else ""
        raise ConfigError([f"{shown(value)} is not a suffix such as '*.shop'{near}"])
    if "://" in value or not value.isascii() or not value.isprintable() or " " in value:
        raise ConfigError([f"{shown(value)} is not a suffix of DNS names; a SPIFFE ID goes whole into `identities`"])
    return value.lower()


class SuffixKind(Text):
    """How the DNS names of clients end."""

    title = "`*.SUFFIX`"

    def read(self, value: object, at: At, /) -> Any:
        """The pattern in lower case."""
        return parsed(value, at, _suffix)


Suffix: TypeAlias = Annotated[str, SuffixKind()]


@attrs.frozen(kw_only=True)
class PolicyConfig:
    """``[[inbound.policy]]``, ``[[listen.NAME.policy]]``: lets in clients from some networks that are of one kind
    (R-29).  They are looked at in order; where one permits, that is it, and where none does, the client is refused.

    Attributes:
        name: for logs and metrics; absent: ``policy-0`` and so on.
        networks: where clients come from; absent: anywhere.
        except: networks among these that they may not come from.
        identities: those whose certificates have one of these names.
        identity_suffixes: those whose certificates have a DNS name that ends so, as in ``*.shop``.
        mesh_tls: those with any verified name.
        unauthenticated_tls: those that use TLS with this proxy, with or without a certificate.
        unauthenticated: anybody.
        routes: the routes that it is for, by name; absent: all of them, and bytes that are no requests.
    """

    name: Name | None = None
    networks: tuple[Network, ...] = ()
    exceptions: tuple[Network, ...] = attrs.field(default=(), metadata={"key": "except"})
    identities: tuple[Peer, ...] = ()
    identity_suffixes: tuple[Suffix, ...] = ()
    mesh_tls: bool = False
    unauthenticated_tls: bool = False
    unauthenticated: bool = False
    routes: tuple[Name, ...] = ()


_KINDS = ("mesh_tls", "unauthenticated_tls", "unauthenticated")


def check_policies(
    here: KeyPath, side: Any, report: Report, *, identities: bool, why: str, routes: list[str] | None = None
) -> None:
    """Reports what does not go together in the policies of a side.

    Args:
        here: the path of the side's table.
        side: the table, with ``default_policy``, ``cluster_networks`` and ``policy``.
        report: where problems go.
        identities: whether clients have identities there.
        why: they have none.
        routes: the names of the side's routes; None: it has none.
    """
    _default(here, side, report)
    names: dict[str, int] = {}
    for index, each in enumerate(side.policy or ()):
        if not right(each):
            continue
        path = (*here, "policy", index)
        if right(each.name):
            if each.name in names:
                report.error((*path, "name"), f"policy {names[each.name]} has that name already")
            names.setdefault(each.name, index)
        _kinds(path, each, report, identities=identities, why=why)
        _exceptions(path, each, report)
        for number, route in enumerate(each.routes or ()):
            if right(route) and route not in (routes or ()):
                known = f" (known: {', '.join(routes)})" if routes else ""
                report.error((*path, "routes", number), f"there is no route {route!r}{known}")


def _default(here: KeyPath, side: Any, report: Report) -> None:
    if right(side.default_policy) and right(side.cluster_networks):
        clusters = side.default_policy.startswith("cluster-")
        if clusters and not side.cluster_networks:
            report.error(
                (*here, "default_policy"),
                f'{side.default_policy!r} needs cluster_networks, such as ["10.0.0.0/8"]',
            )
        elif not clusters and side.cluster_networks:
            report.error((*here, "cluster_networks"), "would not be used: default_policy is not cluster-…")
    whole = [each for each in side.policy or () if right(each) and each.routes == ()]
    table: Any = report.document.values
    for key in here:
        table = table[key]
    if whole and "default_policy" in table:
        report.warn(
            (*here, "default_policy"),
            "is never asked: there are policies that are for everything, and whom these do not permit is refused",
        )


def _kinds(path: KeyPath, policy: PolicyConfig, report: Report, *, identities: bool, why: str) -> None:
    named = policy.identities != () or policy.identity_suffixes != ()
    told = [name for name in _KINDS if getattr(policy, name) is True]
    if named:
        told.insert(0, "identities" if policy.identities != () else "identity_suffixes")
    if not told and all(right(getattr(policy, name)) or getattr(policy, name) is False for name in _KINDS):
        report.error(
            path,
            "who is let in is not said; identities, identity_suffixes, mesh_tls = true, or unauthenticated = true is "
            "wanted",
        )
    elif len(told) > 1:
        report.error((*path, told[-1]), f"{told[0]} is there, too; one of the two has to go")
    if not identities:
        for name in ("identities", "identity_suffixes", "mesh_tls"):
            if getattr(policy, name) not in ((), False) and right(getattr(policy, name)):
                report.error((*path, name), why)


def _exceptions(path: KeyPath, policy: PolicyConfig, report: Report) -> None:
    if not right(policy.networks) or not right(policy.exceptions) or not policy.networks:
        return
    networks = [ipaddress.ip_network(each) for each in policy.networks if right(each)]
    for index, each in enumerate(policy.exceptions):
        if right(each):
            network: Any = ipaddress.ip_network(each)
            if not any(network.version == other.version and network.overlaps(other) for other in networks):
                report.error((*path, "except", index), f"{each!r} is in none of the networks")
