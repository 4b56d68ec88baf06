import numpy as np
import pytest
from sklearn.decomposition import PCA

from pipeline.features.standardising import Moments, Standardiser


def sample(N: int = 400, D: int = 5) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.normal(size=(N, D)) @ rng.normal(size=(D, D)) + 3.0).astype(np.float32)


def fit(vectors: np.ndarray, components: int) -> Standardiser:
    moments = Moments(vectors.shape[1], second=components > 0)
    for part in np.array_split(vectors, 3):
        moments.add(part)
    return Standardiser.fit(moments, components)


def test_centres_on_the_mean_and_scales_to_unit_norm() -> None:
    vectors = sample()
    expected = vectors - vectors.mean(axis=0, dtype=np.float64)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = fit(vectors, 0)(vectors)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_whitens_as_scikit_learn_does_up_to_sign() -> None:
    vectors = sample()
    expected = PCA(3, whiten=True, svd_solver="full").fit_transform(vectors.astype(np.float64))
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = fit(vectors, 3)(vectors).astype(np.float64)
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found * signs, expected, atol=2e-3)


def test_axes_have_a_sign_of_their_own() -> None:
    whitening = fit(sample(), 4).whitening
    assert whitening is not None
    assert (whitening[np.abs(whitening).argmax(axis=0), np.arange(4)] > 0).all()


@pytest.mark.parametrize("components", [0, 2, 5])
def test_equal_vectors_become_zero_not_amplified_rounding(components: int) -> None:
    vectors = np.tile(np.array([[0.1, 0.7, -1.3, 1e-3, 5.0]], np.float32), (8, 1))
    vectors[::2] = np.nextafter(vectors[::2], np.float32(9))  # equal but for float32 rounding
    assert not fit(vectors, components)(vectors).any()


def test_axes_without_variance_give_zeros() -> None:
    vectors = sample()
    vectors[:, 3] = vectors[:, 1] * np.float32(0.3)  # but for rounding
    found = fit(vectors, 5)(vectors)
    assert np.isfinite(found).all()
    assert not found[:, 4].any()
    np.testing.assert_allclose(np.linalg.norm(found.astype(np.float32), axis=1), 1, atol=2e-3)


def test_zero_vectors_stay_zero() -> None:
    assert not fit(np.zeros((4, 3), np.float32), 0)(np.zeros((4, 3), np.float32)).any()
