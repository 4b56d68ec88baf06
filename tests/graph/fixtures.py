"""Fixtures that the tests of the graph, of faults and of fuzzing share; their conftest files name what they use."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.graph.project import Project, build_tiny, copy_sources


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


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of the project's files without any output; not to be changed."""
    return copy_sources(tmp_path_factory.mktemp("sources") / "project")
