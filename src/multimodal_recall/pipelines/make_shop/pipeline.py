"""Wiring of ``make_shop``: one node a split of the made-up shop."""

from kedro.pipeline import Node, Pipeline

from multimodal_recall.config.layout import SHOP_SPLITS
from multimodal_recall.pipelines.make_shop import nodes
from multimodal_recall.pipelines.wiring import bind


def create_pipeline() -> Pipeline:
    """Write the shop's raw files."""
    options, splits = {"options": "params:make_shop"}, SHOP_SPLITS[1:]
    made_of_products = {"titles": "titles", "photos": "photos"}
    steps = [
        (nodes.make_labels, None, "labels", "make_labels"),
        (nodes.make_training_file, options, "train_tsv", "make_train_file"),
        (bind(nodes.make_products, splits=SHOP_SPLITS), options, made_of_products, "make_products"),
    ]
    for split in splits:
        made = {kind: f"{split}_{kind}" for kind in ("tsv", "answers", "reference_scores")}
        steps.append((bind(nodes.make_candidate_files, split=split), options, made, f"make_{split}_files"))
    join, scores = bind(nodes.join_reference_scores, splits=splits), [f"{split}_reference_scores" for split in splits]
    steps.append((join, scores, "reference_scores", "join_reference_scores"))
    return Pipeline([Node(step, read, made, name=name, namespace="shop") for step, read, made, name in steps])
