import shutil
import statistics
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import InputError, ParamsError
from pipeline.evaluation.seeds import join_seeds
from pipeline.runtime.artifacts import open_artifact
from tests.evaluation.test_scoring import NAMES, Folders, mask_of


@pytest.fixture
def folders(tmp_path) -> Folders:
    return Folders(tmp_path)


def score_seed(folders: Folders, seed: int, **changes) -> Path:
    """The result of one seed, whose errors are its own."""
    rng = np.random.default_rng(seed)
    folders.predict(lambda mask: np.where(rng.random(mask.shape) < 0.2 + 0.1 * seed, 1, mask).astype(np.uint8))
    folders.score(seed=seed, **changes)
    return shutil.move(folders.root / "out", folders.root / f"seed-{seed}")


def test_figures_are_means_and_deviations_over_the_seeds(folders):
    results = [score_seed(folders, seed, boundary=True) for seed in range(3)]
    lines = join_seeds(results).splitlines()
    metrics = [open_artifact(result).json("metrics.json") for result in results]

    def spread(*place: str, digits: int = 1) -> str:
        values = []
        for value in metrics:
            for key in place:
                value = value[key]
            values.append(value)
        return f"{statistics.fmean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"

    assert lines[0].startswith("mean ± sd over 3 results, 3 pairs each; match: hungarian: one to one")
    assert lines[1:4] == [f"  {path}: mIoU {m['all']['miou']:.1f}" for path, m in zip(results, metrics, strict=True)]
    figures = ("miou", "miou_present", "pixel_accuracy", "mean_accuracy")
    row = next(line for line in lines if line.startswith("things "))
    assert row.split(maxsplit=1)[1].split() == " ".join(spread("things", figure) for figure in figures).split()
    assert any(line.startswith("stuff among stuff") for line in lines)
    assert f"boundary F1: {spread('boundary', 'f1')}" in lines
    nmi, ari = (spread("partition", key, digits=3) for key in ("nmi", "ari"))
    assert f"without matching (0 to 1): NMI {nmi}, ARI {ari}" in lines
    sun = lines[-1].split()
    assert sun[0] == "sun"
    assert " ".join(sun[1:]) == f"{spread('per_class', 'sun')} {spread('boundary', 'per_class', 'sun')}"


def test_a_figure_that_one_seed_lacks_is_left_out(folders):
    for index, name in enumerate(NAMES):
        folders.save("truth", name, np.where(mask_of(index) == 2, 255, mask_of(index)).astype(np.uint8))
    folders.predict(lambda mask: np.minimum(mask, 1))
    folders.score()
    first = shutil.move(folders.root / "out", folders.root / "seed-0")
    table = join_seeds([first, score_seed(folders, 1)])
    assert table.splitlines()[-1].split() == ["sun", "–"]


def test_results_that_were_not_scored_alike_are_refused(folders):
    first = score_seed(folders, 0)
    with pytest.raises(InputError, match=r'seed-1: match rule is "majority: .*, but "hungarian: .* in .*seed-0; score'):
        join_seeds([first, score_seed(folders, 1, rule="majority")])
    with pytest.raises(InputError, match=r'seed-2: boundary is "tolerance .*, but not recorded in .*seed-0'):
        join_seeds([first, score_seed(folders, 2, boundary=True)])
    folders.save("truth", NAMES[0], np.minimum(mask_of(0), 1))
    with pytest.raises(InputError, match=r"seed-3: pixels by class is "):
        join_seeds([first, score_seed(folders, 3)])


def test_each_seed_may_have_a_match_of_its_own_that_was_fixed_before(folders):
    trains = [score_seed(folders, seed) for seed in (0, 1)]
    results = [score_seed(folders, 2 + seed, match_from=train) for seed, train in enumerate(trains)]
    assert "mean ± sd over 2 results" in join_seeds(results)
    with pytest.raises(InputError, match='matched on is "the scored pairs", but "the pairs of an earlier result'):
        join_seeds([results[0], trains[1]])


def test_two_different_results_are_needed(folders, tmp_path):
    first = score_seed(folders, 0)
    with pytest.raises(ParamsError, match="1 result was given; give those of two seeds or more"):
        join_seeds([first])
    with pytest.raises(ParamsError, match="seed-0 is given twice"):
        join_seeds([first, first.parent / "truth/../seed-0"])
    with pytest.raises(InputError, match="truth: no finished output here"):
        join_seeds([first, tmp_path / "truth"])
