"""BM25 and overlap of titles: the published formula, missing titles, and equal scores ordered by chance."""

import numpy as np
import pandas as pd
import pytest

from multimodal_recall.data.text import words_of
from multimodal_recall.evaluation.title_rankings import LEAST_DIFFERENCE, rank_by_titles

TITLES = {1: "Red shirt", 2: "blue shirt, red buttons", 3: "green hat", 4: None, 5: "shirt"}


def candidates(query: str, query_id: int = 7) -> pd.DataFrame:
    rows = pd.DataFrame({"product_id": list(TITLES), "title": list(TITLES.values())})
    return rows.assign(query=query, query_id=query_id)


def bm25(query: str, title: str, titles: list[str]) -> float:
    """Lucene's form of Robertson's formula, one word at a time."""
    all_words = [words_of(other or "") for other in titles]
    average, words, score = np.mean(list(map(len, all_words))), words_of(title or ""), 0.0
    for word in dict.fromkeys(words_of(query)):
        holding = sum(word in other for other in all_words)
        weight = np.log(1 + (len(all_words) - holding + 0.5) / (holding + 0.5))
        count = words.count(word)
        score += weight * count / (count + 1.5 * (1 - 0.75 + 0.75 * len(words) / average))
    return score


def test_bm25_is_the_published_formula() -> None:
    query = "red red shirt of unknown"
    found = rank_by_titles(candidates(query))
    wanted = [bm25(query, title, list(TITLES.values())) for title in TITLES.values()]
    assert found["bm25"].to_numpy() == pytest.approx(wanted, abs=2 * LEAST_DIFFERENCE)
    assert found["title_overlap"].to_numpy() == pytest.approx([0.5, 0.5, 0, 0, 0.25], abs=LEAST_DIFFERENCE)


def test_a_query_without_known_words_ranks_by_chance() -> None:
    for query in ("!?", "trousers"):
        found = rank_by_titles(pd.concat([candidates("shirt", 1), candidates(query, 2)]))
        assert found[found["query_id"] == 2][["bm25", "title_overlap"]].to_numpy().max() < LEAST_DIFFERENCE


def test_equal_titles_are_not_ordered_by_id() -> None:
    rows = pd.DataFrame({"query_id": 1, "query": "shirt", "product_id": range(200), "title": "shirt"})
    order = rank_by_titles(rows).sort_values("title_overlap")["product_id"]
    assert abs(np.corrcoef(order, range(200))[0, 1]) < 0.2


@pytest.mark.parametrize("title", [None, "!?", ""])
def test_without_a_word_in_a_title_there_is_no_ranking(title: str | None) -> None:
    assert rank_by_titles(candidates("shirt").assign(title=title)).empty
