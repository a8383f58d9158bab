"""The pages in a real Chromium: what a person sees and reaches, at the widths of a phone and of a desk."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from observability.testing import eventually
from tests.e2e.processes import Pair, free_ports, pair
from tests.e2e.run.conftest import VARIABLES
from tests.e2e.run.running import RunningPair, get

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium; with one on PATH: make test-stack")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
PAGES = ["/", "/books", "/books?q=the", "/books/4", "/?category=42"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with pair(tmp_path_factory.mktemp("browser")) as (running, _):
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


def check_page(browser: Any, site: str, path: str, width: int) -> Any:
    """The page, open, when it has passed what every page must."""
    page = browser.new_page(viewport={"width": width, "height": 800})
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(site + path)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert [text for text in complaints if "404" not in text] == []
    assert all(url.startswith(site) for url in requests)
    assert page.locator("h1").count() == page.locator("main").count() == 1
    assert page.evaluate("[...document.querySelectorAll('input, select')].every(each => each.labels.length)")
    return page


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("width", [360, 1280])
def test_pages_fit_and_load_nothing_from_elsewhere(browser: Any, shop: Pair, path: str, width: int) -> None:
    """No sideways scrolling, no complaint on the console, no request to another host, one h1, named fields."""
    page = check_page(browser, shop.url, path, width)
    assert page.locator("li").count() == {"/": 3, "/books/4": 2}.get(path, 0)
    page.close()


def test_dark_and_light_differ(browser: Any, shop: Pair) -> None:
    """The page follows the person's choice of colours."""
    colours = set()
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.goto(shop.url)
        colours.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        page.close()
    assert len(colours) == 2


def test_the_keyboard_reaches_the_books(browser: Any, shop: Pair) -> None:
    """The first Tab shows a link past the navigation, which leads to the books."""
    page = browser.new_page()
    page.goto(shop.url)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the books"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "card"
    page.close()


def test_searching_by_form(browser: Any, shop: Pair) -> None:
    """A person types a word, chooses a category, and finds the book."""
    page = browser.new_page()
    page.goto(f"{shop.url}/books")
    page.get_by_label("Title").fill("orient")
    page.get_by_label("Category").select_option("Mystery")
    page.get_by_role("button", name="Search").click()
    assert page.get_by_role("rowheader").all_text_contents() == ["Murder on the Orient Express"]
    page.close()


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page of `make run`, when the shop has been visited."""
    ports = dict(zip(VARIABLES, map(str, free_ports(len(VARIABLES))), strict=True))
    ports["RECOMMENDATIONS_TIMEOUT_MS"] = "60000"
    pair = RunningPair(tmp_path_factory.mktemp("traces"), ports, "--quiet")
    try:
        pair.wait_until_ready()
        for path in ("/", "/books", "/?category=42"):
            get(ports["MARKETPLACE_PORT"], path)
        eventually(lambda: get(ports["TRACES_PORT"], "/")[1].count('href="/trace/') == 3)
        yield f"http://127.0.0.1:{ports['TRACES_PORT']}"
    finally:
        pair.kill_all()


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("path", ["/", "/?status=404", "/methods", "/trace/0"])
def test_the_traces_fit(browser: Any, traces: str, path: str, width: int) -> None:
    """As the shop's pages: no sideways scrolling, nothing from elsewhere, one h1, named fields."""
    check_page(browser, traces, path, width).close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_from_the_list_to_the_culprit(browser: Any, traces: str, scheme: str) -> None:
    """By form and keyboard a person finds the page that failed, its failed call open, and a log line's span."""
    page = browser.new_page(color_scheme=scheme, viewport={"width": 1280, "height": 800})
    page.goto(traces)
    page.get_by_label("Status").select_option("NOT_FOUND")
    page.get_by_role("button", name="Filter").press("Enter")
    page.get_by_role("rowheader").get_by_role("link").press("Enter")
    page.locator("details").nth(2).wait_for()
    assert page.locator("details[open]").get_by_text("Category not found").is_visible()
    page.locator("summary").first.press("Enter")
    assert page.get_by_role("rowheader", name="url.query").is_visible()
    bars = [bar.bounding_box() for bar in page.locator("rect").all()]
    assert bars[0]["width"] > bars[1]["width"] > bars[2]["width"]
    assert bars[0]["x"] < bars[1]["x"] < bars[2]["x"]
    page.get_by_role("link", name="grpc.server.call").click()
    assert page.locator(":target summary").inner_text().startswith("recommendations")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    page.close()
