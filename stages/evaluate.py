"""Segments every image and scores the result; the first stage that reads masks."""

from pathlib import Path

import typer

from pipeline.data.loading import FrameDataset, load_batches, ordered_batches
from pipeline.data.manifest import read_images, read_truth
from pipeline.evaluation.draws import drawn_images, scored_images
from pipeline.evaluation.evaluate import evaluate_segmenter, headline
from pipeline.evaluation.truth import open_truth
from pipeline.runtime.claims import cache_bytes
from pipeline.runtime.stage import Stage, run_stage
from pipeline.segmentation.draws import load_final_draws
from pipeline.segmentation.inference import Variants, segment_batches
from pipeline.segmentation.model import load_segmenter

IMAGES, TRUTH, SEGMENTER = INPUTS = "data/prepared/images.parquet", "data/prepared/truth.parquet", "data/segmenter"


def evaluate(stage: Stage) -> None:
    """Write label maps, figures, confusion matrix and gallery."""
    params = stage.params.evaluate
    table = read_images(Path(IMAGES))
    truth = open_truth(table, read_truth(Path(TRUTH)), params.split, params.unknown_ids)
    segmenter = load_segmenter(stage.inputs[SEGMENTER])
    dataset = FrameDataset(table.select(None), table, cache_bytes(stage.run))
    batches = ordered_batches(dataset.sizes, params.batch_size)
    metrics = evaluate_segmenter(
        segment_batches(
            segmenter,
            load_batches(dataset, stage.ranks.own(batches), workers=stage.run.workers, device=stage.device),
            device=stage.device,
            precision=params.precision,
            draws=load_final_draws(stage.inputs[SEGMENTER], segmenter.architecture["k"]),
            drawn=drawn_images(table, truth, params),
            variants=Variants(params.refine, params.flip, scored_images(table, truth)),
            spare=stage.run.spare_memory,
        ),
        table=table,
        truth=truth,
        k=segmenter.architecture["k"],
        params=params,
        out=stage.out.path,
        rows=stage.out.rows,
        frame=lambda index: dataset[index].numpy(),
        log=stage.log,
        gather=lambda own: stage.ranks.gather_groups(own, batches),
    )
    stage.counts |= {"images": len(dataset), **headline(metrics)}


def main() -> None:
    """Segment and score; the parameters are group `evaluate` of params.yaml."""
    run_stage("evaluate", evaluate, groups=("evaluate",), inputs=INPUTS, out="data/evaluation", shared=True)


if __name__ == "__main__":
    typer.run(main)
