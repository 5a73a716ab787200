"""``kedro search --serve``: what it answers is what ``kedro search`` finds, whoever asks and however hostile."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlencode

import ir_measures
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from kedro.io import CatalogProtocol
from PIL import Image
from starlette.testclient import TestClient

from multimodal_recall.commands.products import SearchError
from multimodal_recall.commands.search import search
from multimodal_recall.commands.searcher import open_searcher
from multimodal_recall.commands.serve import server
from multimodal_recall.commands.serve import shop as shop_module
from multimodal_recall.commands.serve.app import HEADERS, make_app
from multimodal_recall.commands.serve.server import ServeError, allowed_hosts, configure, listen
from multimodal_recall.commands.serve.shop import Shop, id_of_text, ids_of_split, open_shop
from multimodal_recall.commands.serve.wanted import Wanted, start_with
from multimodal_recall.runtime.cores import usable_cores
from tests.commands.conftest import RANKERS

QUERIES = ["red dress", "black leather boots", "schwarzes kleid", "Blue  SHOES!", "white shirt", "!!!"]
HOSTILE = '"><script>throw Error("run")</script><img src=x onerror=alert(1)> \u202e{{7*7}} café'


def ask(client: TestClient, path: str = "/search", **parameters: object) -> dict:
    answer = client.get(f"{path}?{urlencode(parameters, doseq=True)}")
    assert answer.status_code == 200, answer.text
    return answer.json()


class Tags(HTMLParser):
    """The tags of a page with their attributes, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        return [found for name, found in self.tags if name == tag and wanted.items() <= found.items()]


def page(client: TestClient, path: str = "/", **parameters: object) -> Tags:
    answer = client.get(f"{path}?{urlencode(parameters, doseq=True)}")
    assert answer.status_code == 200, answer.text
    return Tags(answer.text)


@pytest.mark.parametrize("ranker", RANKERS)
def test_it_finds_what_the_command_finds(client: TestClient, served: CatalogProtocol, ranker: str) -> None:
    for labels in ([], ["shoes"], ["shoes", "top clothes"]):
        expected = search(served, QUERIES, ranker=ranker, top=7, labels=labels)
        for query, found in expected.groupby("query", sort=False):
            answer = ask(client, q=query, ranker=ranker, top=7, label=labels)
            assert [product["product_id"] for product in answer["products"]] == found["product_id"].tolist()
            np.testing.assert_allclose([row["score"] for row in answer["products"]], found["score"], rtol=1e-5)
            assert [product["labels"] for product in answer["products"]] == found["labels"].tolist()
            assert [product["title"] for product in answer["products"]] == found["title"].tolist()
            assert answer["unknown_words"] == found["unknown_words"].iloc[0]
            assert (answer["query"], answer["ranker"]) == (query, ranker)
    alone = search(served, ["red dress"], ranker=ranker)  # a matrix product of another size rounds otherwise
    assert [row["score"] for row in ask(client, q="red dress", ranker=ranker)["products"]] == alone["score"].tolist()


def test_an_older_model_ranks_as_when_it_was_the_newest(
    client: TestClient, shop: Shop, served: CatalogProtocol
) -> None:
    old = next(choice for choice in shop.choices.values() if choice.name != choice.ranker)
    assert old.name == f"two_tower@{old.version}"
    assert old.version < shop.choices["two_tower"].version
    answer = ask(client, q="red dress", ranker=old.name)
    assert answer["version"] == old.version
    searcher = open_searcher(served, "two_tower", shop.products, shop.hardware, old.version)
    assert [row["score"] for row in answer["products"]] == searcher.find(["red dress"])["score"].tolist()
    assert searcher.index is None
    assert searcher.how.startswith("every product was scored: the index is of the model of ")
    assert answer["products"] != ask(client, q="red dress", ranker="two_tower")["products"]


def test_what_is_served_has_a_name(client: TestClient, shop: Shop) -> None:
    health = ask(client, "/healthz")
    assert (health["status"], health["split"], health["loaded"]) == ("ok", "catalogue", ["two_tower"])
    assert health["products"] == len(shop.products.product_ids) > 100
    assert {*RANKERS} < health["rankers"].keys()
    for facts in health["rankers"].values():
        assert 0 <= facts["valid_ndcg_at_5"] <= 1
        assert re.fullmatch(r"20\d\d-\S+Z", facts["version"])


