"""Wrong products whose words fit a query almost as well as the right product's are not drawn."""

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from multimodal_recall.data.pairs import RightAnswers
from multimodal_recall.negatives import relative_margin
from multimodal_recall.negatives.drawing import SimilarQueries
from multimodal_recall.negatives.relative_margin import RelativeMargin

TEXTS = ["red shoes", "shoes red", "red leather shoes", "blue shoes", "red hat", "tea cup"]
QUERIES, PRODUCTS = np.arange(6), np.arange(6)


def margin_of(margin: float, queries: np.ndarray = QUERIES, products: np.ndarray = PRODUCTS) -> RelativeMargin:
    return RelativeMargin(TEXTS, queries, products, products.max() + 1, margin)


def dense_scores(texts: list[str], queries: np.ndarray, products: np.ndarray) -> np.ndarray:
    """(texts, products)."""
    vectorizer = TfidfVectorizer(analyzer=str.split, binary=True).fit(texts)
    bags = [" ".join(texts[query] for query in queries[products == product]) for product in range(products.max() + 1)]
    return (vectorizer.transform(texts) @ vectorizer.transform(bags).T).toarray()


def test_a_score_is_the_cosine_with_the_words_of_all_queries_of_the_product(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    words = [f"w{number}" for number in range(30)]
    texts = list(dict.fromkeys(" ".join(random.choice(words, random.integers(1, 5))) for _ in range(80)))
    queries, products = random.integers(0, len(texts), 150), random.permutation(np.arange(150) % 60)
    expected = dense_scores(texts, queries, products)
    tool = RelativeMargin(texts, queries, products, 60, 0.05)
    rows, columns = np.indices(expected.shape).reshape(2, -1)
    for at_once in (1 << 16, 1000):  # in one piece, and in several
        monkeypatch.setattr(relative_margin, "PAIRS_AT_ONCE", at_once)
        assert tool.score(rows, columns) == pytest.approx(expected.ravel(), abs=1e-6)


@pytest.mark.parametrize(("margin", "drawn"), [(None, {1, 2, 3, 4}), (0.05, {2, 3, 4}), (0.4, {3, 4}), (1.0, {-1})])
def test_a_wider_margin_leaves_out_more(margin: float | None, drawn: set[int]) -> None:
    # Given "red shoes" with its right product 0: product 1 has the same words, product 2 a word more
    tool = SimilarQueries(TEXTS, QUERIES, PRODUCTS, 10, None if margin is None else margin_of(margin))
    right = RightAnswers(QUERIES, PRODUCTS, 6)
    found = tool.draw(np.zeros(300, int), np.zeros(300, int), right, np.random.default_rng(0))
    assert set(found) == drawn


def test_a_right_product_with_further_words_scores_lower_and_so_do_its_negatives() -> None:
    # Given that product 0 is right for "tea cup" too, only half of its words are those of "red shoes"
    queries, products = np.append(QUERIES, 5), np.append(PRODUCTS, 0)
    tool = margin_of(0.05, queries, products)
    scores = dense_scores(TEXTS, queries, products)
    kept = tool.keep(np.zeros(6, int), np.zeros(6, int), PRODUCTS)
    assert kept.tolist() == (scores[0] < 0.95 * scores[0, 0]).tolist()
    assert not kept[2]  # which is kept where product 0 has the words of "red shoes" alone
    assert margin_of(0.05).keep(np.zeros(1, int), np.zeros(1, int), np.array([2])).all()


def test_the_last_product_that_is_left_is_found_without_a_draw_by_chance() -> None:
    # Given a hundred texts with the query's words, and a single one with another word
    texts = ["red shoes", *(f"{'red ' * (number + 2)}shoes" for number in range(300)), "red hat"]
    rows = np.arange(len(texts))
    tool = SimilarQueries(texts, rows, rows, 400, RelativeMargin(texts, rows, rows, len(texts), 0.05))
    right = RightAnswers(rows, rows, len(texts))
    assert set(tool.draw(np.zeros(40, int), np.zeros(40, int), right, np.random.default_rng(0))) == {301}
