"""Takes the pictures of the dashboard in docs/images: ``python docs/screenshots.py``, with Chromium and Playwright.

What they show is made up (tests/admin/lively.py) and always the same, but for what moves.
"""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter
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
            picture = IMAGES / f"dashboard-{view}-{look}.png"
            picture.write_bytes(smaller(page.screenshot()))


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


def smaller(png: bytes) -> bytes:
    """The same picture with at most 256 colours: the most frequent ones, and for others the nearest of them."""
    width, height, rows = pixels(png)
    counted = Counter(row[x : x + 3] for row in rows for x in range(0, 3 * width, 3))
    palette = [color for color, _ in counted.most_common(256)]
    index = {color: number for number, color in enumerate(palette)}
    for color in counted:
        if color not in index:
            index[color] = min(range(len(palette)), key=lambda number: distance(palette[number], color))
    data = b"".join(b"\0" + bytes(index[row[x : x + 3]] for x in range(0, 3 * width, 3)) for row in rows)
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    parts = ((b"IHDR", head), (b"PLTE", b"".join(palette)), (b"IDAT", zlib.compress(data, 9)), (b"IEND", b""))
    return png[:8] + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in parts
    )


def distance(one: bytes, other: bytes) -> int:
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))


def pixels(png: bytes) -> tuple[int, int, list[bytes]]:
    """The rows of a picture, three bytes a pixel (ISO/IEC 15948)."""
    width, height, depth, kind = struct.unpack(">IIBB", png[16:26])
    assert (depth, kind) in ((8, 2), (8, 6))
    step = 3 if kind == 2 else 4
    packed, at = b"", 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            packed += png[at + 8 : at + 8 + length]
        at += length + 12
    data, size = zlib.decompress(packed), width * step
    above, rows = bytearray(size), []
    for y in range(height):
        start = y * (size + 1)
        row = bytearray(data[start + 1 : start + 1 + size])
        unfilter(data[start], row, above, step)
        above = row
        rows.append(bytes(row) if step == 3 else b"".join(bytes(row[x : x + 3]) for x in range(0, size, 4)))
    return width, height, rows


def unfilter(how: int, row: bytearray, above: bytearray, step: int) -> None:
    for x in range(len(row) if how else 0):
        a, b = row[x - step] if x >= step else 0, above[x]
        c = above[x - step] if x >= step else 0
        p = a + b - c
        nearest = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
        row[x] = (row[x] + (0, a, b, (a + b) // 2, nearest)[how]) & 255


if __name__ == "__main__":
    main()
