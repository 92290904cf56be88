"""h11 as the engine: one h11 connection for each head."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import h11

from meshcore.codec.h1.control import SPECIAL
from meshcore.codec.h1.engines import Engine, Split

if TYPE_CHECKING:
    from meshcore.codec.events import Fields

__all__ = ["ENGINE"]

# A client that has proposed an upgrade accepts every status, 101 included.
_PROPOSAL: Final = h11.Request(
    method="GET", target="/", headers=[("host", "proposal"), ("connection", "upgrade"), ("upgrade", "any")]
)

_lengths: Final = re.compile(rb"\ncontent-length:([^\r]*+)", re.IGNORECASE).findall


def split_request(head: bytes, method: bytes) -> Split:
    connection = h11.Connection(h11.SERVER)
    return _split(connection, head)


def split_response(head: bytes) -> Split:
    connection = h11.Connection(h11.CLIENT)
    connection.send(_PROPOSAL)
    return _split(connection, head)


def _split(connection: h11.Connection, head: bytes) -> Split:
    connection.receive_data(head)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise ValueError(str(error)) from error
    if not isinstance(event, (h11.Request, h11.InformationalResponse, h11.Response)):
        raise ValueError("no head in it")
    fields: Fields = list(event.headers)
    # h11 makes one number of "5, 5": the value is wanted as it was sent.
    sent = _lengths(head)
    if sent and sent[0].strip(b" \t") not in [value for name, value in fields if name == b"content-length"]:
        raise ValueError("content-length changed")
    return fields, [field for field in fields if field[0] in SPECIAL]


ENGINE: Final = Engine("h11", split_request, split_response)