def test_requests_at_the_same_time_are_not_mixed_and_a_ranker_is_loaded_once(
    shop: Shop, start: Wanted, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Counter()

    def count(catalog: CatalogProtocol, ranker: str, *arguments: object) -> object:
        opened[ranker] += 1
        return open_searcher(catalog, ranker, *arguments)

    monkeypatch.setattr(shop_module, "open_searcher", count)
    asked = [{"q": query, "ranker": ranker, "top": top} for query in QUERIES for ranker in RANKERS for top in (1, 8)]
    with running(shop, start) as address, ThreadPoolExecutor(8) as threads:

        def get(parameters: dict) -> dict:
            with urllib.request.urlopen(f"{address}/search?{urlencode(parameters)}") as answer:
                return json.load(answer)

        together = list(threads.map(get, asked * 3))
        alone = list(map(get, asked))
    assert together == alone * 3
    assert opened == {"bag_of_words": 1, "query_likelihood": 1}  # two_tower was loaded at the start


def test_a_search_that_nobody_waits_for_is_left_out(shop: Shop, start: Wanted) -> None:
    computed, find = [], shop.find

    def slow(*arguments: object) -> object:
        computed.append(arguments)
        time.sleep(0.2)
        return find(*arguments)

    shop.find = slow
    with running(shop, start) as address:
        place = "127.0.0.1", int(address.rpartition(":")[2])
        for _ in range(40):
            with socket.create_connection(place, 10) as client:
                client.sendall(b"GET /search?q=red HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        with urllib.request.urlopen(f"{address}/search?q=red") as answer:
            assert json.load(answer)["query"] == "red"
    assert len(computed) <= usable_cores() + 1


class running:  # noqa: N801
    """A server on a free port of this machine, in a thread."""

    def __init__(self, shop: Shop, start: Wanted) -> None:
        import uvicorn

        self.socket = listen("127.0.0.1", 0)
        self.server = uvicorn.Server(configure(make_app(shop, start)))
        self.thread = threading.Thread(target=self.server.run, args=[[self.socket]])

    def __enter__(self) -> str:
        self.thread.start()
        return f"http://127.0.0.1:{self.socket.getsockname()[1]}"

    def __exit__(self, *error: object) -> None:
        self.server.should_exit = True
        self.thread.join(30)
        assert not self.thread.is_alive()


@pytest.mark.parametrize("request_line", ["GET /healthz HTTP/1.1\r\nX: ", "GET /?q="])
def test_a_request_beyond_64_kb_is_not_read(shop: Shop, start: Wanted, request_line: str) -> None:
    with running(shop, start) as address:
        place = "127.0.0.1", int(address.rpartition(":")[2])
        with socket.create_connection(place, 10) as client, pytest.raises((BrokenPipeError, ConnectionResetError)):
            client.sendall(request_line.encode() + b"x" * 50_000_000)  # more than the buffers of both sides hold


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("", r"q is empty: name the product in a word or more"),
        ("q=+", r"q is empty"),
        ("q=" + "x" * 301, r"the query has 301 characters: at most 300 are read"),
        ("q=red&ranker=bag_of_word", r"there is no ranker 'bag_of_word'\. Did you mean 'bag_of_words'\?"),
        ("q=red&ranker=" + "x" * 500, r"there is no ranker 'x{60}\.\.\.', only \['bag_of_words', "),
        ("q=red&with=mcan", r"there is no ranker 'mcan'"),
        ("q=red&top=0", r"top is '0': a whole number from 1 to 100 is wanted"),
        ("q=red&top=101", r"top is '101'"),
        ("q=red&top=-1", r"top is '-1'"),
        ("q=red&top=1e1", r"top is '1e1'"),
        ("q=red&top=%D9%A1", r"top is '١'"),
        ("q=red&top=" + "9" * 100, r"top is '9{60}\.\.\.'"),
        ("q=red&label=shoe", r"there is no label 'shoe'\. Did you mean 'shoes'\?"),
        ("q=red&" + "&".join(f"label={number}" for number in range(51)), r"label stands 51 times: at most 50"),
        ("q=red&label=" + "x" * 301, r"label has 301 characters: at most 300 are read"),
    ],
)
def test_a_bad_request_is_one_clear_error(client: TestClient, parameters: str, message: str) -> None:
    answer = client.get(f"/search?{parameters}")
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/json")
    assert re.search(message, answer.json()["error"])
    if "empty" not in message:
        shown = client.get(f"/?{parameters}")
        assert shown.status_code == 400
        assert re.search(message, Tags(shown.text).text, re.IGNORECASE)
        assert Tags(shown.text).all("form", action="/")


