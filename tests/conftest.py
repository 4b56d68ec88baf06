"""Settings that must stand before the numeric libraries are loaded."""

import stages  # noqa: F401  (sets how OpenMP threads wait)
