"""The service behind the admin port: an ordinary HTTP service, so that any pipeline can serve it."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any, Protocol

import attrs
import trio

from meshcore.admin.page import json_page, large_json_page, method_not_allowed, not_by_hand, text_page
from meshcore.admin.render import config_value, stack_text, stack_value
from meshcore.admin.scrape import Scrape
from meshcore.http.body import Empty

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from meshcore.abc import HttpService
    from meshcore.admin.access import Access
    from meshcore.config import ConfigFile
    from meshcore.http.message import Request, Response
    from meshcore.stack import Stack
    from meshcore.transport.drain import Drain

__all__ = ["Admin"]


class Reloads(Protocol):
    """What reads the config file anew: :class:`meshcore.running.Reloader`.

    Attributes:
        source: the file; None: there is none.
    """

    source: ConfigFile | None

    def value(self) -> dict[str, Any]: ...

    async def reload(self, cause: str, /) -> Any: ...


def _no_reloads() -> None:
    return None


def _no_accounts(pipeline: str) -> None:
    return None


class Admin:
    """Answers ``/live /ready /metrics /stack /config /reload /shutdown``, and 404 to anything else.

    Only a POST to ``/reload`` or ``/shutdown`` changes anything.  A request whose host is neither an address nor in
    *hosts* is refused (403): a page that a browser loaded from elsewhere must not reach the admin port by
    pointing its own name here (DNS rebinding; CVE-2024-40632 was its like).

    Args:
        drain: what ``POST /shutdown`` starts.
        metrics: makes the exposition; its arguments say whether OpenMetrics, and whether gzip was asked for:
            :class:`meshcore.metrics.exposition.Exposition`.
        ready: the bound addresses once everything is up; before, what is waited for, or None.
        config: the effective configuration, an attrs value; or a function that gives it, where it may change.
        stacks: the pipelines by name; or a function that gives them.
        live: for each pipeline's name what its services know of themselves, JSON-able; called for ``/stack``.
        accounts: gives what the layers of a pipeline have done, by their places; None: that is not known.
        shutdown: whether ``POST /shutdown`` is enabled; otherwise it is 404; or a function that says so.
        reloader: gives what ``POST /reload`` asks to read the file anew; None: there is no such file.
        pages: further pages, each a service by its path; they are asked once the host and the client are allowed.
        hosts: names that may stand in ``host``, beside addresses and those that *access* has.
        access: who may see which page; by default everybody.
    """

    def __init__(
        self,
        drain: Drain,
        *,
        metrics: Callable[[bool, bool], Awaitable[bytes]],
        ready: Callable[[], list[str] | str | None],
        config: object,
        stacks: Mapping[str, Stack[Any, Any]] | Callable[[], Mapping[str, Stack[Any, Any]]],
        live: Callable[[], Mapping[str, Any]] = dict,
        accounts: Callable[[str], Mapping[str, Mapping[str, Any]] | None] = _no_accounts,
        shutdown: bool | Callable[[], bool] = False,
        reloader: Callable[[], Reloads | None] = _no_reloads,
        pages: Mapping[bytes, HttpService] | None = None,
        hosts: frozenset[str] = frozenset({"localhost"}),
        access: Access | None = None,
    ) -> None:
        self._drain = drain
        self._ready = ready
        self._config = config
        self._stacks = stacks
        self._live = live
        self._accounts = accounts
        self._shutdown = shutdown
        self._reloader = reloader
        self._hosts = hosts
        self._further: dict[bytes, HttpService] = {
            b"/metrics": Scrape(metrics),
            b"/reload": self._post_reload,
            b"/stack": self._get_stack,
            **(pages or {}),
        }
        self._access = access
        self._pages: dict[bytes, Callable[[Request], Response]] = {
            b"/live": self._get_live,
            b"/ready": self._get_ready,
            b"/config": self._get_config,
        }

    async def __call__(self, request: Request) -> Response:
        """The answer; never raises for what a client asks."""
        path = request.path.partition(b"?")[0]
        further = self._further.get(path)
        refused: Response | None = None
        if not self._host_allowed(request):
            refused = text_page(403, "this host is not one that the admin server answers to\n")
        elif self._access is not None:
            refused = self._access.refusal(request, path.decode("latin-1"))
        if refused is not None:
            response = refused
        else:
            response = self._answer(request) if further is None else await further(request)
        request.body.abort()
        if request.method == b"HEAD":
            response.body = Empty()
        return response

    @property
    def paths(self) -> list[str]:
        """Every page."""
        return sorted(path.decode() for path in {*self._pages, *self._further, b"/shutdown"})

    def _answer(self, request: Request) -> Response:
        path = request.path.partition(b"?")[0]
        if path == b"/shutdown":
            return self._post_shutdown(request)
        page = self._pages.get(path)
        if page is None:
            return text_page(404, "not found\n")
        if request.method not in (b"GET", b"HEAD"):
            return method_not_allowed(b"GET, HEAD")
        return page(request)

    def _host_allowed(self, request: Request) -> bool:
        # Absolute-form may differ from the host field: both have to be allowed (D-32).
        given = [request.authority, *request.headers.get_all(b"host")]
        return all(self._name_allowed(authority) for authority in given if authority)

    def _name_allowed(self, authority: bytes) -> bool:
        host = authority.decode("latin-1").lower()
        if host.startswith("["):
            host = host[1:].partition("]")[0]
        else:
            host = host.partition(":")[0]
        name = host.rstrip(".")
        if name in self._hosts or (self._access is not None and name in self._access.hosts):
            return True
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return False
        return True

    def _get_live(self, request: Request) -> Response:
        return text_page(200, "live\n")

    def _get_ready(self, request: Request) -> Response:
        addresses = self._ready()
        if addresses is None:
            return text_page(503, "not ready\n")
        if isinstance(addresses, str):
            return text_page(503, f"not ready: {addresses}\n")
        if self._drain.started:
            return text_page(503, "draining\n")
        return text_page(200, f"ready from={','.join(addresses)}\n")

    async def _get_stack(self, request: Request) -> Response:
        if request.method not in (b"GET", b"HEAD"):
            return method_not_allowed(b"GET, HEAD")
        live = self._live()
        stacks = self._stacks() if callable(self._stacks) else self._stacks
        if (request.headers.get(b"accept") or b"").startswith(b"text/plain"):
            text = "\n".join(
                stack_text(name, stack, live.get(name), self._accounts(name)) for name, stack in stacks.items()
            )
            return text_page(200, text)
        value = {}
        for name, stack in stacks.items():
            value[name] = await stack_value(stack, live.get(name), self._accounts(name))
            # With many endpoints it is long, and a dashboard asks again and again.
            await trio.lowlevel.checkpoint()
        return await large_json_page(value)

    def _get_config(self, request: Request) -> Response:
        value = config_value(self._config() if callable(self._config) else self._config)
        reloader = self._reloader()
        if reloader is not None:
            value["reload"] = reloader.value()
        return json_page(value)

    def _post_shutdown(self, request: Request) -> Response:
        if not (self._shutdown() if callable(self._shutdown) else self._shutdown):
            return text_page(404, "shutdown endpoint is not enabled\n")
        refused = not_by_hand(request, "shutdown")
        if refused is not None:
            return refused
        self._drain.start("POST /shutdown")
        return text_page(200, "shutdown\n")

    async def _post_reload(self, request: Request) -> Response:
        reloader = self._reloader()
        if reloader is None or reloader.source is None:
            return text_page(404, "this proxy has no config file that could be reloaded, or does not serve yet\n")
        refused = not_by_hand(request, "reload")
        if refused is not None:
            return refused
        reloaded = await reloader.reload("POST /reload")
        response = json_page(attrs.asdict(reloaded))
        # What the file has cannot be processed; the request was fine.
        response.status = 422 if reloaded.result == "failed" else 200
        return response
