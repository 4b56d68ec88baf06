"""Settings that must stand before the numeric libraries are loaded."""

from hypothesis import settings

import stages  # noqa: F401  (sets how OpenMP threads wait)

# no deadlines: on a machine that others use as well, the time of one example means nothing
# the same examples in each run; `pytest --hypothesis-profile=explore` tries others
settings.register_profile("fs4", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile("fs4")
