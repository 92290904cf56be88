"""Debian's Chromium, driven by Playwright: pages that note what they ask for, and what goes wrong in them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs

EXECUTABLE = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-color-profile=srgb",
    "--font-render-hinting=none",
]


@attrs.define
class Noted:
    """What a page has done.

    Attributes:
        problems: errors and warnings of its console, exceptions, violations of its policy.
        asked: the addresses that it asked for.
    """

    problems: list[str] = attrs.Factory(list)
    asked: list[str] = attrs.Factory(list)


@contextmanager
def browser(width: int = 1280, height: int = 900, *, scheme: str = "light", scale: float = 1.0) -> Iterator[Any]:
    """A fresh browser with one window; gives the page and what is :class:`Noted` of it."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as profile, sync_playwright() as playwright:
        window = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=EXECUTABLE,
            args=FLAGS,
            headless=True,
            viewport={"width": width, "height": height},
            device_scale_factor=scale,
            color_scheme=scheme,
            locale="en-GB",
            timezone_id="UTC",
        )
        try:
            noted = Noted()
            page = window.pages[0] if window.pages else window.new_page()
            page.on(
                "console", lambda message: message.type in ("error", "warning") and noted.problems.append(message.text)
            )
            page.on("pageerror", lambda error: noted.problems.append(str(error)))
            page.on("request", lambda request: noted.asked.append(request.url))
            page.add_init_script(
                "addEventListener('securitypolicyviolation', (event) => console.error('policy: ' + event.blockedURI))"
            )
            yield page, noted
        finally:
            window.close()
