"""The dashboard's files: what a browser is told about them, and what they are free of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from meshcore.admin.dashboard import POLICY, dashboard_pages
from meshcore.http.body import read_all
from meshcore.http.headers import Headers
from meshcore.http.message import Request, Response

FOLDER = Path(__file__).parents[2] / "meshcore/admin/dashboard"
PATHS = [b"/", b"/dashboard.js", b"/dashboard.css", b"/dashboard.svg"]


async def ask(path: bytes, *fields: tuple[bytes, bytes], method: bytes = b"GET") -> Response:
    return await dashboard_pages()[path](Request(method, b"http", b"localhost", path, Headers(list(fields))))


def fields_of(response: Response) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in response.headers}


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (b"/", "text/html; charset=utf-8"),
        (b"/dashboard.js", "text/javascript; charset=utf-8"),
        (b"/dashboard.css", "text/css; charset=utf-8"),
        (b"/dashboard.svg", "image/svg+xml"),
    ],
)
async def test_each_file_has_its_type_and_the_policy_that_lets_nothing_else_run(path: bytes, kind: str) -> None:
    response = await ask(path)

    assert 200 == response.status
    found = fields_of(response)
    data = await read_all(response.body)
    assert int(found.pop("content-length")) == len(data) > 100
    assert re.fullmatch(r'"[0-9a-f]{20}"', found.pop("etag"))
    assert found == {
        "content-type": kind,
        "cache-control": "no-cache",
        "content-security-policy": (
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "permissions-policy": "camera=(), geolocation=(), microphone=()",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("given", [b"%b", b"W/%b", b'"other", %b', b"*"])
async def test_a_browser_that_has_a_file_is_not_sent_it_again(path: bytes, given: bytes) -> None:
    tag = (await ask(path)).headers.get(b"etag") or b""

    response = await ask(path, (b"if-none-match", given.replace(b"%b", tag)))

    assert (304, b"") == (response.status, await read_all(response.body))
    assert (tag, POLICY.encode()) == (response.headers.get(b"etag"), response.headers.get(b"content-security-policy"))
    assert None is response.headers.get(b"content-length")


async def test_a_browser_that_has_another_one_is() -> None:
    response = await ask(b"/", (b"if-none-match", b'"237201b35f5e657f6f43", W/"x"'))

    assert 200 == response.status


async def test_nothing_but_reading_is_answered() -> None:
    refused = await ask(b"/", method=b"POST")

    assert (405, b"GET, HEAD") == (refused.status, refused.headers.get(b"allow"))
    assert 200 == (await ask(b"/", method=b"HEAD")).status


def test_no_file_has_anything_that_the_policy_would_refuse() -> None:
    page = (FOLDER / "index.html").read_text()
    assert [] == re.findall(r"<style|\sstyle=|\son\w+=|javascript:", page)
    assert ['<script type="module" src="dashboard.js"></script>'] == re.findall(r"<script.*?</script>", page, re.S)
    everything = "".join(path.read_text() for path in sorted(FOLDER.glob("dashboard.*")))
    # Names of XML, which nobody fetches.
    addresses = set(re.findall(r"https?://[^\s\"'`)]+", page + everything))
    assert {"http://www.w3.org/2000/svg"} == addresses
    assert [] == re.findall(r"@import|url\(", everything)


def test_no_value_can_become_markup_or_code() -> None:
    module = (FOLDER / "dashboard.js").read_text()

    words = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|new Function|setHTML|srcdoc"
    assert [] == re.findall(words, module)
    # Of what comes over the network nothing is made an address either: these are the icons' own names.
    addresses = [line.partition("href: ")[2][:20] for line in module.splitlines() if "href: " in line]
    assert ["`#${name}` });", 'edge.secured ? "#loc'] == addresses
    assert [] == re.findall(r"\bimport\b", module)


def test_every_control_of_the_page_has_a_name_and_every_tab_its_panel() -> None:
    page = (FOLDER / "index.html").read_text()
    labelled = set(re.findall(r'<label for="([^"]+)"', page))
    controls = set(re.findall(r'<(?:input|select)\b[^>]*\bid="([^"]+)"', page))
    assert controls == labelled
    panels = set(re.findall(r'id="([^"]+)" role="tabpanel"', page))
    assert panels == set(re.findall(r'aria-controls="([^"]+)"', page))
    identifiers = re.findall(r'\bid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))
    for attribute in ("aria-labelledby", "aria-controls"):
        assert set(re.findall(rf'{attribute}="([^"]+)"', page)) <= set(identifiers)
