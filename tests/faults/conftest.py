from tests.faults.faulty import small_disk  # noqa: F401
from tests.graph.fixtures import built, project  # noqa: F401
