"""The project that a command works on: its catalog and its pipelines."""

from typing import Any

import click
from kedro.framework.project import pipelines as registered
from kedro.framework.session import KedroSession
from kedro.framework.startup import ProjectMetadata
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline


def load_project(
    metadata: ProjectMetadata, env: str | None, names: list[str], params: dict[str, Any]
) -> tuple[Pipeline, CatalogProtocol]:
    """Load an environment's catalog and the named pipelines (those of ``kedro run`` by default) as one pipeline.

    Raises:
        click.BadParameter: If there is no such pipeline.
    """
    with KedroSession.create(metadata.project_path, env=env, runtime_params=params) as session:
        catalog = session.load_context().catalog
    unknown = [name for name in names if name not in registered]
    if unknown:
        raise click.BadParameter(f"there is no pipeline {unknown}, only {sorted(registered)}", param_hint="--pipelines")
    return Pipeline([registered[name] for name in names or ["__default__"]]), catalog
