"""The dashboard in Debian's Chromium: of two sidecars under load, and of values that are made up to be awkward."""

from __future__ import annotations

import http.client
import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

from tests.peers.browser import Noted, browser
from tests.peers.process import Running, running, wait_until
from tests.peers.sidecar import Issuer, config, sidecar

pytest.importorskip("playwright", reason="peer not installed: playwright")

Peer = Callable[[str], str]
HOSTILE = "<img/src=x/onerror=alert(1)>"
PROGRAMS = Path(__file__).parents[1] / "peers/programs"
CONTRAST = (PROGRAMS / "contrast.js").read_text()
ACCESSIBLE = (PROGRAMS / "accessible.js").read_text()
VIEWS = ["overview", "topology", "stack", "traffic", "tap", "events"]


@pytest.fixture(autouse=True)
def _chromium(peer: Peer) -> None:
    peer("chromium")


# ----- two sidecars, and who asks through them -----


class Load:
    """Asks again and again, until it is stopped; about one request in twenty is for nothing that is there."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.asked = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        while not self._stop.wait(0.004):
            path = f"/missing?q={HOSTILE}" if self.asked % 20 == 7 else "/"
            headers = {"host": "orders:80", "user-agent": HOSTILE, "authorization": "Bearer hunter2"}
            client.request("GET", path, headers=headers)
            client.getresponse().read()
            self.asked += 1
        client.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)


class Pair:
    """Web, which asks, and orders, which answers, with mutual TLS between them."""

    def __init__(self, web: Running, orders: Running, told: dict[str, Any]) -> None:
        self.web, self.orders, self.told = web, orders, told

    def url(self, of: Running) -> str:
        return f"http://127.0.0.1:{of.ports['admin']}/"


@pytest.fixture(scope="module")
def pair(nginx: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    issuer = Issuer(tmp_path_factory.mktemp("mesh"))
    orders_told = config(
        issuer.identity("orders.shop"), forward=nginx.port, service={"name": "orders", "namespace": "shop"}
    )
    with sidecar(orders_told) as orders:
        target = {"endpoints": [f"127.0.0.1:{orders.port}"], "identity": "orders.shop", "timeout": {"request": "5s"}}
        told = config(
            issuer.identity("web.shop"), to={"orders:80": target}, service={"name": "web", "namespace": "shop"}
        )
        with sidecar(told) as web:
            yield Pair(web, orders, told)
            for each in (web, orders):
                output = each.output()
                assert "Traceback" not in output, output[-8_000:]
                assert "crash in" not in output, output[-8_000:]


@contextmanager
def looking(url: str, view: str = "overview", **window: Any) -> Iterator[Any]:
    """The page, once it is live; at the end nothing may have been wrong with it, nor anybody else been asked."""
    with browser(**window) as (page, noted):
        page.goto(f"{url}#/{view}")
        page.wait_for_selector("[data-link=live]", timeout=20_000)
        yield page
        clean(noted, url)


def clean(noted: Noted, url: str) -> None:
    assert [] == noted.problems
    assert set() == {asked for asked in noted.asked if not asked.startswith(url)}


def number(page: Any, selector: str) -> float:
    text = page.inner_text(selector).replace(",", "")
    found = re.match(r"[\d.]+", text)
    return float(found[0]) if found else 0.0


def figures(page: Any, of: str = "#golden-inbound") -> list[float]:
    """Some readings of the requests per second, two of them different."""
    seen: list[float] = []

    def moved() -> bool:
        found = number(page, f"{of} .value")
        if found > 0 and found not in seen:
            seen.append(found)
        return len(seen) > 2

    wait_until(moved, 20, "the numbers move")
    return seen


def test_the_numbers_of_two_sidecars_move_under_load_and_nothing_is_wrong_in_the_browser(pair: Pair) -> None:
    with Load(pair.web.port) as load, looking(pair.url(pair.orders)) as page:
        assert all(1 < each < 1_000 for each in figures(page))
        assert load.asked > 50
        assert "ready" == page.inner_text("#state")
        assert "orders.shop" in page.inner_text("#facts")
        assert "Certificate\n23 h" in page.inner_text("#facts")
        canvas = page.locator("#golden-inbound canvas").first
        assert "requests per second over the last" in canvas.get_attribute("aria-label")
        # Something is drawn.
        drawn = "(it) => [...it.getContext('2d').getImageData(0, 0, it.width, it.height).data].filter(Boolean).length"
        assert canvas.evaluate(drawn) > 200
    assert pair.web.alive


def test_one_sampling_serves_several_browsers(pair: Pair) -> None:
    url = pair.url(pair.web)
    with Load(pair.web.port), looking(url) as page:
        others = [page.context.new_page() for _ in range(3)]
        for other in others:
            other.goto(url)
        page.bring_to_front()
        figures(page, "#golden-outbound")


def test_the_topology_has_who_talks_to_whom_with_a_lock(pair: Pair) -> None:
    with Load(pair.web.port), looking(pair.url(pair.web), "topology") as page:
        page.wait_for_selector("#map svg .node", timeout=20_000)
        page.wait_for_selector("#map use[href='#lock']", state="attached", timeout=20_000)
        assert "orders:80" in page.inner_text("#edges")
        assert "mutual TLS" in page.locator("#map .edge").last.locator("..").text_content()


def test_the_stack_has_the_layers_in_order_and_opens_them(pair: Pair) -> None:
    with Load(pair.web.port), looking(pair.url(pair.web), "stack") as page:
        page.wait_for_selector(".layer summary", timeout=20_000)
        roles = page.locator(".layer .role span:first-child").all_inner_texts()
        assert roles.index("retry") < roles.index("balance") < roles.index("endpoint_metrics")
        layer = page.locator(".layer", has=page.locator("summary", has_text="balance")).last
        layer.locator("summary").first.click()
        assert "Balance(" in layer.inner_text()
        # It is looked at again, and what was opened stays open.
        time.sleep(2.5)
        assert "Balance(" in layer.inner_text()
        page.wait_for_selector("#services details", timeout=10_000)
        assert "balance" in page.inner_text("#services")


def test_a_request_with_hostile_values_is_tapped_as_text(pair: Pair) -> None:
    with Load(pair.web.port), looking(pair.url(pair.web), "tap") as page:
        page.fill("#tap-path", "/missing")
        page.check("#tap-headers")
        page.click("#tap-start")
        page.locator("#tapped li", has_text="404").first.wait_for(timeout=20_000)
        # Stopped: the newest is the first row, and would be another at each look.
        page.click("#tap-stop")
        assert "Stopped." == page.inner_text("#tap-state")
        count = page.locator("#tapped li").count()
        row = page.locator("#tapped li", has_text="404").first
        row.locator("summary").click()
        row.get_by_text("Request headers").wait_for(timeout=10_000)
        text = row.inner_text()
        assert f"/missing?q={HOSTILE}" in text
        assert text.count(HOSTILE) >= 2
        assert "hunter2" not in text
        assert 0 == page.locator("#tapped img").count()
        time.sleep(1)
        assert count == page.locator("#tapped li").count()


def test_what_is_open_stays_where_newer_requests_come(pair: Pair) -> None:
    with Load(pair.web.port), looking(pair.url(pair.web), "tap") as page:
        page.click("#tap-start")
        # The oldest: nothing comes below it.
        page.locator("#tapped li").nth(3).wait_for(timeout=20_000)
        page.locator("#tapped summary").last.click()
        opened = page.locator("#tapped details[open]")
        opened.wait_for(timeout=10_000)
        when = opened.locator(".when").inner_text()
        # As many as are kept: from now on, some go.
        wait_until(lambda: page.locator("#tapped li").count() >= 200, 30, "as many as are kept")
        time.sleep(1)
        assert 1 == opened.count()
        assert when == opened.locator(".when").inner_text()


def test_a_reload_is_told_as_it_happens(pair: Pair) -> None:
    with looking(pair.url(pair.web), "events") as page:
        assert "ready at" in page.inner_text("#happenings")
        pair.told["outbound"]["to"]["orders:80"]["timeout"]["request"] = "6s"
        pair.web.config.write_text(json.dumps(pair.told))
        page.locator("#happenings li", has_text="config v2: changed: ").wait_for(timeout=10_000)
        assert "timeout" in page.locator("#happenings li").first.inner_text()
        pair.web.config.write_text("{")
        refused = page.locator("#happenings li", has_text="config refused, v2 stays")
        refused.wait_for(timeout=10_000)
        assert "problem" == refused.locator("svg").get_attribute("aria-label")
        assert "config refused" in page.inner_text("#announce")
        pair.web.config.write_text(json.dumps(pair.told))
        page.select_option("#events-kind", "identity")
        assert page.locator("#happenings li").all_inner_texts()[0].startswith("identity web.shop: certified until")


def test_a_proxy_that_is_gone_is_said_to_be_and_found_again(nginx: Running) -> None:
    def told(port: int) -> dict[str, Any]:
        return {
            "listen": {"public": {"bind": "127.0.0.1:0", "to": [{"backend": "a"}]}},
            "backend": {"a": {"endpoints": [f"127.0.0.1:{nginx.port}"]}},
            "admin": {"listen": f"127.0.0.1:{port}"},
        }

    with browser() as (page, _):
        with sidecar(told(0)) as first:
            port = first.ports["admin"]
            url = f"http://127.0.0.1:{port}/"
            page.goto(f"{url}#/events")
            page.wait_for_selector("[data-link=live]", timeout=20_000)
            page.locator("#happenings li", has_text="ready at").wait_for(timeout=10_000)
            first.process.terminate()
            page.wait_for_selector("[data-link=lost]", timeout=20_000)
            banner = page.inner_text("#banner")
            assert re.search(r"(The proxy has stopped|Connection lost); trying again in \d+ s", banner)
            # What was told at the end has come.
            assert "drain started" in page.inner_text("#happenings")
        with sidecar(told(port)):
            page.wait_for_selector("[data-link=live]", timeout=30_000)
            page.locator("#happenings li", has_text="ready at").wait_for(timeout=20_000)
            wait_until(lambda: "drain started" not in page.inner_text("#happenings"), 10, "the old one's are gone")
            assert page.locator("#banner").is_hidden()


# ----- made-up values -----


@contextmanager
def made_up(token: str = "") -> Iterator[str]:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.admin.lively", "0", *([token] if token else [])]
    with running("lively", command, ready=lambda it: "http://" in it.output(), env={"PYTHONPATH": str(root)}) as it:
        found = re.search(r"http://\S+", it.output())
        assert found
        yield found[0]


@pytest.fixture(scope="module")
def lively() -> Iterator[str]:
    with made_up() as url:
        yield url


def show(page: Any, view: str) -> None:
    page.click(f"#tab-{view}")
    if view == "tap":
        page.check("#tap-headers")
        page.click("#tap-start")
        page.locator("#tapped li").nth(4).wait_for(timeout=10_000)
        page.click("#tap-stop")
        page.locator("#tapped summary").nth(2).click()
    if view == "stack":
        page.locator(".layer summary").nth(4).wait_for(timeout=10_000)
        page.locator(".layer summary").nth(4).click()
    if view in ("topology", "traffic"):
        page.wait_for_selector(f"#{view} tbody tr", timeout=10_000)


@pytest.mark.parametrize(
    ("width", "height", "scheme"), [(360, 740, "light"), (360, 740, "dark"), (768, 1024, "light"), (1920, 1080, "dark")]
)
def test_every_view_fits_every_width_and_has_enough_contrast(lively: str, width: int, height: int, scheme: str) -> None:
    with looking(lively, width=width, height=height, scheme=scheme) as page:
        for view in VIEWS:
            show(page, view)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view
            assert [] == page.evaluate(CONTRAST), view
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (max(map(int, re.findall(r"\d+", ground)[:3])) > 128) == (scheme == "light")


def test_the_theme_is_a_choice_that_stays(lively: str) -> None:
    with looking(lively, scheme="light") as page:
        ground = "getComputedStyle(document.body).backgroundColor"
        light = page.evaluate(ground)
        page.click("#theme")
        page.click("#theme")
        assert "Theme: dark" == page.inner_text("#theme-word")
        dark = page.evaluate(ground)
        assert light != dark
        page.reload()
        page.wait_for_selector("[data-link=live]", timeout=20_000)
        assert dark == page.evaluate(ground)


def test_hostile_values_are_text_in_every_view(lively: str) -> None:
    with looking(lively) as page:
        page.on("dialog", lambda dialog: pytest.fail(f"a dialog: {dialog.message}"))
        for view in VIEWS:
            show(page, view)
        page.click("#tab-traffic")
        assert "refund <img src=x onerror=alert(1)>" in page.inner_text("#routes")
        assert "pod=<img src=x onerror=alert(1)>" in page.inner_text("#endpoints")
        page.click("#tab-stack")
        page.locator("#services summary", has_text="endpoints").click()
        page.locator("#services summary", has_text="10.0.0.9:4143").wait_for(timeout=5_000)
        # The one picture is the page's own.
        assert ["dashboard.svg"] == page.evaluate("[...document.images].map((each) => each.getAttribute('src'))")
        assert 0 == page.evaluate("document.querySelectorAll('script').length - 1")


def test_it_can_be_walked_by_keyboard_alone(lively: str) -> None:
    focused = "document.activeElement.id || document.activeElement.textContent.trim()"
    with looking(lively) as page:
        page.keyboard.press("Tab")
        assert "Skip to the content" == page.evaluate(focused)
        assert page.evaluate("document.activeElement.getBoundingClientRect().top >= 0")
        page.keyboard.press("Enter")
        assert "main" == page.evaluate(focused)
        assert page.evaluate("location.hash") == "#/overview"

        page.focus("#tab-overview")
        for view in [*VIEWS[1:], "overview"]:
            page.keyboard.press("ArrowRight")
            assert (f"tab-{view}", True) == (page.evaluate(focused), page.is_visible(f"#{view}"))
            shown = page.locator("[role=tabpanel]:not([hidden])")
            assert [view] == shown.evaluate_all("(panels) => panels.map((each) => each.id)")
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.keyboard.press("End")
        assert "tab-events" == page.evaluate(focused)
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowLeft")
        assert "tab-traffic" == page.evaluate(focused)

        # Into the panel, the filter, the first table and its headers.
        for expected in ("traffic", "traffic-filter"):
            page.keyboard.press("Tab")
            assert expected == page.evaluate(focused)
        page.keyboard.type("refund")
        assert 1 == page.locator("#routes tbody tr").count()
        assert "1 of 7" in page.inner_text("#routes caption")
        page.keyboard.press("Control+a")
        page.keyboard.press("Delete")
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        assert "Route" == page.evaluate(focused)
        page.keyboard.press("Enter")
        assert "ascending" == page.locator("#routes th").first.get_attribute("aria-sort")
        names = page.locator("#routes tbody th > span").all_inner_texts()
        assert names == sorted(names)
        page.keyboard.press("Space")
        assert "descending" == page.locator("#routes th").first.get_attribute("aria-sort")
        # The numbers have changed meanwhile, the focus has not.
        time.sleep(1.5)
        assert "Route" == page.evaluate(focused)
        # One tab is in the order, the others are reached by arrows.
        assert 1 == page.locator("[role=tab][tabindex='0']").count()


def test_it_says_what_it_is_to_a_screen_reader(lively: str) -> None:
    with looking(lively) as page:
        for view in VIEWS:
            show(page, view)
            assert [] == page.evaluate(ACCESSIBLE), view
        assert 1 == page.locator("main").count() == page.locator("h1").count() == page.locator("header.top").count()
        assert "polite" == page.get_attribute("#announce", "aria-live")
        page.click("#tab-topology")
        assert "sources send to orders" in page.locator("#map svg desc").text_content()


def test_on_a_phone_a_layers_mark_stands_beside_its_name(lively: str) -> None:
    with looking(lively, "stack", width=360, height=740) as page:
        page.locator(".layer summary").nth(4).wait_for(timeout=10_000)
        # A name that is as wide as its place breaks within itself.
        broken = """() => {
            const role = document.querySelector('.layer .role');
            role.firstElementChild.textContent = 'x'.repeat(60);
            const name = role.firstElementChild.getClientRects()[0];
            return name.top - role.getBoundingClientRect().top;
        }"""
        assert page.evaluate(broken) < 8


def test_nothing_jumps_when_numbers_change(lively: str) -> None:
    with looking(lively) as page:
        where = "[...document.querySelectorAll('.card, .metric, #facts dd')].map((each) => each.offsetTop)"
        time.sleep(1.5)
        before = page.evaluate(where)
        for _ in range(4):
            time.sleep(1)
            assert before == page.evaluate(where)


def test_a_hidden_tab_closes_the_stream_and_opens_it_when_it_is_seen_again(lively: str) -> None:
    turn = (
        "(hidden) => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });"
        " document.dispatchEvent(new Event('visibilitychange')); }"
    )
    with looking(lively) as page:
        before = len(page.locator("#latest li").all())
        page.evaluate(turn, True)
        assert "Paused" == page.inner_text("#link")
        shown = page.inner_text("#golden-inbound")
        time.sleep(2.5)
        assert shown == page.inner_text("#golden-inbound")
        page.evaluate(turn, False)
        page.wait_for_selector("[data-link=live]", timeout=10_000)
        # Those that were there are not there twice.
        assert before == len(page.locator("#latest li").all())


def test_who_has_no_token_is_asked_for_it_and_it_is_kept_for_the_tab_alone() -> None:
    with made_up("s3cret") as url, browser() as (page, noted):
        page.goto(url)
        page.locator("#sign-in").wait_for(timeout=10_000)
        assert "token" == page.evaluate("document.activeElement.id")
        page.fill("#token", "wrong")
        page.keyboard.press("Enter")
        page.get_by_text("That token is not the right one.").wait_for(timeout=10_000)
        page.fill("#token", "s3cret")
        page.keyboard.press("Enter")
        page.wait_for_selector("[data-link=live]", timeout=10_000)
        assert page.locator("#sign-in").is_hidden()
        page.click("#tab-stack")
        page.locator(".layer summary").first.wait_for(timeout=10_000)
        page.reload()
        page.wait_for_selector("[data-link=live]", timeout=10_000)
        assert {"meshcore.theme": "system"} == page.evaluate("({...localStorage})")
        assert "s3cret" not in page.url
        assert "s3cret" not in "".join(noted.asked)
        # A browser tells of every 401 by itself; there is nothing else.
        assert {True} == {"401" in problem for problem in noted.problems}


def test_a_view_that_asks_for_more_than_the_stream_does_not_ask_on_while_one_signs_in() -> None:
    with made_up("s3cret") as url, browser() as (page, noted):
        page.goto(f"{url}#/stack")
        page.locator("#sign-in").wait_for(timeout=10_000)
        page.fill("#token", "wrong")
        page.keyboard.press("Enter")
        page.get_by_text("That token is not the right one.").wait_for(timeout=10_000)
        page.wait_for_timeout(500)
        assert "That token is not the right one." == page.inner_text("#sign-in-error")
        # The page's own four, and what each try has asked.
        assert len(noted.asked) < 10
        page.fill("#token", "s3cret")
        page.keyboard.press("Enter")
        page.wait_for_selector("[data-link=live]", timeout=10_000)
        page.locator(".layer summary").first.wait_for(timeout=10_000)


def test_it_works_where_a_browser_lets_no_page_keep_anything() -> None:
    with made_up("s3cret") as url, browser() as (page, _):
        for name in ("sessionStorage", "localStorage"):
            page.add_init_script(f"Object.defineProperty(window, '{name}', {{get() {{ throw new Error('no'); }}}})")
        page.goto(url)
        page.locator("#sign-in").wait_for(timeout=10_000)
        page.fill("#token", "s3cret")
        page.keyboard.press("Enter")
        page.wait_for_selector("[data-link=live]", timeout=10_000)
        page.click("#theme")
        assert "light" == page.evaluate("document.documentElement.dataset.theme")
        # These would ask without the token.
        assert page.locator("footer a").first.is_hidden()


def test_what_came_while_nobody_looked_is_a_gap_in_the_lines(lively: str) -> None:
    with looking(lively) as page:
        page.wait_for_timeout(2_500)
        page.evaluate("Object.defineProperty(document, 'hidden', {configurable: true, get: () => window.away})")
        change = "(away) => { window.away = away; document.dispatchEvent(new Event('visibilitychange')); }"
        for away in (True, False):
            page.evaluate(change, away)
            page.wait_for_timeout(4_500 if away else 500)
        page.wait_for_selector("[data-link=live]", timeout=10_000)

        def covered() -> int:
            said = page.locator("#golden-inbound canvas").first.get_attribute("aria-label")
            found = re.search(r"over the last (\d+) seconds", said)
            return int(found[1]) if found else 0

        wait_until(lambda: covered() >= 7, 2, "the gap is there")


def test_it_works_without_motion_and_its_policy_holds(lively: str) -> None:
    with browser() as (page, noted):
        page.emulate_media(reduced_motion="reduce")
        page.goto(f"{lively}#/stack")
        page.locator(".layer .share i").first.wait_for(state="attached", timeout=20_000)
        assert "0s" == page.evaluate("getComputedStyle(document.querySelector('.share i')).transitionDuration")
        clean(noted, lively)
        # Whatever got in could not run, nor ask anybody.
        page.evaluate(
            "document.body.append(Object.assign(document.createElement('img'), {src: 'http://203.0.113.1/x'}))"
        )
        page.evaluate(
            "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))"
        )
        wait_until(lambda: len(noted.problems) >= 2, 5, "both are refused")
        assert None is page.evaluate("window.ran")
        assert any("Content Security Policy" in problem for problem in noted.problems)
