"""Rows 21 to 23: checkpoints and weights that are half-written, of another run, or hostile; and row 29."""

import csv
import pickle
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save

from pipeline.training.checkpoints import Checkpoints
from tests.faults.faulty import list_anew, refuse, rewrite
from tests.graph.project import Project, wait_until

pytestmark = pytest.mark.graph

SAVER = """
import sys
from pathlib import Path
import torch
from pipeline.training.checkpoints import Checkpoints

checkpoints = Checkpoints(Path("state"))
for step in range(1, 10**6):
    checkpoints.save(0, step, {"value": torch.full((2_000_000,), float(step))})
"""


def test_row_21_sigkill_while_a_checkpoint_is_saved(project: Project) -> None:
    """SIGKILL while a checkpoint is being written.

    The one before still loads; the last two are kept, and a name appears only when its bytes are on the disk.
    """
    state = project.root / "state"
    seen = 0
    for _ in range(2):
        with project.start("python", "-c", SAVER) as process:
            wait_until(lambda: len(list(state.glob("checkpoint-*.pt"))) >= 2, process)
            wait_until(lambda: list(state.glob(".checkpoint-*")), process)
            process.kill()
            assert process.wait() == -signal.SIGKILL
        loaded = Checkpoints(state).load()
        assert loaded is not None
        assert (loaded["value"] == loaded["step"]).all()
        seen += len(list(state.glob(".checkpoint-*")))
        for path in state.iterdir():
            path.unlink()
    assert seen, "no kill met a half-written file"


class Payload:
    """What runs a command when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@contextmanager
def interrupted_training(project: Project) -> Iterator[Path]:
    """Train one epoch, stop by SIGTERM; gives the newest checkpoint."""
    curve = project.root / ".fs4/live/train.csv"
    curve.unlink(missing_ok=True)
    with project.start_stage("train") as process:
        wait_until(lambda: curve.exists() and len(curve.read_text().splitlines()) > 1, process)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate()
    assert process.returncode == 143, output
    yield max(project.root.glob(".fs4/scratch/train/*/checkpoint-*.pt"))


def test_row_22_checkpoints_of_other_runs(project: Project, built: Project) -> None:
    """A checkpoint made with other parameters, data, code, or number of threads.

    Not used, which a line says: resume state is keyed by a fingerprint of all of these.
    """
    project.set_params({"train": {"seed": 5}})
    with interrupted_training(project) as checkpoint:
        pass
    project.set_params({"train": {"seed": 0}})
    output = project.stage("train")
    assert "not used: unfinished work of other runs" in output
    assert "going on" not in output
    assert checkpoint.is_file()
    assert project.digests("segmenter") == built.digests("segmenter")


def test_row_23_hostile_checkpoints(project: Project, built: Project, tmp_path: Path) -> None:
    """A checkpoint that is damaged, holds code, or does not fit the network.

    Code is never run (`weights_only`). The checkpoint before is used, with a line that names the file; one of another
    network is refused (exit code 3).
    """
    target = tmp_path / "executed"
    with interrupted_training(project) as checkpoint:
        hostile = checkpoint.with_name("checkpoint-00002-0000007.pt")
        torch.save({"trainee": Payload(target)}, hostile)
        checkpoint.with_name("checkpoint-00002-0000008.pt").write_bytes(pickle.dumps(Payload(target)))
        other = checkpoint.with_name("checkpoint-00002-0000009.pt")
        torch.save({"epoch": 2, "step": 9, "trainee": {}}, other)
        refuse(project, "train", 3, "holds a checkpoint that does not fit this training", "remove it with `fs4 clean`")
        other.unlink()
        output = project.stage("train")
    assert "checkpoint-00002-0000008.pt cannot be read" in output
    assert "checkpoint-00002-0000007.pt cannot be read" in output
    assert f"going on from {checkpoint.name}" in output
    assert not target.exists()
    assert project.digests("segmenter") == built.digests("segmenter")


def test_row_23_hostile_weights(project: Project, built: Project, tmp_path: Path) -> None:
    """Weights that are pickled code, of another network, or no safetensors.

    Exit code 3, with the differing keys and shapes; nothing is unpickled.
    """
    target = tmp_path / "executed"
    path = project.root / "data/backbone/weights.safetensors"
    whole = load_file(path)
    name = next(iter(sorted(whole)))
    torch.save({"x": Payload(target)}, tmp_path / "hostile.pt")
    faults = {
        pickle.dumps(Payload(target)): "not a readable safetensors file",
        (tmp_path / "hostile.pt").read_bytes(): "not a readable safetensors file",
        save({**whole, name: np.zeros((2, 2), np.float32)}): f"{name}: shape (2, 2) instead of",
        save({"other" if key == name else key: value for key, value in whole.items()}): f"missing {name}; unexpected",
    }
    for data, said in faults.items():
        rewrite(path, data)
        list_anew(path.parent)
        refuse(project, "extract", 3, f"{path.relative_to(project.root)}: ", said)
    assert not target.exists()
    rewrite(path, (built.root / "data/backbone/weights.safetensors").read_bytes())
    list_anew(path.parent)
    project.stage("extract")
    assert project.digests("features") == built.digests("features")


def test_row_29_a_diverged_loss(project: Project, built: Project) -> None:
    """A loss that is not finite.

    Three bad steps in a row stop the stage with exit code 1 and advice, whatever the length of an epoch; no step
    changes the weights, and earlier outputs stay.
    """
    project.set_params({"pretrain": {"learning_rate": 1e30}})
    refuse(project, "pretrain", 1, "the loss was not a finite number in 3 steps in a row", "lower the learning rate")
    project.set_params({"pretrain": {"learning_rate": 1e-3}})
    project.stage("pretrain")
    assert project.digests("backbone") == built.digests("backbone")


def test_row_29_collapsed_embeddings(project: Project, built: Project) -> None:
    """Embeddings that collapse to one point.

    Their spread stands in the curves (`embedding_std`); below `pretrain.min_embedding_std` the stage ends with 1, and
    the last good checkpoint stays.
    """
    project.set_params({"pretrain": {"min_embedding_std": 50.0}})
    said = "the embeddings collapsed: embedding_std"
    refuse(project, "pretrain", 1, said, "is below pretrain.min_embedding_std 50.0; lower pretrain.learning_rate")
    assert list(project.root.glob(".fs4/scratch/pretrain/*/checkpoint-*.pt"))
    with (built.root / "data/backbone/curves.csv").open() as file:
        assert all(float(row["embedding_std"]) > 0 for row in csv.DictReader(file))
