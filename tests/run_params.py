"""Group `run` as most tests want it: one process and thread, nothing kept, no waiting."""

from typing import Any

from pipeline.params import RunParams


def run_params(**changes: Any) -> RunParams:
    """The plain settings with changes, such as `keep_features=True`."""
    plain = {"processes": 1, "threads": 1, "workers": 0, "cache_mb": 0, "checkpoint_steps": 0, "lock_timeout": 0.0}
    plain |= {"keep_features_gb": 1.0}
    return RunParams(**{"device": "cpu", "keep_features": False, "spare_memory": False, **plain, **changes})
