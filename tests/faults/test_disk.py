"""Rows 25 and 26: disks that are full or read-only, and what lies where outputs go."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.faults.faulty import refuse, rewrite
from tests.graph.project import Project

pytestmark = pytest.mark.graph


def move_data(project: Project, disk: Path) -> None:
    """Put the small outputs on another disk; the large ones are reached by links."""
    data = project.root / "data"
    for name in ("prepared", "features", "pseudo_labels"):
        shutil.copytree(data / name, disk / name)
    for name in ("backbone", "segmenter", "evaluation", "report"):
        (data / name).rename(project.root / f"{name}-elsewhere")
        (disk / name).symlink_to(project.root / f"{name}-elsewhere")
    shutil.rmtree(data)
    data.symlink_to(disk)


def fill(disk: Path, spare: int) -> Path:
    """Leave `spare` bytes free."""
    filler = disk / "filler"
    filler.write_bytes(bytes(max(shutil.disk_usage(disk).free - spare, 0)))
    return filler


def test_row_25_a_full_disk(project: Project, built: Project, small_disk: Path) -> None:
    """The disk is full.

    Exit code 3, with the bytes free, and before an extraction also those needed; the temporary folder is gone, and old
    outputs stay when a stage is run directly.
    """
    move_data(project, small_disk)
    filler = fill(small_disk, 16_384)
    refuse(project, "cluster", 3, "data/pseudo_labels: cannot be written (No space left on device, ", " MB free)")
    refuse(project, "extract", 3, " MB are needed for the features and 0.0 MB are free; free some space")
    filler.unlink()
    project.stage("extract")
    project.stage("cluster")
    assert project.digests() == built.digests()


@pytest.mark.parametrize(("stage", "out"), [("pretrain", "backbone"), ("train", "segmenter")])
def test_row_25_a_full_disk_for_checkpoints(
    project: Project, built: Project, small_disk: Path, stage: str, out: str
) -> None:
    """The disk for resume state is full, and that of the outputs is not.

    Exit code 3, naming the checkpoint and the bytes free where it lies; old outputs stay, and the next run succeeds.
    """
    (project.root / ".fs4").symlink_to(small_disk)
    filler = fill(small_disk, 65_536)
    output = refuse(project, stage, 3, ".pt: cannot be written (No space left on device, 0 MB free)")
    assert f": .fs4/scratch/{stage}/" in output
    filler.unlink()
    shutil.rmtree(small_disk / "scratch")
    (project.root / ".fs4").unlink()  # two checkpoints take more than the small disk has
    project.stage(stage)
    assert project.digests(out) == built.digests(out)


def test_row_25_a_read_only_disk(project: Project, built: Project, small_disk: Path) -> None:
    """The output folder is on a disk that was mounted read-only.

    Exit code 3, naming the place; old outputs stay.
    """
    move_data(project, small_disk)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    refuse(project, "cluster", 3, "cannot be written (Read-only file system)", "make the folder data writable")
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    project.stage("cluster")
    assert project.digests() == built.digests()


def test_row_25_a_limit_on_file_sizes(project: Project, built: Project) -> None:
    """A quota: the system allows no file of that size.

    As for a full disk: exit code 3, and nothing half-written.
    """
    before = project.digests("pseudo_labels")
    command = "ulimit -f 3; exec python -m stages.cluster"
    output = project.run("bash", "-c", command, code=3)
    assert "data/pseudo_labels: cannot be written (File too large" in output
    assert project.digests("pseudo_labels") == before
    assert not list(project.root.glob("data/.*.tmp-*"))
    project.stage("cluster")
    assert project.digests() == built.digests()


def test_row_25_under_dvc(project: Project, built: Project, small_disk: Path) -> None:
    """The disk for resume state is full while DVC runs the stage, whose old output DVC has removed.

    DVC ends with an error; the old output comes back from the cache, and the next run succeeds.
    """
    (project.root / ".fs4").symlink_to(small_disk)
    filler = fill(small_disk, 0)
    output = project.dvc("repro", "--force", "--single-item", "extract", code=None)
    assert "exited with 3" in output
    assert "Traceback" not in output
    project.dvc("checkout")
    assert project.digests() == built.digests()
    filler.unlink()
    assert "up to date" in project.dvc("repro", "extract")
    project.stage("extract")
    assert project.digests() == built.digests()


def test_row_26_stale_files(project: Project, built: Project) -> None:
    """Left-overs of killed runs beside an output, and foreign files in it.

    Left-overs are removed at the next run, a file that no manifest lists is refused by readers, and an output is
    replaced as a whole.
    """
    data = project.root / "data"
    for leftover in (".pseudo_labels.tmp-abc", ".pseudo_labels.old"):
        (data / leftover).mkdir()
        (data / leftover / "level=1.parquet").write_bytes(b"half")
    stray = data / "pseudo_labels/level=8.parquet"
    rewrite(stray, b"from another run")
    output = project.stage("train", code=3)
    assert "data/pseudo_labels/level=8.parquet: not listed in the manifest (from another run?); remove it" in output
    project.stage("cluster")
    assert project.digests() == built.digests()
    assert not list(data.glob(".pseudo_labels.tmp-*")) + list(data.glob(".pseudo_labels.old"))
