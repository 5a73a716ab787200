"""The pages of ``kedro search --serve`` in a real browser: type, see, compare, judge by keys, download."""

import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import ir_measures
import pytest
from PIL import Image

from multimodal_recall.commands.serve.shop import Shop, id_of_text, open_shop
from multimodal_recall.commands.serve.wanted import Wanted
from tests.commands.test_serve import HOSTILE, running
from tests.conftest import load, open_catalog

pytestmark = pytest.mark.external

BESIDE = "/?q=red+dress&ranker=two_tower&with=bag_of_words&top=6"
QRELS = "[data-split=testA]"
VISIBLE = "element => getComputedStyle(element).visibility == 'visible'"


@pytest.fixture(scope="module")
def address(opened: Shop) -> Iterator[str]:
    with running(opened, Wanted("", opened.first)) as address:
        yield address


def watch(page: Any) -> list[str]:
    """What goes wrong on a page: errors, refusals of the policy, requests to other hosts."""
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", lambda dialog: (faults.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: faults.append(request.url) if elsewhere(request.url) else None)
    return faults


def elsewhere(url: str) -> bool:
    return not re.match(r"http://127\.0\.0\.1:\d+/|data:,|blob:", url)


@pytest.fixture(params=[(390, "light"), (1280, "dark")], ids=["phone, light", "desktop, dark"])
def page(request: pytest.FixtureRequest, browser: Any) -> Iterator[Any]:
    width, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme, accept_downloads=True)
    page = context.new_page()
    faults = watch(page)
    yield page
    context.close()
    assert faults == []


@pytest.fixture
def desktop(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 844}, accept_downloads=True)
    page = context.new_page()
    faults = watch(page)
    yield page
    context.close()
    assert faults == []


def focused(page: Any) -> str | None:
    return page.evaluate("document.activeElement.closest('.card')?.dataset.product ?? null")


def download(page: Any, button: str) -> str:
    with page.expect_download() as started:
        page.locator(button).press("Enter")
    return Path(started.value.path()).read_text(encoding="utf-8")


def test_type_see_compare_judge_and_download_by_keyboard_alone(page: Any, address: str, tmp_path: Path) -> None:
    page.goto(address)
    page.wait_for_function("document.activeElement.id == 'query'")  # a page takes its focus when it is first drawn
    page.keyboard.type("red dress")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?q=red+dress&**")
    found = page.request.get(f"{address}/search?q=red+dress").json()
    first = [str(product["product_id"]) for product in found["products"]]
    cards = page.locator(".card")
    assert [card.get_attribute("data-product") for card in cards.all()] == first
    assert page.locator(".card image").count() == 10
    # compare: the second ranker is chosen with the keyboard
    page.locator("select[name=with]").focus()
    page.keyboard.type("bag")
    page.locator("#query").press("Enter")
    page.wait_for_url("**with=bag_of_words**")
    assert page.locator(".sides section").count() == 2
    second = [card.get_attribute("data-product") for card in page.locator("section:nth-child(2) .card").all()]
    # judge: j goes to the first product, then on
    for key in ("j", "2", "j", "0", "j", "1", "j", "1", "1"):
        page.keyboard.press(key)
    assert focused(page) == first[3]
    page.keyboard.press("k")
    page.keyboard.press("n")
    page.keyboard.type("2 buttons, b")  # in a note, keys are letters
    page.keyboard.press("Escape")
    assert focused(page) == first[2]
    shown = {"2": first[0], "0": first[1], "1": first[2]}
    for relevance, product in shown.items():
        for card in page.locator(f'.card[data-product="{product}"]').all():  # on both sides
            assert card.get_attribute("data-relevance") == relevance
            assert card.locator("button[aria-pressed=true]").inner_text() == relevance
    both = len({*first, *second})
    assert page.locator("#judged").inner_text() == f"3 of {both} products judged here, 3 for 1 query in all"
    # what was judged is still there after a reload, and for another query
    page.reload()
    assert page.locator(f'.card[data-product="{first[2]}"] input').first.input_value() == "2 buttons, b"
    page.goto(f"{address}/?q=black+boots")
    page.keyboard.press("j")
    page.keyboard.press("2")
    other = focused(page)
    assert page.locator("#judged").inner_text().endswith("4 for 2 queries in all")
    qrels, notes = download(page, QRELS), json.loads(download(page, "#notes"))
    red, black = id_of_text("red dress"), id_of_text("black boots")
    assert set(qrels.splitlines()) == {
        *(f"{red} 0 {product} {relevance}" for relevance, product in shown.items()),
        f"{black} 0 {other} 2",
    }
    judged = list(ir_measures.read_trec_qrels(qrels))
    assert {(row.query_id, row.doc_id, str(row.relevance)) for row in judged} == {
        (note["text_id"], note["product_id"], str(note["relevance"])) for note in notes
    }
    assert {(note["query"], note["note"]) for note in notes} == {
        ("red dress", ""), ("red dress", "2 buttons, b"), ("black boots", ""),
    }  # fmt: skip
    assert page.evaluate("document.body.scrollWidth <= innerWidth")


