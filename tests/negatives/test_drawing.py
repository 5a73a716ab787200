import numpy as np
import pyarrow as pa
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from multimodal_recall.data.pairs import RightAnswers
from multimodal_recall.data.text import last_word_groups
from multimodal_recall.negatives.drawing import (
    LabelSharing,
    NegativeError,
    SameGroup,
    SimilarQueries,
    clusters,
    draw_others,
    most_similar,
)

# Products 0-4 with these box labels; 9 is ignored. Product 4 shares label 1 with 0 and label 2 with 1.
LABELS = pa.array([[1, 9], [2, 2], [1, 2], [9], [1, 2, 9]], pa.list_(pa.int16()))


def drawer() -> LabelSharing:
    return LabelSharing(LABELS, label_count=10, ignored=[9])


def draws(query: int, product: int, right: RightAnswers, count: int = 6000) -> np.ndarray:
    random = np.random.default_rng(0)
    return drawer().draw(np.full(count, query), np.full(count, product), right, random)


def test_every_sharing_product_is_drawn_as_often() -> None:
    # Given the pair (query 0, product 2), which shares both labels with 4 and one with 0 and 1
    drawn = draws(0, 2, RightAnswers(np.array([0]), np.array([2]), 5))
    # Then 0, 1 and 4 come up a third of the time each: 5 standard errors are 0.03
    shares = np.bincount(drawn, minlength=5) / len(drawn)
    assert shares == pytest.approx([1 / 3, 1 / 3, 0, 0, 1 / 3], abs=0.03)


def test_no_right_answer_of_the_same_query_text_is_drawn() -> None:
    # Given that 0, 1 and 2 are all right for query 0, only 4 is left
    drawn = draws(0, 2, RightAnswers(np.array([0, 0, 0, 1]), np.array([0, 1, 2, 4]), 5))
    assert set(drawn) == {4}


def test_nothing_is_drawn_where_nothing_qualifies() -> None:
    # Given a product that holds only ignored labels, and one whose sharing products are all right
    assert set(draws(0, 3, RightAnswers(np.array([0]), np.array([3]), 5))) == {-1}
    assert set(draws(0, 1, RightAnswers(np.array([0, 0, 0]), np.array([1, 2, 4]), 5), 50)) == {-1}


def test_equal_to_a_loop_on_random_products() -> None:
    random = np.random.default_rng(3)
    labels = [random.integers(0, 6, random.integers(1, 4)).tolist() for _ in range(40)]
    queries, products = random.integers(0, 10, 60), random.integers(0, 40, 60)
    right = RightAnswers(queries, products, 40)
    tool = LabelSharing(pa.array(labels, pa.list_(pa.int16())), 6, ignored=[0])
    seen = np.stack([tool.draw(queries, products, right, np.random.default_rng(seed)) for seed in range(400)])
    for place, (query, product) in enumerate(zip(queries, products, strict=True)):
        answers = set(products[queries == query])
        allowed = {
            other for other in range(40) if other not in answers and (set(labels[other]) & set(labels[product])) - {0}
        }
        assert set(seen[:, place]) == (allowed or {-1})


TEXTS = ["red shoes", "blue shoes", "red hat", "green tea cup", "shoes red", "tea pot"]


def test_the_most_similar_texts_are_those_of_a_dense_cosine() -> None:
    random = np.random.default_rng(0)
    words = [f"w{number}" for number in range(40)]
    texts = list(dict.fromkeys(" ".join(random.choice(words, random.integers(1, 5))) for _ in range(200)))
    vectors = TfidfVectorizer(analyzer=str.split, binary=True).fit_transform(texts)
    cosine = (vectors @ vectors.T).toarray()
    np.fill_diagonal(cosine, -1)
    found, starts = most_similar(texts, 10)
    for row in range(len(texts)):
        mine = found[starts[row] : starts[row + 1]]
        assert row not in mine
        wanted = np.sort(cosine[row])[::-1][: len(mine)]
        assert cosine[row, mine] == pytest.approx(wanted, abs=1e-6)
        assert len(mine) >= min(10, (cosine[row] > 0).sum())


