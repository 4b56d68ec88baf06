import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.runtime.digests import code_digest, file_digest, stage_code_digest, value_digest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("data", [b"", b"abc", bytes(3_000_000)])
def test_a_file_has_the_digest_of_its_bytes(tmp_path, data):
    (tmp_path / "x").write_bytes(data)
    assert file_digest(tmp_path / "x") == hashlib.sha256(data).hexdigest()


@given(st.dictionaries(st.text(max_size=3), st.integers() | st.lists(st.floats(allow_nan=False, allow_infinity=False))))
def test_the_order_of_keys_does_not_matter(value):
    assert value_digest(value) == value_digest(dict(reversed(value.items())))


def test_values_that_differ_have_other_digests():
    values = [1, 1.5, "1", [1], [[1]], {"a": 1}, {"a": 2}, {"b": 1}, None, True, []]
    assert len({value_digest(value) for value in values}) == len(values)
    with pytest.raises(ValueError, match="not JSON compliant"):
        value_digest(float("nan"))


def code_digest_of(folder: Path, call: str = "code_digest()") -> str:
    code = f"from pipeline.runtime.digests import *; print({call})"
    command = [sys.executable, "-B", "-c", code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def test_the_code_digest_follows_the_code_and_nothing_else(tmp_path):
    assert code_digest() == code_digest()
    project = tmp_path / "a project"
    ignored = shutil.ignore_patterns("__pycache__")
    for package in ("pipeline", "stages"):
        shutil.copytree(ROOT / package, project / package, ignore=ignored)
    first = code_digest_of(project)
    (project / "README.md").write_text("more")
    assert code_digest_of(project) == first
    stage = project / "stages" / "train.py"
    stage.write_text(stage.read_text() + "\n")
    second = code_digest_of(project)
    (project / "pipeline" / "errors.py").write_text((project / "pipeline" / "errors.py").read_text() + "\n")
    third = code_digest_of(project)
    assert len({first, second, third}) == 3


def test_the_code_digest_of_a_stage_follows_the_modules_that_it_imports(tmp_path):
    project = tmp_path / "a project"
    for package in ("pipeline", "stages"):
        shutil.copytree(ROOT / package, project / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", project)
    call = "stage_code_digest('extract')"
    first = code_digest_of(project, call)
    assert first == stage_code_digest("extract") != stage_code_digest("cluster")
    for name, changed in [("pipeline/report/page.py", False), ("pipeline/features/pooling.py", True)]:
        (project / name).write_text((project / name).read_text() + "\n")
        assert (code_digest_of(project, call) != first) == changed
