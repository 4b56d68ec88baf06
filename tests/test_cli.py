import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from pipeline import cli
from pipeline.errors import InputError
from pipeline.params.presets import flatten_keys
from pipeline.runtime.locks import hold
from pipeline.yaml_reader import read_yaml
from tests.data.sources.downloads import make_camvid
from tests.data.sources.downloads import mask as save_mask
from tests.report.records import make_record, write_records

ROOT = Path(__file__).parents[1]
PRESET_NAMES = sorted(path.stem for path in (ROOT / "presets").glob("*.yaml"))


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    (tmp_path / "presets").mkdir()
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> str:
    result = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def fs4(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    code = "from pipeline.cli import main; main()"
    command = [sys.executable, "-c", code, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_presets_are_printed_as_flags_and_the_last_one_wins(project):
    (project / "presets" / "fast.yaml").write_text(
        "extract:\n  levels: [1, 2]\ntrain:\n  learning_rate: 1e-05\n  k: 7\n"
    )
    (project / "presets" / "plain.yaml").write_text("train:\n  k: 5\n  cae:\n    enabled: false\n")
    flags = "-S extract.levels=[1,2] -S train.learning_rate=1e-05 -S train.k=7\n"
    assert run("preset", "fast") == flags
    flags = flags.replace("k=7", "k=5 -S train.cae.enabled=false")
    assert run("preset", "fast", "plain") == flags


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_the_flags_of_every_preset_mean_its_values(name, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    flags = run("preset", name).split()
    assert flags[::2] == ["-S"] * (len(flags) // 2)
    expected = dict(flatten_keys(read_yaml(ROOT / "presets" / f"{name}.yaml")))
    file = tmp_path / "flags.yaml"
    file.write_text("\n".join(flag.replace("=", ": ", 1) for flag in flags[1::2]))
    assert read_yaml(file) == expected


def test_clean_removes_resume_state_and_says_how_much(project):
    scratch = project / ".fs4" / "scratch" / "train" / "x"
    scratch.mkdir(parents=True)
    (scratch / "checkpoint.pt").write_bytes(bytes(2_500_000))
    (project / "data").mkdir()
    assert run("clean") == "2.5 MB removed from .fs4\n"
    assert not (project / ".fs4").exists()
    assert (project / "data").is_dir()
    assert run("clean") == "0.0 MB removed from .fs4\n"


def test_compare_writes_the_page_of_the_records(project):
    with pytest.raises(InputError, match="docs/results: no records of baselines"):
        run("compare")
    write_records(project / "docs" / "results", make_record(), make_record(data="other", name="other"))
    assert run("compare") == "data/compare/index.html\n"
    assert "other, val" in (project / "data/compare/index.html").read_text("utf-8")
    assert run("compare", "--data", "sample", "--out", "page.html") == "page.html\n"
    assert "other, val" not in (project / "page.html").read_text("utf-8")


def test_clean_waits_for_nobody(project):
    (project / ".fs4").mkdir()
    started = time.monotonic()
    with hold(project / ".fs4.lock", "this", 0.0), pytest.raises(InputError, match=rf"process {os.getpid()}"):
        run("clean")
    assert time.monotonic() - started < 5
    assert (project / ".fs4").is_dir()


def test_errors_are_one_line_and_an_exit_code(project):
    result = fs4(project, "preset", "x")
    assert result.returncode == 2
    assert result.stdout == ""
    assert re.fullmatch(r"\S+ fs4\.cli: presets/x\.yaml: no such preset; known here: none\n", result.stderr)


def test_without_arguments_the_help_is_shown(project):
    result = fs4(project)
    assert "preset" in result.stdout + result.stderr
    assert "clean" in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


def test_suggesting_k_without_features_is_one_line_and_an_exit_code(project):
    result = fs4(project, "suggest-k", "--ks", "2..5")
    assert result.returncode == 3
    assert result.stderr.endswith("data/features: no features here; run `dvc repro extract` first\n")


def test_scores_of_label_maps_are_printed_and_written(project):
    masks = [np.array([[0, 0], [1, 1]], np.uint8), np.array([[1, 0], [1, 255]], np.uint8)]
    for folder, shift in (("predictions", 5), ("truth", 0)):
        (project / folder).mkdir()
        for number, mask in enumerate(masks):
            Image.fromarray((mask + shift * (mask < 2)).astype(np.uint8)).save(project / folder / f"{number}.png")
    output = run("score", "predictions", "truth", "--output", "scores", "--match", "majority", "--boundary")
    assert "2 pairs, 7 pixels, 2 classes (2 in the mIoU), 3 clusters; match: majority" in output
    assert (project / "scores/metrics.json").is_file()
    run("score", "predictions", "truth", "--output", "again", "--match", "majority", "--boundary", "--seed", "1")
    assert "mean ± sd over 2 results, 2 pairs each; match: majority" in run("score-seeds", "scores", "again")
    result = fs4(project, "score", "predictions", "gone")
    assert result.returncode == 3
    assert result.stderr.endswith("gone: does not exist; give a folder of PNG files\n")


def test_scores_against_a_download_need_only_the_name_of_the_protocol(project):
    make_camvid(project / "camvid")
    (project / "predictions").mkdir()
    save_mask(project / "predictions/0016E5_07959.png", [*range(12)])
    output = run("score", "predictions", "camvid", "--protocol", "camvid-11", "--output", "scores")
    assert "11 classes (11 in the mIoU), 12 clusters; match: hungarian" in output
    assert '"camvid-11"' in (project / "scores/protocol.json").read_text()
    result = fs4(project, "score", "predictions", "camvid", "--protocol", "camvid-12")
    assert result.returncode == 2
    assert "--protocol: none is called 'camvid-12'; the protocols are coco-stuff-27" in result.stderr
