import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from kedro.runner import SequentialRunner, ThreadRunner
from pydantic import ValidationError
from torch.nn.functional import scaled_dot_product_attention

from multimodal_recall.config.options import HardwareOptions
from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.runs.hooks import check_gpus
from multimodal_recall.runtime import cores
from multimodal_recall.runtime.cores import HardwareError, share_cores, usable_cores
from multimodal_recall.runtime.device import Hardware, choose_hardware, use_hardware
from tests.conftest import SMALL, copy_project, run_project


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine of four cores without a GPU, whose CPU does not multiply bfloat16; tests change it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    monkeypatch.setattr(cores, "cpu_count", lambda: 4)
    return monkeypatch


def test_auto_on_a_plain_cpu(machine: pytest.MonkeyPatch) -> None:
    chosen = choose_hardware(HardwareOptions())
    assert chosen == Hardware("cpu", "float32", 4)
    assert str(chosen) == (
        "cpu, float32, 4 threads (cpu: torch sees no GPU; float32: this CPU does not multiply bfloat16 natively; "
        "threads: cores that this process may use: 4)"
    )


@pytest.mark.parametrize("instruction", ["avx512_bf16", "amx_bf16"])
def test_auto_on_a_cpu_with_bfloat16(machine: pytest.MonkeyPatch, instruction: str) -> None:
    machine.setattr(torch.cpu, "get_capabilities", lambda: {instruction: True})
    chosen = choose_hardware(HardwareOptions())
    assert (chosen.precision, chosen.dtype) == ("bfloat16", torch.bfloat16)
    assert "bfloat16: this CPU multiplies bfloat16 natively" in chosen.reason


@pytest.mark.parametrize(("native", "precision"), [(True, "bfloat16"), (False, "float32")])
def test_auto_on_a_gpu(machine: pytest.MonkeyPatch, native: bool, precision: str) -> None:
    # as an H200, and as a V100
    machine.setattr(torch.cuda, "is_available", lambda: True)
    machine.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    chosen = choose_hardware(HardwareOptions())
    assert (chosen.device, chosen.precision) == ("cuda", precision)


@pytest.mark.parametrize("hardware", [Hardware(), Hardware("cpu", "bfloat16")])
def test_attention_is_fused_but_in_bfloat16_on_a_cpu(hardware: Hardware) -> None:
    # Given a training with and without bfloat16; both ways give the same gradient of the same float32 numbers
    torch.manual_seed(0)
    queries, keys, values = (torch.randn(3, 2, 5, 8, requires_grad=True) for _ in range(3))
    with hardware.autocast():
        assert torch.is_autocast_enabled("cpu") == (hardware.precision == "bfloat16")
        assert torch.backends.cuda.flash_sdp_enabled() == hardware.fused_attention
        with torch.autocast("cpu", enabled=False):
            attended = scaled_dot_product_attention(queries, keys, values)
    weights = (queries @ keys.mT / 8**0.5).softmax(dim=-1)
    torch.testing.assert_close(attended, weights @ values, atol=1e-5, rtol=1e-5)
    found = [
        torch.autograd.grad(result.square().sum(), (queries, keys, values)) for result in (attended, weights @ values)
    ]
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-5)
    # Then afterwards nothing is left of the context
    assert torch.backends.cuda.flash_sdp_enabled()
    assert Hardware("cuda", "bfloat16").fused_attention


def test_options_win(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(torch.cuda, "is_available", lambda: True)
    machine.setenv("OMP_NUM_THREADS", "3")
    assert choose_hardware(HardwareOptions("cpu", "bfloat16", 2)) == Hardware("cpu", "bfloat16", 2)
    assert "this machine emulates it, which is slow" in choose_hardware(HardwareOptions("cpu", "bfloat16")).reason


def test_a_gpu_that_is_not_there_is_refused(machine: pytest.MonkeyPatch) -> None:
    with pytest.raises(HardwareError, match=r"hardware.device is cuda, and torch .* sees no GPU here. Set hardware"):
        choose_hardware(HardwareOptions(device="cuda"))


@pytest.mark.parametrize("wrong", [{"device": "gpu"}, {"precision": "float16"}, {"threads": 0}, {"threads": "many"}])
def test_other_values_are_refused(wrong: dict) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        HardwareOptions(**wrong)


def test_threads_are_divided_or_named(machine: pytest.MonkeyPatch) -> None:
    share_cores(3)
    assert choose_hardware(HardwareOptions()).threads == 1
    share_cores(2)
    assert choose_hardware(HardwareOptions()).threads == 2
    machine.setenv("OMP_NUM_THREADS", "3")
    assert choose_hardware(HardwareOptions()).threads == 3
    machine.setenv("OMP_NUM_THREADS", "many")
    with pytest.raises(HardwareError, match=r"OMP_NUM_THREADS is 'many'. Set it to a whole number"):
        choose_hardware(HardwareOptions())
    assert Hardware(threads=8).divided(3).threads == 2
    assert Hardware(threads=2).divided(3).threads == 1


def test_a_choice_sets_torchs_threads_and_is_logged_once(
    machine: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for _ in range(2):
        use_hardware(HardwareOptions(threads=2))
    assert torch.get_num_threads() == 2
    assert caplog.text.count("hardware: cpu, float32, 2 threads") == 1


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    rankers = {"params:mine": RankerOptions({"kind": "two_tower"}, processes=3)}
    with pytest.raises(HardwareError, match=r"mine.processes is 3, and torch sees 2 GPUs: each process takes one"):
        check_gpus(rankers)
    check_gpus({"params:mine": RankerOptions({"kind": "two_tower"}, processes=2)})


def test_a_missing_gpu_stops_the_run_before_its_first_node(tmp_path: Path, machine: pytest.MonkeyPatch) -> None:
    project = copy_project(tmp_path)
    with pytest.raises(HardwareError, match="sees no GPU here"):
        run_project(project, parameters={"hardware": {"device": "cuda"}})
    assert not (project / "data").exists()


@pytest.mark.parametrize(("runner", "threads"), [(SequentialRunner, 4), (ThreadRunner, 2)])
def test_nodes_in_threads_share_the_cores(
    run_copy: tuple[Path, Callable[..., None]],
    machine: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    runner: type,
    threads: int,
) -> None:
    # Given four cores, and two chunks that are featurized at the same time or one after the other
    caplog.set_level("INFO", "multimodal_recall")
    nodes = ["train.chunk_000.featurize", "train.chunk_001.featurize"]
    run_copy[1](node_names=nodes, runner=runner(), parameters={**SMALL, "hardware": {}})
    assert f"hardware: cpu, float32, {threads} threads" in caplog.text
    assert torch.get_num_threads() == threads


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this platform has no affinity")
def test_cores_are_those_of_the_process() -> None:
    code = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]);"
        "from multimodal_recall.config.options import HardwareOptions;"
        "from multimodal_recall.runtime.device import use_hardware;"
        "import torch; print(use_hardware(HardwareOptions()).threads, torch.get_num_threads())"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.split() == ["1", "1"]
    assert usable_cores() == len(os.sched_getaffinity(0))
