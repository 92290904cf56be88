"""What is shown of values that may be secret: nothing but their names."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from meshcore.http.log_template import is_secret

__all__ = ["LONGEST", "MASK", "masked", "shown_field", "shown_path", "shown_text"]

MASK = "***"
LONGEST = 2_048
"""Bytes of a value that are shown."""

_SECRET_PARAMETER = re.compile(
    r"token|secret|passw|^pass$|^pwd$|^auth|authoriz|credential|session|^sid$|signature|^sig$|jwt|assertion"
    r"|^code$|^key$|api[-_.]?key|(access|private|master|shared|subscription)[-_.]?key",
)
# Parameters, of a query, of a form, or of what a URL's fragment holds.  A comma or semicolon ends the value of one only
# where another follows.
_PARAMETER = re.compile(
    r"([?&;#,]\s{0,4}|^)([^=&;#,?\s/]{1,128})=((?:[^&;#,\s]|[;,](?!$|\s{0,4}[^=&;#,?\s/]{1,128}=))*)"
)
# A password may have an @ in it: the last one ends it.
_USER_INFO = re.compile(r"(//|^)[^/?#\s]+@")
# A signed token anywhere in a text, its end cut off or not (RFC 7519: the head is a JSON object).  It begins a word, so
# that no text is looked through again and again.
_JWT = re.compile(r"(?<![\w-])eyJ[\w-]{6,}\.[\w-]+(?:\.[\w-]*)*", re.ASCII)


def shown_text(value: bytes) -> str:
    """*value* as text: cut at ``LONGEST`` bytes, what is no UTF-8 escaped.  It may hold control characters."""
    return value[:LONGEST].decode("utf-8", "backslashreplace")


def masked(text: str) -> str:
    """*text* without the secrets in it: signed tokens, user information of URLs, parameters that are named like one."""
    text = _USER_INFO.sub(lambda found: f"{found[1]}{MASK}@", text) if "@" in text else text
    text = _PARAMETER.sub(_parameter, text) if "=" in text else text
    return _JWT.sub(MASK, text) if "eyJ" in text else text


def _parameter(found: re.Match[str]) -> str:
    name = unquote_to_bytes(found[2]).decode("utf-8", "replace").lower()
    return f"{found[1]}{found[2]}={MASK}" if _SECRET_PARAMETER.search(name) else found[0]


def shown_path(path: bytes) -> str:
    """A path and its query, secrets masked."""
    return masked(shown_text(path))


def shown_field(name: bytes, value: bytes) -> str:
    """The value of a header field or trailer; masked where its name says that it is a secret."""
    if is_secret(name[:256].decode("latin-1")):
        return MASK
    return masked(shown_text(value))
