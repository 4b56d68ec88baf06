"""Trains the backbone and its decoder without labels, from random weights or those of a file."""

from dataclasses import asdict
from pathlib import Path

import typer

from pipeline.backbones.encoder import save_encoder
from pipeline.data.loading import FrameDataset, make_loader
from pipeline.data.manifest import read_images
from pipeline.pretext.pretrain import pretrain_encoder
from pipeline.pretext.quality import ViewQuality
from pipeline.pretext.start import build_start
from pipeline.runtime.artifacts import write_json
from pipeline.runtime.stage import LIVE, Stage, run_stage
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.curves import Curves

IMAGES = "data/prepared/images.parquet"


def pretrain(stage: Stage) -> None:
    """Write the weights of backbone and decoder, the curves, and what can be told of them without labels."""
    table = read_images(Path(IMAGES))
    dataset = FrameDataset(table.select("train"), table, stage.cache_bytes)
    params = stage.params.pretrain
    load = make_loader(dataset, workers=stage.run.workers, device=stage.device)
    quality = ViewQuality(params, dataset.sizes, load)
    start = build_start(params, stage.log, None if table.bands is None else asdict(table.bands))
    curves = Curves(LIVE / f"{stage.name}.csv" if stage.ranks.is_first else None)
    encoder = pretrain_encoder(
        params,
        sizes=dataset.sizes,
        load=load,
        quality=quality,
        device=stage.device,
        checkpoints=Checkpoints.of_run(start.resume_folder(stage.scratch), stage.run),
        curves=curves,
        stop=stage.stop,
        log=stage.log,
        ranks=stage.ranks,
        start=start.encoder,
    )
    stage.out.notes |= start.notes()
    start.write(stage.out.path)
    save_encoder(encoder, stage.out.path, {"method": params.method, "train_images": len(dataset), **start.notes()})
    curves.write(stage.out.path / "curves.csv")
    write_json(stage.out.path / "pretext.json", quality.describe(encoder, curves.rows))
    stage.counts |= {"train images": len(dataset), "epochs": len(curves.rows)}


def main() -> None:
    """Train the backbone on the train images; the parameters are group `pretrain` of params.yaml."""
    run_stage(
        "pretrain", pretrain, groups=("pretrain",), inputs=(IMAGES,), out="data/backbone", shared=True, by_device=True
    )


if __name__ == "__main__":
    typer.run(main)
