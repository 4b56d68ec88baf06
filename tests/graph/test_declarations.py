"""`dvc.yaml` says what the stages' code says: what they read, which parameters they see, what they write."""

import importlib
from typing import Any

import pytest
import yaml

from tests.graph.import_closure import EXEMPT, import_closure
from tests.graph.project import OPTIONAL, OUTS, ROOT, STAGES

pytestmark = pytest.mark.graph

GRAPH = yaml.safe_load((ROOT / "dvc.yaml").read_text("utf-8"))
# what a stage reads besides the modules that it imports and the outputs that it opens
OTHER_DEPS = {
    "prepare": ["${data.root}"],
    "pretrain": ["${pretrain.checkpoint}"],
    "report": ["pipeline/report/templates"],
}


def declared(stage: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The arguments with which a stage's `main` calls `run_stage`; an optional one is asked for `${item}`."""
    module = importlib.import_module(f"stages.{stage}")
    calls: list[dict[str, Any]] = []

    def note_call(name: str, body: object, **arguments: Any) -> None:
        assert callable(body)
        calls.append({"name": name, **arguments})

    monkeypatch.setattr(module, "run_stage", note_call)
    module.main(*["${item}"] * (stage in OPTIONAL))
    (call,) = calls
    return call


def entry_of(stage: str) -> dict[str, Any]:
    """What `dvc.yaml` says of a stage, without the list that an optional one stands for."""
    return GRAPH["stages"][stage]["do"] if stage in OPTIONAL else GRAPH["stages"][stage]


def differences(stage: str, section: str, listed: list[str], needed: list[str]) -> str:
    """What to change in a list of `dvc.yaml`; empty if nothing."""
    assert len(listed) == len(set(listed)), f"dvc.yaml: {section} of {stage} lists an entry twice"
    lines = [f"  add     - {entry}" for entry in needed if entry not in listed]
    lines += [f"  remove  - {entry}" for entry in listed if entry not in needed]
    return "\n".join([f"dvc.yaml, stage {stage}, {section}:", *lines]) if lines else ""


def test_the_graph_has_these_stages() -> None:
    assert list(GRAPH["stages"]) == STAGES + OPTIONAL
    assert sorted(path.stem for path in (ROOT / "stages").glob("[!_]*.py")) == sorted(STAGES + OPTIONAL)
    for stage in GRAPH["stages"]:
        assert entry_of(stage)["cmd"] == f"python -m stages.{stage}" + " ${item}" * (stage in OPTIONAL)
        assert entry_of(stage)["desc"]


def test_optional_stages_run_for_nothing_unless_asked() -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text("utf-8"))
    assert params["optional"] == {stage: [] for stage in OPTIONAL}
    for stage in OPTIONAL:
        assert GRAPH["stages"][stage]["foreach"] == f"${{optional.{stage}}}"
        assert f"/data/{stage}" in (ROOT / ".gitignore").read_text("utf-8").splitlines()


@pytest.mark.parametrize("stage", STAGES + OPTIONAL)
def test_deps_are_the_inputs_and_the_imported_modules(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = list(declared(stage, monkeypatch).get("inputs", ()))
    needed = [*inputs, *sorted(import_closure(ROOT, f"stages/{stage}.py")), *OTHER_DEPS.get(stage, ())]
    problem = differences(stage, "deps", entry_of(stage)["deps"], needed)
    assert not problem, f"{problem}\n`make graph` renews the lists of code"


@pytest.mark.parametrize("stage", STAGES + OPTIONAL)
def test_stages_that_resume_what_a_device_computed_say_so(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (ROOT / f"stages/{stage}.py").read_text("utf-8")
    assert declared(stage, monkeypatch).get("by_device", False) == ("stage.scratch" in code and "stage.device" in code)
    if stage == "cluster":  # faiss may compute on a GPU
        monkeypatch.setattr("faiss.get_num_gpus", lambda: 1)
        assert declared(stage, monkeypatch)["by_device"]


@pytest.mark.parametrize("stage", STAGES + OPTIONAL)
def test_params_and_outs_are_those_of_the_code(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    call, entry = declared(stage, monkeypatch), entry_of(stage)
    assert call["name"] == stage + "@${item}" * (stage in OPTIONAL)
    problem = differences(stage, "params", entry["params"], list(call["groups"]))
    assert not problem, problem
    outs = [out for out in entry["outs"] if isinstance(out, str)]
    assert outs == [call["out"]]
    others = [out for out in entry["outs"] if not isinstance(out, str)]
    assert others == ([{"metrics.json": {"cache": False}}] if stage == "report" else [])


def test_no_stage_depends_on_how_to_run() -> None:
    assert not [stage for stage in GRAPH["stages"] if {"run", "optional"} & set(entry_of(stage)["params"])]


def test_outputs_are_ignored_by_git_in_lines_of_our_own() -> None:
    ignored = (ROOT / ".gitignore").read_text("utf-8").splitlines()
    assert not [out for out in OUTS if f"/data/{out}" not in ignored]


def test_exempt_modules_exist_and_are_small() -> None:
    for name in EXEMPT:
        assert (ROOT / name).is_file(), f"{name} is exempt from dvc.yaml but does not exist"


def test_imports_are_found_wherever_they_stand(tmp_path) -> None:
    files = {
        "stages/toy.py": "from pipeline.a import thing\nif TYPE_CHECKING:\n    import pipeline.unused\n",
        "pipeline/a.py": "def thing():\n    from pipeline import b\n    import numpy\n",
        "pipeline/b/__init__.py": "import pipeline.c.d\n",
        "pipeline/c/d.py": "",
        "pipeline/unused.py": "",
        "pipeline/errors.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert import_closure(tmp_path, "stages/toy.py") == {"stages/toy.py", "pipeline/a.py", "pipeline/c/d.py"}
