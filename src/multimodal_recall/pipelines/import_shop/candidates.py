"""The candidate lists of valid and testA: which products are right, barred and close, and the lists drawn of them."""

import logging
from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, vstack
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.preprocessing import normalize

from multimodal_recall.config.import_options import ImportOptions
from multimodal_recall.config.layout import SHOP_SPLITS
from multimodal_recall.data.shop_clicks import right_pairs
from multimodal_recall.data.shop_products import number_texts
from multimodal_recall.data.text import words_of
from multimodal_recall.pipelines.import_shop.lists import MOST_DOUBLES, Plan, choose_doubles, limit_right, place_wrong
from multimodal_recall.pipelines.import_shop.splits import ShopError, split_queries

logger = logging.getLogger(__name__)

JUDGED_WRONG = 10.0
"""Closeness of a product that a person judged wrong for the query: it comes first."""
ASKED_AT_ONCE = 32
"""Queries of lists that are compared with all queries at a time."""
CANDIDATE_COLUMNS = ["query_id", "query", "product_id", "right"]


def make_candidates(clicks: pd.DataFrame, products: pd.DataFrame, options: ImportOptions) -> dict[str, pd.DataFrame]:
    """Make the rows of each split: the right pairs of train, and all candidates of valid and testA.

    Args:
        clicks: ``shop_clicks``; rows of products that are not in ``products`` are left out.
        products: Products with a described photo: ``product_id``, ``title``, ``category``.
        options: The rule of right products, the splits and the size of the lists.

    Returns:
        By split ``query_id`` (a digest of the query's words), ``query``, ``product_id``, ``right``.

    Raises:
        ShopError: If there are too few queries or products for lists.
    """
    clicks = clicks[clicks["product_id"].isin(products["product_id"])].reset_index(drop=True)
    clicks = clicks.assign(wrong=clicks["relevance"] < options.min_relevance)
    order = {"query": True, "clicks": False, "relevance": False}
    right = right_pairs(clicks, options).sort_values([*order], ascending=[*order.values()], kind="stable")
    if right.empty:
        raise ShopError(
            "no product with a described photo is right for any query. Lower import_shop.min_clicks, "
            "min_click_share or min_relevance, or look at the rejected rows"
        )
    split = split_queries(right, options)
    right = right.assign(split=right["query"].map(split), query_id=right.groupby("query").ngroup() + 1, right=True)
    train = right[right["split"] == SHOP_SPLITS[0]]
    held_out = {name: _most_clicked(right[right["split"] == name], options) for name in SHOP_SPLITS[1:]}
    lists = _draw_lists(held_out, clicks, products.set_index("product_id"), options)
    made = {SHOP_SPLITS[0]: train[CANDIDATE_COLUMNS].reset_index(drop=True), **lists}
    texts = [*right["query"].unique()]
    numbers = dict(zip(texts, number_texts([" ".join(words_of(text)) for text in texts]), strict=True))
    return {name: rows.assign(query_id=rows["query"].map(numbers)) for name, rows in made.items()}


def _most_clicked(right: pd.DataFrame, options: ImportOptions) -> pd.DataFrame:
    """Keep the first right products of each list: fewer in a small shop, which has few wrong ones for each."""
    few = right["product_id"].nunique() // options.candidates_per_right
    return right.groupby("query_id").head(min(options.most_right, max(2, few)))


