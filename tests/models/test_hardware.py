import platform
import resource

import pytest
import torch

from multimodal_recall.models.hardware import keep_freed_memory


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_arrays_are_used_again() -> None:
    def pages() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(10):
            torch.ones(25_000_000)  # 100 MB
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    keep_freed_memory()
    pages()
    assert pages() < 25_000  # a hundred megabytes are 25,000 pages, and there were ten times as many
