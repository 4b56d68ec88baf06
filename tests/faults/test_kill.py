"""SIGKILL in mid-run: nothing half-written is ever visible, and the next run ends as if nothing had happened."""

import os
import shutil
import signal

import pytest

from tests.graph.project import Project, wait_until

pytestmark = pytest.mark.graph

# patterns of files whose appearance is the moment of the kill, in the order of a run
MOMENTS = {
    "extract": (
        "features",
        ["data/.features.tmp-*", ".fs4/features/*/raw-00001.npy", "data/.features.tmp-*/level=2/part-00000*"],
    ),
    "pretrain": (
        "backbone",
        # after the first of the two steps of an epoch, of the first and of the last
        [".fs4/scratch/pretrain/*/checkpoint-00000-0000001.pt", ".fs4/scratch/pretrain/*/checkpoint-00002-0000001.pt"],
    ),
    "train": (
        "segmenter",
        [
            "data/.segmenter.tmp-*",
            ".fs4/scratch/train/*/checkpoint-00000-0000001.pt",
            "data/.segmenter.tmp-*/weights.safetensors",
        ],
    ),
}


@pytest.mark.parametrize("stage", MOMENTS)
def test_row_19_a_killed_stage(project: Project, built: Project, stage: str) -> None:
    """SIGKILL between shards, between checkpoints, and while a file is written.

    Nothing half-written is visible; the next run goes on from what was finished, and ends with the same bytes.
    """
    out, patterns = MOMENTS[stage]
    project.set_params({"run": {"checkpoint_steps": 1}})  # no stage depends on it
    folder = project.root / "data" / out
    for number, pattern in enumerate(patterns):
        # at first the earlier output is there; later it is not, as DVC removes it before a run
        before = project.digests(out) if number == 0 else None
        if before is None:
            shutil.rmtree(folder, ignore_errors=True)
        known = set(project.root.glob(pattern))
        with project.start_stage(stage) as process:
            wait_until(lambda: set(project.root.glob(pattern)) - known, process)  # noqa: B023
            process.kill()
            assert process.wait() == -signal.SIGKILL
        assert folder.exists() == (before is not None)
        if before is not None:
            assert project.digests(out) == before
    assert list(project.root.glob(f"data/.{out}.tmp-*"))

    output = project.stage(stage)
    assert "going on" in output
    project.assert_whole(out)
    assert project.digests(out) == built.digests(out)
    assert not list(project.root.glob(f"data/.{out}.tmp-*"))
    assert "up to date" in project.dvc("status")


def test_row_24_an_orphaned_stage(project: Project, built: Project) -> None:
    """DVC is killed, and the stage that it had started goes on.

    The orphan holds the lock of its output: a second writer names its process id; when it has ended, `dvc repro` goes
    on to the same bytes.
    """
    project.set_params({"pgg": {"restarts": 10**6, "iterations": 1000}})
    with project.start("dvc", "repro", "cluster") as process:
        wait_until(lambda: list(project.root.glob("data/.pseudo_labels.tmp-*")), process)
        holder = int((project.root / "data/.pseudo_labels.lock.pid").read_text())
        process.kill()
        assert process.wait() == -signal.SIGKILL
    # DVC's death does not end the stage; that is what the lock of the output is for
    try:
        project.set_params({"pgg": {"restarts": 1, "iterations": 10}, "run": {"lock_timeout": 0}})
        assert f"data/pseudo_labels is being written by process {holder}" in project.stage("cluster", code=3)
    finally:
        os.kill(holder, signal.SIGKILL)
    assert not (project.root / "data/pseudo_labels").exists()
    project.set_params({"run": {"lock_timeout": 60}})
    project.dvc("repro")
    assert project.digests() == built.digests()
