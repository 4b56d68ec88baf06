import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from pipeline.labels.linear_probe import fit_linear
from pipeline.labels.pixels import LabelledPixels

CPU = torch.device("cpu")


def blobs(count: int, classes: int, channels: int, distance: float, seed: int) -> LabelledPixels:
    """Normal blobs around fixed centres; with distance 0 the labels mean nothing."""
    centres = distance * torch.randn(classes, channels, generator=torch.Generator().manual_seed(0))
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (count,), generator=random)
    return LabelledPixels(centres[labels] + torch.randn(count, channels, generator=random), labels)


def accuracy(fitted: LabelledPixels, tested: LabelledPixels, classes: int) -> float:
    probe = fit_linear(fitted, classes, iterations=50, weight_decay=1e-4, device=CPU)
    scores = probe.scores(tested.features.T[None, :, None])  # (1, C, 1, N)
    return float((scores[0, :, 0].argmax(0) == tested.labels).float().mean())


def test_separable_features_are_told_apart_and_noise_is_not():
    assert accuracy(blobs(600, 4, 16, 5.0, 1), blobs(600, 4, 16, 5.0, 2), 4) > 0.99
    assert accuracy(blobs(600, 4, 16, 0.0, 1), blobs(600, 4, 16, 0.0, 2), 4) == pytest.approx(0.25, abs=0.07)


def test_it_finds_the_minimum_that_scikit_learn_finds():
    pixels = blobs(400, 3, 5, 0.7, 3)
    decay = 0.01
    probe = fit_linear(pixels, 3, iterations=200, weight_decay=decay, device=CPU)
    features = pixels.features.numpy().astype(np.float64)
    mean, spread = features.mean(0), features.std(0)
    reference = LogisticRegression(C=1 / (decay * len(features)), tol=1e-8, max_iter=5000)
    reference.fit((features - mean) / spread, pixels.labels.numpy())
    np.testing.assert_allclose(probe.weight.numpy(), reference.coef_ / spread, atol=2e-3)


def test_constant_channels_and_other_scales_do_no_harm():
    pixels, tested = blobs(300, 3, 6, 5.0, 1), blobs(300, 3, 6, 5.0, 2)
    for sample in (pixels, tested):
        sample.features[:, 0] = 7.0
        sample.features[:, 1] *= 1e-4
        sample.features[:, 2] = 1e3 * sample.features[:, 2] + 1e3
    assert accuracy(pixels, tested, 3) > 0.99


def test_a_class_without_pixels_is_never_predicted():
    pixels = blobs(200, 3, 6, 5.0, 1)
    probe = fit_linear(pixels, 5, iterations=50, weight_decay=1e-4, device=CPU)
    assert probe.weight.shape == (5, 6)
    assert set(probe.scores(pixels.features.T[None, :, None])[0, :, 0].argmax(0).tolist()) <= {0, 1, 2}
