"""Figures of stage evaluate that are there only where they are asked for, or defined."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.evaluation.boundary import TOLERANCE, BoundaryCounts
from tests.evaluation.test_evaluate import MASKS, SPLITS, Project, perfect


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.mark.parametrize("match_on", ["val", "train"])
def test_boundaries_are_those_of_the_matched_label_maps(project, match_on):
    def rough(index: int) -> np.ndarray:
        labels = np.roll(perfect(index), 2, axis=1)
        labels[-6:, :9] = 3  # a cluster to which no class is left
        return labels

    plain = project.evaluate(rough, k=4, match_on=match_on)
    result = project.evaluate(rough, k=4, match_on=match_on, boundary=True)
    counts = BoundaryCounts(3)
    for index, split in enumerate(SPLITS):
        if split == "val":
            counts.add(MASKS[index], np.array([1, 2, 0, 3])[rough(index)], 255)
    expected = dict(zip(("sky", "sea", "sun"), counts.f1().tolist(), strict=True))
    found = result.metrics.pop("boundary")
    assert 0 < min(expected.values()) < 100
    assert found == {"tolerance": TOLERANCE, "per_class": expected, "f1": pytest.approx(sum(expected.values()) / 3)}
    assert result.protocol.pop("boundary") == counts.describe()
    assert (result.metrics, result.protocol) == (plain.metrics, plain.protocol)


def test_without_masks_there_are_no_boundaries_to_score(project):
    assert "boundary" not in project.evaluate(splits=(), boundary=True).metrics


def test_one_labelled_image_has_no_interval_and_no_word_about_one(project):
    assert "bootstrap" in project.evaluate().protocol
    project.masks = [mask if index < 4 else np.full_like(mask, 255) for index, mask in enumerate(MASKS)]
    result = project.evaluate()
    assert "bootstrap" not in result.metrics
    assert "bootstrap" not in result.protocol
