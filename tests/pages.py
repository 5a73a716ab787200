"""The pages that users read, README.md and docs/*.md, and the commands that stand on them."""

import re

from tests.conftest import PROJECT

README = (PROJECT / "README.md").read_text(encoding="utf-8")
PATHS = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
PAGES = {path.relative_to(PROJECT).as_posix(): path.read_text(encoding="utf-8") for path in PATHS}
PROGRAM = re.compile(r"(kedro|python -m|dask) [^\s=]")


def commands_of(text: str) -> list[str]:
    """The lines of bash blocks, then the spans of code that start with a program; each once."""
    blocks = re.findall(r"^ *```bash\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    lines = [line.partition("  #")[0] for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]
    found = [" ".join(line.split()) for line in lines] + [span for span in spans if PROGRAM.match(span)]
    return [command for command in dict.fromkeys(found) if command]


COMMANDS = list(dict.fromkeys(command for text in PAGES.values() for command in commands_of(text)))
"""The commands of all pages, README.md first, each once."""
