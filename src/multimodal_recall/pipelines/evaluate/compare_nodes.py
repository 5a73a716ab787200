"""Put all rankings of a split side by side: gathered, blended, fitted, measured, compared."""

import logging

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
from more_itertools import chunked

from multimodal_recall.config.options import EvaluateOptions
from multimodal_recall.data.schemas import TABLES, ChunkTables, from_pandas
from multimodal_recall.data.text import words_of
from multimodal_recall.evaluation import rankings
from multimodal_recall.evaluation.calibration import reliability
from multimodal_recall.evaluation.leak_rules import leak_poor_queries
from multimodal_recall.evaluation.metrics import MetricError, is_right, measure_queries
from multimodal_recall.evaluation.scales import normalise
from multimodal_recall.evaluation.summary import break_down, query_groups, summarise

logger = logging.getLogger(__name__)


def gather_scores(options: EvaluateOptions, *scores: ds.Dataset, rankers: tuple[str, ...]) -> pa.Table:
    """Put the scores of all models side by side: ``query_id``, ``product_id``, then a column a model.

    Args:
        options: Which models are wanted.
        scores: Of each ranker; then the table of given scores, if the split has given scores.
        rankers: Names of the rankers.

    Raises:
        MetricError: As ``join_scores`` and ``refuse_taken_names``.
    """
    tables = {
        name: rankings.scores_of(table.to_table().to_pandas(), "score").rename(columns={"score": name})
        for name, table in zip(rankers, scores, strict=False)
    }
    if len(scores) > len(rankers):
        tables["given scores"] = scores[-1].to_table().to_pandas()
    joined = rankings.join_scores(tables)
    options.check_models(rankings.models_of(joined))
    if options.models is not None:
        joined = joined[[*rankings.IDS, *options.models]]
    rankings.refuse_taken_names(joined, options.blends, options.margin)
    return pa.Table.from_pandas(joined, preserve_index=False).replace_schema_metadata()


def count_lists(*scores: ds.Dataset) -> pa.Table:
    """Count in how many candidate lists, of all splits together, each product stands: the leak."""
    pairs = pd.concat([table.to_table(columns=rankings.IDS).to_pandas() for table in scores])
    lists = pairs.groupby("product_id").size().rename("lists_with_product").reset_index()
    return from_pandas(TABLES["list_counts"], lists)


def blend_rankings(
    options: EvaluateOptions,
    model_scores: ds.Dataset,
    list_counts: ds.Dataset,
    *scores_of_rankers: ds.Dataset,
    rankers: tuple[str, ...],
) -> pa.Table:
    """Make further rankings: sums of the models' scores, what rankers make of candidate lists, rules on these.

    Args:
        options: Which models are blended, and which one the rules are applied to.
        model_scores: A column a model.
        list_counts: In how many lists each product stands.
        scores_of_rankers: Of each ranker.
        rankers: Names of the rankers.

    Returns:
        ``rankings``.
    """
    scores = model_scores.to_table().to_pandas()
    headline, lists = headline_of(scores, options), _lists(scores, list_counts)
    own = {
        name: table.to_table().to_pandas()
        for name, table in zip(rankers, scores_of_rankers, strict=True)
        if name in scores
    }
    made = {
        rankings.LEAK_FREE: rankings.blended_rankings(scores, options.blends),
        rankings.OWN_LIST: rankings.rescored_rankings(own),
        rankings.LEAK: rankings.ruled_rankings(scores, headline, lists, options.margin),
    }
    return from_pandas(TABLES["rankings"], rankings.stack_rankings(made))


def fit_rankings(
    options: EvaluateOptions,
    seed: int,
    model_scores: ds.Dataset,
    list_counts: ds.Dataset,
    answers: dict[int, list[int]],
    *vectors: ds.Dataset,
    rankers: tuple[str, ...],
) -> tuple[pa.Table, pd.DataFrame]:
    """Make the rankings that are fitted on valid, each query by models that have not seen it.

    Args:
        options: Folds and shuffles.
        seed: Of the folds and fits.
        model_scores: A column a model.
        list_counts: In how many lists each product stands.
        answers: Right products of each query.
        vectors: Of the candidates, by each ranker that is classified anew.
        rankers: Names of these rankers.

    Returns:
        ``rankings``, and nDCG@5 with its spread over shuffles and folds.
    """
    scores = model_scores.to_table().to_pandas()
    models, lists = rankings.models_of(scores), _lists(scores, list_counts)
    read = {name: _read_vectors(table) for name, table in zip(rankers, vectors, strict=True) if name in models}
    how = (options.folds, options.shuffles, seed)
    made, fits = rankings.fitted_rankings(scores, answers, lists, read, *how)
    for name, ndcg, one, over_shuffles, over_folds in fits.itertuples(index=False):
        logger.info(
            "%s: nDCG@5 %.4f out of fold; of one shuffle %.4f, standard deviation %.4f over shuffles, %.4f over folds",
            *(name, ndcg, one, over_shuffles, over_folds),
        )
    return from_pandas(TABLES["rankings"], rankings.stack_rankings(made)), fits.round(6)