@pytest.mark.parametrize(
    "path",
    [
        "/", "/?q=red+dress", "/search", "/search?q=red", "/why?q=red&product=x", "/healthz", "/style.css", "/page.js",
        "/nothing", "/photos/1", "/photos/x",
    ],
)  # fmt: skip
def test_every_answer_has_the_headers_that_keep_a_page_harmless(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/?q=red+dress", "/search?q=red", "/healthz"])
def test_pages_are_only_read(client: TestClient, path: str) -> None:
    answer = client.post(path, content=b"x" * 100_000)
    assert answer.status_code == 405
    assert {*answer.headers["allow"].split(", ")} == {"GET", "HEAD"}


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("127.0.0.1:8000", 200),
        ("localhost:9", 200),
        ("[::1]:8000", 200),
        ("evil.example", 400),
        ("127.0.0.1.evil.example", 400),
        ("", 400),
    ],
)
def test_another_name_of_the_machine_gets_no_answer(client: TestClient, host: str, code: int) -> None:
    answer = client.get("/healthz", headers={"host": host})
    assert answer.status_code == code
    assert ("products" in answer.text) == (code == 200)


def test_the_names_that_are_served() -> None:
    assert "shop.example" in allowed_hosts("shop.example", "10.0.0.7")
    assert "[fe80::1]" in allowed_hosts("fe80::1", "fe80::1")
    assert allowed_hosts("0.0.0.0", "0.0.0.0") == allowed_hosts("::", "::") == ["*"]


