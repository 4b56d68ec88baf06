import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipeline.errors import InputError
from pipeline.labels.pixels import features_at, sample_pixels

SIZE = (12, 20)
MASKS = np.random.default_rng(0).integers(0, 4, (3, *SIZE))


def encode(frames: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(frames.float(), 4)


def sample(count: int, seed: int = 0, ignore_index: int = 3, masks: np.ndarray = MASKS, order=(0, 1, 2)):
    frames = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (3, 3, *SIZE), dtype=np.uint8))
    batches = [([index], frames[[index]]) for index in order]
    return sample_pixels(
        batches, encode, lambda i: masks[i], images=3, count=count, ignore_index=ignore_index, seed=seed
    )


def test_features_are_those_of_the_interpolated_map():
    map_ = torch.randn(5, 3, 5)
    full = F.interpolate(map_[None], SIZE, mode="bilinear", align_corners=False)[0]
    places = np.arange(SIZE[0] * SIZE[1])
    torch.testing.assert_close(features_at(map_, places, SIZE), full.flatten(1).T, atol=1e-5, rtol=1e-4)


def test_every_image_gives_the_same_number_of_labelled_pixels():
    pixels = sample(30)
    assert pixels.features.shape == (30, 3)
    assert pixels.labels.max() < 3
    everything = sample(10**6)
    assert len(everything.labels) == (MASKS != 3).sum()
    np.testing.assert_array_equal(everything.labels.bincount().numpy(), np.bincount(MASKS[MASKS != 3]))


def test_the_seed_decides_and_the_batches_do_not():
    torch.testing.assert_close(sample(30).features, sample(30).features, rtol=0, atol=0)
    assert not torch.equal(sample(30).features, sample(30, seed=1).features)
    turned = sample(30, order=(2, 0, 1))
    assert sorted(turned.features.tolist()) == sorted(sample(30).features.tolist())


def test_masks_without_a_label_are_passed_over_or_refused():
    masks = MASKS.copy()
    masks[1] = 3
    assert len(sample(30, masks=masks).labels) == 20
    with pytest.raises(InputError, match="every pixel of the 3 masks to learn from has the ignored id 3"):
        sample(30, masks=np.full_like(MASKS, 3))
