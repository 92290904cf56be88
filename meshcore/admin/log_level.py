"""``/proxy-log-level``: what is logged, asked and changed while the proxy runs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from meshcore.admin.page import from_loopback, method_not_allowed, text_page
from meshcore.admin.question import body_text
from meshcore.errors import ConfigError, MeshError
from meshcore.http.body import Empty
from meshcore.http.message import Response
from meshcore.log_filter import LogFilter

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore.http.message import Request
    from meshcore.log_levels import LogLevels

__all__ = ["LogLevel"]

log = logging.getLogger(__name__)



class LogLevel:
    """Answers ``GET`` with the filter that holds, and ``PUT`` of another one with 204; 400 says what is wrong with it.
    Both are for loopback clients (403), and no other method is known (405); all as linkerd's (M-16).

    A reload of the config file puts back what that says.

    Args:
        levels: the loggers'.
        allowed: whether a client may ask; by default: from loopback.
    """

    def __init__(self, levels: LogLevels, *, allowed: Callable[[Request], bool] = from_loopback) -> None:
        self._levels = levels
        self._allowed = allowed

    async def __call__(self, request: Request) -> Response:
        """The answer."""
        if not self._allowed(request):
            return text_page(403, "the log level is for loopback clients only\n")
        if request.method == b"GET":
            return text_page(200, f"{self._levels.filter}\n")
        if request.method != b"PUT":
            return method_not_allowed(b"GET, PUT")
        if b"origin" in request.headers or (request.headers.get(b"sec-fetch-site") or b"none") != b"none":
            return text_page(403, "the log level is not for web pages\n")
        try:
            text = await body_text(request)
            filter = LogFilter.parse(text)
        except ConfigError as error:
            return text_page(400, "".join(f"{problem}\n" for problem in error.problems))
        except (ValueError, MeshError) as error:
            return text_page(400, f"{error}\n")
        before = self._levels.filter
        self._levels.set(filter)
        log.info("log level: %s (was %s)", filter, before)
        return Response(204, None, Empty())
