"""Which of the project's modules a stage imports, directly or not, wherever in a file the import stands."""

import ast
from pathlib import Path

# Plumbing that cannot change what a stage computes, and packages that hold a docstring only
EXEMPT = {
    "pipeline/yaml_reader.py",
    "pipeline/errors.py",
    "pipeline/runtime/logs.py",
    "pipeline/runtime/locks.py",
    "pipeline/runtime/interrupts.py",
}
EXEMPT_ROOM = "pipeline/params/"  # a value that matters is a parameter, which DVC watches by itself


def import_closure(root: Path, start: str) -> set[str]:
    """Project files that `start` needs, itself included, without the exempt ones.

    Args:
        root: The project.
        start: A file in it, as a POSIX path.
    """
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += _imported(root, name)
    return {
        name
        for name in seen
        if name not in EXEMPT and not name.startswith(EXEMPT_ROOM) and not name.endswith("__init__.py")
    }


def _imported(root: Path, name: str) -> set[str]:
    found: set[str] = set()
    tree = ast.parse((root / name).read_text("utf-8"))
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", None) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for module in modules:
            place = root.joinpath(*module.split("."))
            for file in (place.with_suffix(".py"), place / "__init__.py"):
                if file.is_file():
                    found.add(file.relative_to(root).as_posix())
    return found
