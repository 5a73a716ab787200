"""Wiring of ``make_shop``: one node a split of the made-up shop."""

from kedro.pipeline import Node, Pipeline

from multimodal_recall.config.layout import SHOP_SPLITS
from multimodal_recall.pipelines.make_shop.nodes import (
    join_reference_scores,
    make_candidate_files,
    make_labels,
    make_training_file,
)
from multimodal_recall.pipelines.wiring import bind


def create_pipeline() -> Pipeline:
    """Write the shop's raw files."""
    options = {"options": "params:make_shop"}
    candidates = [
        Node(
            bind(make_candidate_files, split=split),
            inputs=options,
            outputs={kind: f"{split}_{kind}" for kind in ("tsv", "answers", "reference_scores")},
            name=f"make_{split}_files",
            namespace="shop",
        )
        for split in SHOP_SPLITS[1:]
    ]
    join = Node(
        bind(join_reference_scores, splits=SHOP_SPLITS[1:]),
        inputs=[f"{split}_reference_scores" for split in SHOP_SPLITS[1:]],
        outputs="reference_scores",
        name="join_reference_scores",
        namespace="shop",
    )
    training = Node(make_training_file, inputs=options, outputs="train_tsv", name="make_train_file", namespace="shop")
    labels = Node(make_labels, inputs=None, outputs="labels", name="make_labels", namespace="shop")
    return Pipeline([labels, training, *candidates, join])
