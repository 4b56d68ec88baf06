"""A copy of the label maps in which clusters have become named classes."""

from __future__ import annotations

import io
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from pipeline.errors import InputError
from pipeline.evaluation.label_maps import encode_labels, iterate_label_maps
from pipeline.labels.legend import list_legend, name_colours, scored_classes, write_legend
from pipeline.labels.names import Names
from pipeline.runtime.artifacts import MANIFEST, Artifact, create_artifact, open_artifact
from pipeline.runtime.places import refuse_finished_output

MAKER = "fs4 name"
INDEXED = 256  # colours of an indexed PNG


def apply_names(evaluation: Artifact, names: Names, out: Path) -> int:
    """Write every label map as a PNG whose values are indices of names, with `legend.json` and `classes.json`.

    Args:
        evaluation: The folder of stage `evaluate`; it is only read.
        names: A name for each cluster.
        out: The folder to make, with the images' paths below it.

    Returns:
        Number of maps.

    Raises:
        InputError: The folder holds something else, or lies in a finished output, or an image's path leads out of it.
    """
    _check_place(out)
    classes = scored_classes(evaluation)
    colours = name_colours(names, classes)
    taken: set[str] = set()
    with create_artifact(out) as writer:
        writer.notes |= {"made_by": MAKER, "segmentation": names.segmentation}
        for label_map in iterate_label_maps(evaluation):
            path = writer.path / _file_name(label_map.image_id, taken)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_named(label_map.decode(), names, colours))
        write_legend(writer.path, list_legend(names, classes))
    return len(taken)


def encode_named(clusters: np.ndarray, names: Names, colours: np.ndarray) -> bytes:
    """Merge a label map by names and encode it as PNG.

    Args:
        clusters: Integers (h, w) in 0..K-1.
        names: A name for each cluster.
        colours: uint8 (n, 3), one for each of `names.distinct`.

    Returns:
        An indexed PNG in these colours; with more than 256 names, a 16-bit gray one.
    """
    labels = np.array(names.merged_ids)[clusters]  # (h, w)
    if len(names.distinct) > INDEXED:
        return encode_labels(labels)
    picture = Image.fromarray(labels.astype(np.uint8)).convert("L")
    picture.putpalette(colours.tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _file_name(image_id: str, taken: set[str]) -> str:
    """The image's path with the ending .png; beside it where two images differ in their ending only."""
    path = PurePosixPath(image_id)
    if path.is_absolute() or ".." in path.parts or not path.name:
        raise InputError(f"{image_id!r}: this image id leads out of the output folder; run `dvc repro --force prepare`")
    name = path.with_suffix(".png").as_posix()
    if name in taken:
        name = f"{image_id}.png"
    taken.add(name)
    return name


def _check_place(out: Path) -> None:
    refuse_finished_output(out, "--output")
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not _is_ours(out)):
        raise InputError(f"--output {out}: exists, and was not made by this command; choose another folder")


def _is_ours(out: Path) -> bool:
    return (out / MANIFEST).is_file() and open_artifact(out).manifest.get("made_by") == MAKER
