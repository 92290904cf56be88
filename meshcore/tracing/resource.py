"""What the environment of a process says of it for spans: OpenTelemetry's ``OTEL_RESOURCE_ATTRIBUTES``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["resource_from"]

_ATTRIBUTES: Final = "OTEL_RESOURCE_ATTRIBUTES"
_NAME: Final = "OTEL_SERVICE_NAME"


def resource_from(environment: Mapping[str, str]) -> dict[str, str]:
    """The attributes by name: ``key=value`` pairs behind commas, percent-encoded; ``OTEL_SERVICE_NAME`` has the last
    word about ``service.name``.

    Raises:
        ValueError: they are none; then nothing of them is taken, as OpenTelemetry's specification has it.
    """
    found: dict[str, str] = {}
    for part in environment.get(_ATTRIBUTES, "").split(","):
        if not part.strip():
            continue
        name, mark, value = part.partition("=")
        name = unquote(name.strip())
        if not mark or not name:
            raise ValueError(f"{_ATTRIBUTES}: {part.strip()[:60]!r} is not KEY=VALUE")
        found[name] = unquote(value.strip())
    if environment.get(_NAME):
        found["service.name"] = environment[_NAME]
    return found