def test_photos_are_those_of_served_products_alone(client: TestClient, shop: Shop, tmp_path: Path) -> None:
    with_photo = ask(client, q="red dress")["products"][0]
    answer = client.get(with_photo["photo"])
    assert answer.headers["content-type"] == "image/png"
    assert answer.content == shop.photo(with_photo["product_id"]).read_bytes()
    # Given photos of a product that is served, of one that is not, a broken one, and a file of another name
    first, second = shop.products.product_ids[:2].tolist()
    shop.photos = tmp_path / "photos"
    shop.photos.mkdir()
    (tmp_path / "secret.jpg").write_text("secret")
    (shop.photos / "notes.jpg").write_text("secret")
    Image.new("RGB", (1000, 500), "red").save(shop.photos / f"{first}.jpg")
    (shop.photos / f"{second}.jpg").write_text("<script>alert(1)</script>")
    Image.new("RGB", (9, 9)).save(shop.photos / "987654321.jpg")
    answer = client.get(f"/photos/{first}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert len(answer.content) < 20_000  # scaled down
    refused = [str(second), "987654321", "notes", "notes.jpg", f"{first}.jpg", "", "..%2Fsecret", "../secret.jpg",
               "%2e%2e%2fsecret.jpg", f"..%2fphotos%2f{first}", f"{first}%00", f"+{first}", f"0{first}x", "9" * 400,
               "-9223372036854775809", "%EF%BC%91", "/etc/passwd"]  # fmt: skip
    for name in refused:
        answer = client.get(f"/photos/{name}")
        assert answer.status_code in (400, 404), name
        assert "secret" not in answer.text
        assert answer.headers["content-type"] == "application/json"


def test_the_page_shows_what_was_found_and_keeps_its_state_in_links(client: TestClient, shop: Shop) -> None:
    asked = {"q": "red dress", "ranker": "bag_of_words", "with": "query_likelihood", "top": 5, "label": ["", "shoes"]}
    shown, found = page(client, **asked), ask(client, **asked)["products"]
    cards = [card["data-product"] for card in shown.all("li", **{"class": "card"})]
    assert cards[:5] == [str(product["product_id"]) for product in found]
    assert len(cards) == 10
    assert [image["href"] for image in shown.all("image")][:5] == [product["photo"] for product in found]
    assert all(product["title"] in shown.text for product in found)
    assert all(f"{product['score']:.3g}" in shown.text for product in found)
    assert shown.all("input", name="q")[0]["value"] == "red dress"
    assert shown.all("input", name="top")[0]["value"] == "5"
    assert [option["value"] for option in shown.all("option") if "selected" in option] == [
        "bag_of_words", "query_likelihood",
    ]  # fmt: skip
    assert [box["value"] for box in shown.all("input", type="checkbox") if "checked" in box] == ["shoes"]
    links = [link["href"] for link in shown.all("a") if link["href"].startswith("/why?")]
    assert len(links) == 10
    for link, ranker in ((links[0], "bag_of_words"), (links[-1], "query_likelihood")):
        why = page_of(client, link)
        assert f"Why {ranker} finds product" in " ".join(why.text.split())
        back = next(link["href"] for link in why.all("a") if link["href"].startswith("/?"))
        assert [card["data-product"] for card in page_of(client, back).all("li", **{"class": "card"})] == cards


def page_of(client: TestClient, link: str) -> Tags:
    return Tags(client.get(link).text)


def test_two_rankings_side_by_side_say_what_moved(client: TestClient) -> None:
    both = {"q": "red dress", "ranker": "bag_of_words", "with": "query_likelihood", "top": 8}
    left, right = (
        [product["product_id"] for product in ask(client, q="red dress", ranker=ranker, top=8)["products"]]
        for ranker in (both["ranker"], both["with"])
    )
    text = " ".join(page(client, **both).text.split())
    common = {*left} & {*right}
    assert (
        f"{len(common)} of {16 - len(common)} products are in both: Jaccard {len(common) / (16 - len(common)):.2f}"
        in text
    )
    moved = [left.index(product) - right.index(product) for product in right if product in common]
    told = re.findall(r"(?<=\d)([+−]\d+|=) [-+]?\d", text.partition("query_likelihood of")[2])
    assert told == [f"{places:+d}".replace("-", "−") if places else "=" for places in moved]
    assert text.count("only left ") == text.count("only right ") == 8 - len(common)
    same = " ".join(page(client, **{**both, "with": "bag_of_words"}).text.split())
    assert "Jaccard" not in same  # a ranker beside itself is shown once


def test_without_a_query_there_is_the_form_alone(client: TestClient) -> None:
    shown = page(client)
    assert shown.all("form", action="/")
    assert not shown.all("li", **{"class": "card"})
    assert "autofocus" in shown.all("input", name="q")[0]


def test_what_the_page_starts_with(shop: Shop) -> None:
    start = start_with("bag_of_words", 3, ["shoes"], shop.products.labels)
    with TestClient(make_app(shop, start)) as client:
        answer = ask(client, q="red dress")
        assert (answer["ranker"], len(answer["products"])) == ("bag_of_words", 3)
        assert all("shoes" in product["labels"] for product in answer["products"])
        every = ask(client, q="red dress", label="", top=100, ranker="two_tower")  # as the form with no label ticked
        assert not all("shoes" in product["labels"] for product in every["products"])
    whole = next(name for name in shop.products.labels if name not in shop.labels)
    with TestClient(make_app(shop, start_with("bag_of_words", 3, [whole], shop.products.labels))) as client:
        ticked = [box["value"] for box in page(client).all("input", type="checkbox") if "checked" in box]
        assert ticked == [whole]  # else the form would drop it
    with pytest.raises(ValueError, match="top is '1000': a whole number from 1 to 100"):
        start_with("bag_of_words", 1000, [], shop.products.labels)
    with pytest.raises(SearchError, match="there is no label 'shoe'"):
        start_with("bag_of_words", 10, ["shoe"], shop.products.labels)


def test_a_list_of_ids_bounds_what_is_found(served: CatalogProtocol, start: Wanted, shop: Shop) -> None:
    only = shop.products.product_ids[:5].tolist()
    with TestClient(make_app(open_shop(served, only=[*only, 77]), start)) as client:
        assert {product["product_id"] for product in ask(client, q="red")["products"]} == {*only}
        assert ask(client, "/healthz")["products"] == 5
        others = [f"/photos/{product}" for product in shop.products.product_ids[5:7]]
        assert [client.get(path).status_code for path in [f"/photos/{only[0]}", *others]] == [200, 404, 404]
    with pytest.raises(SearchError, match="no product of catalogue has an id of the list"):
        open_shop(served, only=[77])
    with pytest.raises(SearchError, match="there is no model of 'mcan'"):
        open_shop(served, ranker="mcan")


@pytest.mark.parametrize("ranker", RANKERS[1:])
def test_why_a_product_was_found(client: TestClient, shop: Shop, ranker: str) -> None:
    found = ask(client, q="red leather boots", ranker=ranker)["products"][0]
    parts = shop.searcher(ranker).explain("red leather boots", found["product_id"])
    assert list(parts) == ["red", "leather", "boots"]
    assert sum(parts.values()) == pytest.approx(found["score"], abs=2e-3)  # the index has float16 numbers
    text = " ".join(
        page(client, "/why", q="red leather boots", ranker=ranker, product=found["product_id"]).text.split()
    )
    assert all(f"{word} {score:+.3f}" in text for word, score in parts.items())
    assert f"{ranker} reads every word from the largest box, number 1." in text
    assert shop.searcher(ranker).explain("!!!", found["product_id"]).keys() == {"(no word)"}
    twice = shop.searcher(ranker).explain("red red", found["product_id"])
    assert list(twice) == ["red"]


def test_why_explains_the_score_that_ranked_a_product_whose_features_differ_between_chunks(
    client: TestClient, shop: Shop
) -> None:
    best, other = (row["product_id"] for row in ask(client, q="red boots", ranker="bag_of_words", top=2)["products"])
    searcher, wanted = shop.searcher("bag_of_words"), ds.field("product_id") == other
    tables = (chunk["products"].to_table(filter=wanted) for chunk in shop.products.chunks.values())
    differing = next(table for table in tables if len(table)).set_column(0, "product_id", pa.array([best], pa.int64()))
    first = {"first": {"products": ds.dataset(differing)}, **shop.products.chunks}
    both = replace(searcher, products=replace(shop.products, chunks=first), index=None)
    parts = both.explain("red boots", best)
    assert parts == searcher.explain("red boots", best) != searcher.explain("red boots", other)
    assert sum(parts.values()) == pytest.approx(both.find(["red boots"], 1)["score"].iloc[0], abs=1e-5)


def test_a_score_that_is_no_sum_is_said_to_be_none(client: TestClient, shop: Shop) -> None:
    product = shop.products.product_ids[0].item()
    text = page(client, "/why", q="red dress", ranker="two_tower", product=product).text
    assert "two_tower reads all words of the query together: its score is no sum over the words." in text
    for wrong, code in (("77", 400), ("x", 400), ("", 400)):
        answer = client.get(f"/why?q=red&product={wrong}")
        assert answer.status_code == code
        assert re.search("there is no product 77|is no product id", answer.text, re.IGNORECASE)


def test_hostile_texts_are_shown_as_they_are_and_run_nothing(client: TestClient, shop: Shop) -> None:
    names = [HOSTILE + str(number) for number in range(len(shop.products.labels))]
    table, products = shop.products.shown, replace(shop.products, labels=names)
    products.__dict__["shown"] = table.set_column(1, table.schema.field("title"), [[HOSTILE] * len(table)])
    shop.products, shop.collection = products, HOSTILE
    shop.searchers = {name: replace(searcher, products=products) for name, searcher in shop.searchers.items()}
    asked = {"q": HOSTILE, "with": "bag_of_words", "label": [""]}
    pages = [page(client, **asked), page(client, "/why", **asked, product=shop.products.product_ids[0].item())]
    refused = [{"q": "red", "label": HOSTILE}, {"q": "red", "ranker": HOSTILE}, {"q": HOSTILE, "top": HOSTILE}]
    pages += [Tags(client.get(f"/?{urlencode(parameters)}").text) for parameters in refused]
    for found in pages:
        assert found.all("script") == [{"src": "/page.js", "defer": None}]
        assert not found.all("img")
        assert not found.all("style")
        assert not [
            name for _, attributes in found.tags for name in attributes if name.startswith("on") or name == "style"
        ]
    assert HOSTILE in pages[0].text
    assert HOSTILE in pages[1].text
    assert "49" not in pages[0].all("main")[0]["data-query"]
    assert ask(client, **asked)["products"][0]["title"] == HOSTILE


def test_a_query_has_its_ids_in_each_split_and_one_of_its_text(client: TestClient, shop: Shop) -> None:
    examples = {split: shop.catalog.load(f"{split}_examples") for split in ("valid", "testA")}
    pairs = {split: tables["chunk_000"]["pairs"].to_table().to_pandas() for split, tables in examples.items()}
    for split in pairs:
        for query, of_query in pairs[split].groupby("query"):
            found = ask(client, q=f" {query.upper()} ", top=1)["query_ids"]
            assert found[split] == sorted({*of_query["query_id"]})
            assert found == {
                name: sorted({*table.loc[table["query"] == query, "query_id"]})
                for name, table in pairs.items()
                if (table["query"] == query).any()
            }
    other = ask(client, q="a query of no split")
    assert (other["query_ids"], other["text_id"]) == ({}, id_of_text("A query  of no split"))
    assert other["text_id"] == 5233419564897565
    ids = [id_of_text(str(number)) for number in range(10_000)]
    assert len({*ids}) == 10_000
    assert 0 < min(ids) < max(ids) < 1 << 53


def test_a_text_has_all_ids_that_it_stands_under(client: TestClient, shop: Shop) -> None:
    # Given two chunks that share an id, texts that differ in case and spaces alone, and ids that two splits share
    rows = [[("red dress", 9), ("Red  Dress", 2**62), ("red dress", 9)], [("red dress", 9), ("blue hat", 1)]]
    chunks = [
        pa.table(dict(zip(("query", "query_id"), map(list, zip(*of_chunk, strict=True)), strict=True)))
        for of_chunk in rows
    ]
    examples = {f"chunk_{number}": {"pairs": ds.dataset(table)} for number, table in enumerate(chunks)}
    of_split = ids_of_split(examples)
    assert of_split == {"red dress": [9, 2**62], "blue hat": [1]}
    shop.query_ids = {"valid": {"blue hat": [9]}, "testA": of_split}
    assert ask(client, q="red dress")["query_ids"] == {"testA": [9, 2**62]}
    shown = page(client, q="RED dress")
    assert json.loads(shown.all("main")[0]["data-query-ids"]) == {"testA": ["9", str(2**62)]}
    assert [button["data-split"] for button in shown.all("button") if "data-split" in button] == ["valid", "testA"]
    assert ask(client, q="red dress!")["query_ids"] == {}  # signs count: "phone 6+" is another phone


def test_ir_measures_reads_judgements_as_the_page_writes_them() -> None:
    lines = "7 0 12 2\n7 0 13 0\n5233419564897565 0 -4 1\n"
    judged = list(ir_measures.read_trec_qrels(lines))
    assert [(row.query_id, row.doc_id, row.relevance) for row in judged] == [
        ("7", "12", 2), ("7", "13", 0), ("5233419564897565", "-4", 1),
    ]  # fmt: skip


def test_a_missing_package_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "find_spec", lambda name: None)
    with pytest.raises(ServeError, match=r'--serve needs starlette and uvicorn: pip install -e "\.\[serve\]"'):
        listen("127.0.0.1", 0)


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            ServeError, match=rf"cannot listen on port {port} of 127\.0\.0\.1: Address already in use\. N"
        ):
            listen("127.0.0.1", port)
    with pytest.raises(ServeError, match=r"cannot listen on port 1 of no\.such\.host\.invalid: (?!Unknown error)\w+"):
        listen("no.such.host.invalid", 1)
    with pytest.raises(ServeError, match="--host is empty: name an address"):
        listen("", 0)


