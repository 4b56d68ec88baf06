"""Trains the segmenter: pixel clustering in two views, guided by pyramid pseudo labels."""

from pathlib import Path

import typer

from pipeline.backbones.encoder import load_encoder
from pipeline.clustering.pyramid import read_pseudo_labels
from pipeline.data.loading import FrameDataset, make_loader
from pipeline.data.manifest import read_images
from pipeline.params import PggParams
from pipeline.runtime.stage import LIVE, Stage, run_stage
from pipeline.segmentation.final_clustering import save_draws
from pipeline.segmentation.model import save_segmenter
from pipeline.segmentation.training import gather_pyramid, train_segmenter
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.curves import Curves

IMAGES, BACKBONE, PSEUDO_LABELS = INPUTS = "data/prepared/images.parquet", "data/backbone", "data/pseudo_labels"


def train(stage: Stage) -> None:
    """Write the segmenter with its prototypes, and the curves."""
    params = stage.params.train
    table = read_images(Path(IMAGES))
    dataset = FrameDataset(table.select("train"), table, stage.cache_bytes)
    pseudo_labels = stage.inputs[PSEUDO_LABELS]
    levels = read_pseudo_labels(pseudo_labels, params.pgg.levels) if params.pgg.needs_labels else {}
    curves = Curves(LIVE / f"{stage.name}.csv" if stage.ranks.is_first else None)
    segmenter, clustering = train_segmenter(
        load_encoder(stage.inputs[BACKBONE]),
        params,
        pyramid=gather_pyramid(levels, [row.image_id for row in dataset.rows], params.pgg.drop_fraction),
        grouping=PggParams.model_validate(pseudo_labels.note("params", "pgg")),  # noted, so as not to depend on `pgg`
        sizes=dataset.sizes,
        load=make_loader(dataset, workers=stage.run.workers, device=stage.device),
        device=stage.device,
        checkpoints=Checkpoints.of_run(stage.scratch, stage.run),
        curves=curves,
        stop=stage.stop,
        log=stage.log,
        ranks=stage.ranks,
    )
    used = stage.inputs[BACKBONE].json("backbone.json")["labels_used"]
    notes = {"k": params.k, "frame": vars(table.frame), "labels_used": used}
    save_segmenter(segmenter, stage.out.path, notes | {"final_clustering": clustering.statistics})
    save_draws(clustering, stage.out.path)
    curves.write(stage.out.path / "curves.csv")
    stage.counts |= {"train images": len(dataset), "epochs": len(curves.rows), "clusters": params.k}


def main() -> None:
    """Train the segmenter; the parameters are group `train` of params.yaml."""
    run_stage("train", train, groups=("train",), inputs=INPUTS, out="data/segmenter", shared=True, by_device=True)


if __name__ == "__main__":
    typer.run(main)
