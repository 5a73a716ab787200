"""The report in a real browser, as large as that of the real valid split."""

import dataclasses
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from multimodal_recall.evaluation.report.figures import PAGE_COLOURS
from multimodal_recall.evaluation.report.page import render_found, render_page
from multimodal_recall.evaluation.report.recall_page import render_recall
from tests.evaluation.report.conftest import make_content
from tests.evaluation.report.test_recall_page import make_recall, make_speed

pytestmark = pytest.mark.external

QUERIES = 500
HOSTILE = "<script>throw Error('run')</script> caf\u00e9"
SECTIONS = ("headline", "queries", "worst", "best", "all", "further", "learning", "scores", "calibration", "groups")
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
def recall_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recall") / "recall.html"
    path.write_text(render_recall(make_recall(), make_speed(), 0.95), encoding="utf-8")
    return path


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


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_report_of_recall_opens_without_errors_and_fits(
    browser: Any, recall_report: Path, tmp_path: Path, width: int, scheme: str
) -> None:
    page, errors = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme), []
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(recall_report.as_uri())
    page.screenshot(path=tmp_path / "recall.png", full_page=True)
    assert errors == []
    text, plot_text, used_width = page.evaluate(WATCH)
    assert plot_text == text
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


VISIBLE = "element => getComputedStyle(element).visibility == 'visible'"


@pytest.fixture(params=["report", "search"])
def photographed(request: pytest.FixtureRequest, browser: Any, tmp_path: Path) -> Iterator[Any]:
    """A page with a photo of each product but one."""
    content = make_content(3, candidates=8, right=4, boxes=2)
    for product in content.products["product_id"][1:]:
        Image.new("RGB", (50, 100), "white").save(tmp_path / f"{product}.jpg")
    if request.param == "report":
        text = render_page(dataclasses.replace(content, photos=tmp_path))
    else:
        found = (
            content.candidates.drop(columns="right")
            .merge(content.products, on="product_id")
            .assign(unknown_words=[[]] * 24)
        )
        text = render_found(found, "Found", tmp_path)
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    page, errors = browser.new_page(viewport={"width": 1280, "height": 900}), []
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((tmp_path / "page.html").as_uri())
    yield page
    assert errors == []
    page.close()


def test_boxes_and_labels_show_on_demand_alone(photographed: Any) -> None:
    page = photographed
    card = page.locator(".tile", has=page.locator(".photo")).first
    card.scroll_into_view_if_needed()
    parts = [card.locator(".boxes"), card.locator("ol")]
    bare = page.locator(".tile", has=page.locator(".product:not(.photo)")).first

    def shown() -> list[bool]:
        return [part.evaluate(VISIBLE) for part in parts]

    page.mouse.move(0, 0)
    assert shown() == [False, False]
    assert bare.locator(".boxes").evaluate(VISIBLE)
    assert bare.locator("ol").evaluate(VISIBLE)
    height = card.bounding_box()["height"]
    card.locator("svg").hover()
    assert shown() == [True, True]
    assert card.bounding_box()["height"] == height  # nothing moves
    page.mouse.move(0, 0)
    assert shown() == [False, False]
    card.focus()
    assert shown() == [True, True]
    card.evaluate("element => element.blur()")
    assert shown() == [False, False]
    page.keyboard.press("b")
    assert shown() == [True, True]
    assert page.locator("#boxes").is_checked()
    page.keyboard.press("b")
    assert shown() == [False, False]
    page.locator("#boxes").press("Space")  # the switch itself, by keyboard
    assert shown() == [True, True]
    page.locator("#boxes").press("b")
    assert shown() == [False, False]


def test_a_photo_is_shown_in_its_own_colours(photographed: Any) -> None:
    card = photographed.locator(".photo").first
    card.scroll_into_view_if_needed()
    photographed.mouse.move(0, 0)
    with Image.open(io.BytesIO(card.screenshot())) as image:
        width, height = image.size
        middle = image.convert("RGB").crop((width // 2 - 20, height // 4, width // 2 + 20, 3 * height // 4))
    assert middle.getcolors() == [(middle.width * middle.height, (255, 255, 255))]


def test_the_letter_b_can_be_typed_into_the_search(photographed: Any) -> None:
    if photographed.locator("#search").count():
        photographed.locator("#search").press("b")
        assert photographed.input_value("#search") == "b"
        assert not photographed.locator("#boxes").is_checked()


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
