"""Several processes score images together, and the first one alone writes what one process would."""

import logging
from pathlib import Path

from pipeline.evaluation.draws import drawn_images, scored_images
from pipeline.evaluation.evaluate import evaluate_segmenter
from pipeline.evaluation.truth import open_truth
from pipeline.runtime.artifacts import create_artifact
from pipeline.runtime.distributed import ALONE, Ranks
from tests.evaluation.test_evaluate import CLASSES, IMAGES, PARAMS, Project, json, np, perfect
from tests.several import run_processes

BATCHES = [[0, 1, 2], [3], [4, 5], [6]]
REFINE = PARAMS.refine.model_copy(update={"iterations": 1})
ALL_ROWS = PARAMS.model_copy(update={"boundary": True, "flip": True, "refine": REFINE})


def rough(index: int) -> np.ndarray:
    """Labels with another error in each image."""
    return np.roll(perfect(index), index, axis=1)


def vary(index: int) -> dict[str, np.ndarray]:
    """Further labels of each image."""
    return {"refined": perfect(index), "flip_averaged": np.roll(perfect(index), 1, axis=0)}


def evaluate_own(ranks: Ranks, folder: Path) -> dict[str, bytes]:
    """Score the images of this process; the files that result, none where it only helps."""
    place = folder / f"of-{ranks.rank}"
    place.mkdir()
    project = Project(place)
    truth = open_truth(project.table, project.truth_table(json.dumps(CLASSES)), "auto", "error")
    drawn, scored = drawn_images(project.table, truth, ALL_ROWS), scored_images(project.table, truth)
    assert drawn == scored
    with create_artifact(place / "out") as writer:
        metrics = evaluate_segmenter(
            ((i, IMAGES[i], rough(i), [], vary(i)) for batch in ranks.own(BATCHES) for i in batch),
            table=project.table,
            truth=truth,
            k=3,
            params=ALL_ROWS,
            out=writer.path,
            rows=writer.rows,
            frame=lambda index: IMAGES[index],
            log=logging.getLogger("fs4.test"),
            gather=lambda own: ranks.gather_groups(own, BATCHES),
        )
    assert bool(metrics) == (ranks.rank == 0)
    names = ("metrics.json", "protocol.json", "confusion.json", "label_maps/part-00000.parquet")
    return {name: (place / "out" / name).read_bytes() for name in names} if metrics else {}


def test_two_processes_write_what_one_writes(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    alone = evaluate_own(ALONE, tmp_path / "one")
    first, second = run_processes(evaluate_own, tmp_path / "two", 2)
    assert {"boundary", "refined", "flip_averaged"} <= json.loads(alone["metrics.json"]).keys()
    assert first == alone
    assert second == {}
