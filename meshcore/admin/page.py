"""What the pages of the admin server are made of: answers, and who may ask."""

from __future__ import annotations

import ipaddress
import json
from typing import TYPE_CHECKING, Any

import trio

from meshcore.http.body import Full
from meshcore.http.headers import Headers
from meshcore.http.message import Response

if TYPE_CHECKING:
    from meshcore.http.message import Request

__all__ = [
    "JSON",
    "TEXT",
    "accepts_gzip",
    "from_elsewhere",
    "from_loopback",
    "json_page",
    "large_json_page",
    "method_not_allowed",
    "not_by_hand",
    "response_of",
    "set_body",
    "text_page",
]

TEXT = b"text/plain; charset=utf-8"
JSON = b"application/json"

_ENCODER = json.JSONEncoder(indent=2, ensure_ascii=False)
_PIECE = 500
"""Parts of a JSON text, a few to a line, that are written in one go."""


def not_by_hand(request: Request, what: str) -> Response | None:
    """The refusal of what only somebody at this host may ask for, and no web page."""
    if request.method != b"POST":
        return method_not_allowed(b"POST")
    if not from_loopback(request):
        return text_page(403, f"{what} is for loopback clients only\n")
    # A browser says where a form came from; nobody has a page that is meant to do this.
    if b"origin" in request.headers or (request.headers.get(b"sec-fetch-site") or b"none") != b"none":
        return text_page(403, f"{what} is not for web pages\n")
    return None


def from_elsewhere(request: Request) -> bool:
    """Whether a browser asks for a page that another site has: that could not read a stream, and would still use one
    up."""
    return (request.headers.get(b"sec-fetch-site") or b"none") not in (b"none", b"same-origin")


def from_loopback(request: Request) -> bool:
    """Whether a request came from this host, as far as its connection says that; not where there is none."""
    if request.connection is None:
        return False
    try:
        address = ipaddress.ip_address(request.connection.peer[0].partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def accepts_gzip(headers: Headers) -> bool:
    """Whether ``accept-encoding`` allows gzip (RFC 9110 §12.5.3): named or starred, and not with weight 0."""
    named: bool | None = None
    starred = False
    for value in headers.get_all(b"accept-encoding"):
        for item in value.split(b","):
            coding, _, parameters = item.partition(b";")
            weight = parameters.strip().lower().removeprefix(b"q=")
            wanted = not weight or weight.strip(b"0.") != b""
            coding = coding.strip().lower()
            if coding == b"gzip":
                named = wanted
            elif coding == b"*":
                starred = wanted
    return starred if named is None else named


def response_of(status: int, content_type: bytes, data: bytes) -> Response:
    """An answer that nobody is to keep."""
    headers = Headers(
        [
            (b"content-type", content_type),
            (b"content-length", b"%d" % len(data)),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
        ]
    )
    return Response(status, headers, Full(data))


def set_body(response: Response, data: bytes) -> None:
    """Another body, of another length."""
    response.headers.set(b"content-length", b"%d" % len(data))
    response.body = Full(data)


def text_page(status: int, text: str) -> Response:
    """Plain text."""
    return response_of(status, TEXT, text.encode())


def json_page(value: Any) -> Response:
    """A JSON value."""
    text = _ENCODER.encode(value)
    # What is no character becomes an escape, which JSON has, too.
    return response_of(200, JSON, text.encode(errors="backslashreplace") + b"\n")


async def large_json_page(value: Any) -> Response:
    """A JSON value that takes long to write: others have their turn now and then."""
    parts: list[str] = []
    for number, part in enumerate(_ENCODER.iterencode(value), 1):
        parts.append(part)
        if number % _PIECE == 0:
            await trio.lowlevel.checkpoint()
    return response_of(200, JSON, "".join(parts).encode(errors="backslashreplace") + b"\n")


def method_not_allowed(allow: bytes) -> Response:
    """405, with the methods that there are."""
    response = text_page(405, "method not allowed\n")
    response.headers.add(b"allow", allow)
    return response
