"""What ``kedro search --serve`` refuses: early, with one clear error, in a form that keeps what was chosen."""

import gc
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from click.testing import CliRunner, Result
from kedro.framework.cli.cli import KedroCLI
from kedro.io import CatalogProtocol, DatasetError
from starlette.testclient import TestClient

from multimodal_recall.commands.products import SearchError
from multimodal_recall.commands.searcher import Searcher, open_searcher
from multimodal_recall.commands.serve import server
from multimodal_recall.commands.serve import shop as shop_module
from multimodal_recall.commands.serve.server import ServeError, listen, serve
from multimodal_recall.commands.serve.shop import Shop
from multimodal_recall.commands.serve.wanted import RequestError, Wanted
from multimodal_recall.config.loader import RememberingConfigLoader
from multimodal_recall.models.saved import CARD, SavedRankerError, read_card
from multimodal_recall.runtime.cores import usable_cores
from tests.commands.test_serve import Tags, ask, running

FOLLOWED = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
FRAMED = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}


@pytest.fixture
def computed(shop: Shop) -> list[tuple]:
    """The searches that were computed."""
    calls, find = [], shop.find
    shop.find = lambda *asked: calls.append(asked) or find(*asked)
    return calls


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}, 403),
        ({"sec-fetch-site": "same-site", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"}, 403),
        ({"sec-fetch-site": "cross-site", **FRAMED}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:3000"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://["}, 403),
        ({"origin": "https://evil.example", "sec-fetch-site": "cross-site", **FOLLOWED}, 403),
        ({}, 200),
        ({"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none", **FOLLOWED}, 200),
        ({"sec-fetch-site": "cross-site", **FOLLOWED}, 200),
    ],
)
def test_a_page_of_another_site_is_refused_before_anything_is_computed(
    client: TestClient, computed: list[tuple], headers: dict[str, str], code: int
) -> None:
    for path in ("/?q=red", "/search?q=red"):
        answer = client.get(path, headers=headers)
        assert answer.status_code == code
        assert answer.headers["x-content-type-options"] == "nosniff"
        if code == 403:
            assert answer.json() == {"error": "pages of other sites get no answer: open the address itself"}
    assert len(computed) == (2 if code == 200 else 0)
    if code == 403:
        assert client.post("/search?q=red", headers=headers).status_code == 403


CHOSEN = {"q": "red dress", "ranker": "bag_of_words", "with": "query_likelihood", "top": 7, "label": ["shoes"]}


@pytest.mark.parametrize(
    ("wrong", "lost"),
    [
        ({"top": "1000"}, "top"),
        ({"ranker": "bag_of_word"}, "ranker"),
        ({"with": "bag_of_word"}, "with"),
        ({"q": "x" * 301}, "q"),
        ({"label": ["shoe", "shoes"]}, ""),
        ({"label": list(map(str, range(51)))}, "label"),
    ],
)
def test_the_form_of_a_refused_page_keeps_what_was_chosen(client: TestClient, wrong: dict, lost: str) -> None:
    answer = client.get(f"/?{urlencode({**CHOSEN, **wrong}, doseq=True)}")
    assert answer.status_code == 400
    shown = Tags(answer.text)
    chosen = [option["value"] for option in shown.all("option") if "selected" in option]
    ticked = [box["value"] for box in shown.all("input", type="checkbox") if "checked" in box]
    kept = {
        "q": shown.all("input", name="q")[0]["value"],
        "ranker": chosen[0],
        "with": (chosen[1:] or [""])[0],
        "top": int(shown.all("input", name="top")[0]["value"]),
        "label": [label for label in ticked if label != "shoe"],
    }
    start = {"q": "x" * 300, "ranker": "two_tower", "with": "", "top": 10, "label": []}
    assert kept == {**CHOSEN, **({lost: start[lost]} if lost else {})}
    why = Tags(client.get(f"/why?{urlencode({**CHOSEN, 'product': 'x'}, doseq=True)}").text)
    chosen = [option["value"] for option in why.all("option") if "selected" in option]
    assert chosen == [CHOSEN["ranker"], CHOSEN["with"]]


