"""Draw the boxes, features and pictures of the shop's products, and write its files.

A product has a noun and a value of each attribute. A query names a noun and some values; a product with all of them is
right. Each box of an image shows some of the product's values, each as a direction in feature space under noise: which
word goes with which direction has to be learnt from the matches alone.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from multimodal_recall.config.options import ShopOptions
from multimodal_recall.data.official_format import OfficialRow
from multimodal_recall.data.schemas import TABLES, from_pandas
from multimodal_recall.pipelines.make_shop.pictures import draw_picture
from multimodal_recall.pipelines.make_shop.plan import CHOICES, Product, Query, plan_split
from multimodal_recall.pipelines.make_shop.words import (
    BOX_COUNTS,
    FACE,
    LABELS,
    NOUNS,
    OTHERS_LABEL,
    SQUARE_SIDES,
)
from multimodal_recall.runtime.progress import track

FEATURE_SIZE = 2048


class Images:
    """Draws the boxes and features of products; a product looks the same in all its rows."""

    def __init__(self, options: ShopOptions) -> None:
        random = np.random.default_rng([options.seed, 1])
        self.seed, self.signal = options.seed, options.signal
        self.directions = [random.standard_normal((size, FEATURE_SIZE), np.float32) for size in CHOICES]

    def row(self, query: Query, product: Product) -> OfficialRow:
        """Draw the row of a match."""
        random = _random_of(self.seed, product)
        sides = _image_size(random)
        boxes = _boxes(random, *sides)
        shown = _shown(random, len(boxes))
        labels = _labels(random, shown[:, 0], NOUNS[product.noun])
        features = self._features(random, product, shown)
        return OfficialRow(product.product_id, *sides, boxes, features, labels, query.text, query.query_id)

    def _features(self, random: np.random.Generator, product: Product, shown: np.ndarray) -> np.ndarray:
        """Draw features (n, F): noise plus the directions of the values that a box shows, cut so that 75 % are zero."""
        directions = np.stack([table[value] for table, value in zip(self.directions, product.values, strict=True)])
        strength = shown.astype(np.float32) * self.signal
        level = random.standard_normal((len(shown), FEATURE_SIZE), np.float32) + strength @ directions
        level /= np.sqrt(1 + (strength**2).sum(axis=1, keepdims=True))
        # 0.674 is the normal's upper quartile; power and scale give the official non-zero median .20 and long tail.
        return np.minimum(0.73 * np.maximum(level - 0.674, 0) ** 1.75, 7.0)


def _random_of(seed: int, product: Product) -> np.random.Generator:
    """Start the stream that a product's image is drawn from: its size first."""
    return np.random.default_rng([seed, product.product_id])


def _image_size(random: np.random.Generator) -> tuple[int, int]:
    left = random.random()
    for side, share in SQUARE_SIDES.items():
        if (left := left - share) < 0:
            return side, side
    image_h, image_w = np.exp(random.normal(np.log(640), 0.35, 2)).clip(61, 1879).astype(int)
    return int(image_h), int(image_w)


def _boxes(random: np.random.Generator, image_h: int, image_w: int) -> np.ndarray:
    """Draw boxes (n, 4) in whole pixels: top, left, bottom, right, with relative areas as in the official data."""
    count = 1 + int(random.choice(len(BOX_COUNTS), p=BOX_COUNTS))
    if count == len(BOX_COUNTS):
        count = min(count - 1 + int(random.geometric(0.15)), 91)
    area = random.beta(4, 2.6, 1) if count == 1 else np.exp(random.normal(np.log(0.13), 1.45, count))
    shape = np.exp(random.normal(0, 0.35, count))  # height to width, relative to the image
    high, wide = np.sqrt(area * shape).clip(0.02, 1), np.sqrt(area / shape).clip(0.02, 1)
    size = np.column_stack([high * image_h, wide * image_w]).round().clip(1)
    corner = np.floor(random.random((count, 2)) * (np.array([image_h, image_w]) - size + 1))
    return np.column_stack([corner, corner + size]).astype(np.float32)


def _shown(random: np.random.Generator, boxes: int) -> np.ndarray:
    """Draw which boxes show the noun and each attribute (n, 1 + attributes), at least one box for each."""
    shown = random.random((boxes, len(CHOICES))) < 0.3
    shown[random.integers(boxes, size=len(CHOICES)), np.arange(len(CHOICES))] = True
    return shown


def _labels(random: np.random.Generator, shows_noun: np.ndarray, label: int) -> np.ndarray:
    """Draw labels (n,): all "others" in 59 % of the images, else the noun's label on its boxes, faces and others."""
    labels = np.full(len(shows_noun), OTHERS_LABEL)
    if random.random() > 0.59:
        named = shows_noun | (random.random(len(labels)) < 0.45)
        labels[named] = label
        labels[~named & (random.random(len(labels)) < 0.5)] = FACE
    return labels


@dataclass(frozen=True)
class ShopRows:
    """The rows of a split, each drawn when it is written: the split is never in memory."""

    matches: list[tuple[Query, Product]]
    images: Images

    def __iter__(self) -> Iterator[OfficialRow]:
        return (self.images.row(query, product) for query, product in track(self.matches, "make up rows", "rows"))


@dataclass(frozen=True)
class ShopPhotos:
    """A picture of each product, drawn when it is written."""

    products: list[Product]
    seed: int

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        for product in track(self.products, "draw products", "products"):
            size = _image_size(_random_of(self.seed, product))
            yield product.product_id, draw_picture(product.noun, product.attributes, *size)


def make_training_file(options: ShopOptions) -> ShopRows:
    """Make up ``train.tsv``."""
    return ShopRows(plan_split(options, "train"), Images(options))


def make_candidate_files(options: ShopOptions, split: str) -> dict[str, Any]:
    """Make up a split's TSV, its answers, and the scores of random, noun-alone and true rankings."""
    matches = plan_split(options, split)
    accepted = [query.accepts(product) for query, product in matches]
    answers: dict[str, list[int]] = {str(query.query_id): [] for query, _ in matches}
    for query, product in itertools.compress(matches, accepted):
        answers[str(query.query_id)].append(product.product_id)
    random = np.random.default_rng([options.seed, 2, *split.encode()])
    scores = {
        "query_id": [query.query_id for query, _ in matches],
        "product_id": [product.product_id for _, product in matches],
        "random": random.random(len(matches)),
        "noun_alone": [query.wanted[0] == product.values[0] for query, product in matches],
        "truth": accepted,
    }
    tsv, table = ShopRows(matches, Images(options)), from_pandas(TABLES["reference_scores"], pd.DataFrame(scores))
    return {"tsv": tsv, "answers": answers, "reference_scores": table}


def make_labels() -> list[str]:
    """Give the 33 official label names."""
    return list(LABELS)


def make_products(options: ShopOptions, splits: Sequence[str]) -> dict[str, Any]:
    """Give each product of all splits a title and a picture."""
    matches = itertools.chain.from_iterable(plan_split(options, split) for split in splits)
    products = list({product.product_id: product for _, product in matches}.values())
    titles = {"product_id": [product.product_id for product in products], "title": [p.title for p in products]}
    return {"titles": pa.table(titles, TABLES["titles"]), "photos": ShopPhotos(products, options.seed)}


def join_reference_scores(*scores: ds.Dataset, splits: Sequence[str]) -> pa.Table:
    """Put the reference scores of all splits into a single table, with a column for the split."""
    tables = [table.to_table().replace_schema_metadata() for table in scores]
    return pa.concat_tables(
        table.add_column(0, "split", pa.array([split] * len(table)))
        for split, table in zip(splits, tables, strict=True)
    )
