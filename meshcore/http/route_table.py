"""Rules compiled into tables by host and path, so that a thousand cost about what one does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar
from urllib.parse import unquote_to_bytes

from meshcore.http.matching import RequestMatch, RouteRule
from meshcore.http.regex import Regex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from meshcore.http.message import Request

__all__ = ["RouteTable", "host_patterns", "matches_prefix"]

T = TypeVar("T")

_REMEMBERED = 4_096
_LONGEST_AUTHORITY = 261
_SHOWN = 8


class RouteTable(Generic[T]):
    """Finds the rule of each request.

    Of those that match, the one with the most specific host wins; then the one with the longest path (exact before
    regex before prefix, where they are as long), the most headers, the most parameters of the query, a method; then
    the one that comes first (R-23).  Of gRPC matches, service and method are more than the service, and that is more
    than the method.

    A request costs a few look-ups, however many rules there are; only regular expressions, and rules that share host
    and path, are tried one by one.

    Attributes:
        rules: in their order.
        exclusive: whether the rules of the most specific host that matches are all there are for a request; without,
            those of less specific hosts (``*.suffix``, ``*``) may still match.
    """

    __slots__ = ("_by_host", "_plain", "_secure", "exclusive", "rules")

    def __init__(self, rules: Iterable[RouteRule[T]], *, exclusive: bool = False) -> None:
        self.rules = tuple(rules)
        self.exclusive = exclusive
        building: dict[str, list[tuple[RequestMatch, int, T]]] = {}
        order = 0
        for rule in self.rules:
            for match in rule.matches or (RequestMatch(),):
                building.setdefault(match.host.lower(), []).append((match, order, rule.target))
                order += 1
        self._by_host = {host: _Paths(entries) for host, entries in building.items()}
        self._plain: dict[bytes, tuple[_Paths[T], ...]] = {}
        self._secure: dict[bytes, tuple[_Paths[T], ...]] = {}

    def __repr__(self) -> str:
        names = [str(getattr(rule.target, "name", rule.target)) for rule in self.rules[:_SHOWN]]
        more = ["…"] if len(self.rules) > _SHOWN else []
        return f"RouteTable({', '.join(names + more)})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RouteTable):
            return NotImplemented
        return (self.rules, self.exclusive) == (other.rules, other.exclusive)

    def __hash__(self) -> int:
        return hash((self.rules, self.exclusive))

    def find(self, request: Request) -> T | None:
        """The target of the rule that *request* matches; None: there is none."""
        seen = self._secure if request.scheme == b"https" else self._plain
        hosts = seen.get(request.authority)
        if hosts is None:
            hosts = self._hosts(request.authority, request.scheme)
            # Authorities come from outside: what is remembered of them is bounded.
            if len(seen) >= _REMEMBERED:
                seen.clear()
            if len(request.authority) <= _LONGEST_AUTHORITY:
                seen[request.authority] = hosts
        path, mark, query = request.path.partition(b"?")
        for paths in hosts:
            target = paths.only
            if target is None:
                target = paths.find(request, path, query if mark else None)
            if target is not None:
                return target
        return None

    def _hosts(self, authority: bytes, scheme: bytes) -> tuple[_Paths[T], ...]:
        known = self._by_host
        found = [known[pattern] for pattern in host_patterns(authority, scheme) if pattern in known]
        return tuple(found[:1] if self.exclusive else found)


def host_patterns(authority: bytes, scheme: bytes) -> Iterator[str]:
    """The patterns that match an authority, the most specific first: ``host:port``, ``host``, ``*.suffix`` from the
    longest on, ``*``."""
    if len(authority) <= _LONGEST_AUTHORITY:
        text = authority.decode("latin-1").lower()
        host, colon, port = text.rpartition(":")
        if not colon or text.endswith("]"):
            host, port = text, ""
        host = host.removesuffix(".")
        default = "443" if scheme == b"https" else "80"
        yield f"{host}:{port or default}"
        yield host
        rest = host
        while "." in rest:
            rest = rest.partition(".")[2]
            yield f"*.{rest}"
    yield "*"


def matches_prefix(path: bytes, prefix: bytes) -> bool:
    """Whether *prefix*, without a ``/`` at its end, is one of *path* by segments; ``b""`` is one of every path."""
    return path.startswith(prefix) and (len(path) == len(prefix) or path[len(prefix)] == 0x2F or not prefix)


class _Paths(Generic[T]):
    """The rules of one host, by path.

    Attributes:
        only: the target, where there is one and every request of the host is for it.
    """

    __slots__ = ("_any", "_exact", "_longest", "_methods", "_prefix", "_regex", "only")

    def __init__(self, entries: Iterable[tuple[RequestMatch, int, T]]) -> None:
        exact: dict[bytes, list[_Rule[T]]] = {}
        prefix: dict[bytes, list[_Rule[T]]] = {}
        regex: list[tuple[Regex, _Rule[T]]] = []
        methods: dict[bytes, list[_Rule[T]]] = {}
        for match, order, target in entries:
            rule = _Rule(match, order, target)
            if match.grpc is not None:
                service, method = match.grpc.service, match.grpc.method
                if service is None:
                    methods.setdefault((method or "").encode(), []).append(rule)
                elif method is None:
                    prefix.setdefault(f"/{service}".encode(), []).append(rule)
                else:
                    exact.setdefault(f"/{service}/{method}".encode(), []).append(rule)
            elif match.path is None:
                prefix.setdefault(b"", []).append(rule)
            elif match.path.kind == "exact":
                exact.setdefault(match.path.value.encode(), []).append(rule)
            elif match.path.kind == "prefix":
                prefix.setdefault(match.path.value.rstrip("/").encode(), []).append(rule)
            else:
                regex.append((Regex(match.path.value), rule))
        self._exact = {path: _sorted(rules) for path, rules in exact.items()}
        self._methods = {method: _sorted(rules) for method, rules in methods.items()}
        self._any = _sorted(prefix.pop(b"", []))
        self._prefix = {path: _sorted(rules) for path, rules in prefix.items()}
        self._longest = max(map(len, prefix), default=0)
        self._regex = sorted(regex, key=lambda each: each[1].rank)
        self.only: T | None = None
        if not (exact or prefix or regex or methods) and self._any[0].unconditional:
            self.only = self._any[0].target

    def find(self, request: Request, path: bytes, query: bytes | None) -> T | None:
        """The target of the best rule that matches."""
        if self._exact:
            for rule in self._exact.get(path, ()):
                if rule.unconditional or rule.fits(request, query):
                    return rule.target
        for pattern, rule in self._regex:
            if (rule.unconditional or rule.fits(request, query)) and pattern.fullmatch(path):
                return rule.target
        if self._prefix:
            for rule in self._prefixed(path):
                if rule.unconditional or rule.fits(request, query):
                    return rule.target
        if self._methods:
            for rule in self._methods.get(_grpc_method(path), ()):
                if rule.fits(request, query):
                    return rule.target
        for rule in self._any:
            if rule.unconditional or rule.fits(request, query):
                return rule.target
        return None

    def _prefixed(self, path: bytes) -> Iterator[_Rule[T]]:
        """The rules of the prefixes of *path*, the longest first."""
        known, longest = self._prefix, self._longest
        end = len(path) if len(path) <= longest else path.rfind(b"/", 0, longest + 1)
        while end > 0:
            rules = known.get(path[:end])
            if rules is not None:
                yield from rules
            end = path.rfind(b"/", 0, end)


class _Rule(Generic[T]):
    """A match without its path, and its target."""

    __slots__ = ("_headers", "_method", "_query", "rank", "target", "unconditional")

    def __init__(self, match: RequestMatch, order: int, target: T) -> None:
        self.target = target
        method = "POST" if match.grpc is not None else match.method
        self._method = None if method is None else method.encode()
        self._headers = tuple((each.name.lower().encode(), _compare(each.value)) for each in match.headers)
        self._query = tuple((each.name.encode(), _compare(each.value)) for each in match.query)
        self.unconditional = method is None and not match.headers and not match.query
        self.rank = (-len(self._headers), -len(self._query), method is None, order)

    def fits(self, request: Request, query: bytes | None) -> bool:
        """Whether method, headers and query are as they have to be."""
        if self._method is not None and request.method != self._method:
            return False
        for name, equals in self._headers:
            for key, value in request.headers.raw:
                if key == name and equals(value):
                    break
            else:
                return False
        if self._query:
            given = _parameters(query)
            for name, equals in self._query:
                if not any(key == name and equals(value) for key, value in given):
                    return False
        return True


def _sorted(rules: list[_Rule[T]]) -> tuple[_Rule[T], ...]:
    return tuple(sorted(rules, key=lambda rule: rule.rank))


def _compare(value: str | Regex) -> Callable[[bytes], bool]:
    return value.fullmatch if isinstance(value, Regex) else value.encode().__eq__


def _grpc_method(path: bytes) -> bytes:
    """The method of ``/service/method``; ``b""`` of anything else."""
    empty, _, rest = path.partition(b"/")
    service, slash, method = rest.partition(b"/")
    return b"" if empty or not service or not slash or b"/" in method else method


def _parameters(query: bytes | None) -> list[tuple[bytes, bytes]]:
    """Names and values of a query (``application/x-www-form-urlencoded``)."""
    found = []
    for pair in query.split(b"&") if query else ():
        name, _, value = pair.partition(b"=")
        found.append((_decoded(name), _decoded(value)))
    return found


def _decoded(text: bytes) -> bytes:
    if b"+" in text:
        text = text.replace(b"+", b" ")
    return unquote_to_bytes(text) if b"%" in text else text
