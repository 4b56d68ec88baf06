"""What every DVC stage shares: validated parameters, opened inputs, a lock, an atomic output, exit codes.

A file in `stages/` says which parameter groups and inputs its stage has (a test compares both with `dvc.yaml`), and
gives a body that does one library call. `run_stage` does the rest.
"""

from __future__ import annotations

import logging
import platform
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pipeline
from pipeline.errors import InputError, LostProcessError, ParamsError, PipelineError
from pipeline.params import Params, RunParams, load_params
from pipeline.runtime.artifacts import MANIFEST, Artifact, ArtifactWriter, create_artifact, open_artifact
from pipeline.runtime.device import describe_device, thread_count
from pipeline.runtime.digests import code_digest, file_digest, value_digest
from pipeline.runtime.disk_errors import explain_disk_errors
from pipeline.runtime.distributed import ALONE, Ranks, is_launched, joined, launch, read_ranks
from pipeline.runtime.interrupts import Interrupted, StopSignal
from pipeline.runtime.locks import hold
from pipeline.runtime.logs import get_logger, start_logging
from pipeline.runtime.sparing import first_line, is_device_full, is_out_of_memory

if TYPE_CHECKING:
    import torch

SCRATCH = Path(".fs4")  # ignored by git and by DVC: resume state and live curves
LIVE = SCRATCH / "live"
VERSIONED = ("torch", "torchvision", "numpy", "faiss-cpu", "pyarrow", "pillow")


@dataclass
class Stage:
    """What the body of a stage is given.

    Attributes:
        name: The stage's name in `dvc.yaml`.
        params: The parameter groups that the stage declared, and no others.
        run: How to run: device, threads, workers.
        inputs: Finished folders by path, opened and checked; single files are read by their path.
        out: The folder under construction; of a process that only helps, one that is thrown away.
        scratch: A private folder for resume state; it survives an interrupted run and goes with a finished one, but for
            that of a process that only helps.
        stop: Where a long loop asks whether it should stop.
        counts: Numbers for the closing log line, such as images in, out and skipped.
        log: The stage's logger.
        ranks: The place of this process among those that run the stage together.
    """

    name: str
    params: Any
    run: RunParams
    inputs: dict[str, Artifact]
    out: ArtifactWriter
    scratch: Path
    stop: StopSignal
    log: logging.Logger
    counts: dict[str, int | float] = field(default_factory=dict)
    ranks: Ranks = ALONE

    @cached_property
    def device(self) -> torch.device:
        """Where to compute, see `claim_device`."""
        from pipeline.runtime.claims import claim_device

        return claim_device(self.run, self.ranks)

    @property
    def cache_bytes(self) -> int:
        """Memory for the decoded frames of this process, see `claims.cache_bytes`."""
        from pipeline.runtime.claims import cache_bytes

        return cache_bytes(self.run)


def run_stage(
    name: str,
    body: Callable[[Stage], None],
    *,
    groups: tuple[str, ...],
    inputs: tuple[str, ...] = (),
    out: str,
    unlisted: tuple[str, ...] = (),
    shared: bool = False,
    by_device: bool = False,
) -> None:
    """Run one stage from the project's root and end the process with the right exit code on failure.

    Args:
        name: The stage's name.
        body: Does the work; writes below `stage.out.path`.
        groups: The parameter groups that the body may see, as in `dvc.yaml`.
        inputs: Folders of earlier stages, or single files in them, relative to the project's root.
        out: The output folder.
        unlisted: Parts of the output that its manifest leaves out; see `create_artifact`.
        shared: Whether the body knows what to do as one of several processes. If so, `run.processes` of them are
            started here, unless torchrun did that.
        by_device: Whether resume state holds what `Stage.device` computed, and so serves on its like only. The device
            is then claimed at once.

    Raises:
        SystemExit: 2 for wrong parameters, 3 for wrong inputs, 130 or 143 after an interruption, 1 for a failed
            training or for want of memory, 4 if another process of the run ended. Bugs keep their traceback.
    """
    ranks = read_ranks()
    start_logging(rank=ranks.rank)
    log = get_logger(name)
    started = time.monotonic()
    stop = StopSignal()
    try:
        _assert_local_code()
        params = load_params()
        if shared and params.run.processes > 1 and not is_launched():
            main = sys.modules["__main__"].__spec__
            if code := launch(main.name if main else f"stages.{name}", params.run.processes):
                raise SystemExit(code)
            return
        if not (shared or ranks.is_alone):
            raise ParamsError(f"stage {name} runs in one process; start it without torchrun")
        with joined(ranks, params.run.device):
            stop.install()
            if not ranks.is_first:
                with tempfile.TemporaryDirectory(prefix="fs4-") as folder:
                    stage = _open_stage(name, params, groups, inputs, stop, log, ranks, by_device)
                    stage.scratch = Path(folder)
                    stage.out = ArtifactWriter(stage.scratch / "out")
                    stage.out.path.mkdir()
                    stage.out.notes.update(stage_notes(name, params, groups, stage.inputs))
                    with explain_disk_errors(Path(out)):
                        body(stage)
                return
            place = Path(out)
            with hold(place.with_name(f".{place.name}.lock"), out, params.run.lock_timeout):
                stage = _open_stage(name, params, groups, inputs, stop, log, ranks, by_device)
                with create_artifact(place, unlisted=unlisted) as writer:
                    stage.out = writer
                    writer.notes.update(stage_notes(name, params, groups, stage.inputs))
                    body(stage)
                shutil.rmtree(stage.scratch, ignore_errors=True)
    except LostProcessError as error:
        log.warning("%s; run again to go on from what is finished", error)
        raise SystemExit(error.exit_code) from None
    except PipelineError as error:
        log.error("%s", error)
        raise SystemExit(error.exit_code) from None
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        log.error("%s", _explain_memory(error, params, groups))
        raise SystemExit(PipelineError.exit_code) from None
    except Interrupted as interrupted:
        log.error("stopped by %s; run again to go on from what is finished", interrupted)
        raise SystemExit(interrupted.exit_code) from None
    finally:
        if not ranks.is_alone:
            stop.release()  # what supervises the processes ends those that take long to go
    counts = ", ".join(f"{key} {value}" for key, value in stage.counts.items())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform != "darwin" else 1e9)
    log.info("done: %s; %.1f s, peak memory %.2f GB", counts or out, time.monotonic() - started, peak)


