"""Copies of the project in git repositories of their own, in which tests run DVC and single stages."""

import contextlib
import functools
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from pipeline.params.presets import merge_overrides
from pipeline.runtime.artifacts import open_artifact
from pipeline.runtime.digests import file_digest
from pipeline.yaml_reader import read_yaml

ROOT = Path(__file__).parents[2]
STAGES = ["prepare", "pretrain", "extract", "cluster", "train", "evaluate", "report"]
OUTS = ["prepared", "backbone", "features", "pseudo_labels", "segmenter", "evaluation", "report"]
OPTIONAL = [
    "probe",
    "finetune",
]  # stages that run for each entry of a list of group `optional`, which is empty by default
# bytecode is written, because compiling the project again for every stage takes a second
SET_HERE = ("PYTHONPATH", "EMAIL", "PYTHONDONTWRITEBYTECODE")
SECONDS = 900  # after which a command counts as hung


class Project:
    """A working copy of the project.

    Attributes:
        root: Its folder.
        environment: Variables for every command: this Python first on the path, none of the user's git settings.
    """

    def __init__(self, root: Path, environment: dict[str, str]) -> None:
        self.root = root
        self.environment = environment

    def run(self, *command: str, code: int | None = 0, **variables: str) -> str:
        """Run a command in the copy; its standard output and error as one text.

        Args:
            command: The program and its arguments.
            code: The exit code that it must end with; None: any but 0.
            variables: Further environment variables.
        """
        ended = subprocess.run(
            command,
            cwd=self.root,
            env=self.environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            encoding="utf-8",
            timeout=SECONDS,
        )
        as_expected = ended.returncode != 0 if code is None else ended.returncode == code
        assert as_expected, f"{' '.join(command)} ended with {ended.returncode}:\n{ended.stdout}"
        return ended.stdout

    def dvc(self, *arguments: str, code: int | None = 0) -> str:
        """Run `dvc`."""
        return self.run("dvc", *arguments, code=code)

    def git(self, *arguments: str) -> str:
        """Run `git`."""
        return self.run("git", *arguments)

    def stage(self, name: str, code: int = 0) -> str:
        """Run one stage without DVC."""
        return self.run("python", "-m", f"stages.{name}", code=code)

    @contextlib.contextmanager
    def start(self, *command: str) -> Iterator[subprocess.Popen[str]]:
        """Start a command and go on; it is killed at the end of the block if it still runs."""
        process = subprocess.Popen(
            command,
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            encoding="utf-8",
            start_new_session=True,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    @contextlib.contextmanager
    def start_stage(self, name: str) -> Iterator[subprocess.Popen[str]]:
        """Start one stage without DVC."""
        with self.start("python", "-m", f"stages.{name}") as process:
            yield process

    def set_params(self, overrides: dict[str, Any]) -> None:
        """Change values of `params.yaml`; groups are nested dictionaries."""
        path = self.root / "params.yaml"
        path.write_text(yaml.safe_dump(merge_overrides(read_yaml(path), overrides), sort_keys=False), "utf-8")

    def commit(self, subject: str) -> None:
        """Commit everything that git does not ignore."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", subject)

    def digests(self, *outs: str) -> dict[str, str]:
        """SHA-256 of every file of some outputs (all without arguments), by path below `data/`."""
        data = self.root / "data"
        files = [path for out in outs or OUTS for path in sorted((data / out).rglob("*")) if path.is_file()]
        assert files
        return {path.relative_to(data).as_posix(): file_digest(path) for path in files}

    def assert_whole(self, out: str) -> None:
        """Fail if an output is visible that is not a finished one."""
        folder = self.root / "data" / out
        if folder.exists():
            open_artifact(folder).files("*")

    def duplicate(self, root: Path) -> "Project":
        """A copy that shares only the bytes of finished outputs (as hard links), which no stage edits in place."""
        cache, data = self.root / ".dvc/cache", self.root / "data"

        def copy(source: str, target: str) -> None:
            place = Path(source)
            if place.is_relative_to(cache) or any(place.is_relative_to(data / out) for out in OUTS):
                os.link(source, target)
            else:
                shutil.copy2(source, target)

        def ignore(folder: str, names: list[str]) -> list[str]:
            return [name for name in names if Path(folder, name) in (self.root / ".dvc/tmp", self.root / ".fs4")]

        shutil.copytree(self.root, root, copy_function=copy, ignore=ignore, symlinks=True)
        return Project(root, self.environment)


def copy_sources(root: Path) -> Project:
    """A copy of all files that git does not ignore, committed, without any output."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
        encoding="utf-8",
    ).stdout
    for name in filter(None, listing.split("\0")):
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    project = Project(root, copy_environment(root.with_name(f"{root.name}-site")))
    project.git("init", "--quiet", "--initial-branch", "main")
    project.git("config", "user.name", "Test")
    project.git("config", "user.email", "test@example.org")
    project.commit("Sources")
    return project


def copy_environment(site: Path) -> dict[str, str]:
    """Variables for commands: this Python first on the path, DVC's own files below `site`, no settings of the user."""
    inherited = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("GIT_", "DVC_", "PYTEST_")) and key not in SET_HERE
    }
    return inherited | {
        # not resolved: the interpreter of an environment is a link to the one that it was made from
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{inherited['PATH']}",
        "PYTHONNOUSERSITE": "1",
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(site),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
    }


@functools.cache
def build_tiny(folder: Path) -> Project:
    """The project with the tiny preset committed, and the whole graph run once for a folder of tests."""
    project = copy_sources(folder / "graph" / "built")
    project.set_params(read_yaml(ROOT / "presets/tiny.yaml"))
    # several threads on cores that other programs use too would wait for each other most of the time
    project.set_params({"run": {"device": "cpu", "threads": 1}})
    project.commit("Tiny baseline")
    assert stages_run(project.dvc("repro")) == STAGES
    project.commit("Results")
    return project


def stages_run(output: str) -> list[str]:
    """The stages that DVC started, in order, by what it printed; an optional one as `name@item`."""
    return re.findall(r"^Running stage '([\w@]+)':$", output, re.MULTILINE)


def stages_restored(output: str) -> list[str]:
    """The stages whose outputs DVC took from its run cache, in order."""
    return re.findall(r"^Stage '([\w@]+)' is cached - skipping run", output, re.MULTILINE)


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Return as soon as a condition holds; fail if the process ends before, or nothing happens."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert process.poll() is None, f"ended too early:\n{process.communicate()[0]}"
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.001)
