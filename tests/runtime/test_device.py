import logging
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pipeline.errors import ParamsError
from pipeline.params import RunParams, load_params
from pipeline.runtime import device as module
from pipeline.runtime.device import (
    autocast,
    copy_to,
    describe_device,
    lock_pages,
    resolve_device,
    thread_count,
    uses_bf16,
)

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda"), torch.device("mps")


@pytest.fixture(autouse=True)
def _keep_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def run_params(**changes) -> RunParams:
    return load_params(Path(__file__).parents[2] / "params.yaml").run.model_copy(update=changes)


def pretend(monkeypatch, *, cuda: int = 0, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(("cuda", "mps", "chosen"), [(0, False, "cpu"), (0, True, "mps"), (1, True, "cuda")])
def test_auto_takes_what_is_there_and_says_so(monkeypatch, caplog, cuda, mps, chosen):
    pretend(monkeypatch, cuda=cuda, mps=mps)
    caplog.set_level(logging.INFO, "fs4")
    monkeypatch.setattr(logging.getLogger("fs4"), "propagate", True)
    assert resolve_device(run_params(device="auto")).type == chosen
    assert f"computing on {chosen}" in caplog.text


@pytest.mark.parametrize(("device", "allowed"), [("cpu", True), ("mps", True), ("auto", False), ("cuda:1", False)])
def test_float32_is_whole_on_cuda(monkeypatch, device, allowed):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    pretend(monkeypatch, cuda=2, mps=True)
    resolve_device(run_params(device=device))
    assert torch.backends.cudnn.allow_tf32 == allowed


def test_a_device_asked_for_by_name_must_be_there(monkeypatch):
    pretend(monkeypatch, cuda=0)
    with pytest.raises(ParamsError, match=r"run\.device: 'cuda' is not available \(0 CUDA devices found\)"):
        resolve_device(run_params(device="cuda"))
    with pytest.raises(ParamsError, match=r"run\.device: 'mps' is not available"):
        resolve_device(run_params(device="mps"))
    pretend(monkeypatch, cuda=2)
    assert resolve_device(run_params(device="cuda:1")) == torch.device("cuda:1")
    with pytest.raises(ParamsError, match=r"'cuda:2' is not available \(2 CUDA devices found\)"):
        resolve_device(run_params(device="cuda:2"))
    assert resolve_device(run_params(device="cuda:01")) == torch.device("cuda:1")
    assert resolve_device(run_params(device="cpu")) == CPU


@pytest.mark.parametrize("number", [64, 128, 256, 300])
def test_no_number_of_a_device_is_taken_for_another(monkeypatch, number):
    pretend(monkeypatch, cuda=64)
    assert resolve_device(run_params(device="cuda:44")).index == 44
    with pytest.raises(ParamsError, match=rf"'cuda:{number}' is not available"):
        resolve_device(run_params(device=f"cuda:{number}"))


def test_threads_are_those_asked_for_or_all(monkeypatch):
    assert resolve_device(run_params(device="cpu", threads=1)) == CPU
    assert torch.get_num_threads() == 1
    assert thread_count(run_params(threads=3)) == 3
    assert thread_count(run_params(threads=0)) == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    assert thread_count(run_params(threads=0)) == os.cpu_count()


def test_precision_is_as_asked_or_as_the_hardware_computes(monkeypatch):
    for device in (CPU, CUDA, MPS):
        assert uses_bf16(device, "bf16")
        assert not uses_bf16(device, "fp32")
    assert not uses_bf16(MPS, "auto")
    monkeypatch.setattr(module, "_cpu_computes_bf16", lambda: True)
    assert uses_bf16(CPU, "auto")
    monkeypatch.setattr(module, "_cpu_computes_bf16", lambda: False)
    assert not uses_bf16(CPU, "auto")


@pytest.mark.parametrize(("capability", "computes"), [(7, False), (8, True)])
def test_a_gpu_that_only_emulates_bf16_computes_in_fp32(monkeypatch, capability, computes):
    pretend(monkeypatch, cuda=1)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(major=capability))
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda device: True)  # as on every GPU
    assert torch.cuda.is_bf16_supported()
    assert uses_bf16(CUDA, "auto") == computes


def test_processors_without_the_instructions_compute_in_fp32(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert not uses_bf16(CPU, "auto")


def test_devices_that_compute_other_bits_differ(monkeypatch):
    found = []
    for device in (CPU, MPS, CUDA):
        for name in ("T4", "H100"):
            monkeypatch.setattr(torch.cuda, "get_device_name", lambda device, name=name: name)
            for bf16 in (False, True):
                monkeypatch.setattr(module, "_cpu_computes_bf16", lambda bf16=bf16: bf16)
                monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, bf16=bf16: bf16)
                found.append(str(describe_device(device)))
    assert len(set(found)) == 2 + 1 + 4


def test_autocast_is_bf16_or_nothing():
    rows = torch.ones(2, 2)
    with autocast(CPU, "bf16"):
        assert (rows @ rows).dtype == torch.bfloat16
    with autocast(CPU, "fp32"):
        assert (rows @ rows).dtype == torch.float32
    assert (rows @ rows).dtype == torch.float32


def test_processes_of_a_host_need_a_cuda_device_each(monkeypatch):
    place = {"TORCHELASTIC_RUN_ID": "x", "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    pretend(monkeypatch, cuda=2)
    assert resolve_device(run_params(device="auto")) == CUDA
    assert resolve_device(run_params(device="cuda")) == CUDA
    with pytest.raises(ParamsError, match=r"2 processes on this host need a CUDA device each, and 'cuda:0' gives 1"):
        resolve_device(run_params(device="cuda:0"))
    pretend(monkeypatch, cuda=1)
    with pytest.raises(ParamsError, match=r"and 'cuda' gives 1; start fewer"):
        resolve_device(run_params(device="cuda"))
    pretend(monkeypatch, mps=True)
    assert resolve_device(run_params(device="auto")) == CPU
    with pytest.raises(ParamsError, match=r"'mps' gives 1"):
        resolve_device(run_params(device="mps"))


def test_copies_to_the_cpu_are_the_tensor_itself():
    rows = torch.ones(2, 3)
    assert copy_to(CPU, rows) is rows
    assert lock_pages(CPU, rows) is rows


@pytest.mark.parametrize(("device", "waits"), [(CUDA, False), (MPS, True), (CPU, True)])
def test_only_copies_to_cuda_do_not_wait(device, waits):
    asked = []
    tensor = SimpleNamespace(to=lambda place, non_blocking: asked.append((place, non_blocking)))
    copy_to(device, tensor)
    assert asked == [(device, not waits)]


def test_memory_is_locked_for_cuda_alone():
    tensor = SimpleNamespace(pin_memory=lambda: "locked")
    assert lock_pages(CUDA, tensor) == "locked"
    assert lock_pages(MPS, tensor) is tensor


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_locked_batch_arrives_whole():
    rows = torch.arange(10**6)
    locked = lock_pages(CUDA, rows)
    assert locked.is_pinned()
    assert torch.equal(copy_to(CUDA, locked).cpu(), rows)
