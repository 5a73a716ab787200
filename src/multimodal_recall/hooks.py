"""What is checked before the first node of a run."""

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol, DatasetError
from kedro.pipeline import Pipeline

from multimodal_recall.datasets.whole import WholeDataset


class CheckInputs:
    """Refuses a run whose inputs are not there, all of them in one error, before hours are spent on the first stage."""

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Look for every dataset that the run reads and does not make.

        Raises:
            DatasetError: With each missing dataset and what to do about it.
        """
        inputs = {name: catalog.get(name) for name in sorted(pipeline.inputs())}
        missing = [
            f"{name}: {dataset.absence()}"
            for name, dataset in inputs.items()
            if isinstance(dataset, WholeDataset) and not dataset.exists()
        ]
        if missing:
            raise DatasetError(f"{len(missing)} inputs of this run are missing.\n" + "\n".join(missing))
