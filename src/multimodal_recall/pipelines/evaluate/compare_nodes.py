"""Gather the scores of all models of a split, make further rankings of them, measure and compare all rankings.

Throughout: ``model_scores`` has a column a model, and ``list_counts`` the number of lists that hold each product.
"""

import logging

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from more_itertools import chunked

from multimodal_recall.config.options import EvaluateOptions
from multimodal_recall.data.schemas import TABLES, ChunkTables, from_pandas
from multimodal_recall.evaluation import rankings
from multimodal_recall.evaluation.calibration import reliability
from multimodal_recall.evaluation.leak_rules import leak_poor_queries
from multimodal_recall.evaluation.metrics import IDS, MetricError, is_right, measure_queries
from multimodal_recall.evaluation.query_facts import query_facts
from multimodal_recall.evaluation.scales import normalise
from multimodal_recall.evaluation.summary import break_down, query_groups, summarise, verdict
from multimodal_recall.evaluation.title_rankings import rank_by_titles

logger = logging.getLogger(__name__)


def gather_scores(options: EvaluateOptions, *scores: ds.Dataset | pd.DataFrame, rankers: tuple[str, ...]) -> pa.Table:
    """Put the scores of the wanted models side by side: ``query_id``, ``product_id``, then a column a model.

    The scores are those of each ranker, then the split's given scores, as a table, as a TREC run, or both.

    Raises:
        MetricError: See ``join_scores`` and ``refuse_taken_names``.
        UnknownModelError: If the options name a model without scores.
    """
    tables = {
        name: rankings.scores_of(table.to_table().to_pandas(), "score").rename(columns={"score": name})
        for name, table in zip(rankers, scores, strict=False)
    }
    for given in scores[len(rankers) :]:
        if isinstance(given, pd.DataFrame):
            tables["the given run"] = _read_run(given, next(iter(tables.values()), None))
        else:
            table = given.to_table().to_pandas()
            tables["given scores"] = table.reset_index([name for name in IDS if name in table.index.names])
    joined = rankings.join_scores(tables)
    options.check_models(rankings.models_of(joined))
    if options.models is not None:
        joined = joined[[*IDS, *options.models]]
    rankings.refuse_taken_names(joined, options.blends, options.margin)
    return pa.Table.from_pandas(joined, preserve_index=False).replace_schema_metadata()


def gather_judged(
    options: EvaluateOptions,
    answers: dict[int, list[int]],
    *scores: ds.Dataset | pd.DataFrame,
    rankers: tuple[str, ...],
) -> pa.Table:
    """Put the scores side by side, see ``gather_scores``, of the queries that the split's qrels judge."""
    gathered = gather_scores(options, *scores, rankers=rankers)
    return gathered.filter(pc.is_in(gathered["query_id"], pa.array(answers, pa.int64())))


def _read_run(run: pd.DataFrame, candidates: pd.DataFrame | None) -> pd.DataFrame:
    """Make a table of a run, and say what it does not share with the candidates."""
    table, outside, missing = rankings.run_scores(run, candidates)
    if outside or missing:
        logger.warning(
            "the given run: %s of its %s lines are no candidates, and are left out; %s scores of candidates are "
            "missing, and come after the others of their query",
            *(f"{count:,}" for count in (outside, len(run), missing)),
        )
    return table


def count_lists(*scores: ds.Dataset) -> pa.Table:
    """Count the candidate lists, of all splits together, that hold each product: the leak."""
    pairs = pd.concat([table.to_table(columns=IDS).to_pandas() for table in scores])
    lists = pairs.groupby("product_id").size().rename("lists_with_product").reset_index()
    return from_pandas(TABLES["list_counts"], lists)


def blend_rankings(
    options: EvaluateOptions,
    model_scores: ds.Dataset,
    list_counts: ds.Dataset,
    *scores_of_rankers: ds.Dataset,
    rankers: tuple[str, ...],
) -> pa.Table:
    """Make further ``rankings``: blends of models, the rankers' re-ranked lists, and rules on the headline model."""
    scores = model_scores.to_table().to_pandas()
    headline, lists = headline_of(scores, options), _lists(scores, list_counts)
    measured = ds.field("query_id").isin(scores["query_id"].unique())  # qrels may judge some of the queries
    own = {
        name: table.to_table(filter=measured).to_pandas()
        for name, table in zip(rankers, scores_of_rankers, strict=True)
        if name in scores
    }
    by_kind = {
        rankings.LEAK_FREE: rankings.blended_rankings(scores, options.blends),
        rankings.OWN_LIST: rankings.rescored_rankings(own),
        rankings.LEAK: rankings.ruled_rankings(scores, headline, lists, options.margin),
    }
    return from_pandas(TABLES["rankings"], rankings.stack_rankings(by_kind))


