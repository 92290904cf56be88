"""One endpoint as people and controllers write it: an address, or a table."""

from __future__ import annotations

import math
from typing import Any, Final

import attrs

from meshcore.addresses import UPSTREAM_SCHEMES, Location, parse_upstream, suggest
from meshcore.errors import ConfigError
from meshcore.transport.target import Endpoint, TlsClient

__all__ = ["endpoint_from"]

_KEYS: Final = ("address", "protocol", "weight", "zone", "identity", "server_name", "mesh", "labels")
_HEAVIEST: Final = 1e6
_LONGEST: Final = 2_048
_MOST_LABELS: Final = 32


def endpoint_from(entry: Any, template: Endpoint, where: str = "") -> Endpoint:
    """The endpoint that *entry* describes; what it does not say is as in *template*.

    An entry is ``"HOST:PORT"``, a URL without a path, or a table of ``address`` and, where wanted, ``protocol``
    (``http``, ``http1``, ``h2c``, ``https`` or ``tcp``: the schemes of a URL), ``weight``, ``zone``, ``labels``,
    ``identity``, ``server_name`` and ``mesh``.  With an ``identity`` the connection is secured by the mesh (T-15);
    a ``spiffe://`` one needs the ``server_name`` that is asked for.  A protocol chooses between ``https`` and
    plaintext, but takes the mesh's security from nobody.

    Args:
        entry: as parsed from JSON or TOML.
        template: its address is not used; a ``server_name`` of ``""`` stands for the endpoint's own host.
        where: stands before each problem.

    Raises:
        ConfigError: with every problem of the entry.
    """
    reader = _Entry({"address": entry} if isinstance(entry, str) else entry, where)
    endpoint = reader.endpoint(template)
    if reader.problems or endpoint is None:
        raise ConfigError(reader.problems)
    return endpoint


class _Entry:
    """Reads one table and collects what is wrong with it."""

    def __init__(self, table: Any, where: str) -> None:
        self.where = where
        self.problems: list[str] = []
        self.table: dict[str, Any] = {}
        self.is_table = isinstance(table, dict)
        if not self.is_table:
            self.problem("", f"an address or a table is wanted, not {table!r:.60}")
            return
        self.table = table
        for key in table:
            if key not in _KEYS:
                self.problem(str(key)[:60], f"unknown key{suggest(str(key)[:60], list(_KEYS))}")

    def problem(self, key: str, text: str) -> None:
        place = f"{self.where}.{key}" if self.where and key else self.where or key
        self.problems.append(f"{place}: {text}" if place else text)

    def get(self, key: str, kind: type, what: str) -> Any:
        """The value of *key*, None where it is not there or not a *kind*."""
        value = self.table.get(key)
        if value is None and key not in self.table:
            return None
        if not isinstance(value, kind) or (isinstance(value, str) and not 0 < len(value) <= _LONGEST):
            self.problem(key, f"{what} is wanted, not {value!r:.60}")
            return None
        return value

    def endpoint(self, template: Endpoint) -> Endpoint | None:
        location = self._location()
        protocol = self.get("protocol", str, "a protocol")
        if protocol is not None and protocol not in UPSTREAM_SCHEMES:
            known = ", ".join(UPSTREAM_SCHEMES)
            self.problem("protocol", f"{protocol!r} is not one of {known}{suggest(protocol, list(UPSTREAM_SCHEMES))}")
            protocol = None
        scheme = self._scheme(location, protocol)
        weight, zone = self._weight(template.weight), self.get("zone", str, "a name")
        tls, mesh = self._security(template, scheme, location.host if location is not None else "")
        labels = self._labels(template.labels)
        if location is None:
            return None
        # Evolved, so that whatever else a template says holds as well.
        return attrs.evolve(
            template,
            address=(location.host, location.port),
            protocol=template.protocol if scheme is None else UPSTREAM_SCHEMES[scheme],
            tls=tls,
            weight=weight,
            labels=labels,
            zone=template.zone if zone is None else zone,
            mesh_proxy=mesh,
        )

    def _location(self) -> Location | None:
        text = self.get("address", str, "HOST:PORT")
        if text is None:
            if self.is_table and "address" not in self.table:
                self.problem("address", "has to be given")
            return None
        try:
            return parse_upstream(text)
        except ConfigError as error:
            for line in error.problems:
                self.problem("address", line)
            return None

    def _scheme(self, location: Location | None, protocol: str | None) -> str | None:
        """What was said of the protocol, in either place."""
        said = location.scheme if location is not None and "://" in self.table["address"] else None
        if said is not None and protocol is not None and said != protocol:
            self.problem("protocol", f"{protocol!r} contradicts the address, which says {said!r}")
        return said or protocol

    def _weight(self, default: float) -> float:
        weight = self.table.get("weight", default)
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            self.problem("weight", f"a number is wanted, not {weight!r:.60}")
        elif not (0 <= weight <= _HEAVIEST and math.isfinite(weight)):
            self.problem("weight", f"a number from 0 to {_HEAVIEST:.0f} is wanted")
        else:
            return float(weight)
        return default

    def _labels(self, default: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        labels = self.get("labels", dict, "a table of text")
        if labels is None:
            return default
        if len(labels) > _MOST_LABELS or not all(isinstance(value, str) for value in labels.values()):
            self.problem("labels", f"at most {_MOST_LABELS} names with text are wanted")
            return default
        # In one order, so that a file that was only written anew has the same endpoints.
        return tuple(sorted({**dict(default), **labels}.items()))

    def _security(self, template: Endpoint, scheme: str | None, host: str) -> tuple[TlsClient | None, bool]:
        identity = self.get("identity", str, "a DNS name or a spiffe:// URI")
        name = self.get("server_name", str, "a name")
        mesh = self.get("mesh", bool, "true or false")
        tls = template.tls
        if identity is None and (tls is None or not tls.mesh):
            if scheme is not None and scheme != "https":
                tls = None
            elif tls is None and scheme == "https":
                tls = TlsClient("")
            if tls is not None:
                tls = attrs.evolve(tls, server_name=name or tls.server_name or host)
            elif name is not None:
                self.problem("server_name", "is of use with https or an identity alone")
            return tls, template.mesh_proxy if mesh is None else mesh
        if scheme == "https":
            self.problem("protocol", "'https' has TLS of its own, which the mesh's identity would be in the way of")
        if identity is not None:
            if not (identity.isascii() and identity.isprintable() and " " not in identity):
                self.problem("identity", f"{identity!r:.60} is not a DNS name or a spiffe:// URI")
            elif "://" in identity and name is None:
                self.problem("server_name", "has to be given with a spiffe:// identity")
            if tls is not None and tls.mesh:
                tls = attrs.evolve(tls, identity=identity, server_name=name or identity)
            else:
                tls = TlsClient(name or identity, alpn=(), identity=identity, mesh=True)
                mesh = True if mesh is None else mesh
        elif tls is not None and name is not None:
            tls = attrs.evolve(tls, server_name=name)
        return tls, template.mesh_proxy if mesh is None else mesh
