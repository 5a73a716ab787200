"""What is checked before the first node of a run, and what is recorded of each node."""

import functools
import logging
import re
from collections.abc import Iterable
from operator import itemgetter
from typing import Any

import pyarrow as pa
from filelock import FileLock
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import CatalogProtocol, DatasetError
from kedro.io.core import generate_timestamp, is_parameter
from kedro.pipeline import Node, Pipeline

from multimodal_recall.config.layout import read_layout
from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.datasets.atomic import AtomicDataset, atomic_datasets
from multimodal_recall.runs.records import make_record
from multimodal_recall.runs.staleness import find_stale, missing_inputs, name_briefly, with_all_options
from multimodal_recall.runs.turns import claim, end_turn, take_turn, turns_folder
from multimodal_recall.runtime.cores import HardwareError, most_nodes_at_once, share_cores, usable_cores
from multimodal_recall.runtime.device import count_gpus, use_hardware
from multimodal_recall.runtime.short_log import shorten_log

logger = logging.getLogger(__name__)


class MissingInputsError(DatasetError):
    """Inputs of a run do not exist."""


class CheckInputs:
    """Refuses a run with missing inputs, all of them in one error, before hours are spent on the first stage."""

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Look for every dataset that the run reads and does not make.

        Raises:
            MissingInputsError: With each missing dataset and what to do about it.
        """
        if missing := missing_inputs(pipeline, catalog):
            raise MissingInputsError(f"{len(missing)} inputs of this run are missing.\n" + "\n".join(missing))


class StaleInputsError(DatasetError):
    """Inputs of a run do not follow from the present data, options and code."""


class CheckStaleInputs:
    """Says of a run's inputs what ``kedro stale`` would say, before hours are spent on data of other options."""

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Judge the nodes that the inputs come from, but for inputs that the user has pinned.

        Raises:
            StaleInputsError: If inputs are stale and ``params:stale_inputs`` is ``refuse``.
        """
        everything = pipelines["all"]
        made = (pipeline.inputs() & everything.all_outputs()) - set(run_params["load_versions"] or ())
        made = {name for name, dataset in atomic_datasets(made, catalog).items() if not dataset.pinned_version}
        if not made:
            return
        judged = everything.to_outputs(*made) - pipeline
        staleness = find_stale(judged, with_all_options(judged, catalog))
        if not staleness.reasons:
            return
        reasons = [f"  {reason}: {name_briefly(concerned)}" for reason, concerned in staleness.reasons.items()]
        text = "\n".join(["inputs of this run are stale (make them anew with the command of kedro stale):", *reasons])
        if catalog.load("params:stale_inputs") == "refuse":
            raise StaleInputsError(text)
        logger.warning("%s", text)


class FutureVersionError(DatasetError):
    """A version is newer than the present time."""


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
            tags = catalog.load(f"{split}_given_run")["tag"].unique() if split in layout.given_runs else []
            options.check_models([*layout.rankers, *(name for name in (*columns, *tags) if name not in IDS)])


class ChooseHardware:
    """Chooses and logs the hardware of a run before its first node, and divides the cores among its nodes."""

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Set the threads of pyarrow and torch. Dask's workers choose for themselves: they may be other machines.

        Raises:
            HardwareError: If the options name a GPU and torch sees none, or more processes than there are GPUs.
        """
        runner = run_params["runner"]
        share_cores(most_nodes_at_once(pipeline) if "ThreadRunner" in runner else 1)
        pa.set_cpu_count(usable_cores())
        if "params:hardware" not in pipeline.inputs() or "DaskRunner" in runner:
            return
        hardware = use_hardware(catalog.load("params:hardware"))
        if hardware.device == "cuda":
            groups = {name: catalog.load(name) for name in pipeline.inputs() if is_parameter(name)}
            check_gpus({name: group for name, group in groups.items() if isinstance(group, RankerOptions)})


def check_gpus(rankers: dict[str, RankerOptions]) -> None:
    """Refuse rankers that want more processes than there are GPUs.

    Raises:
        HardwareError: With the option.
    """
    gpus = count_gpus()
    for name, options in rankers.items():
        if options.processes > gpus:
            raise HardwareError(
                f"{name.removeprefix('params:')}.processes is {options.processes}, and torch sees {gpus} GPUs: each "
                f"process takes one. Set it to {gpus}, or hardware.device to cpu"
            )


class WriteRecords:
    """Gives each output its record, which ``kedro stale`` compares with the present."""

    @hook_impl
    def before_node_run(self, node: Node, catalog: CatalogProtocol) -> None:
        """Hand the node's record to its outputs; needs nothing of the run, so that it works in any process."""
        record = make_record(node, catalog)
        for dataset in atomic_datasets(node.outputs, catalog).values():
            dataset.new_record = record


