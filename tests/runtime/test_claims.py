import logging
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import pytest
import torch
from filelock import FileLock

from pipeline.runtime import claims
from pipeline.runtime.claims import claim_device
from tests.runtime.test_device import pretend, run_params


@pytest.fixture(autouse=True)
def _two_cuda_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, cuda=2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: SimpleNamespace(uuid=f"GPU-{number}"))
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: None)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(claims, "_held", {})


def other_process(monkeypatch: pytest.MonkeyPatch) -> dict[str, FileLock]:
    """Forget what is held, as another process would not know; returns it."""
    held = claims._held
    monkeypatch.setattr(claims, "_held", {})
    return held


def test_the_next_stage_takes_the_next_free_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert claim_device(run_params(device="cuda")) == torch.device("cuda:0")
    assert claim_device(run_params(device="cuda")) == torch.device("cuda:0")  # already its own
    first = other_process(monkeypatch)
    assert claim_device(run_params(device="auto")) == torch.device("cuda:1")
    assert list(first) == ["GPU-0"]


def test_a_stage_waits_for_the_device_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "fs4")
    monkeypatch.setattr(logging.getLogger("fs4"), "propagate", True)
    held, ended = Event(), Event()

    def other_stage() -> None:
        with FileLock(tmp_path / f"fs4-{os.getuid()}-cuda-GPU-1.lock"):
            held.set()
            while "waiting until that ends" not in caplog.text:
                time.sleep(0.01)
            ended.set()

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(other_stage)
        assert held.wait(60)
        assert claim_device(run_params(device="cuda:1")) == torch.device("cuda:1")
        assert ended.is_set()
        other.result()
    assert "cuda:1 is used by another stage" in caplog.text


def test_without_cuda_nothing_is_claimed() -> None:
    assert claim_device(run_params(device="cpu")) == torch.device("cpu")
    assert not claims._held
