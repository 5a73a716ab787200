"""Runs side by side, from the catalog's versions alone: what differs, the scores, the trainings."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

import numpy as np
import pandas as pd
from kedro.io import CatalogProtocol

from multimodal_recall.config.options import EvaluateOptions
from multimodal_recall.evaluation.bootstrap import bootstrap_means, interval
from multimodal_recall.runs.lineage import Lineage, pinned, trace

COMPARISON = "comparison"
SCORE = ["nDCG@5", "low", "high"]
DIFFERENCE = ["difference", "difference_low", "difference_high"]
RANKING = ["split", "kind", "ranking"]
SPLIT_FILES = ("tsv", "answers", "given_scores")
SHOWN_CHARACTERS = 80


class RunError(Exception):
    """A run that is to be compared is not there."""


@dataclass(frozen=True)
class RunComparison:
    """Runs side by side. A run is named by the version of what it saved, and each has a column, the oldest first."""

    differences: pd.DataFrame
    """A row an option, model version, package, commit or raw file's size that is not the same in all runs, as text;
    missing where a run had none."""
    scores: pd.DataFrame
    """A row a split, kind and ranking. For each run nDCG@5 with its interval, and the ``difference`` to the first run
    with its 95 % interval, paired by query; missing where a run has no such ranking."""
    trainings: pd.DataFrame
    """A row a ranker and measure: epochs, the best one from 1, the last epoch's loss, the best nDCG@5 on valid, and the
    seconds of all epochs. The training may be of an older run, whose model was scored."""
    notes: list[str]
    """What cannot be compared."""

    def __str__(self) -> str:
        """All of it for a terminal."""
        parts = [f"note: {note}" for note in self.notes]
        parts.append("what differs:\n" + _text(self.differences.map(_short)))
        for (split, kind), rows in self.scores.groupby(level=["split", "kind"], sort=False):
            parts.append(f"{split}, {kind}:\n" + _text(_score_texts(rows.droplevel(["split", "kind"]))))
        parts.append("trainings:\n" + _text(self.trainings.map("{:.6g}".format, na_action="ignore")))
        return "\n\n".join(parts)


def compare_runs(catalog: CatalogProtocol, versions: Sequence[str] = ()) -> RunComparison:
    """Put two or more runs of an environment side by side.

    What a run's scores come from is followed through the records beside the data: where only ``evaluate`` ran, to the
    model that it read. A run that trained without evaluating has no scores.

    Args:
        catalog: The environment's data; ``catalog`` in a notebook.
        versions: The runs' versions (time stamps of ``comparison`` or of a model); the two newest of ``comparison``
            where none is named.

    Raises:
        RunError: If there is no such run, or there are less than two.
    """
    runs = find_runs(catalog)
    versions = sorted(set(versions)) or [run for run in runs if COMPARISON in runs[run]][-2:]
    unknown = [version for version in versions if version not in runs]
    if unknown or len(versions) < 2:
        wrong = f"There is no run {', '.join(unknown)}" if unknown else "Two runs are needed to compare"
        listed = "\n".join(f"  {run}: {', '.join(names)}" for run, names in runs.items()) or "  none yet: kedro run"
        raise RunError(f"{wrong}. The runs of this environment, and what each has made:\n{listed}")
    lineages = {run: trace([(name, run) for name in runs[run]], catalog) for run in versions}
    facts = pd.DataFrame({run: lineage.texts() for run, lineage in lineages.items()}).sort_index()
    scores, notes = _scores(catalog, {run: lineages[run] for run in versions if COMPARISON in runs[run]})
    return RunComparison(
        facts[facts.nunique(axis=1, dropna=False) > 1],
        scores.reindex(versions, axis=1, level=0),
        _trainings(catalog, lineages),
        [*(_loss(run, lineage) for run, lineage in lineages.items() if lineage.lost), *notes],
    )


def find_runs(catalog: CatalogProtocol) -> dict[str, list[str]]:
    """The versions of the comparison and of every model, oldest first, each with the names of those that have it."""
    models = Path(catalog.get("any.model")._filepath)  # whatever the ranker: it need not be configured any more
    rankers = sorted(folder.parent.name for folder in models.parents[1].glob(f"*/{models.name}"))
    runs: dict[str, list[str]] = {}
    for name in (COMPARISON, *(f"{ranker}.model" for ranker in rankers)):
        for version in catalog.get(name).list_versions(full_path=False):
            runs.setdefault(version, []).append(name)
    return dict(sorted(runs.items()))


def _loss(run: str, lineage: Lineage) -> str:
    lost = sorted(lineage.lost)
    more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
    return f"{run} comes from {lost[0]}{more} without a record (dropped?): what these were made from is not compared"


def _scores(catalog: CatalogProtocol, lineages: dict[str, Lineage]) -> tuple[pd.DataFrame, list[str]]:
    """The runs' comparisons side by side, and notes on splits whose files or queries are not the same."""
    if not lineages:
        return pd.DataFrame(columns=RANKING).set_index(RANKING), []
    runs = list(lineages)
    tables = {run: pinned(COMPARISON, run, catalog).load().set_index(RANKING)[SCORE] for run in reversed(runs)}
    first, notes = runs[0], []
    metrics = {run: _query_metrics(catalog, run) for run in runs}
    for run in runs[1:]:
        rows = []
        for split in sorted(metrics[first].keys() & metrics[run].keys()):
            same_files = _files(lineages[first], split) == _files(lineages[run], split)
            if same_files and metrics[first][split].index.equals(metrics[run][split].index):
                rows.append(_paired(metrics[first][split], metrics[run][split], split))
            else:
                notes.append(f"{split} of {run} has other files or queries than {first}: no paired difference")
        if rows:
            tables[run] = tables[run].join(pd.concat(rows), on=["split", "ranking"])
    return pd.concat({run: tables[run] for run in reversed(runs)}, axis=1, sort=False), notes