def fit_rankings(
    options: EvaluateOptions,
    seed: int,
    model_scores: ds.Dataset,
    list_counts: ds.Dataset,
    answers: dict[int, list[int]],
    *vectors: ds.Dataset,
    rankers: tuple[str, ...],
) -> tuple[pa.Table, pd.DataFrame]:
    """Make the rankings that are fitted on valid; a query is scored by models that have not seen it.

    ``vectors`` are the candidates' pair vectors, by each of the ``rankers`` to re-classify.

    Returns:
        ``rankings``, and nDCG@5 with its spread over shuffles and folds.
    """
    scores = model_scores.to_table().to_pandas()
    models, lists = rankings.models_of(scores), _lists(scores, list_counts)
    measured = ds.field("query_id").isin(scores["query_id"].unique())
    read = {
        name: _read_vectors(table, measured) for name, table in zip(rankers, vectors, strict=True) if name in models
    }
    splits = (options.folds, options.shuffles, seed)
    by_kind, fits = rankings.fitted_rankings(scores, answers, lists, read, *splits)
    for row in fits.itertuples(index=False):
        logger.info(
            "%s: nDCG@5 %.4f out of fold; %.4f of a single shuffle; standard deviation %.4f over shuffles, %.4f over "
            "folds",
            *row,
        )
    return from_pandas(TABLES["rankings"], rankings.stack_rankings(by_kind)), fits.round(6)


