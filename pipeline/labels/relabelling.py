"""A copy of the label maps in which clusters have become named classes."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from pipeline.errors import InputError
from pipeline.evaluation.label_maps import encode_labels, iterate_label_maps
from pipeline.evaluation.palette import palette
from pipeline.labels.names import Names
from pipeline.runtime.artifacts import MANIFEST, Artifact, create_artifact, open_artifact, write_json

MAKER = "fs4 name"
INDEXED = 256  # colours of an indexed PNG


def apply_names(evaluation: Artifact, names: Names, out: Path) -> int:
    """Write every label map as a PNG whose values are indices of names, with `legend.json` and `classes.json`.

    Args:
        evaluation: The folder of stage `evaluate`; it is only read.
        names: A name for each cluster.
        out: The folder to make, with the images' paths below it. PNGs are indexed, in the colours of the legend; with
            more than 256 names they are 16-bit gray.

    Returns:
        Number of maps.

    Raises:
        InputError: The folder holds something else, or lies in a finished output.
    """
    _check_place(out)
    distinct = names.distinct
    table = np.array([distinct.index(name) for name in names.of_cluster])
    colours = palette(len(distinct))
    taken: set[str] = set()
    with create_artifact(out) as writer:
        writer.notes |= {"made_by": MAKER, "segmentation": names.segmentation}
        for label_map in iterate_label_maps(evaluation):
            place = _file_name(label_map.image_id, taken)
            path = writer.path / place
            path.parent.mkdir(parents=True, exist_ok=True)
            labels = table[label_map.decode()]  # (h, w)
            if len(distinct) > INDEXED:
                path.write_bytes(encode_labels(labels))
            else:
                picture = Image.fromarray(labels.astype(np.uint8)).convert("L")
                picture.putpalette(colours.tobytes())
                picture.save(path, "PNG")
        legend = [
            {
                "id": index,
                "name": name,
                "colour": "#{:02x}{:02x}{:02x}".format(*colours[index].tolist()),
                "clusters": [cluster for cluster, other in enumerate(names.of_cluster) if other == name],
            }
            for index, name in enumerate(distinct)
        ]
        write_json(writer.path / "legend.json", legend)
        classes = [{"id": entry["id"], "name": entry["name"]} for entry in legend]
        write_json(writer.path / "classes.json", {"classes": classes})
    return len(taken)


def _file_name(image_id: str, taken: set[str]) -> str:
    """The image's path with the ending .png; beside it where two images differ in their ending only."""
    name = PurePosixPath(image_id).with_suffix(".png").as_posix()
    if name in taken:
        name = f"{image_id}.png"
    taken.add(name)
    return name


def _check_place(out: Path) -> None:
    inside = next((folder for folder in out.resolve().parents if (folder / MANIFEST).is_file()), None)
    if inside:
        raise InputError(f"--output {out}: lies in the finished output {inside}; choose a folder outside of it")
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not _is_ours(out)):
        raise InputError(f"--output {out}: exists, and was not made by this command; choose another folder")


def _is_ours(out: Path) -> bool:
    return (out / MANIFEST).is_file() and open_artifact(out).manifest.get("made_by") == MAKER