def _files(lineage: Lineage, split: str) -> dict[str, list[str]]:
    """Sizes of the split's raw files."""
    return {kind: sorted(lineage.facts.get(f"{split}_{kind}, bytes", {})) for kind in SPLIT_FILES}


def _query_metrics(catalog: CatalogProtocol, run: str) -> dict[str, pd.DataFrame]:
    """By split, nDCG@5 (queries, rankings) that the run's comparison was made from; none where it was dropped."""
    made = pinned(COMPARISON, run, catalog).record()
    metrics = {}
    for name, version in made["inputs"].items() if made else ():
        if name.endswith("_query_metrics") and (dataset := pinned(name, version, catalog)).exists():
            table = dataset.load().to_table(columns=["query_id", "ranking", "ndcg_at_5"]).to_pandas()
            split = name.removeprefix("evaluation.").removesuffix("_query_metrics")
            metrics[split] = table.pivot(index="query_id", columns="ranking", values="ndcg_at_5")
    return metrics


def _paired(first: pd.DataFrame, other: pd.DataFrame, split: str) -> pd.DataFrame:
    """By split and ranking, the mean difference with its interval."""
    difference = (other - first).dropna(axis=1)
    options = EvaluateOptions()
    draws = bootstrap_means(difference.to_numpy(), options.bootstrap_draws, np.random.default_rng(0))
    ends = zip(DIFFERENCE, (difference.mean(), *interval(draws, options.confidence)), strict=True)
    index = pd.MultiIndex.from_product([[split], difference.columns], names=["split", "ranking"])
    return pd.DataFrame({name: np.asarray(values) for name, values in ends}, index)


def _trainings(catalog: CatalogProtocol, lineages: dict[str, Lineage]) -> pd.DataFrame:
    ends = []
    for run, lineage in lineages.items():
        for ranker, version in sorted(lineage.models.items()):
            if (log := pinned(f"{ranker}.training_log", version, catalog)).exists():
                measures = _curve_ends(log.load().to_table().to_pandas())
                ends += [(ranker, measure, run, value) for measure, value in measures.items()]
    table = pd.DataFrame(ends, columns=["ranker", "measure", "run", "value"])
    return table.set_index(["ranker", "measure", "run"])["value"].unstack(sort=False).reindex(columns=list(lineages))


def _curve_ends(log: pd.DataFrame) -> dict[str, float]:
    return {
        "epochs": len(log),
        "best epoch": log["epoch"][log["valid_ndcg_at_5"].idxmax()] + 1,
        "last loss": log["loss"].iloc[-1],
        "best valid nDCG@5": log["valid_ndcg_at_5"].max(),
        "seconds": log["seconds"].sum(),
    }


def _score_texts(scores: pd.DataFrame) -> pd.DataFrame:
    """One text a run's score with its interval, and one its difference to the first."""
    columns = []
    for run, table in scores.T.groupby(level=0, sort=False):
        rows = table.droplevel(0).T
        columns.append(rows.apply(lambda row: "{:.3f} ({:.3f} to {:.3f})".format(*row[SCORE]), axis=1).rename(run))
        if DIFFERENCE[0] in rows:
            texts = rows.apply(lambda row: "{:+.3f} ({:+.3f} to {:+.3f})".format(*row[DIFFERENCE]), axis=1)
            columns.append(texts.rename(DIFFERENCE[0]))
    return pd.concat(columns, axis=1).replace(to_replace=r"nan", value="", regex=True)


def _short(text: str | float) -> str:
    return shorten(text, SHOWN_CHARACTERS) if isinstance(text, str) else ""


def _text(table: pd.DataFrame) -> str:
    return table.to_string(na_rep="") if len(table) else "nothing"
