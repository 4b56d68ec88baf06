"""Records of runs that belong together: same data and split, one preset and one seed each."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import InputError

ORDER = ("kmeans", "features", "mdc", "picie", "picie+pgg", "picie+cae", "fs4")
KEYS = ("name", "preset", "seed", "data", "split", "metrics", "seconds", "protocol", "versions", "command")
# What must agree between runs whose figures are compared, by its place in a record.
_COMPARED = {
    "K": ("metrics", "clusters", "k"),
    "resolution": ("metrics", "protocol", "resolution"),
    "images scored": ("metrics", "protocol", "images"),
    "pixels scored": ("metrics", "protocol", "pixels"),
    "final clusterings": ("metrics", "draws", "count"),
    "split": ("protocol", "split"),
    "frame": ("protocol", "frame"),
    "match rule": ("protocol", "match_rule"),
    "matched on": ("protocol", "matched_on"),
    "checkpoint rule": ("protocol", "checkpoint_rule"),
    "absent classes": ("protocol", "absent_classes"),
    "classes note": ("protocol", "classes_note"),
    "refinement": ("protocol", "refined"),
    "flip averaging": ("protocol", "flip_averaged"),
    "code": ("commit",),
}
_VARIANTS = ("refinement", "flip averaging")  # a run without one lacks a column, and shares the others


@dataclass(frozen=True)
class Record:
    """One finished run, as `docs/results` keeps it; `commit` is that of the code, where it was noted."""

    name: str
    preset: str
    seed: int
    data: str
    split: str
    metrics: dict[str, Any]
    seconds: dict[str, float]
    protocol: dict[str, Any]
    versions: dict[str, Any]
    command: str
    commit: str | None = None

    def find(self, *keys: str) -> Any:
        """A value, also deep inside `metrics`, `protocol` or `versions`, or None where there is none."""
        value: Any = getattr(self, keys[0])
        for key in keys[1:]:
            if not isinstance(value, dict) or key not in value:
                return None
            value = value[key]
        return value


@dataclass(frozen=True)
class Baseline:
    """The runs of one preset, by rising seed."""

    name: str
    runs: tuple[Record, ...]


@dataclass(frozen=True)
class Comparison:
    """All runs on one split of one data set, baselines in the order of the ablation."""

    data: str
    split: str
    baselines: tuple[Baseline, ...]

    @property
    def runs(self) -> list[Record]:
        """All runs, baseline by baseline."""
        return [run for baseline in self.baselines for run in baseline.runs]


@dataclass(frozen=True)
class Fact:
    """One thing that the protocol fixes, with the runs that have each value; more than one value is a warning."""

    name: str
    values: tuple[tuple[str, tuple[str, ...]], ...]


def read_records(folder: Path) -> tuple[list[Record], list[str]]:
    """Read the records of baselines.

    Args:
        folder: Where `*.json` lie.

    Returns:
        The records, and the names of those left out: they say no preset and seed, or have no scores.

    Raises:
        InputError: A file is no record.
    """
    records, left_out = [], []
    for path in sorted(folder.glob("*.json")):
        try:
            raw = json.loads(path.read_text("utf-8"))
            metrics = raw["metrics"]
            if not all(key in raw for key in KEYS) or "all" not in metrics:
                left_out.append(path.stem)
                continue
            record = Record(**{key: raw[key] for key in KEYS}, commit=raw.get("commit"))
            float(metrics["all"]["miou"]), float(metrics["all"]["pixel_accuracy"]), metrics["clusters"]["k"]
            sum(record.seconds.values(), record.seed)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path}: not a record of a run ({error!r}); remove it, or run its command again"
            ) from None
        records.append(record)
    return records, left_out


def group_records(records: Iterable[Record]) -> list[Comparison]:
    """Put runs together that may be compared, sorted by data set and split.

    Raises:
        InputError: Two records have the same data, split, preset and seed.
    """
    groups: dict[tuple[str, str], dict[str, dict[int, Record]]] = defaultdict(lambda: defaultdict(dict))
    for record in records:
        runs = groups[record.data, record.split][record.preset]
        if record.seed in runs:
            raise InputError(
                f"{record.name} and {runs[record.seed].name}: both are preset {record.preset}, seed {record.seed} on "
                f"{record.data} {record.split}; remove one of the two records"
            )
        runs[record.seed] = record
    return [
        Comparison(
            data,
            split,
            tuple(
                Baseline(preset, tuple(run for _, run in sorted(runs.items())))
                for preset, runs in sorted(presets.items(), key=lambda item: _place(item[0]))
            ),
        )
        for (data, split), presets in sorted(groups.items())
    ]


def collect_facts(runs: list[Record]) -> list[Fact]:
    """What was fixed when these runs were scored.

    Args:
        runs: At least one.

    Returns:
        One fact per thing that any of them says; runs that do not say it have the value `not recorded`.
    """
    places = dict(_COMPARED)
    libraries = sorted({library for run in runs for library in run.versions})
    places |= {f"version of {library}": ("versions", library) for library in libraries}
    facts = []
    for name, place in places.items():
        found: dict[str, list[str]] = defaultdict(list)
        for run in runs:
            value = run.find(*place)
            if value is None and name in _VARIANTS:
                continue
            found["not recorded" if value is None else str(value)].append(run.name)
        if set(found) - {"not recorded"}:
            facts.append(Fact(name, tuple((value, tuple(names)) for value, names in found.items())))
    return facts


def _place(preset: str) -> tuple[int, str]:
    return (ORDER.index(preset) if preset in ORDER else len(ORDER), preset)
