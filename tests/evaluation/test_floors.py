import faiss
import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.evaluation.floors import POSITION_WEIGHTS, floor_metrics

# Colours of one lightness, so that a border between two of them is no texture.
COLOURS = np.array([[228, 80, 80], [60, 150, 60], [90, 125, 235], [140, 132, 40]], dtype=np.uint8)


@pytest.fixture(autouse=True)
def _one_thread():
    # On problems of this size the threads of faiss mostly wait for each other.
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(threads)


def quadrants(order, side=32):
    """A truth map of four squares, one class each, in the given order."""
    return np.kron(np.reshape(order, (2, 2)), np.ones((side // 2, side // 2), dtype=np.int64)).astype(np.uint8)


def painted(truth):
    return np.ascontiguousarray(COLOURS[truth % 4].transpose(2, 0, 1))


def floors(frames, classes=4, ignore_index=255, seed=0, restarts=4, seeds=1, sample_pixels=2000, fitting=None):
    return floor_metrics(
        lambda: iter(frames),
        fitting=lambda: iter(fitting or [image for image, _ in frames]),
        classes=classes,
        ignore_index=ignore_index,
        seed=seed,
        restarts=restarts,
        seeds=seeds,
        sample_pixels=sample_pixels,
    )


@pytest.fixture(scope="module")
def colourful():
    rng = np.random.default_rng(0)
    truths = [quadrants(rng.permutation(4), side=64) for _ in range(6)]
    return [(painted(truth), truth) for truth in truths]


def test_classes_that_differ_in_colour_are_found(colourful):
    result = floors(colourful)

    # The blur mixes the colours along the borders.
    assert result.figures["colour_position_kmeans"]["miou"] > 90
    assert result.by_seed[0][0]["miou"] > 90


def test_classes_that_differ_in_place_only_are_found_by_position():
    truth = quadrants([0, 1, 2, 3], side=32)
    noise = np.random.default_rng(0).integers(256, size=(4, 3, 32, 32), dtype=np.uint8)

    result = floors([(image, truth) for image in noise])

    assert result.by_seed[0][0]["miou"] < 30
    assert result.by_seed[0][-1]["miou"] > 90
    assert result.figures["colour_position_kmeans"]["miou"] > 90


def test_the_floor_is_the_best_of_all_weights_in_miou(colourful):
    result = floors(colourful)

    assert tuple(entry["position_weight"] for entry in result.by_seed[0]) == POSITION_WEIGHTS
    best = max(result.by_seed[0], key=lambda entry: entry["miou"])
    assert result.figures["colour_position_kmeans"] == {k: best[k] for k in ("miou", "pixel_accuracy")}


def test_several_seeds_are_averaged_after_the_best_of_each(colourful):
    noise = np.random.default_rng(0).integers(256, size=(3, 3, 32, 32), dtype=np.uint8)
    frames = [(image, quadrants(order)) for image, order in zip(noise, [(0, 1, 2, 3), (1, 0, 3, 2)], strict=False)]
    together = floors(frames, seed=5, restarts=1, seeds=3)
    alone = [floors(frames, seed=seed, restarts=1) for seed in (5, 6, 7)]

    assert together.by_seed == tuple(one.by_seed[0] for one in alone)
    found = together.figures["colour_position_kmeans"]
    for name in ("miou", "pixel_accuracy"):
        values = [one.figures["colour_position_kmeans"][name] for one in alone]
        assert len(set(values)) > 1
        assert found[name] == pytest.approx(sum(values) / 3)
        mean = found[name]
        assert found[f"{name}_sd"] == pytest.approx((sum((value - mean) ** 2 for value in values) / 2) ** 0.5)
    assert together.figures["random"] == alone[0].figures["random"]
    assert together.describe().count(";") == 2


def test_random_clusters_score_low(colourful):
    figures = floors(colourful).figures["random"]

    # An accuracy of 1/C, and of IoU 1/(2C - 1), plus what matching gains by chance.
    assert 25 <= figures["pixel_accuracy"] < 27
    assert 14 < figures["miou"] < 16


def test_majority_class_is_the_largest_share():
    truth = np.array([[0, 0, 0, 0, 0, 0, 1, 1, 2, 255]], dtype=np.uint8)

    figures = floors([(painted(truth), truth)], classes=3).figures["majority_class"]

    assert figures["pixel_accuracy"] == pytest.approx(100 * 6 / 9)
    assert figures["miou"] == pytest.approx(100 * (6 / 9) / 3)


def test_the_same_seed_gives_the_same_floors_and_another_seed_others(colourful):
    assert floors(colourful, seed=3) == floors(colourful, seed=3)
    assert floors(colourful, seed=3).figures["random"] != floors(colourful, seed=4).figures["random"]


def test_ignored_pixels_are_not_scored(colourful):
    image, truth = colourful[0]
    ignored = (np.flip(image, axis=0).copy(), np.full_like(truth, 255))

    alone, together = floors([(image, truth)]), floors([(image, truth), ignored])

    assert together.figures["majority_class"] == alone.figures["majority_class"]
    assert together.figures["random"] == alone.figures["random"]


def test_the_sample_has_a_share_of_every_image_and_its_size_is_reported():
    truth = quadrants([0, 1, 2, 3], side=40)
    frames = [(painted(truth), truth)] * 5

    assert floors(frames, sample_pixels=1000).pixels_fitted == 1000
    assert floors(frames, sample_pixels=10**6).pixels_fitted == 5 * 1600
    # No image is left out, however small the sample.
    assert floors(frames, sample_pixels=2).pixels_fitted == 5


def test_every_pixel_is_fitted_without_a_second_sampling_by_faiss(capfd):
    truth = quadrants([0, 1, 2, 3], side=80)

    floors([(painted(truth), truth)], sample_pixels=6400)

    assert capfd.readouterr() == ("", "")


def test_images_of_several_sizes_and_grey_images_are_fine():
    small, large = quadrants([0, 1, 2, 3], side=16), quadrants([3, 2, 1, 0], side=48)
    grey = np.zeros((3, 16, 16), dtype=np.uint8)

    result = floors([(grey, small), (painted(large), large)])
    constant = floors([(grey, small)])

    assert all(np.isfinite(list(figures.values())).all() for figures in result.figures.values())
    assert constant.by_seed[0][0]["pixel_accuracy"] == 25
    assert constant.by_seed[0][-1]["miou"] > 95


def test_fewer_pixels_than_classes_are_fine():
    truth = np.array([[0, 1]], dtype=np.uint8)

    assert floors([(painted(truth), truth)]).figures["colour_position_kmeans"]["miou"] == 100


def test_no_valid_pixel_and_no_frame_are_errors():
    truth = np.full((4, 4), 255, dtype=np.uint8)

    with pytest.raises(InputError, match="nothing to evaluate"):
        floors([(painted(truth), truth)])
    with pytest.raises(InputError, match="nothing to evaluate"):
        floors([])


def test_an_image_that_does_not_fit_its_ground_truth_is_refused():
    truth = quadrants([0, 1, 2, 3])

    with pytest.raises(ValueError, match="frame 0: image"):
        floors([(painted(truth)[:, :-1], truth)])


def test_other_channels_have_floors_too():
    rng = np.random.default_rng(0)
    truth = np.repeat([[0], [1]], 16, axis=0).repeat(32, axis=1)
    levels = np.array([[40, 200, 90, 30], [40, 90, 200, 30]])[truth]  # (32, 32, 4)
    image = (levels + rng.integers(0, 20, levels.shape)).astype(np.uint8).transpose(2, 0, 1)
    floors = floor_metrics(
        lambda: [(image, truth)],
        fitting=lambda: [image],
        classes=2,
        ignore_index=255,
        seed=0,
        restarts=2,
        seeds=1,
        sample_pixels=500,
    )
    assert floors.figures["colour_position_kmeans"]["miou"] > 90


def test_unknown_ids_are_refused():
    truth = quadrants([0, 1, 2, 7])

    with pytest.raises(ValueError, match="ground truth ids 7"):
        floors([(painted(truth), truth)])


def test_k_means_is_fitted_on_the_train_images_alone(colourful):
    grey = [np.full((3, 32, 32), value, dtype=np.uint8) for value in (60, 120, 180, 240)]
    learned = floors(colourful, fitting=[image for image, _ in colourful[:2]])

    assert learned.pixels_fitted == 2000
    assert learned.figures["colour_position_kmeans"]["miou"] > 90
    # greys tell nothing of colours that differ in hue alone
    assert floors(colourful, fitting=grey).by_seed[0][0]["miou"] < 50
