"""Computes the pyramid features of all images with the frozen backbone."""

from pathlib import Path

import typer

from pipeline.backbones.encoder import digest_encoder, load_encoder
from pipeline.data.loading import FrameDataset, make_loader
from pipeline.data.manifest import read_images
from pipeline.features.extraction import Images, extract_features
from pipeline.features.frozen import freeze_encoder
from pipeline.features.store import FeatureStore, limit_stores, place_store
from pipeline.runtime.stage import SCRATCH, Stage, run_stage

IMAGES, BACKBONE = "data/prepared/images.parquet", "data/backbone"


def extract(stage: Stage) -> None:
    """Write one set of Parquet shards per pyramid level."""
    params = stage.params.extract
    table = read_images(Path(IMAGES))
    dataset = FrameDataset(table.select(None), table, 0)  # every image is needed once
    encoder = load_encoder(stage.inputs[BACKBONE])
    notes = stage.out.notes
    keep, spare = stage.run.keep_features and stage.ranks.is_first, stage.run.spare_memory
    made_of = digest_encoder(stage.inputs[BACKBONE]), table, notes, stage.device
    store = FeatureStore(place_store(SCRATCH / "features", params, *made_of, spared=spare) if keep else stage.scratch)
    stage.out.rows, counts = extract_features(
        Images.of_rows(dataset.rows, dataset.sizes),
        make_loader(dataset, workers=stage.run.workers, device=stage.device),
        freeze_encoder(encoder, params.source, device=stage.device, precision=params.precision, spare=spare),
        dimension=encoder.map_width(params.source),
        params=params,
        out=stage.out.path,
        store=store,
        metadata={"source": params.source, "mode": params.mode, "backbone": notes["inputs"][BACKBONE]},
        check_stop=stage.stop.check,
        log=stage.log,
        ranks=stage.ranks,
    )
    stage.counts |= counts
    if keep:
        limit_stores(store.folder, stage.run.keep_features_gb * 1e9)


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
