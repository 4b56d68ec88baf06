"""Wrong parameters: DVC ends with an error, no stage finishes, and the earlier results can be had back."""

import pytest

from tests.graph.project import OUTS, Project

pytestmark = pytest.mark.graph

# how the flag is spelled, and the problem that the stage names; None where DVC itself refuses the key
REFUSED = {
    "pgg.kk=3": None,
    "+pgg.kk=3": "pgg.kk: unknown key (value 3); the nearest valid key is pgg.k",
    "pgg.k=abc": "pgg.k: 'abc' is not accepted",
    "pgg.k=0": "pgg.k: 0 is not accepted",
}


@pytest.mark.parametrize(("flag", "problem"), REFUSED.items())
def test_nothing_runs_with_a_wrong_parameter(project: Project, built: Project, flag: str, problem: str | None) -> None:
    output = project.dvc("exp", "run", "-S", flag, code=None)
    assert "done:" not in output
    if problem:
        assert f"params.yaml: {problem}" in output
        assert "exited with 2" in output
    # DVC removes the output of the stage that it is about to run; nothing else may change
    others = [out for out in OUTS if problem is None or out != "pseudo_labels"]
    assert project.digests(*others) == built.digests(*others)
    assert (project.root / "metrics.json").read_bytes() == (built.root / "metrics.json").read_bytes()
    assert project.git("status", "--porcelain").split() == (["M", "params.yaml"] if problem else [])
    assert project.git("for-each-ref", "refs/exps", "--format=%(refname)").count("main") == 0

    project.git("checkout", "--quiet", "params.yaml", "dvc.lock")
    project.dvc("checkout")
    assert project.digests() == built.digests()
    assert "up to date" in project.dvc("status")


@pytest.mark.parametrize(
    ("group", "problem"),
    [
        ({"kk": 3}, "pgg.kk: unknown key (value 3); the nearest valid key is pgg.k"),
        ({"k": "abc"}, "pgg.k: 'abc' is not accepted: input should be a valid integer"),
        ({"k": 0}, "pgg.k: 0 is not accepted: input should be greater than or equal to 2"),
    ],
)
def test_a_stage_names_the_wrong_parameter(project: Project, built: Project, group: dict, problem: str) -> None:
    project.set_params({"pgg": group})
    assert problem in project.stage("cluster", code=2)
    assert project.digests() == built.digests()


def test_a_wrong_parameter_of_another_group_is_refused_too(project: Project, built: Project) -> None:
    project.set_params({"evaluate": {"galery": 3}})
    assert "evaluate.galery: unknown key (value 3); the nearest valid key is evaluate.gallery" in project.stage(
        "cluster", code=2
    )
    assert project.digests() == built.digests()
