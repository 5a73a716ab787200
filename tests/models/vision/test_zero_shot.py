"""The cosine of query and photo, from the tables that ingest writes."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from PIL import Image

from multimodal_recall.data.schemas import TABLES, ChunkTables
from multimodal_recall.models.vision.embedder import Embedder
from multimodal_recall.models.vision.weak import EmbedderAndWeak
from multimodal_recall.models.vision.zero_shot import OtherFeatures, score_zero_shot
from multimodal_recall.runtime.device import Hardware
from tests.tiny_vision import clip, save_checkpoint

QUERIES, PAIRS = ["red shirt", "blue bag"], [(0, 1), (0, 2), (1, 0), (1, 2), (0, 0)]


@pytest.fixture
def embedder(tmp_path: Path) -> Embedder:
    return Embedder("describe.embedder", str(save_checkpoint(clip, tmp_path)), Hardware())


def chunk(features: list[np.ndarray], first: int = 0) -> ChunkTables:
    """A chunk of pairs of the queries and of products with these features (boxes, F)."""
    products = pa.table(
        {
            name: pa.array([None] * len(features), kind)
            for name, kind in zip(TABLES["products"].names, TABLES["products"].types, strict=True)
        }
    )
    contents = [vectors.astype("<f2").tobytes() for vectors in features]
    places = {name: place for place, name in enumerate(products.column_names)}
    products = products.set_column(places["features"], "features", pa.array(contents, pa.large_binary()))
    labels = pa.array([[0] * len(vectors) for vectors in features], pa.list_(pa.int16()))
    products = products.set_column(places["labels"], "labels", labels)
    rows = [(first + query, QUERIES[query], query, 10 * product, product) for query, product in PAIRS]
    pairs = pa.Table.from_pylist([dict(zip(TABLES["pairs"].names, row, strict=True)) for row in rows], TABLES["pairs"])
    return {"pairs": ds.dataset(pairs), "products": ds.dataset(products)}


def test_the_score_is_the_cosine_of_query_and_whole_photo(embedder: Embedder) -> None:
    photos = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue", "green")]
    vectors = embedder.embed(photos, 3)
    features = [np.stack([vector, -vector]) for vector in vectors]  # the second box does not count
    table = score_zero_shot([chunk(features), chunk([3 * part for part in features], 100)], embedder, 1)
    assert table.schema == TABLES["zero_shot_scores"]
    texts = embedder.embed_text(QUERIES, 2)
    wanted = [texts[query] @ vectors[product] for query, product in PAIRS]
    np.testing.assert_allclose(table["score"].to_numpy(), 2 * wanted, atol=1e-3)
    assert table["query_id"].to_pylist() == [0, 0, 1, 1, 0, 100, 100, 101, 101, 100]
    assert table["product_id"].to_pylist() == 2 * [10, 20, 0, 20, 0]


def test_colours_and_edges_behind_the_feature_change_no_score(embedder: Embedder) -> None:
    photos = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue", "green")]
    alone, joined = (
        score_zero_shot([chunk([vector[None] for vector in each.embed(photos, 3)])], embedder, 1)
        for each in (embedder, EmbedderAndWeak(embedder))
    )
    np.testing.assert_allclose(joined["score"].to_numpy(), alone["score"].to_numpy(), atol=2e-3)


def test_features_of_another_model_are_refused(embedder: Embedder) -> None:
    features = [np.ones((1, 7))] * 3
    with pytest.raises(OtherFeatures, match=r"features hold 7 numbers, and those .*, 24, with colours "):
        score_zero_shot([chunk(features)], embedder, 1)
