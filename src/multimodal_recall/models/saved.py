"""A trained ranker, in memory and in its folder."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.runtime.processes import ONE_AT_A_TIME

if TYPE_CHECKING:  # torch takes seconds to import, and an ingest node does not need it
    from torch import Tensor

    from multimodal_recall.models.ranker import InputSizes, Ranker

WEIGHTS, CARD, TOKENIZER = "model.safetensors", "card.json", "tokenizer.json"


class SavedRankerError(ValueError):
    """The folder of a ranker is damaged, or does not fit this version of the code."""


@dataclass(frozen=True)
class TrainedRanker:
    """Hold the content of a model folder."""

    options: RankerOptions
    sizes: "InputSizes"
    weights: "dict[str, Tensor]"
    card: dict[str, Any]  # record of the training: input versions, seed, package versions, git commit, metrics
    tokenizer: str | None = None  # the ranker's tokenizer in the format of the tokenizers package
    folder: Path | None = None  # the folder that it was read from

    def build(self) -> "Ranker":
        """Build the torch module and load its weights.

        Raises:
            SavedRankerError: If the weights do not fit the module that this version of the code builds.
        """
        from tokenizers import Tokenizer

        from multimodal_recall.models.ranker import build_ranker
        from multimodal_recall.models.weights import misfits

        tokenizer = None if self.tokenizer is None else Tokenizer.from_str(self.tokenizer)
        with ONE_AT_A_TIME:  # building draws weights, which the loaded weights replace
            ranker = build_ranker(self.options, self.sizes, tokenizer)
        if problems := misfits(self.weights, ranker.state_dict()):
            raise _outdated(self.folder, f"{problems[0]} ({len(problems)} in all)")
        ranker.load_state_dict(self.weights)
        return ranker

    def description(self) -> dict[str, Any]:
        """Collect options, sizes and card as JSON values."""
        return {"options": asdict(self.options), "sizes": asdict(self.sizes), **self.card}


def read_card(folder: str | Path) -> dict[str, Any]:
    """Read the options, sizes and training record of a model folder.

    Raises:
        SavedRankerError: If the file is damaged.
    """
    file = Path(folder) / CARD
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")).items())
    except (ValueError, AttributeError) as error:
        raise SavedRankerError(
            f"{file} is damaged: it is no record of a training. Delete {file.parent.parent}, and if it was the newest "
            "version, train again: kedro run --pipelines=train,evaluate"
        ) from error


def read_ranker(folder: str | Path) -> TrainedRanker:
    """Read a model folder; ``read_ranker(folder).build()`` is the torch module.

    Raises:
        SavedRankerError: If the card does not fit this version of the code.
    """
    from safetensors.torch import load_file

    from multimodal_recall.models.ranker import InputSizes

    folder = Path(folder)
    card = read_card(folder)
    try:
        options, sizes = RankerOptions(**card.pop("options")), InputSizes(**card.pop("sizes"))
    except (KeyError, TypeError, ValueError) as error:
        raise _outdated(folder / CARD, str(error)) from error
    tokenizer = folder / TOKENIZER
    text = tokenizer.read_text(encoding="utf-8") if tokenizer.exists() else None
    return TrainedRanker(options, sizes, load_file(folder / WEIGHTS), card, text, folder)


def _outdated(place: Path | None, fault: str) -> SavedRankerError:
    return SavedRankerError(
        f"{place} was made by another version of the code: {fault}. Train the ranker again: kedro run "
        "--pipelines=train,evaluate"
    )