def _draw_lists(
    held_out: dict[str, pd.DataFrame], clicks: pd.DataFrame, products: pd.DataFrame, options: ImportOptions
) -> dict[str, pd.DataFrame]:
    random = np.random.default_rng([options.seed, 1])
    doubles_each, times = _sizes(held_out, len(products), options)
    limited = {}
    for name, right in held_out.items():
        queries = right["query_id"].nunique()
        limited[name] = limit_right(right, queries // (2 * (1 + times[name])), queries, random)
        if lost := queries - limited[name]["query_id"].nunique():
            logger.warning(
                "%s: %d of %d queries are left out: their products are right for too many others", name, lost, queries
            )
    of_lists = pd.unique(pd.concat([right["product_id"] for right in limited.values()]))
    others = products.loc[~products.index.isin(of_lists), "category"]
    doubles = choose_doubles(products.loc[of_lists, "category"], others, doubles_each, random)
    drawn = {}
    for name, right in limited.items():
        plan, closeness, ids = _plan(right, doubles, times[name], clicks, products)
        rows, items = place_wrong(plan, closeness, options.hard_share, random)
        empty = int(plan.places.sum()) - len(rows)
        logger.info(
            "%s: %d lists of %.1f candidates on average, %.1f of them right; each of %d right products is wrong in %d "
            "lists for each list that it is right in, and has %d doubles; %d places stay empty",
            *(name, len(plan.places), (len(rows) + len(right)) / len(plan.places), len(right) / len(plan.places)),
            *(right["product_id"].nunique(), times[name], doubles_each, empty),
        )
        drawn[name] = _rows_of(right, rows, ids[items], random)
    return drawn


def _sizes(
    held_out: Mapping[str, pd.DataFrame], products: int, options: ImportOptions
) -> tuple[int, int, dict[str, int]]:
    """Choose d and, for each split, k of ``lists``: as the options want, or as many as the shop has products for."""
    of_lists = len(pd.unique(pd.concat([right["product_id"] for right in held_out.values()])))
    doubles = min(MOST_DOUBLES, (products - of_lists) // of_lists)
    times = {}
    for name, right in held_out.items():
        lists, own = right["query_id"].nunique(), right["product_id"].nunique()
        longest = int(right.groupby("query_id").size().max())
        wanted = round(options.candidates_per_right / (1 + doubles)) - 1
        times[name] = max(0, min(wanted, lists // 2 - 1, own // (2 * longest) - 1))
        if not times[name] and not doubles:
            raise ShopError(
                f"{lists} queries of {name} with {own} right products, and {products:,} products in all: too few for "
                "wrong candidates. Take a longer log of clicks, or products that are right for no query"
            )
    return doubles, times


def _plan(
    right: pd.DataFrame, doubles: Mapping[int, np.ndarray], times: int, clicks: pd.DataFrame, products: pd.DataFrame
) -> tuple[Plan, np.ndarray, np.ndarray]:
    """Plan the lists of a split, and measure how close products are to them; products by the order of the ids (p,)."""
    own = right["product_id"].value_counts()
    ids = np.concatenate([own.index, *(doubles[product] for product in own.index)]).astype(np.int64)
    each = len(doubles[own.index[0]])
    uses = np.concatenate([own.to_numpy() * times, np.repeat(own.to_numpy() * (1 + times), each)])
    queries, rows = np.unique(right["query_id"], return_inverse=True)
    is_right = np.zeros((len(queries), len(ids)), bool)
    is_right[rows, pd.Index(ids).get_indexer(right["product_id"])] = True
    places = is_right.sum(axis=1) * ((1 + times) * (1 + each) - 1)
    texts = right.drop_duplicates("query_id").sort_values("query_id")["query"].tolist()
    closeness, barred = _closeness(texts, is_right, clicks, products.loc[ids].reset_index())
    return Plan(is_right, barred | is_right, places, uses), closeness, ids


def _closeness(
    queries: list[str], is_right: np.ndarray, clicks: pd.DataFrame, products: pd.DataFrame
) -> tuple[np.ndarray, np.ndarray]:
    """Measure how right each product looks for each query (n, p), and find the products that may be right (n, p) bool.

    A product may be right if it was clicked for the query, or for one with all its words: "red dress" for "dress". It
    looks right by its category, by its title's words, and by clicks for queries that share a clicked product.
    """
    every = pd.Index(pd.unique(pd.concat([pd.Series(queries), clicks["query"]])))
    asked = every.get_indexer(queries)
    clicked = _matrix(clicks[~clicks["wrong"]], every, products)
    judged = _matrix(clicks[clicks["wrong"]], every, products)[asked].toarray() > 0
    barred = ((_with_all_words(every, asked) @ clicked).toarray() > 0) & ~judged
    near = ((clicked[asked] @ clicked.T) @ clicked).toarray().astype(np.float32)
    near /= near.max(axis=1, keepdims=True).clip(1)
    return near + _likeness(queries, is_right, products) + JUDGED_WRONG * judged, barred


def _with_all_words(every: pd.Index, asked: np.ndarray) -> csr_matrix:
    """Mark the queries (n, all) that hold all words of each asked one."""
    words = CountVectorizer(analyzer=words_of, binary=True, dtype=np.int32).fit_transform(every)
    of_word, wanted = words.T.tocsr(), np.diff(words.indptr)
    rows = []
    for some in np.array_split(asked, -(-len(asked) // ASKED_AT_ONCE)):
        shared = words[some] @ of_word  # many queries share a word with each: the matrix of all asked ones is large
        shared.data[shared.data < np.repeat(wanted[some], np.diff(shared.indptr))] = 0
        shared.eliminate_zeros()
        rows.append(shared)
    return vstack(rows, format="csr")


def _matrix(clicks: pd.DataFrame, queries: pd.Index, products: pd.DataFrame) -> csr_matrix:
    """Mark the clicked products (queries, p)."""
    place = pd.Index(products["product_id"]).get_indexer(clicks["product_id"])
    rows = queries.get_indexer(clicks["query"])[place >= 0]
    marks = np.ones(len(rows), np.int32)
    return csr_matrix((marks, (rows, place[place >= 0])), (len(queries), len(products)))


def _likeness(queries: list[str], is_right: np.ndarray, products: pd.DataFrame) -> np.ndarray:
    """Compare titles and categories of products (n, p) with those of each query's right products, 0 to 2."""
    number, names = pd.factorize(products["category"])  # -1 without a category
    known = np.flatnonzero(number >= 0)
    categories = csr_matrix((np.ones(len(known)), (known, number[known])), (len(products), len(names)))
    alike = ((csr_matrix(is_right) @ categories > 0).astype(np.float32) @ categories.T).toarray().astype(np.float32)
    titles = products["title"].fillna("")
    if not any(map(words_of, titles)):
        return alike
    weigh = TfidfVectorizer(analyzer=words_of, dtype=np.float32).fit([*titles, *queries])
    shown = weigh.transform(titles)
    wanted = normalize(csr_matrix(is_right.astype(np.float32)) @ shown + weigh.transform(queries))
    return alike + (wanted @ shown.T).toarray()


def _rows_of(right: pd.DataFrame, rows: np.ndarray, ids: np.ndarray, random: np.random.Generator) -> pd.DataFrame:
    """Put right and wrong candidates together, each list in drawn order."""
    texts = right.drop_duplicates("query_id").sort_values("query_id")[["query_id", "query"]].reset_index(drop=True)
    wrong = texts.iloc[rows].assign(product_id=ids, right=False)
    both = pd.concat([right[CANDIDATE_COLUMNS], wrong], ignore_index=True)
    order = np.lexsort((random.random(len(both)), both["query_id"].to_numpy()))
    return both.iloc[order].reset_index(drop=True)
