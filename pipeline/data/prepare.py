"""Looks at every image once and writes the two tables of `data/prepared`."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pipeline.data.bands import BandsCensus
from pipeline.data.frames import Frame
from pipeline.data.images import BadImage
from pipeline.data.manifest import OK, ImageRow, ImageTable, TruthRow, TruthTable, write_images, write_truth
from pipeline.data.pixels import decode_pixels
from pipeline.data.sources.listing import SourceImage
from pipeline.data.sources.masks import check_source_mask
from pipeline.data.sources.registry import list_source
from pipeline.data.sources.tiles import cut_tiles
from pipeline.data.windows import mark_window
from pipeline.errors import InputError, ParamsError
from pipeline.params import DataParams
from pipeline.runtime.logs import get_logger
from pipeline.runtime.randomness import generator

log = get_logger("prepare")

_SHOWN = 10

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class PrepareCounts:
    """What was found.

    Attributes:
        images: Files looked at, after `data.limit`.
        rejected: Those that cannot be used.
        leaked: Usable images outside train whose bytes are also in train.
        masks: Usable images with a mask.
        per_split: Usable images of each split.
    """

    images: int
    rejected: int
    leaked: int
    masks: int
    per_split: dict[str, int]


def prepare_images(params: DataParams, out: Path, *, final: Path, threads: int) -> PrepareCounts:
    """Generate or find the images, decode each once, and write `images.parquet` and `truth.parquet`.

    Masks are hashed and their headers checked, never decoded; nothing of them goes into `images.parquet`.

    Args:
        params: Group `data`.
        out: The folder to fill.
        final: Where `out` will lie in the end, relative to the project's root; recorded as the place of generated
            images.
        threads: Images decoded at the same time.

    Returns:
        The counts.

    Raises:
        ParamsError: `data.root` leaves the project.
        InputError: No usable train image, too many unusable ones, a mask that does not fit its image, or values of
            several types.
    """
    root = out if params.source == "scenes" else resolve_root(params.root)
    if params.source == "scenes":
        # drawing the sample set needs modules that a folder of photos does not
        from pipeline.data.scenes import generate_scenes

        size = params.scenes
        generate_scenes(out, train=size.train, val=size.val, height=size.height, width=size.width, seed=params.seed)
    found, classes_text = list_source(params, root)
    sources = cut_tiles(draw_images(found, params.limit, params.seed), out / "tiles", params)
    census = None if params.channels == 3 else BandsCensus(params.channels, len(sources), params.seed)

    def record(path: Path) -> str:
        return (final / path.relative_to(out) if path.is_relative_to(out) else path).as_posix()

    def inspect(source: SourceImage) -> ImageRow:
        return inspect_image(source, record(source.path), params, census)

    rows = list(_in_threads(inspect, sources, threads))
    _judge(rows, root, params.max_bad_fraction)
    frame = Frame(params.resize, params.crop, params.crop_size)
    bands = None if census is None else census.finish()
    table = ImageTable(rows, frame, params.max_pixels, params.min_side, bands)
    write_images(out / "images.parquet", table)

    def digest_mask(pair: tuple[Path, tuple[SourceImage, ImageRow]]) -> tuple[Path, str]:
        mask, (source, row) = pair
        try:
            data = mask.read_bytes()
        except OSError as error:
            raise InputError(f"{mask}: cannot be read ({error.strerror}); make it readable or remove it") from None
        check_source_mask(source, data, (row.width, row.height))
        return mask, hashlib.sha256(data).hexdigest()

    pairs = [(source, row) for source, row in zip(sources, rows, strict=True) if row.verdict == OK and source.mask_path]
    # tiles share their masks, so each is read once
    masks = {source.mask_path: (source, row) for source, row in pairs if source.mask_path}
    digests: dict[Path | None, str] = dict(_in_threads(digest_mask, masks.items(), threads))
    truth_rows = [
        TruthRow(row.image_id, row.split, mark_window(record(mask), source.window), digests[mask])
        for source, row in pairs
        if (mask := source.mask_path)
    ]
    truth = TruthTable(truth_rows, classes_text, params.ignore_index)
    write_truth(out / "truth.parquet", truth)

    leaked = table.find_leaked()
    if leaked:
        log.warning(
            "%d images outside train are also in train, such as %s and %s: scores will be too good",
            len(leaked),
            leaked[0][0].path,
            leaked[0][1].path,
        )
    usable = Counter(row.split for row in table.select(None))
    return PrepareCounts(
        images=len(rows),
        rejected=len(rows) - usable.total(),
        leaked=len(leaked),
        masks=len(truth.rows),
        per_split=dict(sorted(usable.items())),
    )


def resolve_root(root: str) -> Path:
    """The folder that `data.root` names.

    Raises:
        ParamsError: A relative path leaves the project, or starts with `~`.
    """
    place = Path(os.path.normpath(root))
    leaves = not place.is_absolute() and place.parts[:1] == (os.pardir,)
    if leaves or root.startswith("~") or not root.strip():
        raise ParamsError(
            f"data.root: {root!r} is neither absolute nor inside the project; give the absolute path of the folder. "
            "Queued and --temp runs see photos inside the project only if they are tracked, so an absolute path is "
            "the better choice for those too"
        )
    # an absolute path stays as it is: behind a link, `..` is not what it looks like
    return Path(root) if place.is_absolute() else place


def draw_images(sources: list[SourceImage], limit: int, seed: int) -> list[SourceImage]:
    """Draw `limit` images of each split at random; the draw depends on the seed and the ids only.

    Args:
        sources: All images.
        limit: Images per split; 0 keeps all.
        seed: `data.seed`.

    Returns:
        The drawn images, sorted by id. They are drawn before they are decoded, so unusable ones count as drawn.
    """
    splits: dict[str, list[SourceImage]] = defaultdict(list)
    for source in sorted(sources, key=lambda source: source.image_id):
        splits[source.split].append(source)
    drawn = []
    for split, members in splits.items():
        if limit and limit < len(members):
            chosen = generator(seed, f"limit/{split}").choice(len(members), size=limit, replace=False)
            members = [members[position] for position in chosen]
        drawn += members
    return sorted(drawn, key=lambda source: source.image_id)


def inspect_image(source: SourceImage, recorded: str, params: DataParams, census: BandsCensus | None) -> ImageRow:
    """Read, hash and decode one image.

    Args:
        source: The image.
        recorded: Its path, as later stages open it.
        params: Group `data`.
        census: Gets the values of channels other than RGB.

    Returns:
        Its row for `images.parquet`; the verdict of an unusable image is the reason.
    """
    width = height = 0
    digest = ""
    try:
        data = source.path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        pixels = decode_pixels(data, channels=params.channels, max_pixels=params.max_pixels, min_side=params.min_side)
        height, width = pixels.shape[:2]
        if census is not None:
            census.add(source.image_id, pixels, train=source.split == "train")
        verdict = OK
    except OSError as error:
        verdict = f"unreadable ({error.strerror})"
    except BadImage as error:
        verdict = str(error)
    return ImageRow(source.image_id, source.split, recorded, width, height, digest, verdict)


def _judge(rows: list[ImageRow], root: Path, tolerated: float) -> None:
    """Log the rejected images, and stop if there are too many of them or no train image is left."""
    rejected = [row for row in rows if row.verdict != OK]
    listing = [f"{row.path}: {row.verdict}" for row in rejected[:_SHOWN]]
    share = len(rejected) / len(rows)
    if share > tolerated:
        raise InputError(
            "\n  ".join(
                [
                    f"{root}: {len(rejected)} of {len(rows)} images ({share:.1%}) cannot be used, more than "
                    f"data.max_bad_fraction {tolerated} allows; mend or remove them, or raise it. The first:",
                    *listing,
                ]
            )
        )
    for line in listing:
        log.warning("rejected: %s", line)
    if len(rejected) > _SHOWN:
        log.warning("rejected: %d more, see images.parquet", len(rejected) - _SHOWN)
    if not any(row.split == "train" and row.verdict == OK for row in rows):
        splits = ", ".join(sorted({row.split for row in rows}))
        raise InputError(
            f"{root}: no usable image of split train (splits found: {splits}); put the images to learn from into "
            "images/train"
        )


def _in_threads(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    pool = ThreadPoolExecutor(threads)
    try:
        yield from pool.map(work, items)
    finally:
        pool.shutdown(cancel_futures=True)  # after an error or Ctrl-C the waiting ones need not be done
