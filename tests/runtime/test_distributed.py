import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from pipeline.errors import LostProcessError
from pipeline.runtime.claims import cache_bytes
from pipeline.runtime.device import thread_count
from pipeline.runtime.distributed import ALONE, Ranks, joined, read_ranks
from tests.runtime.test_device import run_params

ROOT = Path(__file__).parents[2]
PLACE = {"TORCHELASTIC_RUN_ID": "x", "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
MIXED = "cpu:gloo,cuda:nccl"
TOY = """
    import errno, json, os, signal, sys, time
    from pathlib import Path
    from pipeline.errors import InputError
    from pipeline.runtime.stage import run_stage

    def body(stage):
        mode, ranks = sys.argv[1], stage.ranks
        found = {"broadcast": ranks.broadcast(f"of {ranks.rank}"), "set": ranks.any(not ranks.is_first)}
        found |= {"largest": ranks.largest(7 - ranks.rank), "gathered": ranks.gather(str(ranks.rank))}
        found |= {"unset": ranks.any(False), "kept": [path.name for path in stage.scratch.iterdir()]}
        if mode != "work" and ranks.is_first:
            (stage.scratch / "state").touch()
            (stage.out.path / "half").touch()
        ranks.broadcast(None)
        if mode == "input" and not ranks.is_first:
            raise InputError("mend this")
        if mode == "full" and not ranks.is_first:
            raise OSError(errno.ENOSPC, "full", ".fs4/state")
        if mode == "kill" and not ranks.is_first:
            os.kill(os.getpid(), signal.SIGKILL)
        if mode == "device":
            import torch
            from types import SimpleNamespace
            torch.cuda.is_available, torch.cuda.device_count = (lambda: True), (lambda: 4)
            torch.cuda.get_device_properties = lambda number: SimpleNamespace(uuid=f"GPU-{number}")
            torch.cuda.set_device = lambda number: found.update(current=number)
            found["device"] = str(stage.device)
        items, groups = ["a", "b", "c", "d", "e"], [["a", "b"], ["c"], ["d", "e"]]
        found["turn"] = list(ranks.gather_in_turn((f"{item}{ranks.rank}" for item in ranks.own(items)), len(items)))
        members = (f"{item}{ranks.rank}" for group in ranks.own(groups) for item in group)
        found["groups"] = list(ranks.gather_groups(members, groups))
        (stage.out.path / f"{ranks.rank}.json").write_text(json.dumps(found))
        Path(f"seen-{ranks.rank}.json").write_text(json.dumps(found))

    if __name__ == "__main__":
        run_stage("toy", body, groups=("pgg",), out="data/toy", shared=sys.argv[1] != "unshared")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "pipeline", tmp_path / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    text = (ROOT / "params.yaml").read_text("utf-8")
    assert text.count("\n  processes: 1\n") == 1
    (tmp_path / "params.yaml").write_text(text.replace("\n  processes: 1\n", "\n  processes: 2\n"), "utf-8")
    (tmp_path / "toy.py").write_text(textwrap.dedent(TOY))
    return tmp_path


def run(folder: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    env = {**os.environ, "PYTHONPATH": str(folder), **environment}
    command = [sys.executable, "-m", "toy", *arguments]
    ended = subprocess.run(command, cwd=folder, env=env, stdout=-1, stderr=subprocess.STDOUT, text=True, timeout=900)
    return ended.returncode, ended.stdout


def test_two_processes_share_and_the_first_writes(project: Path) -> None:
    code, text = run(project, "work")
    assert code == 0, text
    assert text.count("done: ") == 1
    assert sorted(path.name for path in (project / "data/toy").iterdir()) == ["0.json", "manifest.json"]
    first, second = (json.loads((project / f"seen-{rank}.json").read_text()) for rank in (0, 1))
    assert first["broadcast"] == second["broadcast"] == "of 0"
    assert [first["set"], second["set"], first["unset"], second["unset"]] == [True, True, False, False]
    assert [first["largest"], second["largest"]] == [7, 7]
    assert [first["gathered"], second["gathered"]] == [["0", "1"], []]
    assert first["turn"] == ["a0", "b1", "c0", "d1", "e0"]
    assert first["groups"] == ["a0", "b0", "c1", "d0", "e0"]
    assert second["turn"] == second["groups"] == []


def test_each_process_takes_a_cuda_device_that_is_free(project: Path) -> None:
    in_use = [FileLock(project / f"fs4-{os.getuid()}-cuda-GPU-{number}.lock") for number in (0, 2)]
    with in_use[0], in_use[1]:
        code, text = run(project, "device", TMPDIR=str(project))
    assert code == 0, text
    assert "waiting" not in text
    found = [json.loads((project / f"seen-{rank}.json").read_text()) for rank in (0, 1)]
    assert [(seen["device"], seen["current"]) for seen in found] == [("cuda:1", 1), ("cuda:3", 3)]


def test_a_failing_process_ends_the_run_and_work_is_kept_for_as_many_processes(project: Path) -> None:
    code, text = run(project, "kill")
    assert code == 128 + signal.SIGKILL, text
    assert "process 1 of 2 was killed by SIGKILL; run again" in text
    assert not (project / "data/toy").exists()

    code, text = run(project, "input")
    assert code == 3, text
    assert text.count("fs4.toy [1]: mend this") == 1
    assert not (project / "data/toy").exists()
    # both runs had the same scratch folder
    (kept,) = (project / ".fs4/scratch/toy").glob("*/state")

    params = project / "params.yaml"
    params.write_text(params.read_text("utf-8").replace("processes: 2", "processes: 1"), "utf-8")
    code, text = run(project, "work")
    assert code == 0, text
    assert "not used: unfinished work of other runs (1 files)" in text
    assert json.loads((project / "data/toy/0.json").read_text())["kept"] == []
    assert kept.exists()


def test_a_full_disk_is_explained_by_any_process(project: Path) -> None:
    code, text = run(project, "full")
    assert code == 3, text
    assert "fs4.toy [1]: .fs4/state: cannot be written (No space left on device, " in text
    assert "Traceback" not in text


def test_a_stage_for_one_process_refuses_several(project: Path) -> None:
    code, text = run(project, "unshared", **PLACE | {"RANK": "0"})
    assert code == 2
    assert "stage toy runs in one process; start it without torchrun" in text


def test_the_place_comes_from_torchrun_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PLACE.items():
        monkeypatch.setenv(name, value)
    assert read_ranks() == Ranks(rank=5, world=8, local_rank=1, local_world=4)
    assert cache_bytes(run_params(cache_mb=10)) == 2_500_000
    assert thread_count(run_params(threads=3)) == 3
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(9), raising=False)
    assert thread_count(run_params(threads=0)) == 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(3), raising=False)
    assert thread_count(run_params(threads=0)) == 1
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    assert read_ranks() == ALONE
    assert cache_bytes(run_params(cache_mb=10)) == 10_000_000


def test_every_item_belongs_to_one_process() -> None:
    items = list(range(10))
    shares = [Ranks(rank, 3).own(items) for rank in range(3)]
    assert sorted(item for share in shares for item in share) == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_alone_nothing_is_exchanged() -> None:
    assert ALONE.is_first
    assert ALONE.is_alone
    assert list(ALONE.gather_in_turn(iter("abc"), 3)) == list(ALONE.gather_groups("abc", ["ab", "c"])) == list("abc")
    assert ALONE.broadcast("value") == "value"
    assert [ALONE.any(True), ALONE.any(False)] == [True, False]
    assert ALONE.largest(3) == 3
    assert ALONE.gather("value") == ["value"]


@pytest.mark.parametrize(
    ("device", "cuda", "backend"),
    [("auto", True, MIXED), ("cuda", True, MIXED), ("cpu", True, "gloo"), ("auto", False, "gloo")],
)
def test_devices_are_connected_by_nccl_and_hosts_by_gloo(
    monkeypatch: pytest.MonkeyPatch, device: str, cuda: bool, backend: str
) -> None:
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda name, timeout: asked.append(name))
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: asked.append("end"))
    with joined(Ranks(0, 2, 0, 2), device):
        pass
    with joined(ALONE, device):
        pass
    assert asked == [backend, "end"]


def test_a_lost_process_has_an_exit_code_of_its_own() -> None:
    from pipeline import errors

    codes = [error.exit_code for error in (errors.ParamsError, errors.InputError, errors.TrainingError)]
    assert LostProcessError.exit_code not in codes
