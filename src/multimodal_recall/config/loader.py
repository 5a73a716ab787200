"""The configuration loader, which resolves the parameters and tells the pipelines their environment.

Kedro 1.7 builds pipelines without an environment. Every way of starting Kedro (run, sessions, viz, server, ipython)
makes a configuration loader before the pipelines, so the class of the loader keeps the newest loader.
"""

import os
from pathlib import Path
from typing import Any, ClassVar

from kedro.config import OmegaConfigLoader
from kedro.utils import find_kedro_project

from multimodal_recall.config.resolve import resolve


class RememberingConfigLoader(OmegaConfigLoader):
    """Kedro's configuration loader; the newest loader of the process is ``current``."""

    current: ClassVar["RememberingConfigLoader | None"] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        RememberingConfigLoader.current = self

    def __getitem__(self, key: str) -> dict[str, Any]:
        """Give a part of the configuration; ``parameters`` resolved."""
        found = super().__getitem__(key)
        return resolve(found) if key == "parameters" else found


def current_configuration() -> tuple[OmegaConfigLoader, Path]:
    """Get the newest loader, or a new loader if Kedro has made none yet, and the folder of its project."""
    loader = RememberingConfigLoader.current
    if loader is None:  # an empty loader is falsy, hence `is None`
        from kedro.framework.project import settings

        project = find_kedro_project(Path.cwd()) or Path.cwd()
        loader = RememberingConfigLoader(
            str(project / settings.CONF_SOURCE), os.getenv("KEDRO_ENV"), **settings.CONFIG_LOADER_ARGS
        )
    return loader, find_kedro_project(Path(loader.conf_source)) or Path.cwd()
