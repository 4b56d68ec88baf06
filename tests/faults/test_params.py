"""Rows 1 to 4: what can be wrong with `params.yaml`."""

import codecs
from pathlib import Path

import pytest

from pipeline.errors import ParamsError
from pipeline.params import load_params
from tests.faults.faulty import refuse, rewrite
from tests.graph.project import ROOT, Project

pytestmark = pytest.mark.graph


def recover(project: Project, built: Project) -> None:
    """Put the parameters back: the next run succeeds with the same bytes."""
    rewrite(project.root / "params.yaml", (built.root / "params.yaml").read_bytes())
    project.stage("cluster")
    assert project.digests() == built.digests()


def replace(project: Project, old: str, new: str) -> None:
    path = project.root / "params.yaml"
    text = path.read_text("utf-8")
    assert text.count(old) >= 1, old
    rewrite(path, text.replace(old, new, 1).encode())


def test_row_01_an_unknown_key(project: Project, built: Project) -> None:
    """An unknown key in `params.yaml`, or by `-S +key=value`.

    Exit code 2 before any work, with the full key, its value and the nearest valid key.
    """
    project.set_params({"train": {"cae": {"gama": 0.5}}, "extra": 1})
    refuse(
        project,
        "cluster",
        2,
        "params.yaml: 2 problems",
        "train.cae.gama: unknown key (value 0.5); the nearest valid key is train.cae.gamma",
        "extra: unknown key (value 1); the nearest valid key is",
    )
    recover(project, built)


WRONG = {
    '  restarts: "27"': "pgg.restarts: '27' is not accepted: input should be a valid integer",
    "  restarts: true": "pgg.restarts: True is not accepted: input should be a valid integer",
    "  restarts: 1.5": "pgg.restarts: 1.5 is not accepted: input should be a valid integer",
    "  restarts: 1\n  restarts: 2": "key 'restarts' stands twice",
    "\trestarts: 1": "indent with spaces, not tabs",
    "  restarts: *one": "aliases",
}


@pytest.mark.parametrize("line", WRONG)
def test_row_02_wrong_types_duplicates_and_tabs(tmp_path: Path, line: str) -> None:
    """A number in quotes, `true` for a number, a duplicate key, a tab, an alias.

    Refused, naming key and line.
    """
    text = (ROOT / "params.yaml").read_text("utf-8")
    assert "\n  restarts: 5\n" in text
    path = tmp_path / "params.yaml"
    path.write_text(text.replace("\n  restarts: 5\n", f"\n{line}\n"), "utf-8")
    with pytest.raises(ParamsError) as caught:
        load_params(path)
    assert WRONG[line] in str(caught.value)
    assert str(path) in str(caught.value)


def test_row_02_every_spelling_of_a_float(project: Project, built: Project) -> None:
    """`1e-5`, which DVC writes as `1e-05` and YAML 1.1 takes for text.

    Read as a number in every spelling; a wrong type beside it ends the stage with 2.
    """
    for spelling in ("1e-5", "1e-05", "1E-5", ".00001", "1.e-5"):
        replace(project, "learning_rate: 2.0e-05", f"learning_rate: {spelling}")
        assert load_params(project.root / "params.yaml").train.learning_rate == 1e-5
        replace(project, f"learning_rate: {spelling}", "learning_rate: 2.0e-05")
    replace(project, "lock_timeout: 20", 'lock_timeout: "20"')
    refuse(project, "cluster", 2, "run.lock_timeout: '20' is not accepted")
    recover(project, built)


def test_row_03_values_out_of_range_or_at_odds(project: Project, built: Project) -> None:
    """Values out of range or at odds with each other.

    One message lists all problems: first those of single keys, then those between keys.
    """
    project.set_params({"pgg": {"k": 1}, "train": {"temperature": 0.0}, "extract": {"levels": []}})
    output = refuse(project, "cluster", 2, "params.yaml: 3 problems")
    for key in ("pgg.k: 1 is not accepted", "train.temperature: 0.0", "extract.levels: []"):
        assert key in output
    rewrite(project.root / "params.yaml", (built.root / "params.yaml").read_bytes())
    project.set_params({"data": {"resize": 70}, "extract": {"levels": [4, 2]}, "train": {"warmup_epochs": 9}})
    output = refuse(project, "cluster", 2, "problems")
    for key in ("data.resize: 70 is not a multiple of 32", "extract.levels: [4, 2] must ascend", "train.warmup_epochs"):
        assert key in output
    recover(project, built)


def test_row_04_a_file_that_cannot_be_read(project: Project, built: Project) -> None:
    """`params.yaml` missing, empty, a folder, or not UTF-8.

    Exit code 2, naming the file and the mend.
    """
    path = project.root / "params.yaml"
    whole = path.read_bytes()
    path.unlink()
    refuse(project, "cluster", 2, "params.yaml: no such file; run from the project's root, or restore it with git")
    for content, said in [(b"", "the file is empty"), (b"pgg:\n  k: \xe9\n", "byte 10 is not UTF-8")]:
        rewrite(path, content)
        with pytest.raises(ParamsError, match=said):
            load_params(path)
    rewrite(path, whole)
    recover(project, built)


def test_row_04_line_ends_and_byte_order_mark(project: Project, built: Project) -> None:
    """`params.yaml` with CRLF line ends and a byte order mark.

    Accepted, with the same result.
    """
    path = project.root / "params.yaml"
    rewrite(path, codecs.BOM_UTF8 + path.read_bytes().replace(b"\n", b"\r\n"))
    project.stage("cluster")
    assert project.digests() == built.digests()
