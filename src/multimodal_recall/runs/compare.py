"""Runs side by side, read from the catalog's versions alone: what differs, the scores, the trainings."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import shorten

import numpy as np
import pandas as pd
from kedro.io import CatalogProtocol

from multimodal_recall.config.options import EvaluateOptions
from multimodal_recall.evaluation.bootstrap import bootstrap_means, interval
from multimodal_recall.runs.lineage import Lineage, pinned, trace
from multimodal_recall.runs.records import name_first

COMPARISON = "comparison"
SCORE = ["nDCG@5", "low", "high"]
DIFFERENCE = ["difference", "difference_low", "difference_high"]
SCORE_FORM, DIFFERENCE_FORM = "{:.3f} ({:.3f} to {:.3f})", "{:+.3f} ({:+.3f} to {:+.3f})"
RANKING = ["split", "kind", "ranking"]
SPLIT_FILES = ("tsv", "answers")  # other given scores add rankings and change none of the others
SHOWN_CHARACTERS = 80


class RunError(Exception):
    """The runs to compare are fewer than two, or unknown."""


@dataclass(frozen=True)
class RunComparison:
    """Runs side by side: one column a run, the oldest first, named by the version of the run's outputs."""

    differences: pd.DataFrame
    """A row an option, model version, package, commit or raw file's size that differs between runs, as text; missing
    where a run has no value."""
    scores: pd.DataFrame
    """A row a split, kind and ranking. For each run nDCG@5 with its interval, and the ``difference`` to the first run
    with its 95 % interval, paired by query; missing where a run has no such ranking."""
    trainings: pd.DataFrame
    """A row a ranker and measure: epochs, the best epoch from 1, the last epoch's loss, the best nDCG@5 on valid, and
    the seconds of all epochs. Of an evaluation alone, the training is the older run that made the model."""
    notes: list[str]
    """What cannot be compared."""

    def __str__(self) -> str:
        """Give all four as text for a terminal."""
        differences = self.differences.map(lambda text: shorten(text, SHOWN_CHARACTERS), na_action="ignore")
        parts = [f"note: {note}" for note in self.notes]
        parts.append("what differs:\n" + _text(differences))
        for (split, kind), rows in self.scores.groupby(level=["split", "kind"], sort=False):
            parts.append(f"{split}, {kind}:\n" + _text(_score_texts(rows.droplevel(["split", "kind"]))))
        parts.append("trainings:\n" + _text(self.trainings.map("{:.6g}".format, na_action="ignore")))
        return "\n\n".join(parts)


def compare_runs(catalog: CatalogProtocol, versions: Sequence[str] = ()) -> RunComparison:
    """Put two or more runs of an environment side by side.

    The records beside the data lead from a run's scores back to their origins: where only ``evaluate`` ran, to the
    model that it read. A run that trained without evaluating has no scores.

    Args:
        catalog: The environment's data; ``catalog`` in a notebook.
        versions: Time stamps of ``comparison`` or of a model; none: the two newest of ``comparison``.

    Raises:
        RunError: If a version is unknown, or there are fewer than two.
    """
    runs = find_runs(catalog)
    versions = sorted(set(versions)) or [run for run in runs if COMPARISON in runs[run]][-2:]
    unknown = [version for version in versions if version not in runs]
    if unknown or len(versions) < 2:
        wrong = f"There is no run {', '.join(unknown)}" if unknown else "Two runs are needed to compare"
        listed = "\n".join(f"  {run}: {', '.join(names)}" for run, names in runs.items()) or "  none yet: kedro run"
        raise RunError(f"{wrong}. The runs of this environment, and the outputs of each:\n{listed}")
    lineages = {run: trace(dict.fromkeys(runs[run], run), catalog) for run in versions}
    facts = pd.DataFrame({run: lineage.texts() for run, lineage in lineages.items()}).sort_index()
    scores, notes = _scores(catalog, {run: lineages[run] for run in versions if COMPARISON in runs[run]})
    lost = [
        f"{run} comes from {name_first(sorted(lineage.lost))}, without a record (dropped by kedro prune?): the options "
        "and files before it are not compared"
        for run, lineage in lineages.items()
        if lineage.lost
    ]
    return RunComparison(
        facts[facts.nunique(axis=1, dropna=False) > 1],
        scores.reindex(versions, axis=1, level=0),
        _trainings(catalog, lineages),
        lost + notes,
    )


def find_runs(catalog: CatalogProtocol) -> dict[str, list[str]]:
    """List the versions of the comparison and of every model, oldest first, each with the datasets that have it."""
    models = catalog.get("any.model").path  # the name of any ranker: also rankers that are no longer configured count
    rankers = sorted(folder.parent.name for folder in models.parents[1].glob(f"*/{models.name}"))
    runs: dict[str, list[str]] = {}
    for name in (COMPARISON, *(f"{ranker}.model" for ranker in rankers)):
        for version in catalog.get(name).list_versions(full_path=False):
            runs.setdefault(version, []).append(name)
    return dict(sorted(runs.items()))


