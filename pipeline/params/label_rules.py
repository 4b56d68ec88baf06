"""What must hold between the keys of the optional stages, which learn from labels."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.params.stages import OptionalParams, ProbeParams


def find_label_problems(optional: OptionalParams, probe: ProbeParams) -> list[str]:
    """Problems of the groups `optional` and `probe`, one line each with the key, the value and the mend."""
    lists: dict[str, Sequence[str]] = {"optional.probe": optional.probe, "probe.kinds": probe.kinds}
    problems = [
        f"{key}: {values} names an entry twice; keep one of them"
        for key, values in lists.items()
        if len(set(values)) < len(values)
    ]
    if probe.neighbours > probe.knn_pixels:
        problems.append(
            f"probe.neighbours: {probe.neighbours} is more than probe.knn_pixels {probe.knn_pixels}, from which they "
            "are taken"
        )
    return problems
