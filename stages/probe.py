"""Optional: fits linear and k-NN probes with labels on a frozen map."""

from functools import partial
from pathlib import Path

import typer

from pipeline.clustering.gpu import use_device
from pipeline.clustering.kmeans import use_threads
from pipeline.data.manifest import read_images, read_truth
from pipeline.evaluation.truth import open_truth
from pipeline.labels.division import divide_labelled
from pipeline.labels.maps import freeze_body, load_body
from pipeline.labels.probing import run_probes
from pipeline.params import MapSource
from pipeline.runtime.artifacts import write_json
from pipeline.runtime.device import thread_count
from pipeline.runtime.stage import Stage, run_stage

IMAGES, TRUTH = "data/prepared/images.parquet", "data/prepared/truth.parquet"


def probe(stage: Stage, source: MapSource) -> None:
    """Write `probe.json`; the network that gives the map is only read."""
    params = stage.params.probe
    table = read_images(Path(IMAGES))
    truth = open_truth(table, read_truth(Path(TRUTH)), params.split, params.unknown_ids)
    division = divide_labelled(table, truth, params.seed)
    use_threads(thread_count(stage.run))
    use_device(stage.device)
    body = load_body(source, stage.inputs[f"data/{source}"])
    found = run_probes(
        freeze_body(body, device=stage.device, precision=params.precision),
        division,
        table=table,
        params=params,
        workers=stage.run.workers,
        device=stage.device,
    )
    write_json(stage.out.path / "probe.json", {"map": source, **found})
    stage.counts |= {"learnt": found["learnt_images"], "scored": found["scored_images"]}
    stage.counts |= {f"mIoU {kind}": round(figures["all"]["miou"], 2) for kind, figures in found["probes"].items()}


def main(source: MapSource) -> None:
    """Probe `backbone` or `segmenter`; the parameters are group `probe` of params.yaml."""
    run_stage(
        f"probe@{source}",
        partial(probe, source=source),
        groups=("probe",),
        inputs=(IMAGES, TRUTH, f"data/{source}"),
        out=f"data/probe/{source}",
    )


if __name__ == "__main__":
    typer.run(main)
