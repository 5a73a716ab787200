"""Check the parameters that shape the pipelines, and replace each ``null`` that follows from other parameters.

The configuration loader calls ``resolve``, so that nodes, catalog, ``kedro stale`` and notebooks see the same values.
"""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

SPLITS = ("train", "valid", "testA", "testB")
REQUIRED_SPLITS = ("train", "valid")
CATALOGUE = "catalogue"
"""The split that holds all products and no queries; without a file of its own, the products of all other splits."""
GROUPS = (
    "seed",
    "hardware",
    "chunks",
    "rankers",
    "make_shop",
    "import_shop",
    "describe",
    "ingest",
    "language_model",
    "word_vectors",
    "featurize",
    "sample_negatives",
    "rerank",
    "index",
    "evaluate",
    "checkpoints",
    "at_once",
    "stale_inputs",
    "pins",
    "tracking",
)
CHOICES = {"at_once": ("wait", "refuse"), "stale_inputs": ("warn", "refuse")}
T = TypeVar("T")


class LayoutError(Exception):
    """The parameters cannot be turned into pipelines."""


def resolve(parameters: dict[str, Any]) -> dict[str, Any]:
    """Resolve the parameters of an environment.

    - ``rankers``: a text of names, as from ``--params="rankers=two_tower mcan"``, becomes a list.
    - ``<ranker>.seed``: ``null`` becomes the run's ``seed``.
    - ``<ranker>.negatives`` and ``negatives_at_end``: kinds of weight 0 are left out, as Kedro can only add kinds to
      those of ``conf/base``.
    - ``sample_negatives.kinds`` and ``negatives_per_positive``: ``null`` becomes the kinds and the number that the
      trained rankers take.

    Raises:
        LayoutError: If ``chunks`` names an unknown split or a count below 1; if ``rankers`` names a ranker twice or a
            ranker without options; if a trained ranker takes negatives that are not drawn; if a group is unknown.
    """
    rankers = parameters.get("rankers") or []
    rankers = rankers.split() if isinstance(rankers, str) else list(rankers)
    resolved = {**parameters, "rankers": rankers} | {name: parameters.get(name) or {} for name in ("chunks", "pins")}
    if problems := list(_problems(resolved)):
        raise LayoutError(f"The parameters do not fit: {'; '.join(problems)}. Correct the parameters in conf/<env>")
    for name in known_rankers(resolved):
        if resolved[name].get("seed") is None:
            resolved[name] = {**resolved[name], "seed": parameters.get("seed")}
        resolved[name] = {**resolved[name], **_without_zeros(resolved[name])}
    draws = _draws(resolved)
    return {**resolved, "sample_negatives": {**(parameters.get("sample_negatives") or {}), **draws}}


