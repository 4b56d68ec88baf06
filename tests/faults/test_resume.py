"""SIGTERM and SIGINT in a training: what was done is kept, and the end is the same to the bit."""

import re
import signal

import pytest

from tests.graph.project import Project, wait_until

pytestmark = pytest.mark.graph


@pytest.mark.parametrize(("stage", "out"), [("pretrain", "backbone"), ("train", "segmenter")])
def test_row_20_signals_in_a_training(project: Project, built: Project, stage: str, out: str) -> None:
    """Ctrl-C or SIGTERM during a training.

    The step is finished and a checkpoint saved; exit code 130 or 143. The next run goes on and ends with the same bits
    as one that was not interrupted.
    """
    before = project.digests(out)
    curve = project.root / f".fs4/live/{stage}.csv"
    for rows, signum, code in [(1, signal.SIGTERM, 143), (2, signal.SIGINT, 130)]:
        curve.unlink(missing_ok=True)
        with project.start_stage(stage) as process:
            wait_until(lambda: curve.exists() and len(curve.read_text().splitlines()) > rows, process)  # noqa: B023
            process.send_signal(signum)
            output, _ = process.communicate()
        assert process.returncode == code, output
        assert f"stopped by {signal.Signals(signum).name}; run again to go on" in output
        assert project.digests(out) == before
        checkpoints = sorted(path.name for path in project.root.glob(f".fs4/scratch/{stage}/*/checkpoint-*.pt"))
        assert checkpoints, f"epoch {rows} was finished, but nothing was kept:\n{output}"
        epoch, step = map(int, re.findall(r"\d+", checkpoints[-1]))
        assert epoch >= rows
        if rows == 2:
            assert "going on from checkpoint-" in output

    output = project.stage(stage)
    assert f"going on from checkpoint-{epoch:05d}-{step:07d}.pt" in output
    # epochs that were finished before are not done again
    assert [int(number) for number in re.findall(r"epoch (\d+)/", output)] == list(range(epoch + 1, 4))
    for name in ("weights.safetensors", "curves.csv"):
        path = f"data/{out}/{name}"
        assert (project.root / path).read_bytes() == (built.root / path).read_bytes()
    assert project.digests(out) == before
    assert not list(project.root.glob(f".fs4/scratch/{stage}/*"))
