"""A trained ranker, in memory and in its folder."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.runtime.processes import ONE_AT_A_TIME

if TYPE_CHECKING:  # torch takes seconds to import, and an ingest node needs none of it
    from torch import Tensor

    from multimodal_recall.models.ranker import InputSizes, Ranker

WEIGHTS, CARD, TOKENIZER = "model.safetensors", "card.json", "tokenizer.json"


class SavedRankerError(ValueError):
    """The folder of a ranker does not fit this version of the code."""


def read_card(folder: str | Path) -> dict[str, Any]:
    """How the ranker of a folder came about, with its options and sizes."""
    return json.loads((Path(folder) / CARD).read_text(encoding="utf-8"))


def read_ranker(folder: str | Path) -> "TrainedRanker":
    """Read the folder of a trained ranker; ``read_ranker(folder).build()`` is the torch module.

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
        raise SavedRankerError(f"{folder / CARD} is from another version of the code: {error}. Train again.") from error
    tokenizer = folder / TOKENIZER
    text = tokenizer.read_text(encoding="utf-8") if tokenizer.exists() else None
    return TrainedRanker(options, sizes, load_file(folder / WEIGHTS), card, text)


@dataclass(frozen=True)
class TrainedRanker:
    """All that a model folder holds."""

    options: RankerOptions
    sizes: "InputSizes"
    weights: "dict[str, Tensor]"
    card: dict[str, Any]
    """How it came about: input versions, seed, package versions, git commit, metrics."""
    tokenizer: str | None = None
    """Of the ranker's tokens, as the tokenizers package writes it."""

    def build(self) -> "Ranker":
        """Make the module, its weights loaded."""
        from tokenizers import Tokenizer

        from multimodal_recall.models.ranker import build_ranker

        tokenizer = None if self.tokenizer is None else Tokenizer.from_str(self.tokenizer)
        with ONE_AT_A_TIME:  # draws weights, which are overwritten
            ranker = build_ranker(self.options, self.sizes, tokenizer)
        ranker.load_state_dict(self.weights)
        return ranker

    def description(self) -> dict[str, Any]:
        """Everything but the weights and the tokenizer, as JSON can hold it."""
        return {"options": asdict(self.options), "sizes": asdict(self.sizes), **self.card}
