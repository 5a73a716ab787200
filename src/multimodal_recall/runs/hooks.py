"""What is checked before the first node of a run, and what is recorded of each node."""

import functools
from typing import Any

import pyarrow as pa
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol, DatasetError
from kedro.io.core import is_parameter
from kedro.pipeline import Node, Pipeline

from multimodal_recall.config.layout import read_layout
from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.datasets.atomic import atomic_datasets
from multimodal_recall.runs.records import make_record
from multimodal_recall.runtime.cores import HardwareError, share_cores, usable_cores
from multimodal_recall.runtime.device import count_gpus, use_hardware


class MissingInputsError(DatasetError):
    """What a run reads is not there."""


class CheckInputs:
    """Refuses a run whose inputs are not there, all of them in one error, before hours are spent on the first stage."""

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Look for every dataset that the run reads and does not make.

        Raises:
            MissingInputsError: With each missing dataset and what to do about it.
        """
        inputs = atomic_datasets(sorted(pipeline.inputs()), catalog)
        missing = [f"{name}: {dataset.absence()}" for name, dataset in inputs.items() if not dataset.exists()]
        if missing:
            raise MissingInputsError(f"{len(missing)} inputs of this run are missing.\n" + "\n".join(missing))


class CheckModels:
    """Refuses options of ``evaluate`` that name a model without scores, before hours are spent on training others."""

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Compare the options with the rankers and the columns of given scores.

        Raises:
            UnknownModelError: With the option and the models that it may name.
        """
        layout, nodes = read_layout(), {node.name for node in pipeline.nodes}
        gathered = [split for split in layout.answered if f"evaluation.gather_{split}_scores" in nodes]
        if not gathered:
            return
        from multimodal_recall.evaluation.rankings import IDS

        options = catalog.load("params:evaluate")
        for split in gathered:
            columns = catalog.load(f"{split}_given_scores").schema.names if split in layout.given_scores else []
            options.check_models([*layout.rankers, *(name for name in columns if name not in IDS)])


class ChooseHardware:
    """Chooses and logs the hardware of a run before its first node, and divides the cores among its nodes."""

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Set the threads of pyarrow and torch. Dask's workers choose for themselves: they may be other machines.

        Raises:
            HardwareError: If the options name a GPU that is not there, or more processes than there are GPUs.
        """
        runner, at_most = run_params["runner"], len(pipeline.nodes) - len(pipeline.grouped_nodes) + 1
        share_cores(at_most if "ThreadRunner" in runner else 1)
        pa.set_cpu_count(usable_cores())
        if "params:hardware" not in pipeline.inputs() or "DaskRunner" in runner:
            return
        hardware = use_hardware(catalog.load("params:hardware"))
        if hardware.device == "cuda":
            values = {name: catalog.load(name) for name in pipeline.inputs() if is_parameter(name)}
            check_gpus({name: value for name, value in values.items() if isinstance(value, RankerOptions)})


def check_gpus(rankers: dict[str, RankerOptions]) -> None:
    """Refuse rankers that want more processes than there are GPUs.

    Raises:
        HardwareError: With the option.
    """
    there = count_gpus()
    for name, options in rankers.items():
        if options.processes > there:
            raise HardwareError(
                f"{name.removeprefix('params:')}.processes is {options.processes}, and torch sees {there} GPUs: each "
                f"process takes one. Set it to {there}, or hardware.device to cpu"
            )


class WriteRecords:
    """Gives each output the record of its making, which ``kedro stale`` compares with the present."""

    @hook_impl
    def before_node_run(self, node: Node, catalog: CatalogProtocol) -> None:
        """Hand the node's description to its outputs; needs nothing of the run, so that it works in any process."""
        record = make_record(node, catalog)
        for dataset in atomic_datasets(node.outputs, catalog).values():
            dataset.new_record = record


class CachePipelineInputs:
    """Works out once what a pipeline reads and what it leaves.

    After each node Kedro asks the pipeline for both once a dataset of the node, and each time all nodes are walked: a
    third of its time at 300 nodes, and it grows with their square.
    """

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline) -> None:
        """Keep the pipeline's first answers; it does not change."""
        for ends in ("inputs", "outputs"):
            setattr(pipeline, ends, functools.cache(getattr(pipeline, ends)))
