"""Read the versions that the options pin, in place of the newest."""

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol

from multimodal_recall.datasets.atomic import AtomicDataset

SHOWN_VERSIONS = 3


class PinError(ValueError):
    """``pins`` names a dataset without versions, or a version that does not exist."""


class PinVersions:
    """Pins the versions of ``params:pins`` in every catalog: of runs, commands and notebooks."""

    @hook_impl
    def after_catalog_created(self, catalog: CatalogProtocol) -> None:
        """Pin each version; with a model, the log of its training, which the report draws beside it.

        Raises:
            PinError: With the dataset, and the newest versions that it has.
        """
        for name, version in catalog.load("params:pins").items():
            log = name.removesuffix(".model") + ".training_log"
            if name.endswith(".model") and version in catalog.get(log).list_versions(full_path=False):
                catalog.get(log).pinned_version = version
            dataset = catalog.get(name)
            versions = dataset.list_versions(full_path=False) if isinstance(dataset, AtomicDataset) else []
            if version not in versions:
                newest = f"its newest versions are {versions[:SHOWN_VERSIONS]}" if versions else "it has no versions"
                raise PinError(f"pins.{name} is {version!r}, but {newest}. Correct pins in conf/<env>/parameters.yml")
            dataset.pinned_version = version
