import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.graph.project import Project, build_tiny


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of the project with the results of one tiny run; not to be changed."""
    return build_tiny(tmp_path_factory.getbasetemp())


@pytest.fixture
def project(built: Project, tmp_path: Path) -> Iterator[Project]:
    """A copy of `built` for one test; removed afterwards, because checkpoints are large."""
    copy = built.duplicate(tmp_path / "project")
    yield copy
    shutil.rmtree(copy.root)
