import subprocess
import sys


def test_other_platforms_are_refused_in_one_sentence() -> None:
    code = "import sys; sys.platform = 'win32'; import multimodal_recall"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.returncode == 1
    assert finished.stderr.startswith("multimodal-recall runs on Linux and macOS, and this is win32: ")
    assert len(finished.stderr.splitlines()) == 1