def _read_vectors(vectors: ds.Dataset) -> tuple[pd.DataFrame, np.ndarray]:
    """The candidates' ids, and their vectors (n, D)."""
    table = vectors.to_table()
    values = table["vector"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
    return table.select(rankings.IDS).to_pandas(), values


def _lists(scores: pd.DataFrame, list_counts: ds.Dataset) -> np.ndarray:
    """In how many lists each candidate's product stands (n,).

    Raises:
        MetricError: If a product is not counted.
    """
    counts = list_counts.to_table().to_pandas().drop_duplicates("product_id").set_index("product_id")
    lists = counts["lists_with_product"].reindex(scores["product_id"])
    if lists.isna().any():
        raise MetricError(
            f"{lists.isna().sum()} candidates have products that are not counted, first "
            f"{lists.index[lists.isna()][0]}: count all lists in product_counts.parquet, or take the file away"
        )
    return lists.to_numpy()


def headline_of(scores: pd.DataFrame, options: EvaluateOptions) -> str:
    """The model that others are compared with.

    Raises:
        UnknownModelError: If the options name one that has no scores.
    """
    models = rankings.models_of(scores)
    options.check_models(models)
    return options.ranking or models[0]


def measure_rankings(
    model_scores: ds.Dataset,
    list_counts: ds.Dataset,
    answers: dict[int, list[int]],
    blends: ds.Dataset,
    fitted: ds.Dataset | None = None,
    references: ds.Dataset | None = None,
    *,
    split: str,
) -> pa.Table:
    """Measure every ranking of a split, query by query.

    Args:
        model_scores: A column a model.
        list_counts: In how many lists each product stands.
        answers: Right products of each query.
        blends: Further rankings made of them.
        fitted: Those fitted on the answers.
        references: The made-up shop's own rankings of all splits: by chance, by the noun, by its truth. Without them
            candidates are also ranked by chance here.
        split: The split.

    Returns:
        ``query_metrics``: one row a ranking and query of the answers.
    """
    scores = model_scores.to_table().to_pandas()
    models = rankings.models_of(scores)
    named = {(name, rankings.LEAK_FREE): rankings.scores_of(scores, name) for name in models}
    if references is None:
        chance = np.random.default_rng([*split.encode()]).random(len(scores))
        named[rankings.RANDOM_ORDER, rankings.LEAK_FREE] = scores[rankings.IDS].assign(score=chance)
    else:
        table = references.to_table(filter=ds.field("split") == split).to_pandas()
        named |= {
            (name, rankings.LEAK_FREE): rankings.scores_of(table, column)
            for column, name in rankings.REFERENCES.items()
        }
    for made in (blends, *([fitted] if fitted is not None else [])):
        named |= dict(iter(made.to_table().to_pandas().groupby(["ranking", "kind"], sort=False)))
    measured = [
        measure_queries(table, answers).assign(ranking=name, kind=kind) for (name, kind), table in named.items()
    ]
    together = pd.concat(measured, ignore_index=True)
    poor = leak_poor_queries(scores, _lists(scores, list_counts))
    return from_pandas(TABLES["query_metrics"], together.assign(leak_poor=together["query_id"].isin(poor)))


def describe_queries(examples: dict[str, ChunkTables], answers: dict[int, list[int]], labels: list[str]) -> pa.Table:
    """Say of each query by what its ranking is broken down: its words, and boxes and label of its right products.

    Args:
        examples: The split's chunks.
        answers: Right products of each query.
        labels: The label names.

    Returns:
        ``query_facts``: one row a query of the answers that has candidates.
    """

    def read(kind: str, columns: list[str]) -> pd.DataFrame:
        tables = (tables[kind].to_table(columns=columns).to_pandas() for tables in examples.values())
        return pd.concat(tables).drop_duplicates(columns[0])

    queries = read("pairs", ["query_id", "query"]).set_index("query_id")["query"]
    products = read("products", ["product_id", "labels"])
    right = pd.Series(answers).explode().rename("product_id").rename_axis("query_id").reset_index()
    boxes = right.astype("int64").merge(products, on="product_id").set_index("query_id")
    label = boxes["labels"].explode().groupby("query_id").agg(lambda found: found.mode().iloc[0])
    words = queries.map(words_of)
    facts = {
        "query": queries,
        "words": words.str.len(),
        "last_word": words.str[-1],
        "boxes": boxes["labels"].str.len().groupby("query_id").mean(),
        "label": label.map(dict(enumerate(labels))),
    }
    return from_pandas(TABLES["query_facts"], pd.DataFrame(facts).reindex(queries.index).reset_index(names="query_id"))


def compare_rankings(
    options: EvaluateOptions, seed: int, fits: pd.DataFrame, *tables: ds.Dataset, splits: tuple[str, ...]
) -> pd.DataFrame:
    """Put the means of all rankings into a table, the leak-free first and each kind's worst first, and log it.

    Args:
        options: How the intervals are drawn; with which model the others are compared.
        seed: Of the draws.
        fits: nDCG@5 of the rankings fitted on valid, and its spread over shuffles and folds.
        tables: Query metrics and models' scores of each split in turn.
        splits: Names of the splits.
    """
    summaries = []
    for split, metrics, scores in zip(splits, tables[::2], tables[1::2], strict=True):
        headline = headline_of(scores.head(1).to_pandas(), options)
        summaries.append(summarise(metrics.to_table().to_pandas(), headline, options, seed))
        summaries[-1].insert(0, "split", split)
    table = pd.concat(summaries, ignore_index=True)
    spread = fits.assign(split="valid").drop(columns="ndcg_at_5")
    table = table.merge(spread, how="left", on=["split", "ranking"])
    for (split, kind), group in table.groupby(["split", "kind"], sort=False):
        # 51 columns: beside Kedro's time and level they fit a terminal of 80.
        shown = group[["ranking", "nDCG@5", "low", "high"]].round(3)
        logger.info("rankings of %s, %s:\n%s", split, kind, shown.to_string(index=False))
    return table.round(6)


def break_down_queries(
    options: EvaluateOptions, seed: int, *tables: ds.Dataset, splits: tuple[str, ...]
) -> pd.DataFrame:
    """Measure the headline model on groups of each split's queries.

    Args:
        options: How the intervals are drawn; the headline model.
        seed: Of the draws.
        tables: Query metrics, models' scores and, if queries were described, query facts of each split in turn.
        splits: Names of the splits.

    Returns:
        The rows of ``summary.break_down`` with their ``split``; without query facts, groups by the leak alone.
    """
    parts = []
    for split, (query_metrics, model_scores, *facts) in zip(
        splits, chunked(tables, len(tables) // len(splits)), strict=True
    ):
        headline = headline_of(model_scores.head(1).to_pandas(), options)
        measured = query_metrics.to_table(filter=ds.field("ranking") == headline).to_pandas().set_index("query_id")
        groups = pd.DataFrame({"candidate list": np.where(measured["leak_poor"], "leak-poor", "leaks")}, measured.index)
        for table in facts:
            described = table.to_table().to_pandas().set_index("query_id").reindex(measured.index)
            groups = groups.join(query_groups(described))
        found = break_down(measured["ndcg_at_5"], groups, options.bootstrap_draws, options.confidence, seed)
        found.insert(0, "split", split)
        parts.append(found)
    return pd.concat(parts, ignore_index=True).round(6)


def calibrate(model_scores: ds.Dataset, answers: dict[int, list[int]], options: EvaluateOptions) -> pd.DataFrame:
    """Compare the probabilities that the headline model states with the share of right ones; see ``reliability``."""
    scores = model_scores.to_table().to_pandas()
    headline = headline_of(scores, options)
    scored = normalise(scores, [headline], "logit").rename(columns={headline: "score"})
    return reliability(scored.assign(right=is_right(scored, answers))).round(6)
