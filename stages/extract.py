"""Computes the pyramid features of all images with the frozen backbone."""

from pathlib import Path
from typing import Any

import typer

from pipeline.backbones.encoder import digest_encoder, load_encoder
from pipeline.data.loading import FrameDataset, make_loader
from pipeline.data.manifest import read_images
from pipeline.features.extraction import Images, extract_features
from pipeline.features.frozen import freeze_encoder
from pipeline.features.store import FeatureStore, limit_stores, store_name
from pipeline.runtime.device import describe_device
from pipeline.runtime.stage import SCRATCH, Stage, run_stage

IMAGES, BACKBONE = "data/prepared/images.parquet", "data/backbone"


def extract(stage: Stage) -> None:
    """Write one set of Parquet shards per pyramid level."""
    params = stage.params.extract
    table = read_images(Path(IMAGES))
    dataset = FrameDataset(table.select(None), table, 0)  # every image is needed once
    encoder = load_encoder(stage.inputs[BACKBONE])
    images = Images.of_rows(dataset.rows, dataset.sizes)
    notes = stage.out.notes
    made_of = digest_encoder(stage.inputs[BACKBONE]), f"{table.frame} {table.bands}", notes["versions"]
    keep = stage.run.keep_features and stage.ranks.is_first
    store = _place_store(stage, *made_of, notes["machine"]) if keep else stage.scratch
    stage.out.rows, counts = extract_features(
        images,
        make_loader(dataset, workers=stage.run.workers, device=stage.device),
        freeze_encoder(
            encoder,
            params.source,
            device=stage.device,
            precision=params.precision,
            spare=stage.run.spare_memory,
        ),
        dimension=encoder.map_width(params.source),
        params=params,
        out=stage.out.path,
        store=FeatureStore(store),
        metadata={"source": params.source, "mode": params.mode, "backbone": notes["inputs"][BACKBONE]},
        check_stop=stage.stop.check,
        log=stage.log,
        ranks=stage.ranks,
    )
    stage.counts |= counts
    if keep:
        limit_stores(store, stage.run.keep_features_gb * 1e9)


def _place_store(stage: Stage, *made_of: Any) -> Path:
    """The folder of the features that are kept: another one for each kind of device, and for runs that spare memory.

    Such a run may halve its batches, and so change last bits. It takes what one that did not has kept and goes on; the
    way back would mix both.
    """
    made_of = *made_of, describe_device(stage.device)
    whole, spared = (
        SCRATCH / "features" / store_name(stage.params.extract, *made_of, spare) for spare in (False, True)
    )
    if not stage.run.spare_memory:
        return whole
    if whole.is_dir() and not spared.exists():
        whole.rename(spared)
    return spared


def main() -> None:
    """Compute pyramid features; the parameters are group `extract` of params.yaml."""
    run_stage(
        "extract",
        extract,
        groups=("extract",),
        inputs=(IMAGES, BACKBONE),
        out="data/features",
        shared=True,
        by_device=True,
    )


if __name__ == "__main__":
    typer.run(main)
