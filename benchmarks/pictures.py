"""Take the README's pictures of the default run, which must be done: its lineage, and the top of its report.

python -m benchmarks.pictures

Needs kedro-viz, playwright and Chromium (``pip install -e ".[dev]"``, ``apt-get install chromium``).
"""

import functools
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from kedro_viz.api.rest.utils import get_package_compatibilities
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

PROJECT = Path(__file__).parents[1]
PICTURES = PROJECT / "notebooks" / "pictures"
# Of kedro-viz's page: no tour of new features, and room for the graph.
SETTINGS = {
    "showFeatureHints": False,
    "theme": "light",
    "visible": {"graph": True, "miniMap": False, "sidebar": False},
}


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Log nothing."""


def build_lineage(project: Path) -> Path:
    """Write kedro-viz's static page of a project, previews included, and return its folder."""
    command = [sys.executable, "-m", "kedro", "viz", "build", "--include-previews"]
    finished = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False, timeout=180)
    if finished.returncode:
        raise SystemExit(f"kedro viz build failed in {project}\n{finished.stdout}{finished.stderr}")
    return project / "build"


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder as ``python -m http.server`` does; gives the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@contextmanager
def browser() -> Iterator[Browser]:
    """Headless Chromium."""
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield chromium
        chromium.close()


def open_lineage(page: Page, address: str, shown: str | None = None) -> None:
    """Open kedro-viz's static page and wait for its graph.

    Two of its requests are answered here: a font that it loads from Google, and ``api/metadata``, which the page asks
    for and the export of kedro-viz 12.5 leaves out; a live kedro-viz gives the same answer.

    Args:
        page: A new page.
        address: Where the export is served.
        shown: Id of the node or dataset that is selected.
    """
    page.route("https://fonts.googleapis.com/**", lambda route: route.fulfill(content_type="text/css", body=""))
    packages = {"package_compatibilities": [package.model_dump() for package in get_package_compatibilities()]}
    page.route("**/api/metadata", lambda route: route.fulfill(json={"has_missing_dependencies": False, **packages}))
    page.add_init_script(f"localStorage.setItem('KedroViz', {json.dumps(json.dumps(SETTINGS))})")
    page.goto(address + (f"?pid=__default__&sid={shown}" if shown else ""))
    page.wait_for_selector(".pipeline-node")
    page.wait_for_timeout(1500)  # the graph moves to its place


def save(page: Page, name: str) -> None:
    """Save what the page shows in 64 colours, which keep it small."""
    path = PICTURES / f"{name}.png"
    page.screenshot(path=path)
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.relative_to(PROJECT)}: {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    """Save the pictures."""
    reports = sorted((PROJECT / "data/08_reporting/shop/report.html").glob("*/report.html"))
    if not reports:
        raise SystemExit("there is no report yet. Make it first: kedro run")
    PICTURES.mkdir(exist_ok=True)
    build = build_lineage(PROJECT)
    ids = {node["name"]: node["id"] for node in json.loads((build / "api" / "main").read_text())["nodes"]}
    with browser() as chromium, served(build) as address:
        page = chromium.new_page(viewport={"width": 1120, "height": 880}, device_scale_factor=2)
        open_lineage(page, address)
        save(page, "lineage")
        open_lineage(page, address, ids["two_tower.training_log"])
        save(page, "lineage_preview")
        page.goto(reports[-1].as_uri())
        save(page, "report")


if __name__ == "__main__":
    main()
