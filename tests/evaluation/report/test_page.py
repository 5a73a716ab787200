import re
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from multimodal_recall.evaluation.report.content import ReportContent
from multimodal_recall.evaluation.report.figures import PAGE_COLOURS
from multimodal_recall.evaluation.report.page import Scale, render_page
from tests.evaluation.report.conftest import HEADLINE, make_content


def test_the_same_content_gives_the_same_page(content: ReportContent, page: str) -> None:
    assert render_page(content) == page


def test_needs_no_network_and_no_second_file(page: str) -> None:
    assert "://" not in page
    assert [
        found for found in re.findall(r'(?:src|href)="([^"]*)"', page) if not found.startswith(("#", "data:"))
    ] == []
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)


def test_the_style_sheet_replaces_every_colour_of_the_plots(page: str) -> None:
    style, drawn = page.split("</style>", 1)
    for colour, replacement in PAGE_COLOURS.items():
        assert f'[style*="fill: {colour}"] {{ fill: {replacement} !important; }}' in style
        assert f'[style*="stroke: {colour}"] {{ stroke: {replacement} !important; }}' in style
    assert set(re.findall(r"(?:fill|stroke): (#\w+)", drawn)) <= PAGE_COLOURS.keys()


def test_right_candidates_alone_are_framed_and_marked(page: str) -> None:
    tiles = re.findall(r'<figure class="tile([^"]*)">(.*?)</figure>', page, re.DOTALL)
    # query 1 shows five, 2 five, 3 five and the right one that it missed; four right ones each
    assert len(tiles) == 16
    assert sum(name == " right" for name, _ in tiles) == 12
    assert all((name == " right") == ("✓ right" in tile) for name, tile in tiles)


def test_text_of_a_query_cannot_become_part_of_the_page(changed: Callable, content: ReportContent) -> None:
    hostile = '"><script>alert(1)</script> {{ 7 * 7 }}'
    page = render_page(changed(candidates=content.candidates.assign(query=hostile), title=hostile))
    assert page.count("<script>") == 1
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 8  # title twice; cards and rows with searched text
    assert "{{ 7 * 7 }}" in page


def test_leak_free_rankings_come_first_and_each_kind_is_explained(page: str, changed: Callable) -> None:
    assert re.findall(r"<h3>([^<]*)</h3>", page)[:2] == ["Fitted on valid, out of fold", "Uses the candidate-list leak"]
    assert page.index('aria-label="nDCG@5: leak-free"') < page.index("<h3>Fitted on valid")
    assert "<p>Leak-free: scores from photos and words alone" in page
    assert "A shop&#39;s search engine would have no such lists" in page
    assert "chosen on this very split" in page  # valid's
    assert "chosen on this very split" not in render_page(changed(split="testA"))
    assert "chosen on this very split" not in render_page(changed(training_logs={}))
    honest = changed(headline=HEADLINE[HEADLINE["kind"] == "leak-free"])
    assert "Uses the candidate-list leak" not in render_page(honest)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"training_logs": {}}, "Left out: no training log was given"),
        ({"products": None}, "Boxes of these products are not known"),
    ],
)
def test_what_is_left_out_says_why(changed: Callable, page: str, fields: dict, reason: str) -> None:
    assert reason not in page
    assert reason in render_page(changed(**fields))


def test_without_products_candidates_are_ids_and_scores(changed: Callable) -> None:
    page = render_page(changed(products=None))
    assert 'class="product"' not in page
    assert "product 3006" in page


def test_queries_without_text_are_named_by_their_id(changed: Callable, content: ReportContent) -> None:
    page = render_page(changed(candidates=content.candidates.assign(query=None)))
    assert "<h4>query 3</h4>" in page
    assert "None" not in page.replace("None of these queries", "")


def test_the_first_screen_is_verdict_table_and_worst_queries(changed: Callable, page: str) -> None:
    said = changed(verdict="two_tower (0.610) is better than <chance> (0.230)")
    shown = render_page(said)
    order = [
        '<p class="verdict">two_tower (0.610) is better than &lt;chance&gt; (0.230).</p>',
        'aria-label="nDCG@5: leak-free"',
        '<h3 id="worst">',
        '<h3 id="best">',
        '<h3 id="all">',
        '<section id="further">',
        '<section id="learning">',
    ]
    places = [shown.index(part) for part in order]
    assert places == sorted(places)
    assert 'class="verdict"' not in page  # no verdict is known
    assert "leaves\n      out 0" in shown
    assert "leaves\n      out 0" not in page


def test_tables_that_use_the_leak_alone_are_folded_away(page: str, changed: Callable) -> None:
    folded = re.findall(r"<details>.*?</details>", page, re.DOTALL)
    assert [("counting" in part, "blend" in part) for part in folded] == [(True, False)]
    honest = render_page(changed(headline=HEADLINE[HEADLINE["kind"] == "leak-free"]))
    assert 'id="further"' not in honest
    assert "#further" not in honest


def test_title_and_id_stand_under_each_picture(page: str) -> None:
    tiles = re.findall(r'<figure class="tile.*?</figure>', page, re.DOTALL)
    assert len(tiles) == 16
    for tile in tiles:
        product = int(re.search(r"product (\d+)</p>", tile)[1])
        assert (f'<p class="title">title of {product}</p>' in tile) == (product % 2 == 0)
        assert tile.index("</svg>") < tile.index(f"product {product}</p>")


def test_without_photos_boxes_are_drawn_and_there_is_no_switch(page: str, changed: Callable, tmp_path: Path) -> None:
    assert 'id="boxes"' not in page
    assert "A drawing shows the boxes detected on the photo" in page
    assert 'class="product photo"' not in page
    Image.new("RGB", (100, 200)).save(tmp_path / "1001.jpg")
    photographed = render_page(changed(photos=tmp_path))
    assert photographed.count('class="product photo"') == 1
    assert photographed.count('class="product"') == 15
    assert photographed.count('tabindex="0">\n  <figcaption>') == 1
    assert 'id="boxes"' in photographed


class Outline(HTMLParser):
    """Levels of the headings, and images that tell nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.levels: list[int] = []
        self.mute: list[dict] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if re.fullmatch("h[1-6]", tag):
            self.levels.append(int(tag[1]))
        if tag == "svg" and not {"aria-label", "aria-hidden"} & dict(attrs).keys():
            self.mute.append(dict(attrs))


def test_headings_are_in_order_and_every_figure_is_told(page: str) -> None:
    outline = Outline()
    outline.feed(page)
    assert outline.levels[0] == 1
    assert outline.levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(outline.levels, outline.levels[1:], strict=False))
    assert outline.mute == []


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.19, 0.86, (0.1, 0.9, [0.2, 0.4, 0.6, 0.8])),
        (0.3, 0.5, (0.3, 0.5, [0.3, 0.4, 0.5])),
        (1.0, 1.0, (0.9, 1.0, [0.9, 1.0])),
        (0.0, 1.0, (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0])),
    ],
)
def test_scale_spans_the_intervals(low: float, high: float, expected: tuple) -> None:
    scale = Scale.around(pd.DataFrame({"low": [low], "high": [high]}))
    assert (scale.low, scale.high, scale.ticks) == expected
    assert scale.place(scale.low) == "0.0%"
    assert scale.place(scale.high) == "100.0%"


def test_as_large_as_the_real_valid_split() -> None:
    large = make_content(queries=500, candidates=30, right=6, boxes=12)
    start = time.perf_counter()
    page = render_page(large)
    assert time.perf_counter() - start < 10  # seconds
    assert len(page.encode()) < 3e6  # bytes
