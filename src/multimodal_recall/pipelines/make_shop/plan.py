"""Make up the products, queries and candidate lists of the shop: what matches what, in words and numbers."""

from dataclasses import dataclass

import numpy as np

from multimodal_recall.config.options import ShopOptions
from multimodal_recall.pipelines.make_shop.words import ATTRIBUTES, FILLERS, NOUNS, QUERY_WORDS

NOUN_NAMES = tuple(NOUNS)
CHOICES = (len(NOUNS), *(len(values) for values in ATTRIBUTES.values()))
"""Number of nouns, then of the values of each attribute."""
# A candidate list holds 6 answers, 15 wrong products from a pool that all lists of the noun share, and 9 wrong products
# of its own. With 3.75 pool products a list, 20 % of products and 51 % of rows are repeated, as in the official data.
ANSWERS, SHARED_WRONG, OWN_WRONG, POOLED_PER_LIST = 6, 15, 9, 3.75
FIRST_QUERY_ID = {"train": 100_000, "valid": 1, "testA": 10_001}
FIRST_PRODUCT_ID = {"train": 1_000_000, "valid": 2_000_000, "testA": 3_000_000}
ANY = -1


@dataclass(frozen=True)
class Query:
    """A query and the values that it asks for."""

    query_id: int
    text: str
    wanted: tuple[int, ...]
    """Noun, then a value of each attribute or ``ANY``."""

    def accepts(self, product: "Product") -> bool:
        """Tell whether the product has all values that the query names."""
        return all(wanted in (ANY, value) for wanted, value in zip(self.wanted, product.values, strict=True))


@dataclass(frozen=True)
class Product:
    """A product and its values."""

    product_id: int
    values: tuple[int, ...]
    """Noun, then a value of each attribute."""

    @property
    def noun(self) -> str:
        """The noun in words."""
        return NOUN_NAMES[self.values[0]]

    @property
    def attributes(self) -> dict[str, str]:
        """The values of the attributes in words, by the names of ``ATTRIBUTES``."""
        return {name: words[value] for (name, words), value in zip(ATTRIBUTES.items(), self.values[1:], strict=True)}

    @property
    def title(self) -> str:
        """All values in the order in which a query names them, the noun last."""
        return " ".join([*self.attributes.values(), self.noun])


class ProductMaker:
    """Makes products of wanted values, with shuffled ids, so that the order of the ids says nothing."""

    def __init__(self, split: str, random: np.random.Generator, count: int) -> None:
        self.random = random
        self.ids = iter(FIRST_PRODUCT_ID[split] + random.permutation(count))

    def _values(self, wanted: tuple[int, ...]) -> tuple[int, ...]:
        """Draw a value wherever ``ANY`` is wanted."""
        return tuple(
            int(self.random.integers(size)) if value == ANY else value
            for value, size in zip(wanted, CHOICES, strict=True)
        )

    def make(self, wanted: tuple[int, ...]) -> Product:
        """Make a product of the wanted values."""
        return Product(int(next(self.ids)), self._values(wanted))

    def make_wrong(self, query: Query) -> Product:
        """Make a product that the query does not accept: 70 % have the query's noun, the rest any noun."""
        noun = query.wanted[0] if self.random.random() < 0.7 else ANY
        while True:
            values = self._values((noun, *[ANY] * len(ATTRIBUTES)))
            if not query.accepts(Product(0, values)):
                return Product(int(next(self.ids)), values)


def make_query(query_id: int, random: np.random.Generator) -> Query:
    """Make up a query: values of some attributes, maybe fillers, and the noun last."""
    words = int(random.choice(list(QUERY_WORDS), p=list(QUERY_WORDS.values())))
    named = random.permutation(len(ATTRIBUTES))[: words - 1]
    noun = int(random.integers(len(NOUNS)))
    values = [int(random.integers(size)) if place in named else ANY for place, size in enumerate(CHOICES[1:])]
    spoken = [names[value] for names, value in zip(ATTRIBUTES.values(), values, strict=True) if value != ANY]
    fillers = list(random.choice(FILLERS, words - 1 - len(spoken)))
    return Query(query_id, " ".join([*fillers, *spoken, NOUN_NAMES[noun]]), (noun, *values))


def plan_training(options: ShopOptions) -> list[tuple[Query, Product]]:
    """Make up (query, right product) matches in random order, on average 2.2 of a query."""
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
    """Make up candidate lists of about 30 products, most of the query's noun, 6 of them right."""
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


def plan_split(options: ShopOptions, split: str) -> list[tuple[Query, Product]]:
    """Make up the matches of a split."""
    if split == "train":
        return plan_training(options)
    queries = options.valid_queries if split == "valid" else options.test_queries
    return plan_candidates(split, queries, options.seed)
