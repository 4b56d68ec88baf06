import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import pytest
import torch
from filelock import FileLock

from pipeline.runtime import claims
from pipeline.runtime.claims import claim_device
from pipeline.runtime.distributed import Ranks
from tests.runtime.test_device import pretend, run_params
from tests.several import ROOT, SECONDS, run_processes

HOLDER = """
from tests.runtime.test_claims import claim_one
print(claim_one(), flush=True)
input()
"""


@pytest.fixture(autouse=True)
def _two_cuda_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend_devices(monkeypatch, 2)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # the same in other processes


def pretend_devices(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    pretend(monkeypatch, cuda=count)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: SimpleNamespace(uuid=f"GPU-{number}"))
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: None)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
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
        with lock_of(tmp_path, 1):
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


def lock_of(folder: Path, number: int) -> FileLock:
    return FileLock(folder / f"fs4-{os.getuid()}-cuda-GPU-{number}.lock")


def claim_one() -> torch.device:
    pretend_devices(pytest.MonkeyPatch(), 2)
    return claim_device(run_params(device="cuda"))


def test_the_device_of_a_killed_process_is_free() -> None:
    command = [sys.executable, "-c", HOLDER]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "cuda:0\n"
        assert not claims._lock("GPU-0")
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert claim_device(run_params(device="cuda")) == torch.device("cuda:0")


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.01)


def claim_while_another_run_does(ranks: Ranks, folder: Path) -> int:
    """Use a device alone; before it takes a second one, either run waits until the other one has a first."""
    pretend_devices(pytest.MonkeyPatch(), 2)
    lock = claims._lock

    def lock_a_first_one(uuid: str) -> bool:
        taken = lock(uuid)
        if taken:
            (folder / "has-one").touch()
            wait_for(lambda: len(list(folder.parent.glob("*/has-one"))) == 2)
        return taken

    claims._lock = lock_a_first_one
    device = claim_device(run_params(device="cuda"), ranks)
    in_use = folder.parent / f"in-use-{device.index}"
    in_use.touch(exist_ok=False)
    ranks.any(False)  # not before all have one
    in_use.unlink()
    ranks.any(False)  # the first one frees the devices when it ends
    return device.index


def test_runs_that_start_together_do_not_wait_for_each_other(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(run_processes, claim_while_another_run_does, folder, 2) for folder in folders]
        assert [run.result() for run in runs] == [[0, 1], [0, 1]]


def claim_for_a_launcher(ranks: Ranks, folder: Path) -> int:
    pretend_devices(pytest.MonkeyPatch(), 2)
    device = claim_device(run_params(device="cuda"), Ranks(ranks.rank, ranks.world))  # with local ranks of its own
    ranks.any(False)
    return device.index


def test_two_launchers_of_a_run_on_one_host_take_a_device_each(tmp_path: Path) -> None:
    assert sorted(run_processes(claim_for_a_launcher, tmp_path, 2)) == [0, 1]


def claim_and_tell(ranks: Ranks, folder: Path) -> tuple[int, bool]:
    pretend_devices(pytest.MonkeyPatch(), 3)
    logger = logging.getLogger("fs4")
    logger.setLevel(logging.INFO)
    logger.addHandler(logging.FileHandler(folder / f"log-{ranks.rank}"))
    device = claim_device(run_params(device="cuda"), ranks)
    ranks.any(False)
    return device.index, (folder / "freed").exists()


def test_a_run_takes_no_device_before_it_can_take_all_it_needs(tmp_path: Path) -> None:
    second = lock_of(tmp_path, 1)
    with ThreadPoolExecutor(1) as pool, lock_of(tmp_path, 0), second:
        run = pool.submit(run_processes, claim_and_tell, tmp_path, 2)
        log = tmp_path / "log-0"
        wait_for(lambda: run.done() or (log.exists() and "waiting until" in log.read_text()))
        assert "other stages use the CUDA devices, 2 must be free; waiting until enough of them end" in log.read_text()
        with lock_of(tmp_path, 2).acquire(timeout=SECONDS):
            (tmp_path / "freed").touch()
        second.release()
        assert run.result() == [(1, True), (2, True)]
    assert log.read_text().count("waiting") == 1
