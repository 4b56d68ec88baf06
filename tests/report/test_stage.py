import pytest

PARAMS = "params.yaml"


@pytest.fixture
def finished(project, tmp_path, monkeypatch):
    """A finished project as the working directory, with the real params.yaml and code."""
    described = project()
    described.write()
    return described.root


def test_placeholder(finished):
    assert finished.is_dir()
