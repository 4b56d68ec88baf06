"""Rules about the project's files as such."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.graph.project import OPTIONAL, ROOT, STAGES

pytestmark = pytest.mark.graph

FILES = [
    Path(name)
    for name in subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
        encoding="utf-8",
    ).stdout.split("\0")
    if name and (ROOT / name).is_file()
]


@pytest.mark.parametrize("stage", STAGES + OPTIONAL)
def test_stage_files_hold_glue_only(stage: str) -> None:
    text = (ROOT / f"stages/{stage}.py").read_text("utf-8")
    assert len(text.splitlines()) <= 60
    body = ast.parse(text).body
    functions = [node for node in body if isinstance(node, ast.FunctionDef)]
    assert [function.name for function in functions] == [stage, "main"]
    for node in body:
        glue = (ast.Import, ast.ImportFrom, ast.Assign, ast.FunctionDef, ast.If, ast.Expr)
        assert isinstance(node, glue), f"line {node.lineno}: {ast.unparse(node)}"
    nodes = [node for function in functions for node in ast.walk(function)]
    assert not [node for node in nodes if isinstance(node, (ast.For, ast.While, ast.Try, ast.ClassDef, ast.Global))]
    modules = [node.module for node in body if isinstance(node, ast.ImportFrom)]
    modules += [alias.name for node in body if isinstance(node, ast.Import) for alias in node.names]
    packages = {str(module).split(".")[0] for module in modules}
    assert packages <= sys.stdlib_module_names | {"pipeline", "typer"}


def test_python_files_are_short() -> None:
    lengths = {path: len((ROOT / path).read_text("utf-8").splitlines()) for path in FILES if path.suffix == ".py"}
    assert lengths
    assert not {path.as_posix(): length for path, length in lengths.items() if length > 300}


def test_the_project_stands_alone() -> None:
    # folders that exist only where the project happens to be developed or checked
    outside = re.compile("|".join(rf"(?<![\w-]){folder}/" for folder in ("shared", "/work")))
    found = [
        f"{path}:{number}"
        for path in FILES
        if path.as_posix() != ".ci/run"
        for number, line in enumerate((ROOT / path).read_text("utf-8", errors="replace").splitlines(), 1)
        if outside.search(line)
    ]
    assert not found