def stage_notes(name: str, params: Params, groups: tuple[str, ...], inputs: dict[str, Artifact]) -> dict[str, Any]:
    """What a manifest says about how a folder was made: parameters, inputs, versions, machine; no times, no paths."""
    return {
        "stage": name,
        "params": {group: getattr(params, group).model_dump() for group in groups},
        "inputs": {path: file_digest(artifact.path / MANIFEST) for path, artifact in inputs.items()},
        "versions": library_versions(),
        "machine": {
            "device": params.run.device,
            "processor": platform.machine(),
            "threads": thread_count(params.run),
        },
    }


def library_versions() -> dict[str, str]:
    """Versions of the libraries that results depend on, and of Python."""
    return {"python": platform.python_version()} | {package: _version(package) for package in VERSIONED}


@cache
def _version(package: str) -> str:
    """The version of a package, or of another build of the same library, such as faiss-gpu, with its name."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        module = package.partition("-")[0]
        builds = sorted(set(metadata.packages_distributions().get(module, [])))  # reads all packages, so only here
        return ", ".join(f"{metadata.version(build)} of {build}" for build in builds) or "not installed under this name"


def _open_stage(
    name: str,
    params: Params,
    groups: tuple[str, ...],
    inputs: tuple[str, ...],
    stop: StopSignal,
    log: logging.Logger,
    ranks: Ranks,
    by_device: bool,
) -> Stage:
    opened: dict[str, Artifact] = {}
    digests: dict[str, str] = {}
    for path in map(Path, inputs):
        if path.suffix:
            if not path.is_file():
                raise InputError(f"{path}: missing; run `dvc repro` to build what {name} needs")
            digests[path.as_posix()] = file_digest(path)
        else:
            opened[path.as_posix()] = artifact = open_artifact(path)
            digests[path.as_posix()] = file_digest(path / MANIFEST)
            _warn_of_other_versions(artifact, log)
    allowed = SimpleNamespace(**{group: getattr(params, group) for group in groups})
    stage = Stage(name, allowed, params.run, opened, ArtifactWriter(SCRATCH), SCRATCH, stop, log, ranks=ranks)
    # beside the notes: a manifest tells what was asked for, and does so before the device is known
    device = describe_device(stage.device) if by_device else None
    made_of = [stage_notes(name, params, groups, opened), digests, code_digest(), ranks.world, device]
    stage.scratch = scratch = SCRATCH / "scratch" / name / value_digest(made_of)[:16]
    others = [path for path in scratch.parent.glob("*/*") if path.parent != scratch]
    if others:
        log.info(
            "not used: unfinished work of other runs (%d files) in %s "
            "(other parameters, inputs, code, processes or device)",
            len(others),
            scratch.parent,
        )
    try:
        if ranks.is_first:
            scratch.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{scratch}: cannot be made ({error.strerror}); free some space or make {SCRATCH} writable"
        ) from None
    return stage


def _explain_memory(error: BaseException, params: Params, groups: tuple[str, ...]) -> str:
    # unasked, nothing is tried again with less: the last bits of a result may depend on it
    keys = [
        f"{group}.{key} ({value})"
        for group in groups
        for key in ("batch_size", "view_size")
        if (value := getattr(getattr(params, group), key, 0))
    ]
    keys += ["data.crop_size" if params.data.crop_size else "data.resize"]
    if not is_device_full(error):
        keys += [f"run.cache_mb ({params.run.cache_mb})"]
    elif not params.run.spare_memory:
        keys += ["set run.spare_memory to true"]
    lower = ", ".join(keys)
    return f"out of memory ({first_line(error)}); lower {lower}, or use a machine with more; what is finished is kept"


def _warn_of_other_versions(artifact: Artifact, log: logging.Logger) -> None:
    made_with = artifact.manifest.get("versions", {})
    for package, version in library_versions().items():
        if made_with.get(package, version) != version:
            log.warning("%s was made with %s %s, this is %s", artifact.path, package, made_with[package], version)


def _assert_local_code() -> None:
    code = Path(pipeline.__file__ or "").resolve()
    if Path.cwd().resolve() not in code.parents:
        raise InputError(
            f"{code}: this is not the code of the current folder; run stages as `python -m stages.NAME` from the "
            "project's root, so that an experiment's own snapshot is used"
        )
