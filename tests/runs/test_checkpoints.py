"""Vision models that options name are loaded before the first node of a run that describes photos."""

from collections.abc import Callable
from pathlib import Path

import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline

from multimodal_recall.config.describing import DescribeOptions
from multimodal_recall.config.options import HardwareOptions
from multimodal_recall.models.pretrained import CheckpointError
from multimodal_recall.runs.checkpoints import CheckCheckpoints, check_vision_models
from tests.conftest import forced_options
from tests.tiny_vision import Part, clip, dfine, save_checkpoint


def catalog_with(options: DescribeOptions) -> DataCatalog:
    parameters = {"params:describe": options, "params:hardware": HardwareOptions(**forced_options())}
    return DataCatalog({name: MemoryDataset(value) for name, value in parameters.items()})


@pytest.mark.parametrize(("option", "kind"), [("embedder", dfine), ("detector", clip)])
def test_a_model_that_cannot_be_used_stops_the_run_before_its_first_node(
    tmp_path: Path, option: str, kind: Callable[[], list[Part]]
) -> None:
    wrong = str(save_checkpoint(kind, tmp_path))
    node = Node(lambda: 1, None, "photos.chunk_000.described", name="describe", namespace="photos.chunk_000")
    run = {"only_missing_outputs": False}, Pipeline([node])
    with pytest.raises(CheckpointError, match=rf"^describe\.{option} is '{wrong}': .* cannot be used"):
        CheckCheckpoints().before_pipeline_run(*run, catalog_with(DescribeOptions(**{option: wrong})))
    with pytest.raises(CheckpointError, match=rf"^describe\.{option} is '/absent': there is no folder /absent"):
        CheckCheckpoints().before_pipeline_run(*run, catalog_with(DescribeOptions(**{option: "/absent"})))


def test_sound_models_and_other_nodes_pass(tmp_path: Path) -> None:
    embedder, detector = save_checkpoint(clip, tmp_path / "clip"), save_checkpoint(dfine, tmp_path / "dfine")
    sound = DescribeOptions(embedder=str(embedder), detector=str(detector))
    check_vision_models(catalog_with(sound), ["photos.chunk_000.describe"])
    check_vision_models(catalog_with(DescribeOptions(embedder="/absent")), ["raw.gather_products"])