def _scores(catalog: CatalogProtocol, lineages: dict[str, Lineage]) -> tuple[pd.DataFrame, list[str]]:
    """Put the runs' comparisons side by side; note each split whose files or queries differ."""
    if not lineages:
        return pd.DataFrame(columns=RANKING).set_index(RANKING), []
    first, *others = lineages
    tables = {run: pinned(COMPARISON, run, catalog).load().set_index(RANKING)[SCORE] for run in (*others[::-1], first)}
    metrics, notes = {run: _query_metrics(catalog, run) for run in lineages}, []
    for run in others:
        rows = []
        for split in sorted(metrics[first].keys() & metrics[run].keys()):
            same_files = _files(lineages[first], split) == _files(lineages[run], split)
            if same_files and metrics[first][split].index.equals(metrics[run][split].index):
                rows.append(_paired(metrics[first][split], metrics[run][split], split))
            else:
                notes.append(f"{split} of {run} has other files or queries than {first}: no paired difference")
        if rows:
            tables[run] = tables[run].join(pd.concat(rows), on=["split", "ranking"])
    return pd.concat(tables, axis=1, sort=False), notes


def _files(lineage: Lineage, split: str) -> list[list[str]]:
    return [sorted(lineage.facts.get(f"{split}_{kind}, bytes", {})) for kind in SPLIT_FILES]


def _query_metrics(catalog: CatalogProtocol, run: str) -> dict[str, pd.DataFrame]:
    """By split, the nDCG@5 (queries, rankings) behind the run's comparison; a dropped table is left out."""
    record = pinned(COMPARISON, run, catalog).record()
    metrics = {}
    for name, version in record["inputs"].items() if record else ():
        if name.endswith("_query_metrics") and (dataset := pinned(name, version, catalog)).exists():
            table = dataset.load().to_table(columns=["query_id", "ranking", "ndcg_at_5"]).to_pandas()
            split = name.removeprefix("evaluation.").removesuffix("_query_metrics")
            metrics[split] = table.pivot(index="query_id", columns="ranking", values="ndcg_at_5")
    return metrics


def _paired(first: pd.DataFrame, second: pd.DataFrame, split: str) -> pd.DataFrame:
    """By split and ranking, the mean difference with its interval."""
    difference = (second - first).dropna(axis=1)
    options = EvaluateOptions()
    draws = bootstrap_means(difference.to_numpy(), options.bootstrap_draws, np.random.default_rng(0))
    columns = (difference.mean().to_numpy(), *interval(draws, options.confidence))
    index = pd.MultiIndex.from_product([[split], difference.columns], names=["split", "ranking"])
    return pd.DataFrame(dict(zip(DIFFERENCE, columns, strict=True)), index)


def _trainings(catalog: CatalogProtocol, lineages: dict[str, Lineage]) -> pd.DataFrame:
    rows = []
    for run, lineage in lineages.items():
        for ranker, version in sorted(lineage.models.items()):
            if (log := pinned(f"{ranker}.training_log", version, catalog)).exists():
                measures = _measures(log.load().to_table().to_pandas())
                rows += [(ranker, measure, run, value) for measure, value in measures.items()]
    table = pd.DataFrame(rows, columns=["ranker", "measure", "run", "value"])
    return table.set_index(["ranker", "measure", "run"])["value"].unstack(sort=False).reindex(columns=list(lineages))


def _measures(log: pd.DataFrame) -> dict[str, float]:
    return {
        "epochs": len(log),
        "best epoch": log["epoch"][log["valid_ndcg_at_5"].idxmax()] + 1,
        "last loss": log["loss"].iloc[-1],
        "best valid nDCG@5": log["valid_ndcg_at_5"].max(),
        "seconds": log["seconds"].sum(),
    }


def _score_texts(scores: pd.DataFrame) -> pd.DataFrame:
    """One column a run with its score and interval, and one with its difference to the first run."""
    columns = []
    for run, table in scores.T.groupby(level=0, sort=False):
        rows = table.droplevel(0).T
        for name, values, form in ((run, SCORE, SCORE_FORM), (DIFFERENCE[0], DIFFERENCE, DIFFERENCE_FORM)):
            if values[0] in rows:
                texts = [form.format(*row) if row.notna().all() else None for _, row in rows[values].iterrows()]
                columns.append(pd.Series(texts, rows.index, name=name))
    return pd.concat(columns, axis=1)


def _text(table: pd.DataFrame) -> str:
    return table.to_string(na_rep="-") if len(table) else "nothing"
