"""The options of photos: which boxes are found, and what describes them."""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from multimodal_recall.config.options import STRICT, Positive, Share

WEAK = "weak descriptor (colours and edges, no vision model)"
"""What people are told that the features of photos come from where no embedder is named."""


@dataclass(frozen=True, config=STRICT)
class DescribeOptions:
    """How a photo becomes boxes and features."""

    embedder: str | None = None
    """Vision model that turns a box into a feature: folder of a transformers checkpoint, relative to the project, or
    its name on the hub (kinds of SigLIP2, CLIP, DINOv2, ViT, ConvNeXt, MobileNetV2, EfficientNet). ``null``: the weak
    descriptor of colours and edges, which needs no weights."""
    colours_and_edges: bool = False
    """Whether the numbers of the weak descriptor follow those of the embedder, each half of the feature's length. An
    embedder that tells kinds of things apart may not tell their colours. ``import-shop --embedder`` sets it."""
    detector: str | None = None
    """Object detector that finds further boxes, named like ``embedder`` (kinds of D-FINE, RT-DETR, conditional DETR,
    YOLOS, and of OWLv2 and Grounding DINO, which find ``labels``). ``null``: the whole photo, and the product cut out
    from a plain background."""
    labels: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """What OWLv2 or Grounding DINO looks for; other detectors have labels of their own."""
    threshold: Share = 0.3
    """Lowest score of a detector's box that is kept. OWLv2 scores low: 0.1 to 0.2 suits it."""
    max_boxes: Positive = 12
    """Most boxes of a photo: the whole photo, the cut-out product, then the detector's, best score first."""
    batch_size: Positive = 32
    """Photos that are held at a time, and boxes in a batch of the embedder."""

    def __post_init__(self) -> None:
        if self.labels and self.detector is None:
            raise ValueError("describe.labels is set and describe.detector null: name an OWLv2 or a Grounding DINO")
        if len(set(self.labels)) < len(self.labels):
            raise ValueError(f"describe.labels is {list(self.labels)}: name each label once")

    @property
    def descriptor(self) -> str:
        """What people are told that the features come from."""
        if self.embedder is None:
            return WEAK
        return f"{self.embedder}, with colours and edges" if self.colours_and_edges else self.embedder
