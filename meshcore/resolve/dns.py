"""Endpoints from DNS: the addresses of a name, or the places that SRV records tell."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Final

import attrs
import trio

from meshcore.addresses import is_dns_name, parse_upstream
from meshcore.errors import ConfigError
from meshcore.metrics.feed import Feed
from meshcore.metrics.happenings import tell_discovery
from meshcore.metrics.registry import Registry
from meshcore.resolve.dns_client import DnsClient, DnsFailed, DnsTransport, Found
from meshcore.resolve.dns_message import AAAA, SRV, A, Srv
from meshcore.resolve.dns_metrics import DnsMetrics
from meshcore.resolve.resolv_conf import SystemFiles
from meshcore.transport.backoff import Backoff
from meshcore.transport.target import Address, Backend, Endpoint

__all__ = ["Dns", "DnsStatistics"]

log = logging.getLogger(__name__)

MOST: Final = 1_000
"""Endpoints of an answer at the most."""
MOST_HOSTS: Final = 100
"""Hosts of SRV records that are looked up by themselves, at the most."""
_TOGETHER: Final = 8
_NEVER: Final = float("inf")
_LIGHTEST: Final = 0.01


@attrs.frozen
class DnsStatistics:
    """What a resolver knows of one backend's name.

    Attributes:
        source: what is asked for, as in the configuration.
        endpoints: how many the last good answer named.
        age: seconds since that; None: there was none yet.
        ttl: seconds from then on until the next question; None: no further one.
        failures: questions in a row without a good answer.
        error: what was wrong with the last one; ``""``: nothing.
    """

    source: str
    endpoints: int
    age: float | None
    ttl: float | None
    failures: int
    error: str


@attrs.frozen
class Dns:
    """Publishes what DNS says of ``dns:HOST:PORT`` (A, or AAAA where there is none) or ``dns+srv:NAME`` (RFC 2782),
    and asks again when the answer's TTL is over, with a floor of 5 s (B-25).

    A name that cannot be resolved never fails a start: requests wait for its endpoints as they do for a connection.
    What was found last stays in use while no server answers, and while the name is said not to exist, until that has
    been so for *forget* seconds; how old it is shows in :class:`DnsStatistics` and ``dns_answer_age_seconds``.

    ``localhost``, addresses and names in ``/etc/hosts`` are not asked for.  Of SRV records those of the lowest
    priority count, by their weights.  At most 1,000 endpoints.  The servers and the search list are those of
    ``/etc/resolv.conf``, which is read again when it changes.

    Attributes:
        template: what endpoints are where DNS does not say it (TLS, protocol, ``mesh_proxy``); a value, or a function
            of the backend.  A ``server_name`` of ``""`` stands for the name asked for.
        servers: whom to ask instead of those of ``/etc/resolv.conf``.
        registry: where ``control_dns_resolutions_total`` and ``dns_answer_age_seconds`` are; None: nowhere.
        min_ttl: seconds between two questions, at the least.
        max_ttl: seconds between two questions, at the most.
        max_negative_ttl: the same after an answer that there is nothing.
        forget: seconds after which such answers are believed; None: never.
        backoff: between questions while nobody answers.
        transport: how servers are asked.
        files: what the system says.
        rng: randomness, for tests; None: unpredictable.
        feed: is told when a name cannot be resolved, and when it can again; None: nobody is.
    """

    template: Endpoint | Callable[[Backend], Endpoint] = attrs.field(default=Endpoint(("", 0)), repr=False)
    servers: tuple[Address, ...] = ()
    registry: Registry | None = attrs.field(default=None, repr=False, eq=False)
    min_ttl: float = attrs.field(default=5.0, validator=attrs.validators.gt(0))
    max_ttl: float = attrs.field(default=3600.0, validator=attrs.validators.gt(0))
    max_negative_ttl: float = attrs.field(default=30.0, validator=attrs.validators.gt(0))
    forget: float | None = 300.0
    backoff: Backoff = attrs.field(default=Backoff(0.5, 15.0), repr=False)
    transport: DnsTransport | None = attrs.field(default=None, repr=False)
    files: SystemFiles = attrs.field(factory=SystemFiles, repr=False, eq=False)
    rng: random.Random | None = attrs.field(default=None, repr=False, eq=False)
    feed: Feed | None = attrs.field(default=None, repr=False, eq=False)
    _watched: list[_Watched] = attrs.field(factory=list, init=False, repr=False, eq=False)

    async def watch(self, target: Backend, publish: Callable[[Sequence[Endpoint]], None], /) -> None:
        """Publishes the endpoints as soon as they are known, and whenever they change; returns where they cannot.

        Raises:
            ConfigError: ``target.discover`` is neither ``dns:HOST:PORT`` nor ``dns+srv:NAME``.
        """
        watched = _Watched(self, target)
        self._watched.append(watched)
        try:
            await watched.run(publish)
        finally:
            self._watched.remove(watched)

    def statistics(self, target: Backend, /) -> DnsStatistics | None:
        """What is known of *target*'s name now; None where it is not watched."""
        for watched in self._watched:
            if watched.target == target:
                return watched.statistics()
        return None


