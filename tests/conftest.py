"""Settings that must stand before the numeric libraries are loaded."""

from hypothesis import settings

import stages  # noqa: F401  (sets how OpenMP threads wait)

# no deadlines: on a machine that others use as well, the time of one example means nothing
settings.register_profile("fs4", deadline=None)
settings.load_profile("fs4")