def _read_vectors(vectors: ds.Dataset, measured: ds.Expression) -> tuple[pd.DataFrame, np.ndarray]:
    """Read the candidates' ids and their vectors (n, D)."""
    table = vectors.to_table(filter=measured)
    values = table["vector"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
    return table.select(IDS).to_pandas(), values


def _lists(scores: pd.DataFrame, list_counts: ds.Dataset) -> np.ndarray:
    """Look up the number of lists that hold each candidate's product (n,).

    Raises:
        MetricError: If a product is not counted.
    """
    counts = list_counts.to_table().to_pandas().drop_duplicates("product_id").set_index("product_id")
    lists = counts["lists_with_product"].reindex(scores["product_id"])
    if lists.isna().any():
        raise MetricError(
            f"product_counts.parquet lacks the products of {lists.isna().sum()} candidates, first product "
            f"{lists.index[lists.isna()][0]}: count the products of all lists, or delete the file"
        )
    return lists.to_numpy()


def headline_of(scores: pd.DataFrame, options: EvaluateOptions) -> str:
    """Name the model that other models are compared with.

    Raises:
        UnknownModelError: If the options name a model without scores.
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
    title_scores: ds.Dataset | None = None,
    zero_shot_scores: ds.Dataset | None = None,
    *,
    split: str,
) -> pa.Table:
    """Measure every ranking of a split: ``query_metrics``, one row a ranking and query of the answers.

    ``references`` are the made-up shop's own rankings of all splits: by chance, by the noun, by its truth. ``None``:
    the candidates are ranked by chance here. ``title_scores`` rank them by the words of titles,
    ``zero_shot_scores`` by the two towers of the vision model.
    """
    scores = model_scores.to_table().to_pandas()
    leak_free = {name: rankings.scores_of(scores, name) for name in rankings.models_of(scores)}
    if references is None:
        chance = np.random.default_rng([*split.encode()]).random(len(scores))
        leak_free[rankings.RANDOM_ORDER] = scores[IDS].assign(score=chance)
    else:
        measured = ds.field("query_id").isin(scores["query_id"].unique())
        table = references.to_table(filter=(ds.field("split") == split) & measured).to_pandas()
        leak_free |= {name: rankings.scores_of(table, column) for column, name in rankings.REFERENCES.items()}
    if title_scores is not None and title_scores.count_rows():
        table = title_scores.to_table().to_pandas()
        table = table[table["query_id"].isin(scores["query_id"])]
        leak_free |= {name: rankings.scores_of(table, column) for column, name in rankings.TITLE_RANKINGS.items()}
    if zero_shot_scores is not None and zero_shot_scores.count_rows():
        table = zero_shot_scores.to_table().to_pandas()
        leak_free[rankings.ZERO_SHOT] = table[table["query_id"].isin(scores["query_id"])]
    named = {(name, rankings.LEAK_FREE): table for name, table in leak_free.items()}
    for tables in (blends, fitted):
        if tables is not None:
            named |= dict(iter(tables.to_table().to_pandas().groupby(["ranking", "kind"], sort=False)))
    measured = pd.concat(
        [measure_queries(table, answers).assign(ranking=name, kind=kind) for (name, kind), table in named.items()],
        ignore_index=True,
    )
    poor = leak_poor_queries(scores, _lists(scores, list_counts))
    return from_pandas(TABLES["query_metrics"], measured.assign(leak_poor=measured["query_id"].isin(poor)))


def rank_titles(examples: dict[str, ChunkTables]) -> pa.Table:
    """Rank the candidates of a split by the words of their titles: ``title_scores``; see ``rank_by_titles``."""
    parts = []
    for tables in examples.values():
        pairs = tables["pairs"].to_table(columns=[*IDS, "query"]).to_pandas()
        titles = tables["products"].to_table(columns=["product_id", "title"]).to_pandas()
        parts.append(pairs.merge(titles, on="product_id"))
    return from_pandas(TABLES["title_scores"], rank_by_titles(pd.concat(parts, ignore_index=True)))


def describe_queries(examples: dict[str, ChunkTables], answers: dict[int, list[int]], labels: list[str]) -> pa.Table:
    """Describe each query by the facts by which its ranking is broken down; see ``query_facts``."""
    return from_pandas(TABLES["query_facts"], query_facts(examples, answers, labels))


def compare_rankings(
    options: EvaluateOptions, seed: int, fits: pd.DataFrame, *tables: ds.Dataset, splits: tuple[str, ...]
) -> pd.DataFrame:
    """Put the means of all rankings into a table, leak-free rankings first, each kind's worst first, and log it.

    The tables are query metrics and models' scores of each split in turn. ``fits`` is from ``fit_rankings``.
    """
    summaries, headlines = [], {}
    for split, metrics, scores in zip(splits, tables[::2], tables[1::2], strict=True):
        headlines[split] = headline_of(scores.head(1).to_pandas(), options)
        summaries.append(summarise(metrics.to_table().to_pandas(), headlines[split], options, seed))
        summaries[-1].insert(0, "split", split)
    spread = fits.assign(split="valid").drop(columns="ndcg_at_5")
    table = pd.concat(summaries, ignore_index=True).merge(spread, how="left", on=["split", "ranking"])
    honest = table[table["kind"] == rankings.LEAK_FREE]  # the report and the table have the other kinds
    for split, group in honest.groupby("split", sort=False):
        # 51 columns: beside Kedro's time and level they fit a terminal of 80.
        shown = group[["ranking", "nDCG@5", "low", "high"]].round(3)
        logger.info("rankings of %s, %s:\n%s", split, rankings.LEAK_FREE, shown.to_string(index=False))
        said, better = verdict(group, headlines[split])
        if said:
            logger.log(logging.INFO if better else logging.WARNING, "on %s, %s", split, said)
    return table.round(6)


def break_down_queries(
    options: EvaluateOptions, seed: int, *tables: ds.Dataset, splits: tuple[str, ...]
) -> pd.DataFrame:
    """Measure the headline model on groups of each split's queries; without query facts, grouped by the leak alone.

    The tables are query metrics, models' scores and, if queries were described, query facts of each split in turn.
    """
    by_split = []
    for split, of_split in zip(splits, chunked(tables, len(tables) // len(splits)), strict=True):
        query_metrics, model_scores, *facts = of_split
        headline = headline_of(model_scores.head(1).to_pandas(), options)
        measured = query_metrics.to_table(filter=ds.field("ranking") == headline).to_pandas().set_index("query_id")
        groups = pd.DataFrame({"candidate list": np.where(measured["leak_poor"], "leak-poor", "leaks")}, measured.index)
        for table in facts:
            described = table.to_table().to_pandas().set_index("query_id").reindex(measured.index)
            groups = groups.join(query_groups(described))
        rows = break_down(measured["ndcg_at_5"], groups, options.bootstrap_draws, options.confidence, seed)
        rows.insert(0, "split", split)
        by_split.append(rows)
    return pd.concat(by_split, ignore_index=True).round(6)


def calibrate(model_scores: ds.Dataset, answers: dict[int, list[int]], options: EvaluateOptions) -> pd.DataFrame:
    """Compare the headline model's probabilities with the share of right candidates; see ``reliability``."""
    scores = model_scores.to_table().to_pandas()
    headline = headline_of(scores, options)
    scored = normalise(scores, [headline], "logit").rename(columns={headline: "score"})
    return reliability(scored.assign(right=is_right(scored, answers))).round(6)
