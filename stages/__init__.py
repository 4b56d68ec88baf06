"""One module per DVC stage: parameters and inputs in, one library call, an output folder."""

import os

from pipeline.runtime.allocation import keep_freed_memory

# OpenMP threads that wait by spinning stall each other badly when the cores are shared with other programs; waiting
# by sleeping costs little when they are not. Must be set before torch or faiss loads the OpenMP library.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
keep_freed_memory()