@pytest.mark.parametrize("path", ["/", "/?q=red+dress", BESIDE, "/why?q=red+dress&ranker=bag_of_words&product={}"])
def test_pages_fit_and_take_the_colours_of_the_scheme(page: Any, address: str, opened: Shop, path: str) -> None:
    page.goto(address + path.format(opened.products.product_ids[0]))
    page.wait_for_load_state("networkidle")
    assert page.evaluate("document.body.scrollWidth <= innerWidth")
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    with Image.open(io.BytesIO(page.screenshot())) as image:
        red, green, blue = image.convert("RGB").getpixel((2, 2))
    assert (red + green + blue < 384) == dark


def test_boxes_show_on_demand(desktop: Any, address: str) -> None:
    desktop.goto(f"{address}/?q=red+dress")
    boxes = desktop.locator(".card .boxes").first
    assert not boxes.evaluate(VISIBLE)
    desktop.keyboard.press("j")
    assert not boxes.evaluate(VISIBLE)  # a product is judged by its bare photo
    desktop.keyboard.press("b")
    assert boxes.evaluate(VISIBLE)
    assert re.match(r"rgb|color", boxes.locator("rect").first.evaluate("box => getComputedStyle(box).stroke"))
    desktop.keyboard.press("b")
    desktop.locator(".card svg").first.hover()
    assert boxes.evaluate(VISIBLE)


def test_judging_with_the_mouse_in_two_tabs_and_forgetting(desktop: Any, address: str) -> None:
    desktop.goto(f"{address}/?q=red+dress")
    other = desktop.context.new_page()
    other.goto(f"{address}/?q=blue+shirt")
    desktop.locator(".card button").nth(2).click()
    other.locator(".card button").nth(0).click()
    desktop.wait_for_function("document.getElementById('judged').textContent.includes('2 for 2 queries')")
    desktop.locator(".card button").nth(2).click()  # again: not judged
    assert desktop.locator("#judged").inner_text().endswith("1 for 1 query in all")
    assert desktop.locator(".card[data-relevance]").count() == 0
    other.on("dialog", lambda dialog: dialog.accept())
    other.locator("#forget").click()
    assert other.locator("#judged").inner_text().endswith("0 for 0 queries in all")
    assert other.locator(QRELS).is_disabled()