def _without_zeros(group: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    mixtures = {name: group[name] for name in ("negatives", "negatives_at_end") if isinstance(group.get(name), dict)}
    return {name: {kind: weight for kind, weight in kinds.items() if weight != 0} for name, kinds in mixtures.items()}


def known_rankers(parameters: Mapping[str, Any]) -> list[str]:
    """Name the groups that are rankers: they have a ``model``."""
    return [name for name, group in parameters.items() if isinstance(group, dict) and "model" in group]


def trained_rankers(parameters: Mapping[str, Any]) -> dict[str, str | None]:
    """Give for each ranker that is trained the ranker that it starts from; start rankers come first."""
    starts, trained = _starts(parameters), {}
    for ranker in parameters["rankers"]:
        trained |= {name: starts.get(name) for name in reversed(_chain(ranker, starts)) if name not in trained}
    return trained


def _starts(parameters: Mapping[str, Any]) -> dict[str, str]:
    """For each ranker with ``start_from``, the ranker that it starts from."""
    groups = {name: parameters[name] for name in known_rankers(parameters)}
    return {name: group["start_from"] for name, group in groups.items() if group.get("start_from") is not None}


def _chain(ranker: str, starts: Mapping[str, str]) -> list[str]:
    """A ranker, its start ranker, that ranker's start, and so on; a circle ends before a ranker is repeated."""
    chain = [ranker]
    while (start := starts.get(chain[-1])) is not None and start not in chain:
        chain.append(start)
    return chain


def _problems(parameters: dict[str, Any]) -> Iterator[str]:
    """Describe each fault of the parameters that shape the pipelines."""
    chunks, rankers, known = parameters["chunks"], parameters["rankers"], known_rankers(parameters)
    splits = (*SPLITS, CATALOGUE)
    yield from (f"chunks names {split!r}; a split is one of {splits}" for split in chunks if split not in splits)
    for split, count in chunks.items():
        if not (type(count) is int and count >= 1):
            yield f"chunks.{split} is {count!r}, not a whole number of at least 1"
    yield from (f"chunks has no {split!r}" for split in REQUIRED_SPLITS if split not in chunks)
    for group, option in (("evaluate", "reclassify"), ("index", "approximate")):
        value = (parameters.get(group) or {}).get(option, False)
        if type(value) is not bool:
            yield f"{group}.{option} is {value!r}, not true or false"
    pins = parameters["pins"]
    if not isinstance(pins, dict) or not all(isinstance(version, str) for version in pins.values()):
        yield f"pins is {pins!r}, not a version for each dataset, such as {{two_tower.model: <version>}}"
    for option, choices in CHOICES.items():
        if parameters[option] not in choices:
            yield f"{option} is {parameters[option]!r}, not {' or '.join(map(repr, choices))}"
    yield from _stage_problems(parameters)
    starts = _starts(parameters)
    named = [("rankers", ranker) for ranker in rankers]
    named += [(f"{ranker}.start_from", start) for ranker, start in starts.items()]
    for option, ranker in named:
        if ranker not in known:
            yield f"{option} names {ranker!r}, which has no options with a model; the rankers are {known}"
    for ranker in dict.fromkeys(ranker for ranker in rankers if rankers.count(ranker) > 1):
        yield f"rankers names {ranker!r} twice; name each once"
    yield from (
        f"{ranker}.start_from leads back to itself" for ranker in starts if _chain(ranker, starts)[-1] in starts
    )
    for name in sorted(set(parameters) - set(GROUPS) - set(known)):
        yield f"{name!r} is neither a group of options, {GROUPS}, nor a ranker, which has a model"


def _stage_problems(parameters: dict[str, Any]) -> Iterator[str]:
    """Describe each fault of the two stages of ``evaluate.recall``."""
    from multimodal_recall.config.rankers import UNINDEXED

    stages, rankers = (parameters.get("evaluate") or {}).get("recall") or {}, parameters["rankers"]
    second = stages.get("second")
    if isinstance(second, list) and len(second) != len({*map(str, second)}):
        yield f"evaluate.recall.second is {second}: name each ranker once"
    named = [("first", stages.get("first")), *(("second", name) for name in listed(second))]
    for stage, ranker in named if stages and rankers else ():
        if ranker not in rankers:
            yield f"evaluate.recall.{stage} is {ranker!r}, which is none of rankers, {rankers}"
        elif stage == "first" and (parameters.get(ranker) or {}).get("model", {}).get("kind") in UNINDEXED:
            yield f"evaluate.recall.first names {ranker!r}, which has no index: it reads query and product together"


def listed(names: Any) -> list[Any]:
    """Give a list of names, also for a single name."""
    return names if isinstance(names, list) and names else [names]


def _build(group: str, kind: type[T], parameters: dict[str, Any]) -> T:
    """Build the options of a group, as Kedro does for the nodes that run."""
    from pydantic import ValidationError

    try:
        return kind(**parameters[group])
    except (TypeError, ValidationError) as error:
        raise LayoutError(
            f"The parameters of {group} do not fit: {error}\nAll options and their meaning: docs/options.md"
        ) from error


def _draws(parameters: dict[str, Any]) -> dict[str, Any]:
    """Give the negatives' kinds and number that the trained rankers take, where ``sample_negatives`` sets ``null``."""
    if not parameters["rankers"]:
        return {}
    from multimodal_recall.config.options import NegativeOptions
    from multimodal_recall.config.rankers import RankerOptions

    options, kinds, most = _build("sample_negatives", NegativeOptions, parameters), {}, 1
    for name in trained_rankers(parameters):
        ranker = _build(name, RankerOptions, parameters)
        count = ranker.negatives_per_positive
        mixed = {**ranker.negatives, **(ranker.negatives_at_end or {})} if count else {}
        if set(mixed) - set(options.kinds or mixed) or count > (options.negatives_per_positive or count):
            raise LayoutError(
                f"{name} takes {count} negatives of the kinds {list(mixed)}, but sample_negatives.kinds is "
                f"{options.kinds}, its negatives_per_positive {options.negatives_per_positive}. Set both to more, or "
                "to null, which stands for what the rankers take"
            )
        kinds, most = kinds | mixed, max(most, count)
    wanted = {"kinds": list(kinds or ["random"]), "negatives_per_positive": most}
    return {name: value for name, value in wanted.items() if getattr(options, name) is None}
