"""Runs a function in several connected processes, and brings back what each of them returns."""

import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from pipeline.runtime.distributed import Ranks

ROOT = Path(__file__).parents[1]
SECONDS = 900  # after which a process counts as hung
START = "from tests.several import serve; serve()"


def run_processes(function: Callable[[Ranks, Path], Any], folder: Path, world: int) -> list[Any]:
    """Run `function(ranks, folder)` in `world` new processes that are connected by gloo.

    Args:
        function: At the top of a module of the tests.
        folder: An empty folder that all of them see.
        world: How many processes.

    Returns:
        What the function returned in each of them: tensors and plain containers.
    """
    variables = {"WORLD": str(world), "TARGET": f"{function.__module__}:{function.__name__}", "FOLDER": str(folder)}
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
    started = [
        subprocess.Popen([sys.executable, "-c", START], cwd=ROOT, env={**env, "PLACE": str(rank)})
        for rank in range(world)
    ]
    try:
        assert [process.wait(SECONDS) for process in started] == [0] * world
    finally:
        for process in started:
            process.kill()
    return [torch.load(folder / f"result-{rank}.pt", weights_only=False) for rank in range(world)]


def serve() -> None:
    """What each of the processes does."""
    torch.set_num_threads(1)
    folder, world, rank = Path(os.environ["FOLDER"]), int(os.environ["WORLD"]), int(os.environ["PLACE"])
    place = f"file://{folder / 'rendezvous'}"
    torch.distributed.init_process_group("gloo", init_method=place, rank=rank, world_size=world)
    module, name = os.environ["TARGET"].split(":")
    found = getattr(import_module(module), name)(Ranks(rank, world, rank, world), folder)
    torch.save(found, folder / f"result-{rank}.pt")
    torch.distributed.destroy_process_group()
