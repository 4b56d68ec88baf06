import re
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.report import label_results
from pipeline.report.results import END, START, results_table
from tests.graph.project import ROOT, Project

README = (ROOT / "README.md").read_text("utf-8")


def shell_lines(heading: str) -> list[str]:
    """The lines of the first shell block below a heading."""
    section = README.split(f"## {heading}\n", 1)[1]
    block = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert block
    return block[1].splitlines()


def test_the_quick_start_is_two_commands_and_the_activation():
    assert shell_lines("Quick start") == ["make repro", "make test", "source .venv/bin/activate"]


@pytest.mark.graph
def test_the_quick_start_runs_as_written(sources: Project, tmp_path: Path):
    project = sources.duplicate(tmp_path / "project")
    # the running environment stands in for a new one, which takes minutes and gigabytes to install; marked as ready,
    # or make would install this copy of the project into it
    environment = project.root / ".venv"
    environment.mkdir()
    for part in Path(sys.executable).parents[1].iterdir():
        if part.name != ".ready":
            (environment / part.name).symlink_to(part)
    (environment / ".ready").touch()
    script = "set -e\n" + "\n".join(shell_lines("Quick start")) + "\ncommand -v fs4 && command -v dvc"
    output = project.run(
        "bash",
        "-c",
        script,
        PRESET="tiny",  # the same commands on a small sample
        PYTEST_ADDOPTS="tests/test_params.py",  # else this test would run itself
    )
    assert f"Report: {project.root}/data/report/index.html" in output
    assert (project.root / "data/report/index.html").stat().st_size > 10_000
    assert re.search(r"\d+ passed", output)


def test_the_commands_that_start_from_a_checkpoint_are_accepted():
    from pipeline.params import parse_params
    from pipeline.yaml_reader import read_yaml

    commands = " ".join(shell_lines("My own checkpoint")).replace("\\", "").split("dvc exp run")[1:]
    assert len(commands) == 2
    for command in commands:
        raw = read_yaml(ROOT / "params.yaml")
        for key, value in re.findall(r"-S ([a-z_]+\.[a-z_]+)=(\S+)", command):
            group, name = key.split(".")
            raw[group][name] = yaml.safe_load(value)
        assert parse_params(raw).pretrain.checkpoint == "/weights/moco.pth"


def test_every_command_and_option_of_fs4_that_the_readme_shows_exists():
    from typer.main import get_command

    from pipeline.cli import app

    commands = get_command(app).commands
    shown = [line.split("#")[0].split() for line in README.splitlines() if line.startswith("fs4 ")]
    assert {"predict", "name", "export", "compare"} <= {words[1] for words in shown}
    for _, name, *words in shown:
        options = {option for parameter in commands[name].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options


def test_the_lines_of_python_label_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    from tests.export.conftest import K, make_segmenter, save, write_photo

    block = re.search(r"## Use the model\n.*?```python\n(.*?)```", README, re.DOTALL)
    assert block
    assert len(block[1].splitlines()) == 5
    save(make_segmenter(), tmp_path / "data/segmenter")
    write_photo(tmp_path / "photo.jpg", 64, 96)
    monkeypatch.chdir(tmp_path)
    exec(block[1], {})
    assert capsys.readouterr().out == f"{K} (64, 96)\n"


def test_the_table_of_results_is_made_from_the_records():
    between = README.split(START)[1].split(END)[0].strip()
    assert between == results_table(ROOT / "docs/results")


def test_the_tables_of_labels_are_made_from_their_records():
    between = (ROOT / "docs/labels.md").read_text("utf-8").split(label_results.START)[1].split(label_results.END)[0]
    assert between.strip() == label_results.label_tables(ROOT / "docs/results/labels")


def test_every_parameter_and_file_that_the_readme_names_exists():
    from pipeline.params import known_keys

    keys = set(known_keys())
    named = set(re.findall(r"-S '?([a-z_.]+)=", README)) | set(re.findall(r"`((?:data|train|pgg)\.[a-z_.]+)`", README))
    assert named
    assert named <= keys
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link


def test_every_preset_and_protocol_that_the_readme_names_exists():
    from pipeline.evaluation.official import PROTOCOLS, find_protocol

    protocols = set(re.findall(r"--protocol ([a-z0-9-]+)", README))
    assert {find_protocol(name)[0].name for name in protocols} == set(PROTOCOLS)
    presets = {name for names in re.findall(r"\$\(fs4 preset ([^)]+)\)", README) for name in names.split()}
    assert presets
    assert presets <= {path.stem for path in (ROOT / "presets").glob("*.yaml")}
