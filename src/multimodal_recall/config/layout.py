"""What this environment runs: which splits, in how many chunks, whether a shop is made, which rankers.

Kedro 1.7 builds pipelines without telling them the environment. So the configuration loader, which every way of
starting Kedro makes first (run, sessions, viz, server, ipython), remembers itself here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from multimodal_recall.config.loader import current_configuration

SPLITS = ("train", "valid", "testA", "testB")
SHOP_SPLITS = ("train", "valid", "testA")
GROUPS = (
    "seed",
    "hardware",
    "chunks",
    "rankers",
    "make_shop",
    "ingest",
    "language_model",
    "word_vectors",
    "featurize",
    "sample_negatives",
    "rerank",
    "evaluate",
    "tracking",
)
REQUIRED_SPLITS = ("train", "valid")
T = TypeVar("T")


class LayoutError(Exception):
    """The configuration's ``chunks`` or ``rankers`` cannot be turned into pipelines."""


@dataclass(frozen=True)
class Chunk:
    """Chunk ``number`` of the ``count`` byte ranges of a split's TSV."""

    split: str
    number: int
    count: int

    @property
    def name(self) -> str:
        """Name inside the split, ``chunk_007``."""
        return f"chunk_{self.number:03d}"

    @property
    def namespace(self) -> str:
        """Kedro namespace of the chunk's nodes and datasets, ``train.chunk_007``."""
        return f"{self.split}.{self.name}"

    @property
    def title(self) -> str:
        """How log lines name it, ``train.chunk_007 (8 of 30)``."""
        return f"{self.namespace} ({self.number + 1} of {self.count})"


@dataclass(frozen=True)
class Layout:
    """The shape of one environment's pipelines."""

    chunks: dict[str, int]
    """Number of chunks of each split that is run."""
    answered: tuple[str, ...]
    """Splits to be measured: those with an answer file."""
    makes_shop: bool
    """Whether the raw files are made by ``make_shop``."""
    rankers: tuple[str, ...]
    """Names of the rankers to train and evaluate; none where only given scores are evaluated."""
    given_scores: tuple[str, ...] = ()
    """Answered splits with a file of scores from elsewhere."""
    given_counts: bool = False
    """Whether a file says in how many candidate lists each product stands."""
    reclassifies: bool = False
    """Whether the rankers' vectors of the valid candidates are kept and classified."""
    starts: Mapping[str, str] = field(default_factory=dict)
    """For each ranker that starts from another one's weights, that one."""
    draws: Mapping[str, Any] = field(default_factory=dict)
    """What the trained rankers want of those options of ``sample_negatives`` that are ``None``."""

    @property
    def trained(self) -> dict[str, str | None]:
        """Each ranker that is trained, with the one that it starts from, which comes before it."""
        trained: dict[str, str | None] = {}
        for ranker in self.rankers:
            chain = _chain(ranker, self.starts)
            trained |= {one: self.starts.get(one) for one in reversed(chain) if one not in trained}
        return trained

    def chunks_of(self, split: str) -> list[Chunk]:
        """All chunks of a split, in file order."""
        return [Chunk(split, number, self.chunks[split]) for number in range(self.chunks[split])]

    @property
    def candidate_splits(self) -> tuple[str, ...]:
        """Splits whose candidates are ranked: all but ``train``."""
        return tuple(split for split in self.chunks if split != "train")


def _starts(parameters: dict[str, Any]) -> dict[str, str]:
    """For each ranker that starts from another one's weights, that one."""
    groups = {name: group for name, group in parameters.items() if isinstance(group, dict) and "model" in group}
    return {name: group["start_from"] for name, group in groups.items() if group.get("start_from") is not None}


def _chain(ranker: str, starts: Mapping[str, str]) -> list[str]:
    """A ranker, the one that it starts from, the one that this starts from, ...; ends before one would come again."""
    chain = [ranker]
    while (start := starts.get(chain[-1])) is not None and start not in chain:
        chain.append(start)
    return chain


def _problems(parameters: dict[str, Any], chunks: dict[str, Any], rankers: list[str]) -> list[str]:
    """What is wrong with the parameters that shape the pipelines."""
    problems = [f"chunks names {split!r}; a split is one of {SPLITS}" for split in chunks if split not in SPLITS]
    problems += [
        f"chunks.{split} is {count!r}, not a whole number of at least 1"
        for split, count in chunks.items()
        if not (type(count) is int and count >= 1)
    ]
    problems += [f"chunks has no {split!r}" for split in REQUIRED_SPLITS if split not in chunks]
    reclassify = parameters["evaluate"]["reclassify"]
    if type(reclassify) is not bool:
        problems.append(f"evaluate.reclassify is {reclassify!r}, not true or false")
    known = [name for name, group in parameters.items() if isinstance(group, dict) and "model" in group]
    problems += [
        f"rankers names {ranker!r}, which has no options with a model; those that have are {known}"
        for ranker in rankers
        if ranker not in known
    ]
    twice = dict.fromkeys(ranker for ranker in rankers if rankers.count(ranker) > 1)
    problems += [f"rankers names {ranker!r} twice; name each once" for ranker in twice]
    starts = _starts(parameters)
    problems += [
        f"{ranker}.start_from names {start!r}, which has no options with a model; those that have are {known}"
        for ranker, start in starts.items()
        if start not in known
    ]
    problems += [
        f"{ranker}.start_from leads back to itself" for ranker in starts if _chain(ranker, starts)[-1] in starts
    ]
    unknown = sorted(set(parameters) - set(GROUPS) - set(known))
    problems += [
        f"{name!r} is neither a group of options, {GROUPS}, nor a ranker, which has a model" for name in unknown
    ]
    return problems


