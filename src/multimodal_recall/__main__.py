"""Entry point of the packaged project: ``python -m multimodal_recall`` is ``kedro run``."""

import sys
from pathlib import Path

from kedro.framework.cli.utils import find_run_command
from kedro.framework.project import configure_project


def main(*args: str) -> None:
    """Run the project's pipelines with the options of ``kedro run``."""
    package_name = Path(__file__).parent.name
    configure_project(package_name)
    find_run_command(package_name)(args or sys.argv[1:])


if __name__ == "__main__":
    main()
