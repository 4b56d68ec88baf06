import numpy as np
import pytest
import torch

from pipeline.labels.knn_probe import KnnProbe
from pipeline.labels.pixels import LabelledPixels
from tests.labels.test_linear_probe import blobs

SETTINGS = {"count": 10_000, "neighbours": 20, "temperature": 0.07, "seed": 0}


def accuracy(fitted: LabelledPixels, tested: LabelledPixels, classes: int) -> float:
    scores = KnnProbe(fitted, classes, **SETTINGS).scores(tested.features.T[None, :, None])
    return float((scores[0, :, 0].argmax(0) == tested.labels).float().mean())


def test_separable_features_are_told_apart_and_noise_is_not():
    assert accuracy(blobs(600, 4, 16, 5.0, 1), blobs(600, 4, 16, 5.0, 2), 4) > 0.99
    assert accuracy(blobs(600, 4, 16, 0.0, 1), blobs(600, 4, 16, 0.0, 2), 4) == pytest.approx(0.25, abs=0.07)


@pytest.mark.parametrize("neighbours", [3, 100])
def test_the_vote_is_that_of_all_cosines_written_out(neighbours):
    pixels = blobs(40, 3, 5, 0.5, 1)
    features = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(2))
    settings = {**SETTINGS, "neighbours": neighbours}
    shares = KnnProbe(pixels, 3, **settings).scores(features)
    rows = pixels.features.numpy() / np.linalg.norm(pixels.features.numpy(), axis=1, keepdims=True)
    for b, y, x in np.ndindex(2, 3, 4):
        cell = features[b, :, y, x].numpy()
        cosines = rows @ (cell / np.linalg.norm(cell))
        votes = np.zeros(3)
        for place in np.argsort(-cosines)[:neighbours]:
            votes[pixels.labels[place]] += np.exp((cosines[place] - 1) / 0.07)
        np.testing.assert_allclose(shares[b, :, y, x].numpy(), votes / votes.sum(), atol=1e-5)


def test_the_seed_decides_which_pixels_are_searched():
    pixels = blobs(300, 3, 5, 0.0, 1)
    features = torch.randn(1, 5, 6, 6, generator=torch.Generator().manual_seed(2))

    def shares(seed: int) -> torch.Tensor:
        return KnnProbe(pixels, 3, count=50, neighbours=5, temperature=0.07, seed=seed).scores(features)

    torch.testing.assert_close(shares(0), shares(0), rtol=0, atol=0)
    assert not torch.equal(shares(0), shares(1))