def test_similar_queries_give_the_products_of_texts_that_share_words() -> None:
    queries, products = np.array([0, 1, 2, 3, 4, 5, 0]), np.array([0, 1, 2, 3, 4, 5, 6])
    right = RightAnswers(queries, products, 7)
    tool = SimilarQueries(TEXTS, queries, products, similar=10)
    seen = np.stack([tool.draw(queries, products, right, np.random.default_rng(seed)) for seed in range(200)])
    # "red shoes" shares a word with "blue shoes", "red hat" and "shoes red"; "tea pot" with "green tea cup" alone
    assert set(seen[:, 0]) == {1, 2, 4}
    assert set(seen[:, 5]) == {3}
    # a product that is right for the text itself is not drawn, though a similar text has it too
    shared = RightAnswers(np.append(queries, 5), np.append(products, 3), 7)
    assert set(tool.draw(np.full(50, 5), np.full(50, 5), shared, np.random.default_rng(0))) == {-1}


def test_a_text_like_no_other_has_nothing_to_draw() -> None:
    queries, products = np.arange(3), np.arange(3)
    tool = SimilarQueries(["red shoes", "green tea", "tea cup"], queries, products, similar=2)
    drawn = tool.draw(queries, products, RightAnswers(queries, products, 3), np.random.default_rng(0))
    assert drawn.tolist() == [-1, 2, 1]


def test_others_are_never_right() -> None:
    right = RightAnswers(np.array([0, 0, 0, 0]), np.array([0, 1, 2, 3]), 5)
    assert set(draw_others(np.zeros(500, int), right, np.random.default_rng(0))) == {4}


def test_a_chunk_of_right_answers_only_is_refused() -> None:
    right = RightAnswers(np.zeros(5, int), np.arange(5), 5)
    with pytest.raises(NegativeError, match="all 5 products of the chunk are right answers of its query 0"):
        draw_others(np.zeros(3, int), right, np.random.default_rng(0))


def test_every_row_of_the_group_is_drawn_as_often() -> None:
    # Given texts 0 and 1 of one group, 2 alone; product 1 stands on two rows of text 1, 3 is right for 0 too
    queries, products = np.array([0, 1, 1, 1, 2, 0]), np.array([0, 1, 1, 2, 4, 3])
    drawer = SameGroup(np.array([0, 0, 1]), queries, products)
    right = RightAnswers(queries, products, 5)
    drawn = drawer.draw(np.zeros(6000, int), np.zeros(6000, int), right, np.random.default_rng(0))
    assert np.bincount(drawn, minlength=5) / 6000 == pytest.approx([0, 2 / 3, 1 / 3, 0, 0], abs=0.03)
    assert set(drawer.draw(np.full(9, 2), np.full(9, 4), right, np.random.default_rng(0))) == {-1}


def test_a_group_of_right_answers_but_one_is_searched_through() -> None:
    # Given 400 rows of the same query in the group, and one of another
    queries = np.append(np.zeros(400, int), 1)
    drawer = SameGroup(np.array([0, 0]), queries, np.arange(401))
    drawn = drawer.draw(
        np.zeros(50, int), np.zeros(50, int), RightAnswers(queries, np.arange(401), 401), np.random.default_rng(0)
    )
    assert set(drawn) == {400}


def test_last_words_are_compared_without_case() -> None:
    groups = last_word_groups(["red Shirt", "blue shirt", "shirt dress", "!", "shirt"])
    assert groups[0] == groups[1] == groups[4]
    assert len(set(groups)) == 3


def test_clusters_follow_the_direction_of_the_vectors() -> None:
    vectors = np.repeat(np.eye(3), 20, axis=0) * np.random.default_rng(0).uniform(1, 9, (60, 1))
    found = clusters(vectors.astype(np.float16), size=20, seed=0)
    assert found.reshape(3, 20).tolist() == [[group] * 20 for group in found[::20]]
    assert len(set(found)) == 3
    np.testing.assert_array_equal(found, clusters(vectors.astype(np.float16), size=20, seed=0))
