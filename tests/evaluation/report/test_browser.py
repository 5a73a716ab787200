"""The report in a real browser, as large as that of the real valid split."""

import dataclasses
import io
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from multimodal_recall.evaluation.report.figures import PAGE_COLOURS
from multimodal_recall.evaluation.report.page import render_page
from tests.evaluation.report.conftest import make_content

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.external,
    pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed: apt-get install chromium"),
]
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")

QUERIES = 500
HOSTILE = "<script>throw Error('run')</script> caf\u00e9"
SECTIONS = ("headline", "learning", "scores", "calibration", "groups", "queries", "worst", "best", "all")
WATCH = """() => { const text = document.querySelector('figure svg text');
    return [getComputedStyle(document.body).color, getComputedStyle(text).fill, document.body.scrollWidth] }"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    content = make_content(QUERIES, candidates=30, right=6, boxes=12)
    texts = content.candidates["query"].where(content.candidates["query_id"] != QUERIES, HOSTILE)
    content = dataclasses.replace(content, candidates=content.candidates.assign(query=texts))
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render_page(content), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])  # containers run as root
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page(browser: Any, report: Path) -> Any:
    page = browser.new_page()
    page.goto(report.as_uri())
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_opens_fast_without_errors_and_fits(
    browser: Any, report: Path, tmp_path: Path, width: int, scheme: str
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    errors, requests = [], []
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    start = time.perf_counter()
    page.goto(report.as_uri(), wait_until="load")
    assert time.perf_counter() - start < 3  # seconds
    for name in SECTIONS:  # draws what was off the screen
        page.evaluate("name => document.getElementById(name).scrollIntoView()", name)
        page.screenshot(path=tmp_path / f"{name}.png")
    assert errors == []
    assert [url for url in requests if not url.startswith("data:")] == [report.as_uri()]
    text, plot_text, used_width = page.evaluate(WATCH)
    assert plot_text == text
    assert (sum(map(int, text.removeprefix("rgb(").removesuffix(")").split(","))) > 384) == (scheme == "dark")
    assert used_width <= width
    page.close()


def test_plots_take_the_colours_of_a_dark_page(browser: Any, report: Path) -> None:
    page = browser.new_page(color_scheme="dark")
    page.goto(report.as_uri())
    plots = page.locator("figure.plotted").all()
    assert len(plots) == 4
    for plot in plots:
        with Image.open(io.BytesIO(plot.screenshot())) as image:
            colours = {
                f"#{red:02x}{green:02x}{blue:02x}" for _, (red, green, blue) in image.convert("RGB").getcolors(10**6)
            }
        assert len(colours) > 10
        assert not colours & PAGE_COLOURS.keys()
    page.close()


@pytest.mark.parametrize(
    ("typed", "rows", "cards"),
    [
        ("NUMBER 499", 1, 1),
        (" 499 ", 1, 1),
        ("<script>", 1, 1),
        ("CAFÉ", 1, 1),
        ("number 250", 1, 0),
        ("blue", 0, 0),
        ("", QUERIES, 40),
    ],
)
def test_search_shows_the_queries_that_match(page: Any, typed: str, rows: int, cards: int) -> None:
    page.fill("#search", "something else")
    page.fill("#search", typed)
    assert page.locator("tr.row:visible").count() == rows
    assert page.locator("article.query:visible").count() == cards
    assert page.inner_text("#found") == (f"{rows} of {QUERIES} queries" if typed else f"{QUERIES} queries")
    lists = [part.locator("[data-query]:visible").count() for part in page.locator(".list").all()]
    assert page.locator(".none:visible").count() == lists.count(0)


@pytest.mark.parametrize(
    ("project", "collection"), [("finished_project", "shop"), ("leaderboard_project", "leaderboard")]
)
def test_the_report_of_a_run_opens_without_errors_and_is_searched(
    browser: Any, request: pytest.FixtureRequest, project: str, collection: str
) -> None:
    pages = (request.getfixturevalue(project) / "data/08_reporting" / collection / "report.html").glob("*/report.html")
    page, errors = browser.new_page(), []
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    start = time.perf_counter()
    page.goto(next(pages).as_uri(), wait_until="load")
    assert time.perf_counter() - start < 3  # seconds
    rows = page.locator("tr.row:visible").count()
    page.fill("#search", page.locator("tr.row").first.get_attribute("data-query") or "")
    assert 1 <= page.locator("tr.row:visible").count() < rows
    assert errors == []
    page.close()
