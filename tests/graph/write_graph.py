"""Renew the lists of code in `dvc.yaml` after imports have changed: `make graph`.

Everything else in that file is written by hand, and stays as it is.
"""

import re
from pathlib import Path

from tests.graph.import_closure import import_closure

DEPS = re.compile(
    r"(?P<head>cmd: python -m stages\.(?P<stage>\w+).*\n(?: +(?!deps:|cmd:)\S.*\n)*? +deps:\n)(?P<items>(?: +- .*\n)+)"
)
CODE = re.compile(r" +- (?:pipeline|stages)/\S+\.py\n")


def renew_code(graph: str, root: Path) -> str:
    """Let every stage depend on the modules that it imports.

    Args:
        graph: Text of `dvc.yaml`, in which `deps` stands below `cmd`.
        root: The project.

    Returns:
        The text, in which the code of every `deps` stands where its first line stood, and nothing else has changed.
    """
    return DEPS.sub(lambda found: found["head"] + _renew_items(found["items"], found["stage"], root), graph)


def _renew_items(items: str, stage: str, root: Path) -> str:
    lines = items.splitlines(keepends=True)
    first = next((number for number, line in enumerate(lines) if CODE.fullmatch(line)), len(lines))
    indent = lines[0].partition("-")[0]
    code = [f"{indent}- {name}\n" for name in sorted(import_closure(root, f"stages/{stage}.py"))]
    others = [line for line in lines[first:] if not CODE.fullmatch(line)]
    return "".join(lines[:first] + code + others)


if __name__ == "__main__":
    root = Path(__file__).parents[2]
    graph = root / "dvc.yaml"
    graph.write_bytes(renew_code(graph.read_bytes().decode("utf-8"), root).encode("utf-8"))
