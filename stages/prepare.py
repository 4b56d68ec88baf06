"""Finds or generates the images, sets unusable ones aside, and fixes the frame in which all stages see them."""

from pathlib import Path

import typer

from pipeline.data.prepare import prepare_images
from pipeline.runtime.device import thread_count
from pipeline.runtime.stage import Stage, run_stage

OUT = "data/prepared"


def prepare(stage: Stage) -> None:
    """Write the tables of images and masks, and the generated sample set if that is the source."""
    counts = prepare_images(stage.params.data, stage.out.path, final=Path(OUT), threads=thread_count(stage.run))
    stage.out.rows["images.parquet"] = counts.images
    stage.out.notes["leaked"] = counts.leaked
    stage.counts |= {"images": counts.images, "rejected": counts.rejected, "leaked": counts.leaked}
    stage.counts |= {f"images in {split}": count for split, count in counts.per_split.items()}
    stage.counts |= {"masks": counts.masks}


def main() -> None:
    """Look at every image once and write data/prepared; the parameters are group `data` of params.yaml."""
    run_stage("prepare", prepare, groups=("data",), out=OUT, unlisted=("truth.parquet", "masks", "classes.json"))


if __name__ == "__main__":
    typer.run(main)
