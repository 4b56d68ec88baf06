from pathlib import Path

import pytest

from tests.graph.project import ROOT
from tests.graph.write_graph import renew_code

pytestmark = pytest.mark.graph

GRAPH = """# by hand: deps of stages/toy.py
stages:
  toy:
    desc: Reads {photo}   # two blanks
    cmd: python -m stages.toy
    wdir: .
    deps:
      - ${{data.root}}
{toy}      - pipeline/report/templates
    outs:
      - pipeline/gone.py

  fresh:
    foreach: ${{optional.fresh}}
    do:
      cmd: python -m stages.fresh ${{item}}
      deps:
        - data/prepared
{fresh}      params:
        - fresh
artifacts:
  - pipeline/gone.py
"""


def test_only_the_code_of_each_stage_is_replaced(tmp_path: Path) -> None:
    files = {
        "stages/toy.py": "from pipeline.a import thing\n",
        "stages/fresh.py": "import pipeline.b\n",
        "pipeline/a.py": "import pipeline.b\n",
        "pipeline/b.py": "",
        "pipeline/gone.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    before = GRAPH.format(
        photo="ü", toy="      - pipeline/gone.py\n      - data/between\n      - stages/toy.py\n", fresh=""
    )
    assert renew_code(before, tmp_path) == GRAPH.format(
        photo="ü",
        toy="      - pipeline/a.py\n      - pipeline/b.py\n      - stages/toy.py\n      - data/between\n",
        fresh="        - pipeline/b.py\n        - stages/fresh.py\n",
    )


def test_the_projects_own_graph_is_found_renewed_whatever_code_it_listed() -> None:
    graph = (ROOT / "dvc.yaml").read_text("utf-8")
    lines = graph.splitlines(keepends=True)
    spoilt = "".join(line for line in lines if "- pipeline/data/" not in line and "- pipeline/runtime/" not in line)
    assert spoilt != graph
    assert renew_code(spoilt, ROOT) == graph
