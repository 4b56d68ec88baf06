import numpy as np
import pytest
import torch

from pipeline.data.classes import ClassList
from pipeline.errors import InputError
from pipeline.labels.scoring import count_predictions, score_classes

CLASSES = ClassList(("a", "b", "c"), ("thing", "stuff", "stuff"), 255)


def test_predictions_are_counted_at_the_size_of_the_frame_and_not_matched():
    random = np.random.default_rng(0)
    masks = random.integers(0, 3, (2, 4, 4))
    masks[0, 0, 0] = 255
    maps = torch.nn.functional.one_hot(torch.from_numpy(np.where(masks == 255, 0, masks)), 3).permute(0, 3, 1, 2)
    probes = {"right": lambda map_: map_, "turned": lambda map_: map_.roll(1, 1)}
    batches = [([0, 1], torch.zeros(2, 3, 4, 4, dtype=torch.uint8))]
    matrices = count_predictions(batches, lambda frames: maps.float(), probes, lambda i: masks[i], CLASSES)
    counts = np.bincount(masks[masks != 255], minlength=3)
    np.testing.assert_array_equal(matrices["right"], np.diag(counts))
    assert score_classes(matrices["right"], CLASSES)["all"]["miou"] == 100.0
    figures = score_classes(matrices["turned"], CLASSES)
    assert figures["all"]["miou"] == 0.0
    assert set(figures) == {"all", "things", "stuff", "per_class"}


def test_small_maps_are_interpolated():
    scores = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]], [[0.0, 0.0]]]])  # (1, 3, 1, 2)
    mask = np.array([[0, 0, 1, 1]] * 2)
    batches = [([0], torch.zeros(1, 3, 2, 4, dtype=torch.uint8))]
    matrix = count_predictions(batches, lambda f: scores, {"x": lambda m: m}, lambda i: mask, CLASSES)["x"]
    np.testing.assert_array_equal(matrix, np.diag([4, 4, 0]))


def test_nothing_to_score_is_said():
    with pytest.raises(InputError, match="every scored pixel has the ignored id 255"):
        score_classes(np.zeros((3, 3), np.int64), CLASSES)
