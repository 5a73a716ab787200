"""Wiring of ``make_shop``: one node a file of the made-up shop."""

from kedro.pipeline import Node, Pipeline

from multimodal_recall.pipelines.make_shop.nodes import (
    make_candidate_files_of,
    make_labels,
    make_training_file,
)


def create_pipeline() -> Pipeline:
    """Write the shop's raw files."""
    candidates = [
        Node(
            make_candidate_files_of(split),
            inputs={"options": "params:make_shop"},
            outputs={
                "tsv": f"{split}_tsv",
                "answers": f"{split}_answers",
                "reference_scores": f"{split}_reference_scores",
            },
            name=f"make_{split}_files",
        )
        for split in ("valid", "testA")
    ]
    training = Node(
        make_training_file, inputs={"options": "params:make_shop"}, outputs="train_tsv", name="make_train_file"
    )
    return Pipeline([Node(make_labels, inputs=None, outputs="labels", name="make_labels"), training, *candidates])
