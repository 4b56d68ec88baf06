"""Groups the pyramid features of all images into pseudo labels, one k-means per level."""

from pathlib import Path

import typer

from pipeline.clustering.gpu import finds_gpu, use_device_of
from pipeline.clustering.kmeans import use_threads
from pipeline.clustering.pyramid import cluster_pyramid
from pipeline.data.manifest import read_images
from pipeline.runtime.device import thread_count
from pipeline.runtime.stage import Stage, run_stage

IMAGES = "data/prepared/images.parquet"
FEATURES = "data/features"


def cluster(stage: Stage) -> None:
    """Fit on the cells of train images, label the cells of all images."""
    use_threads(thread_count(stage.run))
    use_device_of(stage)
    features = stage.inputs[FEATURES]
    train_ids = {row.image_id for row in read_images(Path(IMAGES)).select("train")}
    statistics = cluster_pyramid(
        features,
        train_ids,
        # noted by the stage before, so that this stage need not list its parameters
        features.note("params", "extract", "levels"),
        stage.params.pgg,
        stage.out.path,
        stage.out.rows,
        stage.log,
        scratch=stage.scratch.resolve(),  # other processes may read there
        check_stop=stage.stop.check,
        ranks=stage.ranks,
    )
    levels = statistics["levels"].values()
    stage.counts.update(
        levels=len(levels),
        cells=sum(level["rows"] for level in levels),
        clusters=sum(level["k_used"] for level in levels),
    )
    stage.counts["zero vectors"] = sum(level["zero_vectors"] for level in levels)


def main() -> None:
    """Group the pyramid features of all images into pseudo labels (writes data/pseudo_labels)."""
    run_stage(
        "cluster",
        cluster,
        groups=("pgg",),
        inputs=(IMAGES, FEATURES),
        out="data/pseudo_labels",
        shared=True,
        by_device=finds_gpu(),
    )


if __name__ == "__main__":
    typer.run(main)
