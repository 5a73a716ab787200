"""The configuration loader, which resolves the parameters and tells the pipelines their environment.

Kedro 1.7 builds pipelines without an environment. Every way of starting Kedro (run, sessions, viz, server, ipython)
makes a configuration loader before the pipelines, so the class of the loader keeps the newest loader.

Kedro's loader reads the files again whenever it is asked for a part. A run asks fourteen times, which took 1.2 of its
CPU seconds, so the loader keeps each part.
"""

import copy
import os
import re
from pathlib import Path
from typing import Any, ClassVar

import yaml
from kedro.config import OmegaConfigLoader
from kedro.utils import find_kedro_project

from multimodal_recall.config.resolve import LayoutError, resolve

PLACES = ("raw", "collection")
"""Globals that each environment sets for itself: the folder of its raw files, the folder name of its outputs."""
PATTERN_SIGNS = re.compile(r"[][*?{}]")
"""Signs that Kedro reads as patterns, in its search for configuration files and in the catalog's paths."""


class RememberingConfigLoader(OmegaConfigLoader):
    """Kedro's configuration loader, which reads each file once; the newest loader of the process is ``current``."""

    current: ClassVar["RememberingConfigLoader | None"] = None

    def __init__(self, conf_source: str, *args: Any, **kwargs: Any) -> None:
        """Read the globals.

        Raises:
            LayoutError: If a path or the collection has a sign that Kedro reads as a pattern.
        """
        _refuse_patterns("the path of the configuration", str(conf_source), "Move the project to another folder")
        self._read: dict[str, dict[str, Any]] = {}
        super().__init__(conf_source, *args, **kwargs)
        for name in PLACES:
            _refuse_patterns(name, str(self["globals"].get(name, "")), "Name it otherwise in conf/<env>/globals.yml")
        RememberingConfigLoader.current = self

    def __getitem__(self, key: str) -> dict[str, Any]:
        """Give a copy of a part of the configuration; ``parameters`` resolved.

        Raises:
            LayoutError: If the environment does not say where its files lie, or does not fit to ``conf/base``.
        """
        if key not in self._read:
            self._read[key] = self._read_part(key)
        return copy.deepcopy(self._read[key])

    def __setitem__(self, key: str, value: dict[str, Any]) -> None:
        """Set a part in place of the files' content."""
        self._read.pop(key, None)
        super().__setitem__(key, value)

    def _read_part(self, key: str) -> dict[str, Any]:
        try:
            part = super().__getitem__(key)
        except TypeError as error:
            raise LayoutError(
                f"the {key} of conf/{self.env or self.default_run_env} and of conf/{self.base_env} cannot be merged: "
                f"{error}. An option is a list in one of them and has names in the other: compare both files"
            ) from error
        if key == "parameters":
            self._check_places()
            return resolve(part)
        return part

    def _check_places(self) -> None:
        """Refuse an environment that would read the made-up shop's raw files or write into its folders."""
        if self.env in (None, self.base_env, self.default_run_env):
            return
        files = Path(self.conf_source, self.env).glob("**/globals*.yml")
        named = {name for file in files for name in yaml.safe_load(file.read_text(encoding="utf-8")) or ()}
        if missing := [name for name in PLACES if name not in named]:
            raise LayoutError(
                f"conf/{self.env}/globals.yml does not set {' and '.join(missing)}: the environment would share the "
                f"made-up shop's. Write there, for example: raw: data/01_raw/{self.env} and collection: {self.env}"
            )


def _refuse_patterns(what: str, text: str, remedy: str) -> None:
    if found := PATTERN_SIGNS.search(text):
        raise LayoutError(f"{what}, {text}, has the sign {found[0]}, which Kedro reads as a pattern. {remedy}")


def current_configuration() -> tuple[OmegaConfigLoader, Path]:
    """Give the configuration in force and the project's folder; without a loader yet, make one."""
    project = project_folder()
    loader = RememberingConfigLoader.current
    if loader is None:  # an empty loader is falsy, hence `is None`
        from kedro.framework.project import settings

        loader = RememberingConfigLoader(
            str(project / settings.CONF_SOURCE), os.getenv("KEDRO_ENV"), **settings.CONFIG_LOADER_ARGS
        )
    return loader, project


def project_folder() -> Path:
    """Find the folder of the project in force: the configuration's, or without one the working directory's."""
    loader = RememberingConfigLoader.current
    places = [Path.cwd()] if loader is None else [Path(loader.conf_source), Path.cwd()]
    return next(filter(None, map(find_kedro_project, places)), Path.cwd())


def in_project(path: str) -> Path:
    """Join a path of the options to the project's folder; an absolute path, or one from ``~``, stays.

    Every path of the options is joined where it is read. The option itself stays relative: in the records an absolute
    path would make the outputs of a moved project stale.
    """
    return project_folder() / Path(path).expanduser()


def folder_or_name(checkpoint: str) -> str:
    """Give the absolute folder of a checkpoint where it is a folder, else the hub name as it is."""
    folder = in_project(checkpoint)
    return str(folder) if folder.is_dir() else checkpoint
