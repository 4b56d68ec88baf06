import io
import os
import signal
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.experiments import workspace
from tests.experiments.conftest import git


@pytest.fixture
def fake_dvc(project, monkeypatch):
    """Stand in for `dvc` with a Python script."""

    def install(body: str) -> None:
        folder = project.with_name("bin")
        folder.mkdir(exist_ok=True)
        script = folder / "dvc"
        script.write_text(f"#!{sys.executable}\nimport sys\n{textwrap.dedent(body)}")
        script.chmod(0o755)
        path = f"{folder}{os.pathsep}{os.environ['PATH']}"
        monkeypatch.setattr(workspace, "stage_environment", lambda: os.environ | {"PATH": path})
        monkeypatch.setenv("PATH", path)

    return install


def test_only_tracked_files_outside_the_records_count_as_changed(project):
    results = Path("docs/results")
    results.mkdir(parents=True)
    (results / "a.json").write_text("{}")
    git("add", "--all")
    git("commit", "--quiet", "--message", "A record")
    (results / "a.json").write_text("[]")
    (project / "new.txt").write_text("untracked")
    assert workspace.changed_files(results) == []
    (project / "metrics.json").write_text("[]")
    git("add", "metrics.json")
    (project / "params.yaml").unlink()
    assert workspace.changed_files(results) == ["metrics.json", "params.yaml"]


def test_what_dvc_writes_is_restored_also_after_an_error(project):
    before = (project / "params.yaml").read_bytes()
    with pytest.raises(RuntimeError), workspace.restored_workspace():
        (project / "params.yaml").write_text("changed")
        (project / "metrics.json").unlink()
        git("add", "--all")
        raise RuntimeError
    assert (project / "params.yaml").read_bytes() == before
    assert git("status", "--porcelain") == ""


def test_experiments_of_all_commits_are_listed_with_their_parameters(project):
    first = workspace.current_commit()
    git("commit", "--quiet", "--allow-empty", "--message", "Next")
    second = workspace.current_commit()
    for commit, name in ((first, "picie"), (second, "picie"), (second, "picie+pgg-s1")):
        git("update-ref", f"refs/exps/{commit[:2]}/{commit[2:]}/{name}", second)
    git("update-ref", "refs/exps/exec/EXEC_APPLY", second)
    found = workspace.list_experiments()
    assert {(e.name, e.commit) for e in found} == {("picie", first), ("picie", second), ("picie+pgg-s1", second)}
    assert workspace.read_experiment_params(found[0])["data"]["resize"] == 128


def test_seconds_and_the_failed_stage_are_read_from_what_is_printed(fake_dvc):
    fake_dvc("""
        print("12:00:00 fs4.prepare: done: images 4, rejected 0; 1.5 s, peak memory 0.21 GB")
        print("12:00:00 fs4.train: epoch 1/2: loss 3.1", file=sys.stderr)
        print(" ".join(sys.argv[1:]))
        print("ERROR: failed to reproduce 'train': failed to run: python -m stages.train, exited with 1")
        sys.exit(255)
    """)
    screen = io.StringIO()
    outcome = workspace.run_experiment("picie", ["-S", 'data.root="/a b"'], screen)
    assert outcome == workspace.Outcome({"prepare": 1.5}, "train", 255, 0)
    assert "epoch 1/2" in screen.getvalue()
    assert 'exp run --name picie -S data.root="/a b"\n' in screen.getvalue()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_the_run_as_sigint_and_its_end_is_waited_for(fake_dvc, signum):
    fake_dvc("""
        import time
        try:
            print("started", flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            time.sleep(0.2)
            print("12:00:00 fs4.train: done: saved; 2.0 s, peak memory 0.21 GB")
            sys.exit(252)
    """)
    screen = io.StringIO()

    def send() -> None:
        while "started" not in screen.getvalue():
            time.sleep(0.01)
        os.kill(os.getpid(), signum)

    sender = threading.Thread(target=send)
    handler = signal.getsignal(signum)
    sender.start()
    outcome = workspace.run_experiment("picie", [], screen)
    sender.join()
    assert outcome == workspace.Outcome({"train": 2.0}, "", 252, signum)
    assert signal.getsignal(signum) is handler


def test_a_failing_command_is_told_with_its_reason(project, fake_dvc, monkeypatch):
    fake_dvc("sys.exit('ERROR: no such experiment')")
    with pytest.raises(InputError, match=r"`dvc exp remove` failed in .*: ERROR: no such experiment"):
        workspace.remove_experiments([workspace.Experiment("picie", "0" * 40, "refs/exps/00/x/picie", "1" * 40)])
    monkeypatch.chdir(project.parent)
    with pytest.raises(InputError, match="not a git repository"):
        workspace.current_commit()