def test_without_javascript_searching_and_comparing_work(browser: Any, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    page.fill("#query", "red dress")
    page.select_option("select[name=with]", "bag_of_words")
    page.click("form button")
    assert page.locator(".sides section").count() == 2
    assert page.locator(".card button:visible").count() == 0
    assert "Judging needs JavaScript" in page.inner_text("main")
    page.locator(".card a").last.click()
    assert "The score is the sum of what each word adds." in page.inner_text("main")
    context.close()


@pytest.fixture
def hostile(shop: Shop) -> Iterator[str]:
    """The address of a shop whose titles, labels and collection are hostile."""
    names = [HOSTILE + str(number) for number in range(len(shop.products.labels))]
    table, products = shop.products.shown, replace(shop.products, labels=names)
    products.__dict__["shown"] = table.set_column(1, table.schema.field("title"), [[HOSTILE] * len(table)])
    searchers = {name: replace(searcher, products=products) for name, searcher in shop.searchers.items()}
    changed = replace(shop, products=products, collection=HOSTILE, searchers=searchers)
    with running(changed, Wanted("", shop.first)) as address:
        yield address


def test_hostile_titles_labels_queries_and_notes_run_nothing(desktop: Any, hostile: str) -> None:
    desktop.goto(hostile)
    desktop.fill("#query", HOSTILE)
    desktop.locator("#query").press("Enter")
    desktop.wait_for_url("**/?q=**script**")
    assert desktop.locator(".card").count() == 10
    assert HOSTILE.split("\u202e")[0] in desktop.inner_text("h2")
    assert HOSTILE.split("\u202e")[0] in desktop.locator(".title").first.inner_text()
    for key in ("j", "2", "n"):
        desktop.keyboard.press(key)
    desktop.keyboard.type(HOSTILE)
    desktop.reload()
    assert desktop.locator(".card input").first.input_value() == HOSTILE
    assert re.fullmatch(r"\d+ 0 -?\d+ 2\n", download(desktop, QRELS))
    assert [note["note"] for note in json.loads(download(desktop, "#notes"))] == [HOSTILE]
    desktop.locator(".card a").first.click()
    assert HOSTILE.split("\u202e")[0] in desktop.inner_text("h2")
    assert desktop.evaluate("document.querySelectorAll('script, img').length") == 1


def ask_twice(project: Path, run: Callable[..., None]) -> int:
    """Write the text of testA's first query, in capitals, over that of its last query; give the last query's id."""
    tsv = project / "data/01_raw/shop/testA.tsv"
    header, *lines = tsv.read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines]
    text, twin = rows[0][-2].upper(), rows[-1][-1]
    assert rows[0][-1] != twin
    rows = [[*row[:-2], text, twin] if row[-1] == twin else row for row in rows]
    tsv.write_text("\n".join([header, *map("\t".join, rows)]) + "\n", encoding="utf-8")
    run(from_nodes=["testA.chunk_000.ingest"])
    return int(twin)


def test_downloaded_judgements_are_what_evaluate_measures(
    browser: Any, run_copy: tuple[Path, Callable[..., None]]
) -> None:
    project, run = run_copy
    twin = ask_twice(project, run)
    pairs = load(project, "testA_examples")["chunk_000"]["pairs"].to_table().to_pandas()
    texts = pairs.drop_duplicates("query_id").set_index("query_id")["query"].head(2)
    shop, context = open_shop(open_catalog(project)), browser.new_context(accept_downloads=True)
    assert shop.ids_of(texts.iloc[0])["testA"] == sorted([texts.index[0], twin])
    with running(shop, Wanted("", shop.first)) as address:
        page = context.new_page()
        for text in [*texts, "a query of no split"]:
            page.goto(f"{address}/?{urlencode({'q': text, 'top': 100})}")
            for key in ("j", "2", "j", "0", "j", "1"):
                page.keyboard.press(key)
        qrels = download(page, QRELS)
    context.close()
    assert len(qrels.splitlines()) == 12  # those of the first text stand under both ids
    (project / "data/01_raw/shop/testA.qrels").write_text(qrels)
    run(pipeline_names=["qrels", "evaluate"])
    measured = load(project, "evaluation.testA_query_metrics").to_table().to_pandas()
    assert {*measured["query_id"]} == {*texts.index, twin}
    # against ir_measures, which reads the same file and the candidates as evaluate ranks them
    scores = load(project, "two_tower.testA_scores").to_table().to_pandas()
    run_rows = [ir_measures.ScoredDoc(str(row.query_id), str(row.product_id), row.score) for row in scores.itertuples()]
    judged = [row for row in ir_measures.read_trec_qrels(qrels) if int(row.query_id) in {*texts.index, twin}]
    right = [ir_measures.Qrel(row.query_id, row.doc_id, min(row.relevance, 1)) for row in judged]
    expected = {row.query_id: row.value for row in ir_measures.iter_calc([ir_measures.nDCG @ 5], right, run_rows)}
    ours = measured[measured["ranking"] == "two_tower"].set_index("query_id")["ndcg_at_5"]
    assert ours.to_dict() == pytest.approx({int(query): value for query, value in expected.items()}, abs=1e-6)
