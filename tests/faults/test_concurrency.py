"""Several runs at once: never two writers of one output."""

import pytest

from tests.graph.project import Project, wait_until

pytestmark = pytest.mark.graph

SLOW = {"pgg": {"restarts": 10**6, "iterations": 1000}}


def test_a_second_dvc_repro_in_the_same_clone_names_the_first(project: Project, built: Project) -> None:
    project.set_params(SLOW)
    with project.start("dvc", "repro", "cluster") as first:
        wait_until(lambda: list(project.root.glob("data/.pseudo_labels.tmp-*")), first)
        writer = (project.root / "data/.pseudo_labels.lock.pid").read_text()
        output = project.dvc("repro", "cluster", code=None)
        assert str(first.pid) in output, output
        assert "Traceback" not in output
        assert (project.root / "data/.pseudo_labels.lock.pid").read_text() == writer
        project.run("kill", "-TERM", writer.strip())
        assert first.wait() != 0
    project.set_params({"pgg": {"restarts": 1, "iterations": 10}})
    project.dvc("repro")
    assert project.digests() == built.digests()


def test_two_temporary_experiments_at_once(project: Project, built: Project) -> None:
    commands = {
        name: ("dvc", "exp", "run", "--temp", "--name", name, "-S", f"pgg.seed={seed}", "cluster")
        for seed, name in enumerate(("one", "two"), 1)
    }
    with project.start(*commands["one"]) as one, project.start(*commands["two"]) as two:
        ended = {name: (run.communicate()[0], run.returncode) for name, run in (("one", one), ("two", two))}
    assert any(code == 0 for _, code in ended.values()), ended
    for name, (output, code) in ended.items():
        if code:
            # DVC lets only one of them start at a time
            assert "Unable to acquire lock" in output, output
            project.run(*commands[name])
    assert {"one", "two"} <= set(project.dvc("exp", "list", "--name-only").split())
    # the folder that they were started in is as it was
    assert project.digests() == built.digests()
    found = []
    for name in ("one", "two"):
        project.dvc("exp", "apply", name)
        found.append(project.digests("pseudo_labels"))
    assert found[0] != found[1]
