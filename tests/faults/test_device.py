"""Rows 27, 28, 30 and 31: memory, devices, worker processes and their random numbers."""

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import torch

from pipeline.data.views import draw_geometric, draw_photometric
from tests.faults.faulty import refuse
from tests.graph.project import Project, wait_until

pytestmark = pytest.mark.graph

# a stage whose second step runs out of memory, as CUDA reports it; no other machine is needed for that
EXHAUSTED = """
import torch
from pipeline.pretext import pretrain
from stages.pretrain import main

losses = pretrain.PretextTrainee.losses

def exhaust(self, epoch, indices, images, progress):
    if epoch:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
    return losses(self, epoch, indices, images, progress)

pretrain.PretextTrainee.losses = exhaust
main()
"""

# a stage whose device has room for 2 images
CROWDED = """
import torch
from pipeline.backbones.encoder import Encoder
from stages.extract import main

forward = Encoder.forward

def refuse(self, images):
    if len(images) > 2:
        raise torch.OutOfMemoryError("CUDA out of memory")
    return forward(self, images)

Encoder.forward = refuse
main()
"""


def test_row_27_no_memory_on_the_device(project: Project, built: Project) -> None:
    """The device has too little memory (without a GPU at hand, the exception of a real step is raised in its place).

    Exit code 1 and one line that names the keys to lower; nothing is retried with another batch size, which would
    change the result without a word. The checkpoint stays, and old outputs too.
    """
    before = project.digests()
    output = project.run("python", "-c", EXHAUSTED, code=1)
    assert "Traceback" not in output
    assert "out of memory (CUDA out of memory. Tried to allocate 20.00 GiB)" in output
    assert "lower pretrain.batch_size (6)" in output
    assert "data.resize, set run.spare_memory to true" in output
    assert project.digests() == before
    assert "going on from checkpoint-00001-0000000.pt" in project.stage("pretrain")
    assert project.digests() == built.digests()


def test_row_27_memory_is_spared_if_asked(project: Project, built: Project) -> None:
    """The same with `run.spare_memory: true`.

    The training goes on from its last checkpoint and computes activations again instead of keeping them, with the
    same bytes as a result; `extract` and `evaluate` halve their batches. Both say so in a line.
    """
    project.set_params({"run": {"spare_memory": True}})
    once = EXHAUSTED.replace(
        "    if epoch:\n", "    if epoch and 'forward' not in vars(self.model.encoder.backbone.stem):\n"
    )
    output = project.run("python", "-c", once)
    assert "Tried to allocate 20.00 GiB): going on from the last checkpoint, with activations computed again" in output
    assert project.digests() == built.digests()
    output = project.run("python", "-c", CROWDED)
    assert "going on with 2 images at a time instead of 4; results may differ in their last bits" in output


def test_row_27_no_memory_on_the_cpu(project: Project, built: Project) -> None:
    """The system grants no more memory (a real limit on the address space).

    The same: exit code 1 and one line, and old outputs stay.
    """
    project.set_params({"pretrain": {"view_size": 3200}})
    output = project.run("bash", "-c", "ulimit -v 8000000; exec python -m stages.pretrain", code=1)
    assert "out of memory" in output
    assert "lower pretrain.batch_size (6)" in output
    assert "Traceback" not in output
    assert project.digests() == built.digests()


def test_row_28_no_cuda(project: Project, built: Project) -> None:
    """No CUDA device, or a driver that does not fit.

    `run.device` auto computes on what is there and says so; `cuda` and `mps` by name end with 2 before any work.
    """
    hidden = {"CUDA_VISIBLE_DEVICES": ""}
    project.set_params({"run": {"device": "cuda"}})
    output = project.run("python", "-m", "stages.extract", code=2, **hidden)
    assert "run.device: 'cuda' is not available (0 CUDA devices found); check the driver" in output
    assert "Traceback" not in output
    assert project.digests() == built.digests()
    if not torch.backends.mps.is_available():
        project.set_params({"run": {"device": "mps"}})
        refuse(project, "extract", 2, "run.device: 'mps' is not available on this machine; use auto or cpu")
        project.set_params({"run": {"device": "auto"}})
        assert "run.device auto: computing on cpu" in project.run("python", "-m", "stages.extract", **hidden)


def children_of(parent: int) -> list[int]:
    """Processes by their parent, through all generations."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
    found = [pid for pid, above in parents.items() if above == parent]
    return found + [pid for child in found for pid in children_of(child)]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to find the worker")
def test_row_30_a_killed_worker(project: Project, built: Project) -> None:
    """A process that decodes images is killed, as the system does for want of memory.

    Exit code 1, naming `run.workers` and `/dev/shm`; workers are not forked from a process with threads.
    """
    project.set_params({"run": {"workers": 1}})

    def kill_a_worker() -> bool:
        # the fork server's children; it is itself a child of the stage
        below = [pid for child in children_of(process.pid) for pid in children_of(child)]
        for pid in below:
            with contextlib.suppress(ProcessLookupError):  # it may have ended by itself since
                os.kill(pid, signal.SIGKILL)
                return True
        return False

    with project.start_stage("extract") as process:
        wait_until(kill_a_worker, process)
        output, _ = process.communicate()
    assert process.returncode == 1, output
    assert "run.workers 1: a process that decodes images was killed" in output
    assert "/dev/shm may be too small: use fewer workers, or 0" in output
    assert "Traceback" not in output
    assert project.digests() == built.digests()
    project.stage("extract")
    assert project.digests() == built.digests()


def test_row_30_small_shared_memory(project: Project, built: Project) -> None:
    """`/dev/shm` of 64 kB, as small as in some containers.

    The same message instead of a bus error.
    """
    unshare = shutil.which("unshare")
    small = "mount -t tmpfs -o size=64k tmpfs /dev/shm"
    if not unshare or subprocess.run([unshare, "-m", "sh", "-c", small], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small file system")
    project.set_params({"run": {"workers": 1}})
    output = project.run(unshare, "-m", "sh", "-c", f"{small} && exec python -m stages.extract", code=1)
    assert "run.workers 1: " in output
    assert "/dev/shm" in output
    assert project.digests() == built.digests()
    project.stage("extract")
    assert project.digests() == built.digests()


def test_row_31_random_numbers_of_workers(project: Project, built: Project) -> None:
    """Random numbers that are the same in every worker, or depend on how many there are.

    Views are a function of seed, epoch and sample: they differ between samples and epochs, and any number of workers
    gives the same bytes.
    """
    settings = {"min_area": 0.3, "flip": True, "flip_vertical": False, "rotate": False}
    boxes = draw_geometric(0, "view", 0, range(8), **settings)
    again = draw_geometric(0, "view", 0, [5], **settings)
    later = draw_geometric(0, "view", 1, range(8), **settings)
    assert len({str(boxes.boxes[row].tolist()) for row in range(8)}) == 8
    assert torch.equal(boxes.boxes[5], again.boxes[0])
    assert not torch.equal(boxes.boxes, later.boxes)
    colours = draw_photometric(0, "view", 0, range(8), jitter=0.4, hue=0.1)
    # a strength alone may be left as it is in two views
    drawn = torch.stack([colours.brightness, colours.contrast, colours.saturation, colours.hue], 1)
    assert len({str(row) for row in drawn.tolist()}) == 8
    project.set_params({"run": {"workers": 2, "cache_mb": 0}})
    project.stage("pretrain")
    assert project.digests() == built.digests()
