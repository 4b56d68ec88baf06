"""The same images segmented by each baseline, from the galleries that were kept on this machine."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pipeline.report.compare_records import Comparison
from pipeline.report.pictures import painted_uri, photo_uri, read_picture

SHOWN = 12  # images; more would only be weight
_KINDS = ("image", "truth", "prediction", "overlay")


@dataclass(frozen=True)
class PictureRow:
    """One image: its name, and a data URI per column, None where a baseline has no picture of it."""

    name: str
    uris: list[str | None]


@dataclass(frozen=True)
class PictureGrid:
    """Columns `image`, `truth` and the baselines that have pictures, with the run each of them comes from."""

    columns: list[tuple[str, str]]
    rows: list[PictureRow]
    without: list[str]


def collect_pictures(folder: Path, comparison: Comparison) -> PictureGrid:
    """Gather the pictures of a comparison.

    Args:
        folder: Has a folder per data set, in it one per record: a copy of its gallery, `NN-image.png`, `NN-truth.png`,
            `NN-prediction.png` and, if there, `gallery.json`, which names the images.
        comparison: Of each baseline, the run with the lowest seed that has pictures is shown.

    Returns:
        The grid; without rows where there are no pictures.
    """
    found: list[tuple[str, str, dict[str, dict[str, Path]]]] = []
    without = []
    for baseline in comparison.baselines:
        galleries = ((run.name, _find_gallery(folder / comparison.data / run.name)) for run in baseline.runs)
        first = next(((name, gallery) for name, gallery in galleries if gallery), None)
        if first:
            found.append((baseline.name, *first))
        else:
            without.append(baseline.name)
    names = list(dict.fromkeys(name for _, _, gallery in found for name in gallery))[:SHOWN]
    rows = []
    for name in names:
        own = [gallery.get(name, {}) for _, _, gallery in found]
        shared = {kind: next((files[kind] for files in own if kind in files), None) for kind in ("image", "truth")}
        rows.append(
            PictureRow(
                name,
                [
                    _uri(shared["image"], photo=True),
                    _uri(shared["truth"]),
                    *(_uri(files.get("prediction")) for files in own),
                ],
            )
        )
    columns = [("image", ""), ("truth", ""), *((baseline, run) for baseline, run, _ in found)]
    return PictureGrid(columns, rows, without)


def _find_gallery(folder: Path) -> dict[str, dict[str, Path]]:
    """Pictures by image and kind."""
    listing = folder / "gallery.json"
    if listing.is_file():
        entries = json.loads(listing.read_text("utf-8"))
        return {
            entry["image_id"]: {
                kind: folder / entry[kind] for kind in _KINDS if entry.get(kind) and (folder / entry[kind]).is_file()
            }
            for entry in entries
        }
    gallery: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.glob("*.png")):
        name, _, kind = path.stem.rpartition("-")
        if kind not in _KINDS:
            name, kind = path.stem, "prediction"
        gallery.setdefault(name, {})[kind] = path
    return gallery


def _uri(path: Path | None, *, photo: bool = False) -> str | None:
    if path is None:
        return None
    picture = read_picture(path.read_bytes())
    return photo_uri(picture) if photo else painted_uri(picture)
