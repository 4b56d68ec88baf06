"""What `fs4 name` does with the clusters of `data/evaluation`."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import ParamsError
from pipeline.labels.names import read_names, write_names
from pipeline.labels.relabelling import apply_names
from pipeline.runtime.artifacts import open_artifact

EVALUATION = Path("data/evaluation")


def name_clusters(file: Path, *, force: bool, check: Path | None, apply: Path | None, output: Path | None) -> str:
    """Write a names file, check one, or apply one.

    Args:
        file: Where to write a new names file, if neither of the next two is given.
        force: Whether `file` is written over.
        check: A names file to check.
        apply: A names file to apply.
        output: Folder of the renamed label maps.

    Returns:
        What was done, in one line.

    Raises:
        ParamsError: The options do not fit together, or the names file is wrong.
        InputError: There is no evaluation, or a place that would be written is taken.
    """
    if check and apply:
        raise ParamsError("--check and --apply: give one of them; --apply checks the file as well")
    if (apply is None) != (output is None):
        raise ParamsError("--apply FILE and --output FOLDER go together; give both or neither")
    evaluation = open_artifact(EVALUATION)
    if apply and output:
        names = read_names(apply, evaluation)
        maps = apply_names(evaluation, names, output)
        return f"{maps} label maps with {len(names.distinct)} names in {output}"
    if check:
        names = read_names(check, evaluation)
        return f"{check}: {len(names.of_cluster)} clusters, {len(names.distinct)} names"
    return (
        f"{write_names(file, evaluation, force=force)} clusters in {file}; edit their names, then --check and --apply"
    )
