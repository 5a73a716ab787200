"""The made-up shop looks like the official data (figures of ``official-data.md``)."""

import io
from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from multimodal_recall.config.options import ShopOptions
from multimodal_recall.evaluation.metrics import measure_queries
from multimodal_recall.pipelines.make_shop.nodes import (
    LABELS,
    Images,
    ShopRows,
    make_candidate_files,
    make_products,
    make_training_file,
)
from multimodal_recall.pipelines.make_shop.pictures import SHAPES, SIDE, draw_picture
from multimodal_recall.pipelines.make_shop.plan import plan_candidates, plan_training
from multimodal_recall.pipelines.make_shop.words import ATTRIBUTES, FILLERS, NOUNS, OTHERS_LABEL
from tests.conftest import SHARED

OPTIONS = ShopOptions(train_rows=1500, valid_queries=100, test_queries=20)


@pytest.fixture(scope="module")
def rows() -> list:
    return list(make_training_file(OPTIONS))


def test_boxes_and_sizes(rows: list) -> None:
    counts = np.array([row.num_boxes for row in rows])
    assert counts.mean() == pytest.approx(3.77, abs=0.4)
    assert np.percentile(counts, [25, 50, 75]).tolist() == [2, 3, 5]
    assert (counts == 1).mean() == pytest.approx(0.242, abs=0.04)
    areas = np.concatenate(
        [(row.boxes[:, 2:] - row.boxes[:, :2]).prod(axis=1) / row.image_h / row.image_w for row in rows]
    )
    assert np.percentile(areas, [25, 50, 75]) == pytest.approx([0.05, 0.14, 0.37], abs=0.04)
    assert np.mean([row.image_h == row.image_w for row in rows]) == pytest.approx(0.58, abs=0.04)
    assert np.mean([(row.image_h, row.image_w) == (800, 800) for row in rows]) == pytest.approx(0.30, abs=0.04)
    sides = np.concatenate([row.boxes.ravel() for row in rows])
    assert (sides == sides.round()).all()


def test_labels(rows: list) -> None:
    labels = np.concatenate([row.labels for row in rows])
    assert (labels == OTHERS_LABEL).mean() == pytest.approx(0.67, abs=0.04)
    assert np.mean([(row.labels == OTHERS_LABEL).all() for row in rows]) == pytest.approx(0.59, abs=0.04)


def test_features(rows: list) -> None:
    features = np.concatenate([row.features for row in rows[:300]])
    assert features.min() == 0
    assert features.max() <= 7
    assert (features == 0).mean() == pytest.approx(0.75, abs=0.02)
    assert np.median(features[features > 0]) == pytest.approx(0.20, abs=0.03)


def test_queries(rows: list) -> None:
    words = np.array([len(row.query.split()) for row in rows])
    assert words.mean() == pytest.approx(3.86, abs=0.25)
    assert np.percentile(words, [25, 50, 75]).tolist() == [3, 4, 5]
    assert len(rows) / len({row.query_id for row in rows}) == pytest.approx(2.2, abs=0.2)
    assert np.mean(["-" in row.query for row in rows]) == pytest.approx(0.08, abs=0.04)


def test_candidate_lists() -> None:
    matches = plan_candidates("valid", 120, seed=0)
    lists = Counter(query.query_id for query, _ in matches)
    assert set(lists.values()) <= set(range(25, 31))
    assert np.mean(list(lists.values())) > 29
    right = Counter(query.query_id for query, product in matches if query.accepts(product))
    assert set(right.values()) == {6}
    same_noun = np.mean([query.wanted[0] == product.values[0] for query, product in matches])
    assert same_noun > 0.85
    seen = Counter(product.product_id for _, product in matches)
    assert np.mean([count > 1 for count in seen.values()]) == pytest.approx(0.20, abs=0.04)
    assert sum(count for count in seen.values() if count > 1) / len(matches) == pytest.approx(0.51, abs=0.04)


