"""Takes the pictures of the dashboard in docs/images: ``python docs/screenshots.py``, with Chromium and Playwright.

What they show is made up (tests/admin/lively.py) and always the same, but for what moves.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs/images"
VIEWS = ["overview", "topology", "stack", "traffic", "tap", "events"]
LOOKS = {
    "light": {"width": 1120, "height": 780},
    "dark": {"width": 1120, "height": 780, "scheme": "dark"},
    "phone": {"width": 360, "height": 740},
}

SECONDS = 75
"""Of samples in the sparklines."""


def main() -> None:
    sys.path.insert(0, str(ROOT))
    IMAGES.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.admin.lively"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as lively:
        assert lively.stdout is not None
        found = re.search(r"http://\S+", lively.stdout.readline())
        assert found
        try:
            for look, window in LOOKS.items():
                take(found[0], look, window)
        finally:
            lively.terminate()


def take(url: str, look: str, window: dict[str, Any]) -> None:
    from tests.peers.browser import browser

    with browser(**window) as (page, _):
        page.goto(url)
        page.wait_for_selector("[data-link=live]")
        time.sleep(SECONDS)
        for view in VIEWS:
            page.click(f"#tab-{view}")
            prepare(page, view)
            page.mouse.move(1, 1)
            page.evaluate("scrollTo(0, 0)")
            time.sleep(0.6)
            page.screenshot(path=IMAGES / f"dashboard-{view}-{look}.png")


def prepare(page: Any, view: str) -> None:
    if view == "stack":
        page.locator(".layer summary").nth(4).click()
    if view == "tap":
        page.check("#tap-headers")
        page.click("#tap-start")
        page.locator("#tapped li").nth(20).wait_for()
        page.click("#tap-stop")
        page.locator("#tapped summary").nth(2).click()
    if view == "topology":
        page.locator("#map .node").first.wait_for()


if __name__ == "__main__":
    main()
