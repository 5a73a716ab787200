"""Make up products, queries and candidate lists, and draw each product's boxes and features.

A product has a noun and one value of each attribute. A query names the noun and some values; a product that has them
all is right. Each box of an image shows some of the product's attributes, each a direction in feature space under
noise, so that which words go with which directions has to be learnt from the matches alone.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from multimodal_recall.config.options import ShopOptions
from multimodal_recall.data.official_format import OfficialRow
from multimodal_recall.data.schemas import TABLES
from multimodal_recall.pipelines.make_shop.words import (
    ATTRIBUTES,
    BOX_COUNTS,
    FACE,
    FILLERS,
    LABELS,
    NOUNS,
    OTHERS_LABEL,
    QUERY_WORDS,
    SQUARE_SIDES,
)
from multimodal_recall.runtime.progress import track

FEATURE_SIZE = 2048
NOUN_NAMES = tuple(NOUNS)
VALUE_COUNTS = tuple(len(values) for values in ATTRIBUTES.values())
WORD_KINDS = 1 + len(ATTRIBUTES)
# A candidate list: 6 answers; of the other 24, 15 from a pool that the noun's lists share and 9 of their own. With 3.75
# products in the pool for each list, the official shares come out: 20 % of products, 51 % of rows repeated.
ANSWERS, SHARED_WRONG, OWN_WRONG, POOLED_PER_LIST = 6, 15, 9, 3.75
FIRST_QUERY_ID = {"train": 100_000, "valid": 1, "testA": 10_001}
FIRST_PRODUCT_ID = {"train": 1_000_000, "valid": 2_000_000, "testA": 3_000_000}
ANY = -1


@dataclass(frozen=True)
class Query:
    """A query and what it asks for."""

    query_id: int
    text: str
    wanted: tuple[int, ...]
    """Noun, then a value of each attribute or ``ANY``."""

    def accepts(self, product: "Product") -> bool:
        """Whether the product has all that the query names."""
        return all(wish in (ANY, value) for wish, value in zip(self.wanted, product.values, strict=True))


@dataclass(frozen=True)
class Product:
    """A product and what it is."""

    product_id: int
    values: tuple[int, ...]
    """Noun, then a value of each attribute."""


class ProductMaker:
    """Gives products of wished values; ids are shuffled, so that their order says nothing."""

    def __init__(self, split: str, random: np.random.Generator, count: int) -> None:
        self.random = random
        self.ids = iter(FIRST_PRODUCT_ID[split] + random.permutation(count))

    def values(self, wanted: tuple[int, ...]) -> tuple[int, ...]:
        """Draw what is not wanted."""
        free = (len(NOUNS), *VALUE_COUNTS)
        return tuple(
            int(self.random.integers(size)) if wish == ANY else wish for wish, size in zip(wanted, free, strict=True)
        )

    def make(self, wanted: tuple[int, ...]) -> Product:
        """Make a product that has what is wanted, the rest at random."""
        return Product(int(next(self.ids)), self.values(wanted))

    def make_wrong(self, query: Query) -> Product:
        """Make a product that the query does not accept; 30 % of them have another noun."""
        noun = query.wanted[0] if self.random.random() < 0.7 else ANY
        while True:
            values = self.values((noun, *[ANY] * len(ATTRIBUTES)))
            if not query.accepts(Product(0, values)):
                return Product(int(next(self.ids)), values)


def make_query(query_id: int, random: np.random.Generator) -> Query:
    """Make up a query: values of some attributes, sometimes fillers, and the noun last."""
    words = int(random.choice(list(QUERY_WORDS), p=list(QUERY_WORDS.values())))
    named = random.permutation(len(ATTRIBUTES))[: words - 1]
    noun = int(random.integers(len(NOUNS)))
    values = [int(random.integers(size)) if place in named else ANY for place, size in enumerate(VALUE_COUNTS)]
    spoken = [names[value] for names, value in zip(ATTRIBUTES.values(), values, strict=True) if value != ANY]
    fillers = list(random.choice(FILLERS, words - 1 - len(spoken)))
    return Query(query_id, " ".join([*fillers, *spoken, NOUN_NAMES[noun]]), (noun, *values))


def plan_training(options: ShopOptions) -> list[tuple[Query, Product]]:
    """Make up (query, right product) matches in random order; a query stands on 2.2 rows on average."""
    random = np.random.default_rng([options.seed, 0])
    maker = ProductMaker("train", random, options.train_rows)
    matches: list[tuple[Query, Product]] = []
    query_id = FIRST_QUERY_ID["train"]
    while len(matches) < options.train_rows:
        query = make_query(query_id, random)
        rows = min(int(random.geometric(1 / 2.2)), options.train_rows - len(matches))
        matches += [(query, maker.make(query.wanted)) for _ in range(rows)]
        query_id += 1
    return [matches[place] for place in random.permutation(len(matches))]


def plan_candidates(split: str, queries: int, seed: int) -> list[tuple[Query, Product]]:
    """Make up candidate lists: about 30 products of mostly the same noun a query, about 6 of them right."""
    random = np.random.default_rng([seed, *split.encode()])
    pool_size = max(SHARED_WRONG, round(POOLED_PER_LIST * queries / len(NOUNS)))
    maker = ProductMaker(split, random, queries * (ANSWERS + OWN_WRONG) + pool_size * len(NOUNS))
    pools = [[maker.make((noun, *[ANY] * len(ATTRIBUTES))) for _ in range(pool_size)] for noun in range(len(NOUNS))]
    candidates: list[tuple[Query, Product]] = []
    for query_id in range(FIRST_QUERY_ID[split], FIRST_QUERY_ID[split] + queries):
        query = make_query(query_id, random)
        chosen = [maker.make(query.wanted) for _ in range(ANSWERS)]
        pool = pools[query.wanted[0]]
        shared = [pool[place] for place in random.permutation(pool_size) if not query.accepts(pool[place])]
        chosen += [*shared[:SHARED_WRONG], *(maker.make_wrong(query) for _ in range(OWN_WRONG))]
        candidates += [(query, product) for product in chosen]
    return [candidates[place] for place in random.permutation(len(candidates))]


class Images:
    """Draws the boxes and features of products; a product looks the same wherever it stands."""

    def __init__(self, options: ShopOptions) -> None:
        random = np.random.default_rng([options.seed, 1])
        self.seed, self.signal = options.seed, options.signal
        self.directions = [
            random.standard_normal((size, FEATURE_SIZE), np.float32) for size in (len(NOUNS), *VALUE_COUNTS)
        ]

    def row(self, query: Query, product: Product) -> OfficialRow:
        """Draw the row of a match."""
        random = np.random.default_rng([self.seed, product.product_id])
        image_h, image_w = _image_size(random)
        boxes = _boxes(random, image_h, image_w)
        shown = _shown(random, len(boxes))
        labels = _labels(random, shown[:, 0], NOUNS[NOUN_NAMES[product.values[0]]])
        features = self._features(random, product, shown)
        return OfficialRow(
            product.product_id,
            image_h,
            image_w,
            len(boxes),
            boxes,
            features,
            labels,
            query.text,
            query.query_id,
        )

    def _features(self, random: np.random.Generator, product: Product, shown: np.ndarray) -> np.ndarray:
        """Features (n, F): noise plus the directions of what each box shows, cut so that 75 % are zero."""
        directions = np.stack([table[value] for table, value in zip(self.directions, product.values, strict=True)])
        strength = shown.astype(np.float32) * self.signal
        level = random.standard_normal((len(shown), FEATURE_SIZE), np.float32) + strength @ directions
        level /= np.sqrt(1 + (strength**2).sum(axis=1, keepdims=True))
        # 0.674 is the normal's upper quartile; power and scale give the official non-zero median .20 and long tail.
        return np.minimum(0.73 * np.maximum(level - 0.674, 0) ** 1.75, 7.0)


def _image_size(random: np.random.Generator) -> tuple[int, int]:
    pick = random.random()
    for side, share in SQUARE_SIDES.items():
        if (pick := pick - share) < 0:
            return side, side
    image_h, image_w = np.exp(random.normal(np.log(640), 0.35, 2)).clip(61, 1879).astype(int)
    return int(image_h), int(image_w)


def _boxes(random: np.random.Generator, image_h: int, image_w: int) -> np.ndarray:
    """Boxes (n, 4) in whole pixels, top, left, bottom, right; relative areas as in the official data."""
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
    """Which box shows the noun and each attribute (n, kinds): each one or more of them."""
    shown = random.random((boxes, WORD_KINDS)) < 0.3
    shown[random.integers(boxes, size=WORD_KINDS), np.arange(WORD_KINDS)] = True
    return shown


def _labels(random: np.random.Generator, shows_noun: np.ndarray, label: int) -> np.ndarray:
    """Labels (n,): 59 % of the images all "others"; else the noun's label where it shows, some faces, some others."""
    labels = np.full(len(shows_noun), OTHERS_LABEL)
    if random.random() > 0.59:
        named = shows_noun | (random.random(len(labels)) < 0.45)
        labels[named] = label
        labels[~named & (random.random(len(labels)) < 0.5)] = FACE
    return labels


