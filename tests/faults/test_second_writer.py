"""Two processes that want to write one output."""

import os
import re
import signal

import pytest

from tests.graph.project import Project, wait_until

pytestmark = pytest.mark.graph

HOLDER = """
import time
from pathlib import Path
from pipeline.runtime.locks import hold

with hold(Path("data/.pseudo_labels.lock"), "it", 0.0):
    Path("held").touch()
    while not Path("release").exists():
        time.sleep(0.01)
"""


def test_row_24_a_second_writer_gives_up(project: Project, built: Project) -> None:
    """Two runs of one stage at once, the first of which does not end.

    The second waits for `run.lock_timeout` seconds, then ends with 3 and the process id of the first; the lock of a
    killed process blocks nobody.
    """
    project.set_params({"run": {"lock_timeout": 1}})
    with project.start("python", "-c", HOLDER) as holder:
        wait_until((project.root / "held").exists, holder)
        output = project.stage("cluster", code=3)
        assert f"data/pseudo_labels is held by process {holder.pid}; waiting up to 1 s" in output
        assert re.search(rf"is being written by process {holder.pid}; .*`kill {holder.pid}`", output)
        assert project.digests() == built.digests()
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    # a killed holder blocks nobody
    assert "waiting" not in project.stage("cluster")
    assert project.digests() == built.digests()


def test_row_24_a_second_writer_waits(project: Project, built: Project) -> None:
    """Two runs of one stage at once, the first of which ends in time.

    The second waits, with a line, and goes on.
    """
    project.set_params({"run": {"lock_timeout": 60}})
    with project.start("python", "-c", HOLDER) as holder:
        wait_until((project.root / "held").exists, holder)
        with project.start_stage("cluster") as second:
            assert second.stdout
            assert "waiting up to 60 s" in second.stdout.readline()
            (project.root / "release").touch()
            output, _ = second.communicate()
    assert second.returncode == 0, output
    assert "done:" in output
    assert project.digests() == built.digests()
