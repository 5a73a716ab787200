"""Read judgements, and write rankings, judgements and the collection in the formats of TREC and BEIR."""

import logging
import re
from typing import Any
from urllib.parse import quote

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from multimodal_recall.data.schemas import TABLES, ChunkTables, from_pandas
from multimodal_recall.evaluation import judgements
from multimodal_recall.evaluation import rankings as combined
from multimodal_recall.evaluation.metrics import IDS, is_right, rank_candidates

logger = logging.getLogger(__name__)

NO_WORD = re.compile(r'[\s%"]')


def take_judgements(
    qrels: pd.DataFrame, *candidates: ds.Dataset | pd.DataFrame, split: str
) -> tuple[pa.Table, dict[int, list[int]]]:
    """Take the judgements of qrels about the queries of a split, see ``judgements``: ``judged``, and the answers."""
    tables = [table if isinstance(table, pd.DataFrame) else table.to_table().to_pandas() for table in candidates]
    listed = pd.concat([table.reset_index()[IDS] for table in tables])
    judged, answers, told = judgements.take_judgements(qrels, listed, split)
    logger.info(told)
    return from_pandas(TABLES["judged"], judged), answers


def write_runs(
    model_scores: ds.Dataset,
    blends: ds.Dataset,
    fitted: ds.Dataset | None = None,
    title_scores: ds.Dataset | None = None,
    zero_shot_scores: ds.Dataset | None = None,
) -> dict[str, pd.DataFrame]:
    """Rank each query's candidates by each model, by what needs none, and by what is made of the models' scores.

    Returns:
        The candidates of each ranking with their ``rank``, by the ranking's name.
    """
    scores = model_scores.to_table().to_pandas()
    tables = {name: combined.scores_of(scores, name) for name in combined.models_of(scores)}
    if title_scores is not None and title_scores.count_rows():
        titles = title_scores.to_table().to_pandas()
        titles = titles[titles["query_id"].isin(scores["query_id"])]
        tables |= {name: combined.scores_of(titles, column) for column, name in combined.TITLE_RANKINGS.items()}
    if zero_shot_scores is not None and zero_shot_scores.count_rows():
        shots = zero_shot_scores.to_table().to_pandas()
        tables[combined.ZERO_SHOT] = shots[shots["query_id"].isin(scores["query_id"])]
    for table in (blends, fitted):
        if table is not None:
            tables |= dict(iter(table.to_table().to_pandas().groupby("ranking", sort=False)))
    return {name: rank_candidates(table[[*IDS, "score"]]) for name, table in tables.items()}


def write_recall_runs(*retrieved: ds.Dataset, rankings: tuple[str, ...]) -> dict[str, pd.DataFrame]:
    """Give what each ranking has found in the whole catalogue, by name."""
    tables = {name: table.to_table().to_pandas() for name, table in zip(rankings, retrieved, strict=True)}
    return {name: table.sort_values(["query_id", "rank"], ignore_index=True) for name, table in tables.items()}


def write_qrels(model_scores: ds.Dataset, answers: dict[int, list[int]]) -> pd.DataFrame:
    """Judge the candidates, 1 if right and else 0, and the right products that are no candidates."""
    candidates = model_scores.to_table(columns=IDS).to_pandas()
    right = pd.DataFrame([(query, product) for query in answers for product in answers[query]], columns=IDS)
    judged = pd.concat([candidates, right.astype("int64")]).drop_duplicates(ignore_index=True)
    return judged.assign(relevance=is_right(judged, answers).astype("int64")).sort_values(IDS, ignore_index=True)


def write_runs_by_sku(products: ds.Dataset, **tables: ds.Dataset) -> dict[str, pd.DataFrame]:
    """As ``write_runs``, with the SKUs of an imported shop."""
    return {name: name_products(run, products) for name, run in write_runs(**tables).items()}


def write_recall_runs_by_sku(
    products: ds.Dataset, *retrieved: ds.Dataset, rankings: tuple[str, ...]
) -> dict[str, pd.DataFrame]:
    """As ``write_recall_runs``, with the SKUs of an imported shop."""
    runs = write_recall_runs(*retrieved, rankings=rankings)
    return {name: name_products(run, products) for name, run in runs.items()}


def write_qrels_by_sku(products: ds.Dataset, model_scores: ds.Dataset, answers: dict[int, list[int]]) -> pd.DataFrame:
    """As ``write_qrels``, with the SKUs of an imported shop."""
    return name_products(write_qrels(model_scores, answers), products)


def name_products(table: pd.DataFrame, products: ds.Dataset) -> pd.DataFrame:
    """Write SKUs in place of numbers, with white space, % and " as in web addresses.

    A file of TREC has spaces between words, and no quoting. A product that the shop no longer has, as qrels may judge
    one, keeps its number. ``products`` are ``shop_products``.
    """
    skus = products.to_table(["product_id", "sku"]).to_pandas().set_index("product_id")["sku"]
    words = skus.map(lambda sku: NO_WORD.sub(lambda sign: quote(sign[0]), sku))
    numbers = table["product_id"]
    return table.assign(product_id=numbers.map(words).fillna(numbers.astype(str)))


def copy_qrels(judged: ds.Dataset) -> pd.DataFrame:
    """Give the judgements of a split's own qrels."""
    return judged.to_table().to_pandas()


def copy_qrels_by_sku(products: ds.Dataset, judged: ds.Dataset) -> pd.DataFrame:
    """As ``copy_qrels``, with the SKUs of an imported shop."""
    return name_products(copy_qrels(judged), products)


def write_beir(labels: list[str], *tables: Any, splits: tuple[str, ...]) -> Any:
    """Collect the queries of the splits with answers, and all products: a ``BeirCollection``.

    ``tables`` are the examples of each split, then its answers, then the ``products`` of each chunk of the catalogue.
    """
    from multimodal_recall.datasets.beir_folder import BeirCollection

    examples, answers = (dict(zip(splits, tables[start : 2 * len(splits) : 2], strict=True)) for start in (0, 1))
    queries = {split: _texts(examples[split], answers[split]) for split in splits}
    return BeirCollection(tables[2 * len(splits) :], labels, queries, answers)


def _texts(examples: dict[str, ChunkTables], answers: dict[int, list[int]]) -> dict[int, str]:
    """Read the texts of the queries that have answers."""
    pairs = pd.concat(
        tables["pairs"].to_table(columns=["query_id", "query"]).to_pandas() for tables in examples.values()
    )
    texts = pairs.drop_duplicates("query_id").set_index("query_id")["query"]
    return texts[texts.index.isin(list(answers))].to_dict()
