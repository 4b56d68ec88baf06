"""Which baselines are to be run: names, overrides, and digests that tell whether a record is up to date."""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import InputError, ParamsError
from pipeline.params import parse_params
from pipeline.params.presets import merge_overrides, read_presets, spell_flags
from pipeline.runtime.digests import file_digest, value_digest
from pipeline.yaml_reader import read_yaml

# `kmeans` on colour and position needs no preset: every run scores it as a floor
BASELINES = ("features", "mdc", "picie", "picie+pgg", "picie+cae", "fs4")
PARAMS, GRAPH = Path("params.yaml"), Path("dvc.yaml")


@dataclass(frozen=True)
class Run:
    """One baseline with one seed.

    Attributes:
        name: Of its experiment: the preset, and the seed unless it is 0.
        preset: One of `BASELINES`.
        seed: `pretrain.seed` and `train.seed`; what one seed's baselines share is computed once.
        data: Name of the data, for the record.
        params: Group `data` of its parameters.
        flags: Arguments of `dvc exp run`.
        command: What regenerates the run elsewhere.
        digests: Of the parameters, the code and the data; a record with the same ones is up to date.
    """

    name: str
    preset: str
    seed: int
    data: str
    params: dict[str, Any]
    flags: tuple[str, ...]
    command: str
    digests: dict[str, str]

    def record(self, folder: Path) -> Path:
        """Where its record lies."""
        return folder / f"{self.data}-{self.name}.json"

    def is_recorded(self, folder: Path) -> bool:
        """Whether its record is up to date."""
        try:
            noted = json.loads(self.record(folder).read_text("utf-8"))
        except (OSError, ValueError):
            return False
        return isinstance(noted, dict) and noted.get("digests") == self.digests


def plan_runs(root: str, presets: Sequence[str], seeds: str, only: Sequence[str]) -> list[Run]:
    """List the runs, seed by seed, so that all baselines can be compared as soon as the first seed is done.

    Args:
        root: Absolute path of the images; empty for what the presets or `params.yaml` say.
        presets: Presets of the data, such as `camvid`, which come before the baseline's.
        seeds: Seeds of pre-training and training, with blanks between them. Two pre-trainings differ by more than
            two trainings on top of one do, so that a comparison on one of them says little.
        only: Baselines to run; empty for all.

    Raises:
        ParamsError: A preset, seed or baseline is wrong.
        InputError: The folder is not there.
    """
    unknown = [name for name in only if name not in BASELINES]
    if unknown:
        raise ParamsError(f"{unknown[0]}: no such baseline; there are {', '.join(BASELINES)}")
    place: dict[str, Any] = {"data": {"source": "folder", "root": _check_root(root)}} if root else {}
    chosen = {preset: read_presets([*presets, preset]) for preset in only or BASELINES}
    base, name = read_yaml(PARAMS), _data_name(root, presets)
    code = scored_code_digest(read_yaml(GRAPH))
    images = functools.cache(folder_digest)
    runs = []
    for seed in _read_seeds(seeds):
        for preset, overrides in chosen.items():
            changes = merge_overrides(overrides, {key: {"seed": seed} for key in ("pretrain", "train")})
            values = parse_params(merge_overrides(base, merge_overrides(changes, place))).model_dump()
            data = values["data"]
            scored = {group: value for group, value in values.items() if group not in ("run", "report")}
            scored["data"] = {key: value for key, value in data.items() if key != "root"}
            command = f"dvc exp run $(fs4 preset {' '.join([*presets, preset])})"
            command += f" -S pretrain.seed={seed} -S train.seed={seed}"
            if root:
                flags = spell_flags(merge_overrides(changes, {"data": {"source": "folder"}}))
                flags += ["-S", f'data.root="{data["root"]}"']
                command += f" -S data.source=folder -S data.root={name.upper()}"
            else:
                flags = spell_flags(changes)
            digests = {
                "params": value_digest(scored),
                "code": code,
                "data": images(Path(data["root"])) if data["source"] == "folder" else "generated",
            }
            experiment = preset if seed == 0 else f"{preset}-s{seed}"
            runs.append(Run(experiment, preset, seed, name, data, tuple(flags), command, digests))
    return runs


def is_baseline(name: str) -> bool:
    """Whether an experiment of this name is one of ours."""
    return re.sub(r"-s[1-9]\d*$", "", name) in BASELINES


def scored_code_digest(graph: dict[str, Any]) -> str:
    """Digest of all code that the figures depend on: what `dvc.yaml` lists for the stages before the report."""
    stages = [entry.get("do", entry) for name, entry in graph["stages"].items() if name != "report"]
    names = sorted({dep for stage in stages for dep in stage.get("deps", []) if dep.endswith(".py")})
    return value_digest([[name, file_digest(Path(name))] for name in names])


def folder_digest(folder: Path) -> str:
    """Digest of the names and sizes of all files below a folder, wherever it lies; their bytes are not read."""
    found = []
    for place, _, names in os.walk(folder, followlinks=True):
        for path in (Path(place, name) for name in names):
            found.append([path.relative_to(folder).as_posix(), path.stat().st_size if path.exists() else -1])
    return value_digest(sorted(found))


def _check_root(root: str) -> str:
    if not Path(root).is_absolute() or not Path(root).is_dir():
        raise InputError(f"{root}: not the absolute path of a folder; give one, as in DATA=/photos/camvid")
    if set(root) & set('"\\$'):
        raise InputError(f'{root}: has one of " \\ $ in its name, which DVC would interpret; rename the folder')
    return str(Path(root))


def _data_name(root: str, presets: Sequence[str]) -> str:
    name = Path(root).name if root else "-".join(presets) or "sample"
    return re.sub(r"[^a-z0-9_+]+", "-", name.lower()).strip("-") or "data"


def _read_seeds(text: str) -> list[int]:
    parts = text.split()
    if not parts or not all(part.isdecimal() for part in parts) or len(set(map(int, parts))) < len(parts):
        raise ParamsError(f"seeds {text!r}: expected different whole numbers with blanks between, as in 0 1 2")
    return [int(part) for part in parts]