@attrs.frozen
class _Answer:
    """What a name means now, and for how long."""

    endpoints: tuple[Endpoint, ...]
    ttl: float
    missing: str = ""


class _Watched:
    """One backend's name."""

    def __init__(self, dns: Dns, target: Backend) -> None:
        self._dns = dns
        self.target = target
        scheme, _, self._name = (target.discover or "").partition(":")
        self._srv = scheme == "dns+srv"
        self._port = 0
        self._check(scheme)
        self._template = dns.template(target) if callable(dns.template) else dns.template
        files = dns.files
        servers = dns.servers
        self._client = DnsClient(
            (lambda: attrs.evolve(files.conf(), servers=servers)) if servers else files.conf, dns.transport, dns.rng
        )
        self._rng = random.Random() if dns.rng is None else dns.rng
        self._metrics = DnsMetrics(dns.registry, target.discover or "", "SRV" if self._srv else "A/AAAA")
        self._endpoints: tuple[Endpoint, ...] = ()
        self._at: float | None = None
        self.ttl: float | None = None
        self._missing_since: float | None = None
        self._failures = 0
        self._error = ""

    def _check(self, scheme: str) -> None:
        right = False
        if scheme == "dns":
            try:
                location = parse_upstream(self._name)
            except ConfigError as error:
                raise ConfigError([f"backend {self.target.name}: {problem}" for problem in error.problems]) from error
            self._name, self._port = location.host, location.port
            right = True
        elif self._srv:
            right = is_dns_name(self._name)
        if not right:
            what = f"{self.target.discover!r} is neither dns:HOST:PORT nor dns+srv:NAME"
            raise ConfigError([f"backend {self.target.name}: {what}"])

    def statistics(self) -> DnsStatistics:
        age = None if self._at is None else trio.current_time() - self._at
        source = self.target.discover or ""
        return DnsStatistics(source, len(self._endpoints), age, self.ttl, self._failures, self._error)

    def age(self) -> float:
        """Seconds since the last good answer; since ever without one."""
        return _NEVER if self._at is None else trio.current_time() - self._at

    # ----- again and again -----

    async def run(self, publish: Callable[[Sequence[Endpoint]], None]) -> None:
        with self._metrics.watching(self.age):
            while True:
                try:
                    answer = await self._resolve()
                except DnsFailed as error:
                    self._failed(str(error))
                    self._metrics.failed()
                    delay = self._dns.backoff.delay(self._failures, self._rng)
                else:
                    delay = self._told(answer, publish)
                if delay == _NEVER:
                    return
                await trio.sleep(delay)

    def _failed(self, problem: str) -> None:
        self._failures += 1
        if problem != self._error:
            kept = f"; {len(self._endpoints)} endpoints of before stay" if self._endpoints else ""
            log.warning("backend %s: %s: %s%s", self.target.name, self.target.discover, problem, kept)
            if not self._error:
                tell_discovery(self._dns.feed, self.target.name, self.target.discover or "", problem)
        self._error = problem

    def _told(self, answer: _Answer, publish: Callable[[Sequence[Endpoint]], None]) -> float:
        now = trio.current_time()
        dns = self._dns
        if answer.missing:
            self._metrics.not_found()
            self._failed(answer.missing)
            if self._missing_since is None:
                self._missing_since = now
            if self._at is not None and (dns.forget is None or now - self._missing_since < dns.forget):
                return answer.ttl
            if self._endpoints or self._at is None:
                # Believed: so that requests are told that there is nobody (B-22).
                self._endpoints = ()
                publish(())
            return answer.ttl
        self._metrics.found()
        if self._error:
            log.info("backend %s: %s is resolved again", self.target.name, self.target.discover)
            tell_discovery(dns.feed, self.target.name, self.target.discover or "", None)
        self._failures, self._error, self._missing_since = 0, "", None
        first = self._at is None
        self._at = now
        self.ttl = None if answer.ttl == _NEVER else answer.ttl
        if first or answer.endpoints != self._endpoints:
            self._endpoints = answer.endpoints
            publish(answer.endpoints)
        return answer.ttl

    # ----- one answer -----

    async def _resolve(self) -> _Answer:
        if self._srv:
            return await self._services()
        known = self._fixed(self._name)
        if known is not None:
            addresses, ttl = known
            return _Answer(self._at_port(addresses, self._name, self._port), ttl)
        found = await self._client.find(self._name, A, AAAA)
        addresses = tuple(data for data in found.reply.data if isinstance(data, str))
        if not addresses:
            return self._nothing(found)
        return _Answer(self._at_port(addresses, self._name, self._port), self._lasting(found.reply.ttl))

    def _fixed(self, host: str) -> tuple[tuple[str, ...], float] | None:
        """The addresses that need not be asked for, and for how long they hold."""
        try:
            return (str(ip_address(host)),), _NEVER
        except ValueError:
            bare = host.removesuffix(".").lower()
        listed = self._dns.files.hosts().get(bare)
        if listed:
            # As DNS has it: IPv6 only where there is nothing else.
            old = tuple(address for address in listed if ":" not in address)
            return old or listed, self._dns.min_ttl
        if bare == "localhost" or bare.endswith(".localhost"):
            return ("127.0.0.1",), _NEVER
        return None

    async def _services(self) -> _Answer:
        found = await self._client.find(self._name, SRV)
        records = [data for data in found.reply.data if isinstance(data, Srv)]
        if not records:
            return self._nothing(found)
        lowest = min(record.priority for record in records)
        # A target of "." means that there is decidedly nobody.
        chosen = [
            record for record in records if record.priority == lowest and record.port and is_dns_name(record.target)
        ]
        hosts = list(dict.fromkeys(record.target for record in chosen))[:MOST_HOSTS]
        addresses, least = await self._hosts(hosts, found)
        heaviest = max((record.weight for record in chosen), default=0)
        endpoints: dict[Address, Endpoint] = {}
        for record in sorted(chosen, key=lambda record: (record.target, record.port)):
            # By the heaviest, so that equal weights are 1 whatever they are; 0 beside others is seldom, not never.
            weight = max(record.weight / heaviest, _LIGHTEST) if heaviest else 1.0
            for endpoint in self._at_port(addresses.get(record.target, ()), record.target, record.port):
                endpoints.setdefault(endpoint.address, attrs.evolve(endpoint, weight=weight))
        if not endpoints:
            return _Answer((), self._negative(found.reply.ttl), f"{found.name}: its hosts have no addresses")
        return _Answer(tuple(endpoints.values())[:MOST], self._lasting(least))

    async def _hosts(self, hosts: list[str], found: Found) -> tuple[dict[str, tuple[str, ...]], int | None]:
        """Addresses by host: those that came along, those that need not be asked for, and those that are asked for.

        Raises:
            DnsFailed: one that is not known yet could not be asked for.
        """
        told: dict[str, tuple[str, ...]] = {}
        ttls = [found.reply.ttl] if found.reply.ttl is not None else []
        unknown = []
        for host in hosts:
            fixed = self._fixed(host)
            if fixed is not None:
                told[host] = fixed[0]
            elif host in found.reply.addresses:
                told[host], ttl = found.reply.addresses[host]
                ttls.append(ttl)
            else:
                unknown.append(host)
        failed: list[DnsFailed] = []
        limit = trio.CapacityLimiter(_TOGETHER)

        async def look_up(host: str) -> None:
            async with limit:
                try:
                    # A full name, whatever the search list has.
                    answer = (await self._client.find(host + ".", A, AAAA)).reply
                except DnsFailed as error:
                    failed.append(error)
                    return
            told[host] = tuple(data for data in answer.data if isinstance(data, str))
            if answer.ttl is not None:
                ttls.append(answer.ttl)

        async with trio.open_nursery() as nursery:
            for host in unknown:
                nursery.start_soon(look_up, host)
        if failed:
            # Half an answer would take endpoints away that are only unknown at the moment.
            raise failed[0]
        return told, min(ttls, default=None)

    def _at_port(self, addresses: Sequence[str], host: str, port: int) -> tuple[Endpoint, ...]:
        tls = self._template.tls
        if tls is not None and not tls.server_name and not tls.mesh:
            tls = attrs.evolve(tls, server_name=host.removesuffix("."))
        # In one order, so that what only came in another one has not changed.
        usable = sorted(filter(_usable, set(addresses)))[:MOST]
        return tuple(attrs.evolve(self._template, address=(address, port), tls=tls) for address in usable)

    def _nothing(self, found: Found) -> _Answer:
        what = "no such name" if found.reply.code else f"no {'SRV records' if self._srv else 'addresses'}"
        return _Answer((), self._negative(found.reply.ttl), f"{found.name}: {what}")

    def _lasting(self, ttl: int | None) -> float:
        return min(max(float(ttl or 0), self._dns.min_ttl), self._dns.max_ttl)

    def _negative(self, ttl: int | None) -> float:
        return max(min(float(ttl or 0), self._dns.max_negative_ttl), self._dns.min_ttl)


def _usable(address: str) -> bool:
    """Whether it can be somebody's."""
    found = ip_address(address)
    return not (found.is_unspecified or found.is_multicast)