@pytest.fixture
def served_by_the_command(served_project: Path) -> Iterator[Callable[..., SimpleNamespace]]:
    started = []

    def serve(*options: str) -> SimpleNamespace:
        command = [sys.executable, "-m", "kedro", "search", "--serve", "--port=0", *options]
        environment = {**os.environ, "DO_NOT_TRACK": "1", "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, cwd=served_project, env=environment, text=True, stdout=subprocess.PIPE)
        started.append(process)
        lines = []
        while not (lines and lines[-1].startswith("end with Ctrl-C")):
            lines.append(process.stdout.readline())
            assert lines[-1], lines
        address = next(line.strip() for line in lines if line.startswith("http"))
        return SimpleNamespace(process=process, address=address, lines=lines)

    yield serve
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_the_command_serves_until_ctrl_c(served_by_the_command: Callable[..., SimpleNamespace]) -> None:
    running = served_by_the_command("--top=3", "--ranker=query_likelihood", "red dress")
    assert running.address.endswith("/?q=red+dress")
    assert any(
        re.match(r"\d+ products of catalogue, ranked by query_likelihood of 20\S+: 1 epochs", line)
        for line in running.lines
    )
    with urllib.request.urlopen(running.address) as answer:
        assert answer.headers.get("server") is None
        assert len(Tags(answer.read().decode()).all("li", **{"class": "card"})) == 3
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(20) == 0
    assert running.process.stdout.read() == "ended\n"
