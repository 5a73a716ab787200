"""Kedro's private names: what this package needs and Kedro 1.7 gives no public name.

The private names of a dataset (its path, its version) stand in ``datasets.atomic``. tests/test_architecture.py refuses
private names in all other modules, so that a new version of Kedro can break these two alone.
"""

from collections.abc import Callable, Iterable, Mapping
from copy import copy
from typing import Any

import click
from kedro.framework.hooks.manager import _create_hook_manager, _register_hooks
from kedro.io import AbstractDataset, CatalogProtocol, DataCatalog
from kedro_datasets._typing import ImagePreview, JSONPreview, PlotlyPreview, TablePreview  # noqa: F401  (used by datasets)
from pluggy import PluginManager


def params_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option ``--params`` of ``kedro run`` to a command, which gets the text as typed and the parsed values."""
    from kedro.framework.cli.project import PARAMS_ARG_HELP
    from kedro.framework.cli.utils import _split_params

    def _parse(context: click.Context, option: click.Parameter, text: str) -> tuple[str, dict[str, Any]]:
        return text, _split_params(context, option, text)

    return click.option("--params", default="", callback=_parse, help=PARAMS_ARG_HELP)(command)


def create_hook_manager(hooks: Iterable[Any]) -> PluginManager:
    """Create a manager of these hooks alone, without the hooks of plug-ins."""
    manager = _create_hook_manager()
    _register_hooks(manager, hooks)
    return manager


def catalog_of(datasets: Mapping[str, AbstractDataset], original: CatalogProtocol) -> DataCatalog:
    """Put datasets of a catalog into a new one, with their validators."""
    catalog = DataCatalog(dict(datasets), validation_enabled=original.validation_enabled)
    catalog._validator_specs = {name: spec for name, spec in original.validator_specs.items() if name in datasets}
    return catalog


def pin_to_save_version(dataset: AbstractDataset) -> AbstractDataset:
    """Copy a versioned dataset so that it loads the version that it saves; a load version that is pinned stays."""
    version = getattr(dataset, "_version", None)
    if version is None or version.load:
        return dataset
    pinned = copy(dataset)
    pinned._version = version._replace(load=version.save)
    return pinned
