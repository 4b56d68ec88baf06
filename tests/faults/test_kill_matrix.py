"""A few cases of the kill matrix; `make kill-matrix` runs them all."""

from pathlib import Path

import pytest

from tests.faults.kill_matrix import Kill, draw_kills, run_case
from tests.graph.project import STAGES, Project

pytestmark = pytest.mark.graph

FEW = [Kill("cluster", False, 0.5), Kill("train", False, 0.6), Kill("evaluate", True, 0.4)]


@pytest.mark.parametrize("kill", FEW, ids=lambda kill: f"{kill.stage}-{'dvc' if kill.dvc else 'stage'}")
def test_a_run_that_was_killed_at_any_moment_ends_the_same(built: Project, tmp_path: Path, kill: Kill) -> None:
    case = run_case(built, tmp_path / "killed", kill, seconds=3.0)
    assert case.same


def test_kills_are_seeded_and_reach_every_stage() -> None:
    kills = draw_kills(50, 0)
    assert kills == draw_kills(50, 0)
    assert {kill.stage for kill in kills} == set(STAGES)
    assert 3 < sum(kill.dvc for kill in kills) < 25