class TakeTurns:
    """Keeps runs apart that share data, and gives a run a version that is newer than all that it reads and writes."""

    def __init__(self) -> None:
        self._turns: dict[str, FileLock] = {}

    @hook_impl(trylast=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Wait for other runs, as ``params:at_once`` says; called last: a refused run holds no turn.

        Raises:
            BusyError: If ``at_once`` is ``refuse`` and another run writes what this run reads or writes.
            FutureVersionError: If a version is newer than now.
        """
        for interrupted in list(
            self._turns
        ):  # Kedro calls no hook on Ctrl-C: a notebook's next run would wait for itself
            end_turn(self._turns.pop(interrupted))
        outputs = atomic_datasets(pipeline.all_outputs(), catalog).values()
        inputs = atomic_datasets(pipeline.inputs(), catalog).values()
        turn = take_turn(
            claim("kedro run", inputs, outputs), turns_folder(), catalog.load("params:at_once") == "refuse"
        )
        for dataset in (*inputs, *outputs):
            dataset.release()  # Kedro keeps the newest version that the checks before the wait have found
        try:
            run_params["run_id"] = renew_version(run_params["run_id"], inputs, outputs)
        except BaseException:
            end_turn(turn)
            raise
        self._turns[run_params["run_id"]] = turn

    @hook_impl
    def after_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """Let waiting runs begin."""
        end_turn(self._turns.pop(run_params["run_id"]))

    @hook_impl
    def on_pipeline_error(self, run_params: dict[str, Any]) -> None:
        """Let waiting runs begin."""
        end_turn(self._turns.pop(run_params["run_id"]))


def renew_version(version: str, inputs: Iterable[AtomicDataset], outputs: Iterable[AtomicDataset]) -> str:
    """Give the outputs of a run a later version if others have saved since the run was started.

    Returns:
        The version that the run saves.

    Raises:
        FutureVersionError: If a version is newer than now: the run's own would count as older.
    """
    newest = max(
        ((found, dataset) for dataset in (*inputs, *outputs) if (found := dataset.newest())),
        default=None,
        key=itemgetter(0),
    )
    now = generate_timestamp()
    if newest is None or newest[0] < version:
        return version
    if newest[0] >= now:
        raise FutureVersionError(
            f"{newest[1].path / newest[0]} is newer than now, {now}: what this run saves would count as older. Was the "
            "clock of this machine, or of the machine that saved it, wrong? Set it right, or move that folder away"
        )
    for dataset in outputs:
        dataset.save_as(now)
    return now


class TellResults:
    """Keeps the log of a run short, and ends it with what a person wants next."""

    @hook_impl
    def before_pipeline_run(self) -> None:
        """Leave one line a node."""
        shorten_log()

    @hook_impl
    def after_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Name report, figures and submissions of the run, rankers without an index, and the command to go on with."""
        names = sorted(pipeline.all_outputs())
        layout = read_layout()
        if any(name.endswith(".index") for name in names):
            for ranker in (ranker for ranker in layout.rankers if ranker not in layout.indexed):
                logger.info("%s has no index: it reads query and product together", ranker)
        named = {"report": "evaluation.report", "figures": "comparison"}
        named |= {f"submission of {name.removesuffix('_submission')}": name for name in names if "_submission" in name}
        named |= {f"best products of {name.removesuffix('_best')}": name for name in names if name.endswith("_best")}
        for title, dataset in named.items():
            if dataset in names:
                logger.info("%s: %s", title, catalog.get(dataset).load_path())
        if "evaluation.report" in names and layout.rankers:
            environment = f" --env={run_params['env']}" if run_params["env"] else ""
            words = "words of a query" if environment else "red boots"  # of the made-up shop
            logger.info('next: kedro search%s "%s" --html=found.html', environment, words)


class MemoryShortageError(Exception):
    """A node needs more memory than there is."""


SHORTAGE = re.compile(r"can't allocate memory|out of memory|Unable to allocate", re.IGNORECASE)
SMALLER = {
    "train": "a lower batch_size of the ranker",
    "featurize": "a lower featurize.tokens_per_batch",
    "prepare_language_model": "a lower language_model.batch_size",
}
"""By kind of node, what makes it need less memory; of other nodes more and so smaller chunks do."""


class ExplainErrors:
    """Says what torch's and pyarrow's errors do not: the damaged file, or the option that needs less memory."""

    @hook_impl
    def on_node_error(self, error: Exception, node: Node, catalog: CatalogProtocol) -> None:
        """Look at errors of memory and of reading.

        Raises:
            MemoryShortageError: With the node and the option, in place of the node's error.
            DamagedError: With the damaged file, in place of the node's error.
        """
        if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and SHORTAGE.search(str(error))):
            kind = node.name.rpartition(".")[2]
            remedy = SMALLER.get(kind, "more chunks of the split (chunks.<split>)")
            raise MemoryShortageError(f"{node.name} ran out of memory: {error}. It needs less with {remedy}") from error
        if isinstance(error, (OSError, pa.ArrowException)):
            for dataset in atomic_datasets(node.inputs, catalog).values():
                dataset.verify_whole(dataset.load_path())


class CachePipelineInputs:
    """Works out once which inputs and outputs a pipeline has.

    After each node Kedro asks the pipeline for both, once for each dataset of the node, and each time all nodes are
    walked: a third of its time at 300 nodes, growing with their square.
    """

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline) -> None:
        """Keep the pipeline's first answers; a pipeline does not change."""
        for ends in ("inputs", "outputs"):
            setattr(pipeline, ends, functools.cache(getattr(pipeline, ends)))
