import platform
import subprocess
import sys

import pytest

from multimodal_recall.runtime.allocator import KEEP, keep_freed_memory

PAGES = """
import resource, torch
from multimodal_recall.runtime.allocator import keep_freed_memory

def pages() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(25_000_000)  # 100 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

assert keep_freed_memory()
pages()
print(pages())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_arrays_are_used_again() -> None:
    finished = subprocess.run([sys.executable, "-c", PAGES], capture_output=True, text=True, check=True)
    assert int(finished.stdout) < 25_000  # a hundred megabytes are 25,000 pages, and there were ten times as many


TRIMMED = """
import torch
from multimodal_recall.runtime.allocator import give_back_freed_memory, keep_freed_memory, resident_bytes

assert keep_freed_memory()
arrays = [torch.ones(1_000_000) for _ in range(100)]  # 4 MB each
del arrays[::2]
full = resident_bytes()
assert not give_back_freed_memory(least_bytes=2 * full)
assert resident_bytes() >= full - 10_000_000
assert give_back_freed_memory(least_bytes=0)
print(full - resident_bytes())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_memory_between_arrays_goes_back_in_large_processes() -> None:
    finished = subprocess.run([sys.executable, "-c", TRIMMED], capture_output=True, text=True, check=True)
    assert int(finished.stdout) > 150_000_000  # of 200 MB that were freed


def test_an_allocator_that_refuses_is_logged_and_not_fatal(caplog: pytest.LogCaptureFixture) -> None:
    asked = []
    assert not keep_freed_memory(lambda option, value: asked.append((option, value)) or 0)
    assert dict(asked) == KEEP
    assert "mallopt(-4, 0), mallopt(-1, 2147483647) was refused; training may be some 15 % slower" in caplog.text


def test_other_c_libraries_stay_as_they_are(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    caplog.set_level("INFO")
    assert not keep_freed_memory()
    assert "the C library is not glibc" in caplog.text
