"""The messages of Envoy's authorization service: what is asked, as bytes, and what is answered.

``envoy.service.auth.v3``, as far as a proxy can fill it in and an answer can be followed: no dynamic metadata, no
certificates.  Fields that are not known are skipped.
"""

from __future__ import annotations

import math
from typing import Final

import attrs

from meshcore.grpc.protobuf import entries, fields, nested, number, numbers, strings, text
from meshcore.layers.ext_authz.verdict import Change, How, Verdict, may_change

__all__ = ["Attributes", "Peer", "check_request", "verdict"]

_UNKNOWN_SIZE: Final = -1
_HOW: Final[dict[int, How]] = {0: "set", 1: "if-absent", 2: "set", 3: "if-present"}
_LONGEST_REASON: Final = 256


@attrs.frozen
class Peer:
    """One end of the connection.

    Attributes:
        host: its IP address.
        port: its port.
        principal: its verified identity; ``""`` without one.
    """

    host: str = ""
    port: int = 0
    principal: str = ""


@attrs.frozen(kw_only=True)
class Attributes:
    """What is told of a request.

    Attributes:
        source: who sent it.
        destination: where it was accepted.
        time: when, in seconds since the epoch.
        method, scheme, host, path: as the client sent them; the path with its query.
        headers: the fields, one of a name.
        size: of its body; -1: unknown.
        body: its beginning.
        protocol: ``HTTP/1.0``, ``HTTP/1.1`` or ``HTTP/2``.
        extensions: what the configuration adds.
    """

    source: Peer
    destination: Peer
    time: float
    method: str
    scheme: str
    host: str
    path: str
    headers: tuple[tuple[str, str], ...]
    size: int = _UNKNOWN_SIZE
    body: bytes = b""
    protocol: str = "HTTP/1.1"
    extensions: tuple[tuple[str, str], ...] = ()


def check_request(attributes: Attributes) -> bytes:
    """A ``CheckRequest``."""
    seconds = math.floor(attributes.time)
    nanos = min(int((attributes.time - seconds) * 1e9), 999_999_999)
    http = b"".join(
        (
            text(2, attributes.method),
            entries(3, attributes.headers),
            text(4, attributes.path),
            text(5, attributes.host),
            text(6, attributes.scheme),
            number(9, attributes.size),
            text(10, attributes.protocol),
            # A string has to be text; there is a field for what is none.
            text(11 if _is_text(attributes.body) else 12, attributes.body),
        )
    )
    request = nested(1, number(1, seconds) + number(2, nanos)) + nested(2, http)
    return nested(
        1,
        b"".join(
            (
                nested(1, _peer(attributes.source)),
                nested(2, _peer(attributes.destination)),
                nested(4, request),
                entries(10, attributes.extensions),
            )
        ),
    )


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _peer(peer: Peer) -> bytes:
    # An Address with a SocketAddress.
    address = nested(1, nested(1, text(2, peer.host) + number(3, peer.port))) if peer.host else b""
    return address + text(4, peer.principal)


def verdict(message: bytes) -> Verdict:
    """What a ``CheckResponse`` says.

    Of a refusal, fields that cannot stand in an answer are left out, for it has to stay one; an answer that lets a
    request pass has to be right in all of it.

    Raises:
        ValueError: it is no such message, or sets a field that it must not.
    """
    code, reason, denied, allowed = 0, "", b"", b""
    for field, value in fields(message):
        if not isinstance(value, bytes):
            continue
        if field == 1:
            # An int32; whatever it is, other than 0 it is no OK.
            code = numbers(value).get(1, 0)
            reason = strings(value).get(2, b"").decode("utf-8", "replace")[:_LONGEST_REASON]
        elif field == 2:
            # One of the two: the last one counts.
            denied, allowed = value, b""
        elif field == 3:
            denied, allowed = b"", value
    return _denied(denied, reason) if code else _allowed(allowed)


def _allowed(message: bytes) -> Verdict:
    set_: list[Change] = []
    answer: list[Change] = []
    remove: list[bytes] = []
    for field, value in fields(message):
        if not isinstance(value, bytes):
            continue
        if field == 2:
            set_.append(_change(value))
        elif field == 5:
            name = value.lower()
            if may_change(name):
                remove.append(name)
        elif field == 6:
            answer.append(_change(value))
    for change in (*set_, *answer):
        if not change.valid:
            raise ValueError(f"it sets a field that it must not, or wrongly: {change.name!r}")
    return Verdict(True, tuple(set_), tuple(remove), tuple(answer))


def _denied(message: bytes, reason: str) -> Verdict:
    status, body = 0, b""
    answer: list[Change] = []
    for field, value in fields(message):
        if not isinstance(value, bytes):
            continue
        if field == 1:
            status = numbers(value).get(1, 0)
        elif field == 2:
            change = _change(value)
            if change.valid:
                answer.append(change)
        elif field == 3:
            body = value
    return Verdict(False, (), (), tuple(answer), status if 200 <= status <= 599 else 0, body, reason)


def _change(message: bytes) -> Change:
    """A ``HeaderValueOption``: what its ``append`` says, else its ``append_action``; neither: it replaces."""
    header, append, action = b"", None, 0
    for field, value in fields(message):
        if field == 1 and isinstance(value, bytes):
            header = value
        elif field == 2 and isinstance(value, bytes):
            append = bool(numbers(value).get(1, 0))
        elif field == 3 and isinstance(value, int):
            action = value
    parts = strings(header)
    how = _HOW.get(action, "set") if append is None else "append" if append else "set"
    return Change(parts.get(1, b"").lower(), parts.get(3) or parts.get(2, b""), how)