def test_chance_and_noun_alone_score_low_and_the_truth_scores_one() -> None:
    made = make_candidate_files(replace(OPTIONS, valid_queries=300), "valid")
    answers = {int(query): right for query, right in made["answers"].items()}
    scores = made["reference_scores"].to_pandas()
    ndcg = {
        name: measure_queries(scores.rename(columns={name: "score"}), answers)["ndcg_at_5"].mean()
        for name in ("random", "noun_alone", "truth")
    }
    assert ndcg["random"] == pytest.approx(0.20, abs=0.04)
    assert ndcg["noun_alone"] < 0.35
    assert ndcg["truth"] == 1.0


def test_a_product_looks_the_same_wherever_it_stands() -> None:
    matches = plan_candidates("valid", 40, seed=0)
    images, looks = Images(OPTIONS), {}
    for row in ShopRows(matches[:400], images):
        features = looks.setdefault(row.product_id, row.features)
        np.testing.assert_array_equal(features, row.features)
    assert len(looks) < 400


def test_the_same_seed_makes_the_same_shop_and_another_one_another() -> None:
    assert plan_training(OPTIONS) == plan_training(OPTIONS)
    assert plan_training(OPTIONS) != plan_training(replace(OPTIONS, seed=1))


@pytest.mark.skipif(not SHARED.exists(), reason=f"{SHARED} with the official label file is not here")
def test_the_labels_are_the_official_ones() -> None:
    lines = (SHARED / "official-format" / "multimodal_labels.txt").read_text().splitlines()[1:]
    assert [line.split("\t")[1] for line in lines] == list(LABELS)


def test_a_title_tells_whether_a_product_answers_a_query() -> None:
    matches = plan_candidates("testA", 120, seed=0)
    by_title = [set(query.text.split()) - set(FILLERS) <= set(product.title.split()) for query, product in matches]
    assert by_title == [query.accepts(product) for query, product in matches]
    assert 0.1 < np.mean(by_title) < 0.3


def test_each_product_has_a_title_and_a_picture_of_its_proportions() -> None:
    options = ShopOptions(train_rows=40, valid_queries=2, test_queries=2)
    made = make_products(options, ("train", "valid", "testA"))
    rows = [*make_training_file(options)]
    rows += [row for split in ("valid", "testA") for row in make_candidate_files(options, split)["tsv"]]
    sizes = {row.product_id: (row.image_h, row.image_w) for row in rows}
    pictures = dict(made["photos"])
    assert made["titles"]["product_id"].to_pylist() == list(pictures)
    assert sizes.keys() == pictures.keys()
    for product, picture in pictures.items():
        assert len(picture) < 2000  # bytes
        with Image.open(io.BytesIO(picture)) as image:
            height, width = sizes[product]
            assert max(image.size) == SIDE
            assert image.width / image.height == pytest.approx(width / height, rel=0.15)
    assert dict(make_products(options, ("train", "valid", "testA"))["photos"]) == pictures


PLAIN = {name: words[0] for name, words in ATTRIBUTES.items()}


def pixels(noun: str, **values: str) -> np.ndarray:
    with Image.open(io.BytesIO(draw_picture(noun, {**PLAIN, **values}, 800, 800))) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_no_two_nouns_have_one_outline() -> None:
    assert SHAPES.keys() == NOUNS.keys()
    inked = {noun: (pixels(noun).sum(axis=2) < 700)[26:] for noun in NOUNS}
    for one, other in combinations(NOUNS, 2):
        differing = (inked[one] ^ inked[other]).sum() / (inked[one] | inked[other]).sum()
        assert differing > 0.2, (one, other)


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_each_value_of_an_attribute_is_seen(name: str) -> None:
    for noun in ("boots", "dress"):
        drawn = [pixels(noun, **{name: value}) for value in ATTRIBUTES[name]]
        for one, other in combinations(drawn, 2):
            assert (one != other).any(axis=2).sum() > 40  # pixels of 16,384
