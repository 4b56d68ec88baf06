import numpy as np
import pytest

from pipeline.evaluation.appearance import appearance_features, rgb_to_lab


def uniform(colour, height=8, width=8):
    return np.broadcast_to(np.array(colour, dtype=np.uint8)[:, None, None], (3, height, width))


@pytest.mark.parametrize(
    ("colour", "lab"),
    [
        ((255, 255, 255), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((128, 128, 128), (53.585, 0, 0)),
        ((5, 5, 5), (1.371, 0, 0)),
        ((255, 0, 0), (53.241, 80.092, 67.203)),
        ((0, 255, 0), (87.735, -86.183, 83.179)),
        ((0, 0, 255), (32.297, 79.188, -107.860)),
        ((0, 255, 255), (91.113, -48.088, -14.131)),
        ((255, 255, 0), (97.139, -21.554, 94.478)),
    ],
)
def test_lab_equals_published_values(colour, lab):
    np.testing.assert_allclose(rgb_to_lab(uniform(colour, 1, 1)).ravel(), lab, atol=0.02)


def test_every_grey_is_without_colour():
    greys = np.broadcast_to(np.arange(256, dtype=np.uint8), (3, 1, 256))

    lab = rgb_to_lab(greys)

    assert np.abs(lab[1:]).max() < 1e-3
    assert np.all(np.diff(lab[0, 0]) > 0)


def test_a_uniform_image_has_its_colour_everywhere_and_no_texture():
    features = appearance_features(uniform((255, 0, 0), height=6, width=9))

    assert features.shape == (54, 6)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features[:, :4], np.tile([53.241, 80.092, 67.203, 0], (54, 1)), atol=0.02)


def test_positions_are_pixel_centres_in_row_order():
    features = appearance_features(uniform((1, 2, 3), height=2, width=4))

    np.testing.assert_allclose(features[:, 4], [-0.75, -0.25, 0.25, 0.75] * 2)
    np.testing.assert_allclose(features[:, 5], [-0.5] * 4 + [0.5] * 4)


def test_texture_is_high_at_an_edge_of_lightness_only():
    image = np.zeros((3, 32, 64), dtype=np.uint8)
    image[:, :, 32:] = 200

    texture = appearance_features(image)[:, 3].reshape(32, 64)

    assert texture[:, 30:34].min() > 5
    assert texture[:, :20].max() < 1e-3
    assert texture[:, 44:].max() < 1e-3


def test_the_blur_keeps_to_its_own_channel_and_image_edge():
    image = np.zeros((3, 64, 64), dtype=np.uint8)
    image[0] = 255

    lightness = appearance_features(image)[:, 0]

    np.testing.assert_allclose(lightness, 53.241, atol=0.02)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 200)])
def test_the_smallest_images_have_finite_features(shape):
    image = np.random.default_rng(0).integers(256, size=(3, *shape), dtype=np.uint8)

    assert np.isfinite(appearance_features(image)).all()


def test_other_channels_stand_in_the_place_of_colour():
    image = np.random.default_rng(0).integers(0, 256, (5, 64, 64), dtype=np.uint8)
    image[:, :, 32:] //= 3
    features = appearance_features(image)
    assert features.shape == (64 * 64, 8)
    rgb = appearance_features(image[:3])
    np.testing.assert_array_equal(features[:, 6:], rgb[:, 4:])
    plain = appearance_features(np.full((4, 8, 8), 51, np.uint8))
    np.testing.assert_allclose(plain[:, :4], 20, atol=1e-4)
    np.testing.assert_allclose(plain[:, 4], 0, atol=1e-4)
    # the gradient, the sixth, is largest at the edge
    assert features[:, 5].reshape(64, 64)[:, 28:36].mean() > features[:, 5].reshape(64, 64)[:, :20].mean()
