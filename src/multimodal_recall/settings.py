"""Kedro's settings of this project."""

import warnings

from multimodal_recall.config.loader import RememberingConfigLoader
from multimodal_recall.runs import hooks
from multimodal_recall.runs.checkpoints import CheckCheckpoints
from multimodal_recall.runs.pins import PinVersions
from multimodal_recall.runs.tracking import TrackRuns

HOOKS = (  # Kedro calls the last first
    TrackRuns(),  # after the turn, which may give the run a later version
    hooks.TakeTurns(),
    hooks.CheckStaleInputs(),
    CheckCheckpoints(),
    hooks.CheckInputs(),
    hooks.CheckModels(),
    hooks.ChooseHardware(),
    hooks.WriteRecords(),
    hooks.CachePipelineInputs(),
    hooks.ExplainErrors(),
    hooks.TellResults(),
    PinVersions(),
)
CONFIG_LOADER_CLASS = RememberingConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    # Kedro's own patterns, and rankers/<name>.yml.
    "config_patterns": {"parameters": ["parameters*", "parameters*/**", "**/parameters*", "rankers/*"]},
    # "soft" merges an environment's parameters into the base's key by key instead of replacing whole groups.
    "merge_strategy": {"parameters": "soft"},
}

# Kedro 1.7 calls what OmegaConf 2.4 deprecates, three times a run.
warnings.filterwarnings("ignore", message=r"\s*register_new_resolver")
# The comparison reads the metrics of every ranker's namespace, and so names them with a dot.
warnings.filterwarnings("ignore", message="One or more dataset names contain '.'")
# transformers asks for a notebook's bars, of which we use none.
warnings.filterwarnings("ignore", message="IProgress not found")
