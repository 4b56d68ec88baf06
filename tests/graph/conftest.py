from tests.graph.fixtures import built, project, sources  # noqa: F401