@pytest.mark.parametrize(
    "error", [DatasetError("version gone. Run: kedro run"), SavedRankerError("old. Run: kedro run")]
)
def test_a_ranker_that_cannot_be_loaded_is_one_clear_error(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(shop_module, "open_searcher", fail)
    of_photos = SimpleNamespace(env="photos", default_run_env="local")
    monkeypatch.setattr(RememberingConfigLoader, "current", of_photos)
    text = f"{str(error).split('.')[0]}. Run: kedro run --env=photos"
    answer = client.get("/search?q=red&ranker=bag_of_words")
    assert (answer.status_code, answer.json()) == (500, {"error": text})
    answer = client.get("/?q=red&ranker=bag_of_words")
    assert (answer.status_code, Tags(answer.text).all("form", action="/")[0]["role"]) == (500, "search")
    assert text[1:] in Tags(answer.text).text


def test_a_fault_of_the_program_is_said_to_be_one(client: TestClient, shop: Shop) -> None:
    shop.find = lambda *_: {}["secret"]
    answer = client.get("/search?q=red")
    assert (answer.status_code, answer.json()) == (
        500, {"error": "KeyError: a fault of the program. Its terminal shows the traceback"},
    )  # fmt: skip
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "a fault of the program" in Tags(client.get("/?q=red").text).text


def test_few_rankers_stay_loaded_and_the_longest_unused_goes(
    client: TestClient, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shop_module, "MOST_LOADED", 2)
    opened, first = [], ask(client, q="red", ranker="bag_of_words")
    gone = weakref.ref(shop.searchers["bag_of_words"].module)

    def note(catalog: CatalogProtocol, ranker: str, *arguments: Any) -> Searcher:
        opened.append(ranker)
        return open_searcher(catalog, ranker, *arguments)

    monkeypatch.setattr(shop_module, "open_searcher", note)
    ask(client, q="red", ranker="two_tower")  # now bag_of_words is the longest unused
    ask(client, q="red", ranker="query_likelihood")
    assert ask(client, "/healthz")["loaded"] == ["query_likelihood", "two_tower"]
    gc.collect()
    assert gone() is None
    assert ask(client, q="red", ranker="bag_of_words") == first
    assert ask(client, "/healthz")["loaded"] == ["bag_of_words", "query_likelihood"]
    assert opened == ["query_likelihood", "bag_of_words"]
    both = client.get("/?q=red&ranker=two_tower&with=bag_of_words")
    assert both.status_code == 200
    assert len(shop.searchers) == 2


def test_searches_under_way_at_the_end_are_told_so_without_a_traceback(
    shop: Shop, start: Wanted, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "GRACE", 0.2)
    begun, asked = threading.Event(), usable_cores() + 2  # some run, and the others wait for a thread
    shop.find = lambda *_: (begun.set(), time.sleep(1))
    with ThreadPoolExecutor(asked) as clients:
        with running(shop, start) as address:
            codes = [clients.submit(code_of, f"{address}/search?q=red") for _ in range(asked)]
            assert begun.wait(10)
            time.sleep(0.2)
        assert {code.result() for code in codes} == {503}
    assert "Exception in ASGI application" not in caplog.text


def code_of(address: str) -> int:
    with pytest.raises(HTTPError) as refused, urlopen(address):
        pass
    return refused.value.code


@pytest.fixture
def kedro(served_project: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("DO_NOT_TRACK", "1")
    monkeypatch.chdir(served_project)
    return lambda *words: CliRunner().invoke(KedroCLI(served_project), list(words))


@pytest.mark.parametrize(
    ("options", "named"), [(["--port=9000"], "--port"), (["--port=8000", "--host=127.0.0.1"], "--host and --port")]
)
def test_host_and_port_need_serve(kedro: Callable[..., Result], options: list[str], named: str) -> None:
    result = kedro("search", "red dress", *options)
    assert result.exit_code == 2
    assert result.output.splitlines()[-1] == f"Error: {named}: nothing listens without --serve. Add --serve"


def test_a_host_that_no_name_can_have_is_named() -> None:
    with pytest.raises(ServeError, match=r"cannot listen on port 0 of é\.\.b: .*\. Name another with --port or --host"):
        listen("é..b", 0)


@pytest.mark.parametrize(
    ("query", "error", "message"),
    [
        ("caf\udce9", SearchError, r"query 'caf\\udce9': query is not UTF-8"),  # as Python reads such an argument
        (" ", SearchError, "empty query"),
        ("x" * 301, RequestError, "the query has 301 characters"),
    ],
)
def test_a_query_whose_page_would_be_an_error_is_refused_at_the_start(
    shop: Shop, start: Wanted, query: str, error: type[Exception], message: str
) -> None:
    with listen("127.0.0.1", 0) as listening, pytest.raises(error, match=message):
        serve(listening, "127.0.0.1", shop, start, ["red", query])


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[]"])
def test_a_damaged_card_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CARD).write_bytes(content)
    with pytest.raises(SavedRankerError, match=r"card\.json is damaged: it is no record of a training"):
        read_card(tmp_path)
