import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pipeline.runtime import stage

ROOT = Path(__file__).parents[2]
TOY = """
    import os, sys, time
    from pathlib import Path
    from pipeline.runtime import device
    from pipeline.errors import InputError, ParamsError, TrainingError
    from pipeline.runtime.stage import run_stage

    def body(stage):
        mode = sys.argv[1]
        (stage.out.path / "result.txt").write_text("half")
        errors = {"params": ParamsError, "input": InputError, "training": TrainingError, "bug": ZeroDivisionError}
        if mode in errors:
            raise errors[mode](f"this is the {mode} error")
        if mode == "groups":
            print(sorted(vars(stage.params)), stage.params.pgg.restarts, stage.run.device, sorted(stage.inputs))
            stage.params.train
        if mode == "wait":
            print("waiting", flush=True)
            time.sleep(60)
        if mode == "defer":
            with stage.stop.deferred():
                print("waiting", flush=True)
                while not stage.stop.requested:
                    time.sleep(0.01)
                (stage.scratch / "state.txt").write_text("kept")
                stage.stop.check()
        if mode == "scratch":
            print(sorted(path.name for path in stage.scratch.iterdir()))
        if mode == "torch":
            print("torch" in sys.modules)
        (stage.out.path / "result.txt").write_text("done")
        stage.counts["things"] = 3

    bf16 = os.environ.get("BF16")  # as another processor would have it
    device.uses_bf16 = lambda *_: bf16
    inputs = tuple(sys.argv[2:])
    run_stage("toy", body, groups=("pgg",), inputs=inputs, out="data/toy", by_device=bf16 is not None)
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    shutil.copytree(ROOT / "pipeline", folder / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "params.yaml", folder)
    (folder / "toy.py").write_text(textwrap.dedent(TOY))
    return folder


@pytest.fixture
def project(template, tmp_path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "a project"))


def start(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "toy", *arguments]
    pipe, env = subprocess.PIPE, {**os.environ, "PYTHONPATH": str(folder), **environment}
    return subprocess.Popen(command, cwd=folder, stdout=pipe, stderr=pipe, text=True, env=env)


def run(folder: Path, *arguments: str, **environment: str) -> tuple[int, str, str]:
    process = start(folder, *arguments, **environment)
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def log_of(text: str) -> str:
    return re.sub(r"(?m)^\d\d:\d\d:\d\d ", "", text)


def data_of(project: Path) -> list[str]:
    return sorted(path.name for path in (project / "data").iterdir() if ".lock" not in path.name)


def test_a_finished_stage_leaves_its_folder_and_a_closing_line(project):
    code, _, err = run(project, "fine")
    assert code == 0
    assert re.fullmatch(r"fs4\.toy: done: things 3; \d+\.\d s, peak memory \d\.\d\d GB\n", log_of(err))
    assert data_of(project) == ["toy"]
    assert (project / "data" / "toy" / "result.txt").read_text() == "done"
    manifest = json.loads((project / "data" / "toy" / "manifest.json").read_text())
    assert manifest["stage"] == "toy"
    assert list(manifest["params"]) == ["pgg"]
    assert manifest["versions"]["python"] == sys.version.split()[0]
    assert set(manifest["machine"]) == {"device", "processor", "threads"}
    assert str(project) not in (project / "data" / "toy" / "manifest.json").read_text()


@pytest.mark.parametrize(("mode", "expected"), [("params", 2), ("input", 3), ("training", 1)])
def test_errors_for_the_user_are_one_line_and_a_code(project, mode, expected):
    assert run(project, "fine")[0] == 0
    code, _, err = run(project, mode)
    assert code == expected
    assert log_of(err) == f"fs4.toy: this is the {mode} error\n"
    assert data_of(project) == ["toy"]
    assert (project / "data" / "toy" / "result.txt").read_text() == "done"


def test_a_bug_keeps_its_traceback(project):
    code, _, err = run(project, "bug")
    assert code == 1
    assert "Traceback" in err
    assert "ZeroDivisionError: this is the bug error" in err
    assert data_of(project) == []


def test_wrong_parameters_stop_the_stage_before_any_work(project):
    text = (project / "params.yaml").read_text("utf-8")
    (project / "params.yaml").write_text(text.replace("  restarts: 5\n", "  restart: 5\n"), "utf-8")
    code, _, err = run(project, "fine")
    assert code == 2
    assert "pgg.restart: unknown key (value 5); the nearest valid key is pgg.restarts" in err
    assert "pgg.restarts: missing" in err
    assert not (project / "data").exists()


@pytest.mark.parametrize(("signum", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_stage_cleanly(project, signum, expected):
    process = start(project, "wait")
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signum)
    _, err = process.communicate(timeout=30)
    assert process.returncode == expected
    assert log_of(err) == f"fs4.toy: stopped by {signum.name}; run again to go on from what is finished\n"
    assert data_of(project) == []


def test_resume_state_survives_an_interruption_and_goes_with_success(project):
    process = start(project, "defer")
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 143
    assert data_of(project) == []
    code, out, _ = run(project, "scratch")
    assert (code, out) == (0, "['state.txt']\n")
    assert run(project, "scratch")[1] == "[]\n"


def test_resume_state_of_other_parameters_is_not_used_and_that_is_said(project):
    process = start(project, "defer")
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    text = (project / "params.yaml").read_text("utf-8")
    (project / "params.yaml").write_text(text.replace("  restarts: 5\n", "  restarts: 6\n"), "utf-8")
    code, out, err = run(project, "scratch")
    assert (code, out) == (0, "[]\n")
    assert "not used: unfinished work of other runs (1 files)" in err
    (project / "params.yaml").write_text(text, "utf-8")
    (project / "pipeline" / "errors.py").write_text((project / "pipeline" / "errors.py").read_text() + "\n")
    assert run(project, "scratch")[1] == "[]\n"


def test_resume_state_serves_on_the_same_kind_of_device(project):
    process = start(project, "defer", BF16="yes")
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    code, out, err = run(project, "scratch", BF16="no")
    assert (code, out) == (0, "[]\n")
    assert "not used: unfinished work of other runs (1 files)" in err
    assert run(project, "scratch", BF16="yes")[1] == "['state.txt']\n"
    assert json.loads((project / "data" / "toy" / "manifest.json").read_text())["machine"]["device"] == "auto"


def test_a_stage_that_asks_for_no_device_starts_without_torch(project):
    assert run(project, "torch")[1] == "False\n"
    assert run(project, "torch", BF16="yes")[1] == "True\n"


def test_a_stage_sees_the_groups_that_it_declares_and_no_others(project):
    code, out, err = run(project, "groups")
    assert code == 1
    assert out == "['pgg'] 5 auto []\n"
    assert "has no attribute 'train'" in err


def test_inputs_are_opened_and_checked(project):
    code, _, err = run(project, "fine", "data/other")
    assert code == 3
    assert "data/other: no finished output here" in err
    code, _, err = run(project, "fine", "data/other/images.parquet")
    assert code == 3
    assert "data/other/images.parquet: missing; run `dvc repro`" in err
    assert run(project, "fine")[0] == 0
    (project / "data" / "toy").rename(project / "data" / "other")
    code, out, _ = run(project, "groups", "data/other", "data/other/result.txt")
    assert out == "['pgg'] 5 auto ['data/other']\n"
    (project / "data" / "other" / "stray").write_bytes(b"")
    code, _, err = run(project, "fine", "data/other")
    assert code == 3
    assert "stray: not listed in the manifest" in err


def test_inputs_of_other_library_versions_are_told(project):
    assert run(project, "fine")[0] == 0
    other = (project / "data" / "toy").rename(project / "data" / "other")
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["versions"]["numpy"] = "0.1"
    (other / "manifest.json").write_text(json.dumps(manifest))
    code, _, err = run(project, "fine", "data/other")
    assert code == 0
    assert "data/other was made with numpy 0.1, this is " in err


def install(folder: Path, package: str, version: str) -> None:
    """As pip does, but without the code."""
    info = folder / f"{package.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    (info / "RECORD").write_text("faiss/__init__.py,,\n" * package.startswith("faiss"))


def test_other_builds_of_a_library_tell_their_version(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(stage, "VERSIONED", ("faiss-cpu", "numpy"))
    install(tmp_path, "numpy", "2.0")
    for package, expected in [
        (None, "not installed under this name"),
        ("faiss-gpu-cu12", "1.9 of faiss-gpu-cu12"),
        ("faiss-cpu", "1.9"),
    ]:
        if package:
            install(tmp_path, package, "1.9")
        stage._version.cache_clear()
        versions = stage.library_versions()
        assert list(versions) == ["python", "faiss-cpu", "numpy"]
        assert versions["faiss-cpu"] == expected
        assert versions["numpy"] == "2.0"
    stage._version.cache_clear()


def test_two_runs_at_once_wait_and_then_name_the_first(project):
    text = (project / "params.yaml").read_text("utf-8")
    (project / "params.yaml").write_text(text.replace("lock_timeout: 20", "lock_timeout: 0.2"), "utf-8")
    first = start(project, "wait")
    assert first.stdout.readline() == "waiting\n"
    code, _, err = run(project, "fine")
    assert code == 3
    assert f"data/toy is being written by process {first.pid}" in err
    first.kill()
    first.communicate()
    assert run(project, "fine")[0] == 0
    assert data_of(project) == ["toy"]


def test_code_of_another_folder_is_refused(project, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("toy.py", "params.yaml"):
        shutil.copy(project / name, elsewhere)
    code, _, err = run(elsewhere, "fine", PYTHONPATH=str(project))
    assert code == 3
    assert f"{(project / 'pipeline' / '__init__.py').resolve()}: this is not the code of the current folder" in err
    assert "python -m stages.NAME" in err
    assert not (elsewhere / "data").exists()
