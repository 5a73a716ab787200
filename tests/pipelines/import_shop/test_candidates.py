"""The lists of an imported shop: how often a product stands in lists says nothing about whether it is right."""

import numpy as np
import pandas as pd
import pytest

from multimodal_recall.config.import_options import ImportOptions
from multimodal_recall.evaluation.bootstrap import bootstrap_means, interval
from multimodal_recall.evaluation.leak_rules import best_query_only, keep_once
from multimodal_recall.evaluation.metrics import measure_queries
from multimodal_recall.pipelines.import_shop.candidates import ASKED_AT_ONCE, _with_all_words, make_candidates

KINDS, COLOURS = 40, 25


def made_up_shop(products: int, queries: int, kinds: int = KINDS, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A shop whose products sell as in life: few are clicked for many queries, most for one or none."""
    random = np.random.default_rng(seed)
    kind, colour = random.integers(kinds, size=products), random.integers(COLOURS, size=products)
    shop = pd.DataFrame(
        {
            "product_id": random.permutation(products) + 1,
            "title": [f"colour{b} kind{a} model{n}" for n, (a, b) in enumerate(zip(kind, colour, strict=True))],
            "category": [f"kind{a}" for a in kind],
        }
    )
    popular, rows = 1 / np.arange(1, products + 1) ** 0.8, []
    for number in range(queries):
        a = random.integers(kinds)
        fits = np.flatnonzero(kind == a)
        weights = popular[fits] / popular[fits].sum()
        clicked = random.choice(fits, size=min(len(fits), 1 + random.poisson(2.5)), replace=False, p=weights)
        rows += [(f"kind{a} word{number}", shop["product_id"][place], 1 + random.geometric(0.3)) for place in clicked]
    clicks = pd.DataFrame(rows, columns=["query", "product_id", "clicks"])
    return shop, clicks.assign(relevance=np.nan, first_day=None)


@pytest.fixture(scope="module")
def lists() -> dict[str, pd.DataFrame]:
    shop, clicks = made_up_shop(5_000, 3_000)
    return make_candidates(clicks, shop, ImportOptions())


def ndcg(table: pd.DataFrame, scores: pd.DataFrame) -> np.ndarray:
    answers = table[table["right"]].groupby("query_id")["product_id"].agg(list).to_dict()
    return measure_queries(scores, answers)["ndcg_at_5"].to_numpy()


def random_scores(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    return table[["query_id", "product_id"]].assign(score=np.random.default_rng(seed).random(len(table)))


def first(kept: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """The kept candidates before the others: a rule that drops most of a list else loses by its length alone."""
    return scores.assign(score=scores["score"] + scores.index.isin(kept.index))


@pytest.mark.parametrize("counted", ["own split", "all splits"])
@pytest.mark.parametrize("split", ["valid", "testA"])
def test_rules_that_count_lists_score_as_random_order(lists: dict[str, pd.DataFrame], split: str, counted: str) -> None:
    table = lists[split]
    both = table if counted == "own split" else pd.concat([lists["valid"], lists["testA"]])
    counts = table["product_id"].map(both.groupby("product_id").size()).to_numpy()
    chance = np.stack([ndcg(table, random_scores(table, seed)) for seed in range(20)])
    ends = interval(bootstrap_means(chance[0][:, None], 2_000, np.random.default_rng(0)), 0.95)
    low, high = (chance.mean() + end[0] - chance[0].mean() for end in ends)  # of one random order about the mean of all
    rules = {
        "keep-once": lambda scores: first(keep_once(scores, counts), scores),
        "best query only": lambda scores: first(best_query_only(scores), scores),
        "few lists first": lambda scores: scores.assign(score=scores["score"] - counts),
        "many lists first": lambda scores: scores.assign(score=scores["score"] + counts),
    }
    for name, rule in rules.items():
        found = np.mean([ndcg(table, rule(random_scores(table, seed))).mean() for seed in range(20, 30)])
        assert low < found < high, (name, low, found, high)
    assert ndcg(table, best_query_only(random_scores(table, 1))).mean() < high
    assert ndcg(table, keep_once(random_scores(table, 1), counts)).mean() < high


def test_the_lists_hold_what_they_should(lists: dict[str, pd.DataFrame]) -> None:
    for split in ("valid", "testA"):
        table = lists[split]
        assert not table.duplicated(["query_id", "product_id"]).any()
        assert table.groupby("query_id")["right"].any().all()
        for counted in (table, pd.concat([lists["valid"], lists["testA"]])):
            share = table.groupby(table["product_id"].map(counted.groupby("product_id").size()))["right"].mean()
            assert len(share) > 10
            assert np.allclose(share, 1 / 20)
    texts = [set(lists[split]["query"]) for split in ("train", "valid", "testA")]
    assert not texts[0] & texts[1] | texts[1] & texts[2] | texts[0] & texts[2]


def test_hard_candidates_look_right_and_counts_stay() -> None:
    shop, clicks = made_up_shop(2_000, 1_000)
    categories = shop.set_index("product_id")["category"]
    alike, counts = [], []
    for share in (0.0, 0.5, 1.0):
        table = make_candidates(clicks, shop, ImportOptions(hard_share=share))["testA"]
        wrong = table[~table["right"]]
        alike.append((wrong["product_id"].map(categories) == wrong["query"].str.split().str[0]).mean())
        counts.append(sorted(table["product_id"].value_counts()))
    assert alike[0] < 0.1
    assert alike[0] + 0.1 < alike[1] < alike[2]
    assert counts[0] == counts[1] == counts[2]


def test_what_may_be_right_is_no_wrong_candidate() -> None:
    shop, clicks = made_up_shop(2_000, 1_000)
    longer = clicks.assign(query=clicks["query"] + " extra")
    lists = make_candidates(pd.concat([clicks, longer], ignore_index=True), shop, ImportOptions())
    clicked = set(zip(clicks["query"], clicks["product_id"], strict=True))
    for split in ("valid", "testA"):
        wrong = lists[split][~lists[split]["right"]]
        short = wrong[~wrong["query"].str.endswith(" extra")]
        assert len(short) > 1_000
        assert not clicked & set(zip(short["query"], short["product_id"], strict=True))
        longer = wrong.drop(short.index)
        assert not clicked & set(zip(longer["query"].str.removesuffix(" extra"), longer["product_id"], strict=True))


def test_products_that_a_person_judged_wrong_are_chosen_first() -> None:
    shop, clicks = made_up_shop(500, 300)
    random = np.random.default_rng(0)
    judged = clicks.assign(product_id=random.integers(1, 501, len(clicks)), relevance=0.0)
    table = pd.concat([clicks.assign(relevance=1.0), judged]).drop_duplicates(
        ["query", "product_id"], ignore_index=True
    )
    named = set(zip(judged["query"], judged["product_id"], strict=True))
    found = []
    for rows in (table, table[table["relevance"] > 0].reset_index(drop=True)):
        lists = make_candidates(rows, shop, ImportOptions())["testA"]
        wrong = lists[~lists["right"]]
        found.append(len(named & set(zip(wrong["query"], wrong["product_id"], strict=True))))
    assert found[0] > 2 * found[1]


def test_a_query_keeps_its_number_when_others_come() -> None:
    shop, clicks = made_up_shop(500, 300)
    clicks = clicks.assign(query=clicks["query"].str.replace("kind1 ", "Kind1 "))
    other = clicks.assign(query=clicks["query"].str.lower())[clicks["query"] != clicks["query"][0]]
    first, second = (
        pd.concat(make_candidates(rows.reset_index(drop=True), shop, ImportOptions()).values())
        .drop_duplicates("query_id")
        .assign(query=lambda table: table["query"].str.lower())
        .set_index("query")["query_id"]
        for rows in (clicks, other)
    )
    assert second.is_unique
    assert len(second) > 290
    assert first[second.index].equals(second)


def test_of_judgements_the_highest_stay_in_a_list() -> None:
    shop, clicks = made_up_shop(500, 300)
    grades = np.random.default_rng(0).integers(1, 4, len(clicks)).astype(float)
    judged = clicks.assign(clicks=0, relevance=grades)
    lists = make_candidates(judged, shop, ImportOptions(most_right=2))["testA"]
    kept = lists[lists["right"]].merge(judged, on=["query", "product_id"]).groupby("query")["relevance"]
    highest = judged.groupby("query")["relevance"].nlargest(2).groupby("query")
    assert (kept.max() == highest.max()[kept.max().index]).mean() > 0.9  # a best seller may be left out of lists
    whole = kept.size()[kept.size() == 2].index
    assert len(whole) > 20
    assert (kept.min()[whole] == highest.min()[whole]).mean() > 0.9


@pytest.mark.parametrize(("products", "queries", "kinds"), [(30, 40, 3), (60, 12, 5), (300, 1_000, 40)])
def test_small_and_crowded_shops_have_lists_in_which_counts_say_nothing(
    products: int, queries: int, kinds: int
) -> None:
    shop, clicks = made_up_shop(products, queries, kinds)
    lists = make_candidates(clicks, shop, ImportOptions())
    for split in ("valid", "testA"):
        table = lists[split]
        share = table.groupby(table["product_id"].map(table["product_id"].value_counts()))["right"]
        assert np.allclose(share.mean(), table["right"].mean(), atol=0.02)
        assert table.groupby("query_id").size().min() >= 2


def test_queries_with_all_words_of_another_are_found_among_any_number() -> None:
    random = np.random.default_rng(0)
    words = np.array(["red", "blue", "shirt", "hat", "new", "long"])
    texts = [" ".join(random.permutation(words)[: random.integers(1, 5)]) for _ in range(400)]
    every = pd.Index(pd.unique(pd.Series(texts)))
    asked = random.permutation(len(every))[: ASKED_AT_ONCE * 2 + 5]
    found = _with_all_words(every, asked).toarray() > 0
    sets = [set(text.split()) for text in every]
    assert found.tolist() == [[sets[place] <= of_other for of_other in sets] for place in asked]
