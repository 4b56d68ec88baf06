"""Optional: trains copies of a network on few labelled images, against the same network from random weights."""

from functools import partial
from pathlib import Path

import typer

from pipeline.data.manifest import read_images, read_truth
from pipeline.evaluation.truth import open_truth
from pipeline.labels.division import divide_labelled
from pipeline.labels.few_labels import Net, measure_few_labels, points_csv
from pipeline.params import MapSource
from pipeline.runtime.artifacts import write_json
from pipeline.runtime.stage import Stage, run_stage

IMAGES, TRUTH = "data/prepared/images.parquet", "data/prepared/truth.parquet"


def finetune(stage: Stage, source: MapSource) -> None:
    """Write `curve.json` and `curve.csv`; the network itself is only read."""
    params = stage.params.finetune
    table = read_images(Path(IMAGES))
    truth = open_truth(table, read_truth(Path(TRUTH)), params.split, params.unknown_ids)
    found = measure_few_labels(
        Net(source, stage.inputs[f"data/{source}"]),
        divide_labelled(table, truth, params.seed),
        table=table,
        params=params,
        run=stage.run,
        device=stage.device,
        scratch=stage.scratch,
        check_stop=stage.stop.check,
        log=stage.log,
    )
    write_json(stage.out.path / "curve.json", {"map": source, **found})
    (stage.out.path / "curve.csv").write_text(points_csv(found["points"]), "utf-8")
    stage.counts |= {"points": len(found["points"]), "scored": found["scored_images"]}


def main(source: MapSource) -> None:
    """Fine-tune copies of `backbone` or `segmenter`; the parameters are group `finetune` of params.yaml."""
    run_stage(
        f"finetune@{source}",
        partial(finetune, source=source),
        groups=("finetune",),
        inputs=(IMAGES, TRUTH, f"data/{source}"),
        out=f"data/finetune/{source}",
        by_device=True,
    )


if __name__ == "__main__":
    typer.run(main)
