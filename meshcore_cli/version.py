"""``meshcore version``: what is installed, and which engines the data path would use."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import TYPE_CHECKING

from meshcore.compiled import is_compiled
from meshcore_cli.ask import add_output
from meshcore_cli.parser import OK, Parser
from meshcore_cli.render import print_json

if TYPE_CHECKING:
    import argparse

DESCRIPTION = "Shows the versions of meshcore, of what it stands on and of its engines; loads neither of them."


def add_arguments(parser: Parser) -> None:
    """The arguments of the command."""
    add_output(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prints the versions."""
    facts = versions()
    if arguments.output == "json":
        print_json(facts)
        return OK
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{width}}  {value}")
    return OK


def versions() -> dict[str, str]:
    """Name to version, in the order shown."""
    http1, http2 = engines()
    return {
        "meshcore": _version("meshcore-sidecar"),
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "trio": _version("trio"),
        "data path": "compiled" if is_compiled() else "interpreted",
        "http/1 engine": http1,
        "http/2 engine": http2,
        "openssl": _openssl(),
        "pyopenssl": _version("pyopenssl"),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def engines() -> tuple[str, str]:
    """The engines that would be chosen here, for HTTP/1 and HTTP/2, with their versions."""
    pure = os.environ.get("MESHCORE_ENGINE") == "pure"
    http2 = "direct (compiled, of meshcore's own)" if is_compiled() and not pure else None
    return _engine(None if pure else "httptools", "h11"), http2 or _engine(None if pure else "ngh2", "h2")


def _engine(fast: str | None, reference: str) -> str:
    if fast is not None:
        version = _version(fast)
        if version != "not installed":
            return f"{fast} {version}"
    return f"{reference} {_version(reference)} (pure Python)"


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def _openssl() -> str:
    try:
        from cryptography.hazmat.backends.openssl import backend
    except ImportError:
        return "not installed"
    return str(backend.openssl_version_text())