def _build(group: str, kind: type[T], parameters: dict[str, Any]) -> T:
    """Make the options of a group, as Kedro does for those of the nodes that run."""
    from pydantic import ValidationError

    try:
        return kind(**parameters[group])
    except (TypeError, ValidationError) as error:
        raise LayoutError(
            f"The parameters of {group} do not fit: {error}\n"
            "All options and their meaning: src/multimodal_recall/config (options, rankers, systems)"
        ) from error


def _draws(parameters: dict[str, Any], trained: Iterable[str]) -> dict[str, Any]:
    """What the rankers want of those options of ``sample_negatives`` that are ``None``; set ones must do for them."""
    from multimodal_recall.config.options import NegativeOptions
    from multimodal_recall.config.rankers import RankerOptions

    options, kinds, most = _build("sample_negatives", NegativeOptions, parameters), {}, 1
    for name in trained:
        ranker = _build(name, RankerOptions, parameters)
        count = ranker.negatives_per_positive
        mixed = {**ranker.negatives, **(ranker.negatives_at_end or {})} if count else {}
        if set(mixed) - set(options.kinds or mixed) or count > (options.negatives_per_positive or count):
            raise LayoutError(
                f"{name} takes {count} negatives of the kinds {list(mixed)}, but sample_negatives.kinds is "
                f"{options.kinds}, its negatives_per_positive {options.negatives_per_positive}. Set these to more, or "
                "to null: just what the rankers take"
            )
        kinds, most = kinds | mixed, max(most, count)
    wanted = {"kinds": tuple(kinds or ["random"]), "negatives_per_positive": most}
    return {name: value for name, value in wanted.items() if getattr(options, name) is None}


def read_layout() -> Layout:
    """Read the shape of the pipelines from the current environment's configuration.

    Raises:
        LayoutError: If ``chunks`` names an unknown split or a count below one, ``rankers`` names a ranker without
            options, twice, or one whose negatives are not drawn, or there is neither a ranker nor a file of valid's
            scores to evaluate.
    """
    loader, project = current_configuration()
    parameters, catalog = loader["parameters"], loader["catalog"]
    chunks, rankers = parameters.get("chunks") or {}, parameters.get("rankers") or []
    rankers = rankers.split() if isinstance(rankers, str) else rankers  # --params="rankers=two_tower mcan"
    problems = _problems(parameters, chunks, rankers)
    if problems:
        raise LayoutError("The parameters do not fit: " + "; ".join(problems) + ". Mend conf/<env>/parameters*.yml.")

    def path_of(pattern: str, split: str = "") -> Path:
        return project / catalog[pattern]["filepath"].format(split=split)

    def exists(pattern: str, split: str = "") -> bool:
        return path_of(pattern, split).exists()

    makes_shop = parameters.get("make_shop") is not None
    made = SHOP_SPLITS if makes_shop else ()
    given = tuple(split for split in SPLITS[1:] if exists("{split}_given_scores", split))
    if rankers:
        run = [s for s in SPLITS if s in chunks and (s in REQUIRED_SPLITS or s in made or exists("{split}_tsv", s))]
    else:
        run = list(given)
    if "valid" not in run:  # on it weights and stacks are fitted
        others = f" Scores of {', '.join(run)} alone cannot be evaluated." if run else ""
        raise LayoutError(
            f"There is nothing to run: rankers is empty, and {path_of('{split}_given_scores', 'valid')} does not "
            f"exist.{others} Put scores of valid there (query_id, product_id, a column a model), or name a ranker."
        )
    answered = [s for s in run if s != "train" and (s in made or s == "valid" or exists("{split}_answers", s))]
    layout = Layout(
        {split: chunks[split] for split in run},
        tuple(answered),
        makes_shop,
        tuple(rankers),
        tuple(split for split in given if split in answered),
        exists("given_list_counts"),
        parameters["evaluate"]["reclassify"],
        _starts(parameters),
    )
    return replace(layout, draws=_draws(parameters, layout.trained))