@dataclass(frozen=True)
class ShopRows:
    """The rows of a split, drawn one by one while they are written: nothing of the split's size is in memory."""

    matches: list[tuple[Query, Product]]
    images: Images

    def __iter__(self) -> Iterator[OfficialRow]:
        return (self.images.row(query, product) for query, product in track(self.matches, "make up rows", "rows"))


def make_training_file(options: ShopOptions) -> ShopRows:
    """Make up ``train.tsv``."""
    return ShopRows(plan_training(options), Images(options))


def make_candidate_files_of(split: str) -> Callable[..., dict[str, Any]]:
    """Bind ``make_candidate_files`` to valid or testA."""

    def make_candidate_files(options: ShopOptions) -> dict[str, Any]:
        """Make up a split's TSV, its answers, and the scores of rankings that know how the shop was made."""
        queries = options.valid_queries if split == "valid" else options.test_queries
        matches = plan_candidates(split, queries, options.seed)
        answers: dict[str, list[int]] = {str(query.query_id): [] for query, _ in matches}
        for query, product in matches:
            if query.accepts(product):
                answers[str(query.query_id)].append(product.product_id)
        random = np.random.default_rng([options.seed, 2, *split.encode()])
        scores = [
            [query.query_id for query, _ in matches],
            [product.product_id for _, product in matches],
            random.random(len(matches)),
            [query.wanted[0] == product.values[0] for query, product in matches],
            [query.accepts(product) for query, product in matches],
        ]
        columns = [
            pa.array(np.asarray(values).astype(field.type.to_pandas_dtype()))
            for values, field in zip(scores, TABLES["reference_scores"], strict=True)
        ]
        return {
            "tsv": ShopRows(matches, Images(options)),
            "answers": answers,
            "reference_scores": pa.table(columns, TABLES["reference_scores"]),
        }

    return make_candidate_files


def make_labels() -> list[str]:
    """The 33 official label names."""
    return list(LABELS)


def join_reference_scores_of(splits: tuple[str, ...]) -> Callable[..., pa.Table]:
    """Bind the splits of the tables that are joined."""

    def join_reference_scores(*scores: ds.Dataset) -> pa.Table:
        """Put the reference scores of all splits into one table, with a column that says which."""
        tables = [table.to_table().replace_schema_metadata() for table in scores]
        named = [
            table.add_column(0, "split", pa.array([split] * len(table)))
            for split, table in zip(splits, tables, strict=True)
        ]
        return pa.concat_tables(named)

    return join_reference_scores
