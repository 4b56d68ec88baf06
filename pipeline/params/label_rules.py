"""What must hold between the keys of the optional stages, which learn from labels."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.params.stages import FinetuneParams, OptionalParams, ProbeParams


def find_label_problems(optional: OptionalParams, probe: ProbeParams, finetune: FinetuneParams) -> list[str]:
    """Problems of the groups `optional`, `probe` and `finetune`, one line each with the key, the value and the mend."""
    lists: dict[str, Sequence[str | float]] = {
        "optional.probe": optional.probe,
        "optional.finetune": optional.finetune,
        "probe.kinds": probe.kinds,
        "finetune.fractions": finetune.fractions,
    }
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
    if not finetune.head_steps + finetune.steps:
        problems.append("finetune.steps: 0, and finetune.head_steps is 0 as well; nothing would be trained")
    return problems
