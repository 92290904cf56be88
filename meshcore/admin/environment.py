"""``/env.json``: the environment variables of the process, without its secrets."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

from meshcore.admin.page import JSON, from_loopback, json_page, method_not_allowed, response_of, text_page
from meshcore.layers.tap import secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from meshcore.http.message import Request, Response

__all__ = ["Environment", "masked"]

_SECRET = re.compile(
    r"key|password|passwd|passphrase|secret|token|credential|auth|cookie|session|private|signature|dsn|(^|_)pass($|_)"
    r"|_pwd$|(^|_)pw($|_)",
    re.IGNORECASE,
)
_PEM = "-----BEGIN"
_MOST = 64


def masked(name: str, value: str) -> str:
    """A variable's value as it may be shown: ``***`` if its name sounds like a secret's or it holds a PEM, and without
    the user and password of a URL, signed tokens, and parameters that are named like a secret."""
    if value and (_SECRET.search(name) or _PEM in value):
        return secrets.MASK
    return secrets.masked(value)


class Environment:
    """Answers ``GET /env.json``, and ``/env.json?A&B`` with those alone, ``null`` for what is not set (X-54).

    Unlike linkerd's it masks what sounds like a secret, and is for loopback clients alone.

    Args:
        variables: the environment.
        allowed: whether a client may ask; by default: from loopback.
    """

    def __init__(
        self, variables: Mapping[str, str], *, allowed: Callable[[Request], bool] = from_loopback
    ) -> None:
        self._variables = variables
        self._allowed = allowed

    async def __call__(self, request: Request) -> Response:
        """The answer."""
        if request.method != b"GET":
            return method_not_allowed(b"GET")
        if not self._allowed(request):
            return text_page(403, "the environment is for loopback clients only\n")
        if not _takes_json(request):
            return text_page(406, "this page is application/json\n")
        variables = self._variables
        query = request.path.partition(b"?")[2].decode("utf-8", "replace")
        if not query:
            return json_page({name: masked(name, value) for name, value in sorted(variables.items())})
        names = [unquote_plus(word) for word in query.split("&") if word]
        if "=" in query or len(names) > _MOST:
            problem = "names are wanted, without values: /env.json?HOME&PATH" if "=" in query else "too many names"
            return response_of(400, JSON, json.dumps({"error": problem}).encode() + b"\n")
        return json_page({name: masked(name, variables[name]) if name in variables else None for name in names})


def _takes_json(request: Request) -> bool:
    given = [part.strip().lower() for value in request.headers.get_all(b"accept") for part in value.split(b",")]
    words = [word for word in given if word]
    if not words:
        return True
    for word in words:
        kind, _, rest = word.partition(b";")
        if kind.strip() in (b"application/json", b"application/*", b"*/*"):
            weight = rest.strip().removeprefix(b"q=")
            if not rest or weight.strip(b"0.") != b"":
                return True
    return False
