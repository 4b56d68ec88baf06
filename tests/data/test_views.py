import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as tv

from pipeline.data.views import (
    BLUR_RADIUS,
    GRAY,
    MEAN,
    STD,
    Geometric,
    Photometric,
    apply_geometric,
    apply_photometric,
    colour_matrices,
    draw_geometric,
    draw_photometric,
    normalise,
)

SIZE = 24


def images(count: int = 3, low: float = 0.3, high: float = 0.7) -> torch.Tensor:
    """Colours far enough from black and white that no factor used here has to be clamped."""
    return low + (high - low) * torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def change(count: int = 3, **values) -> Photometric:
    neutral = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0, "gray": False, "blur": 0.0}
    settings = {key: values.get(key, value) for key, value in neutral.items()}
    return Photometric(**{key: torch.tensor([value] * count) for key, value in settings.items()})


def crops(boxes: list[tuple[float, float, float, float]], flip: list[bool] | None = None) -> Geometric:
    return Geometric(torch.tensor(boxes), torch.tensor(flip or [False] * len(boxes)))


def assert_near(one: torch.Tensor, two: torch.Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(one, two, atol=tolerance, rtol=0)


def test_normalising_is_the_usual_scaling():
    pixels = torch.randint(0, 256, (2, 3, 5, 4), dtype=torch.uint8)
    expected = (pixels.double() / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    assert_near(normalise(pixels), expected.float())
    assert_near(normalise(pixels.float() / 255), expected.float())
    assert normalise(pixels).is_contiguous(memory_format=torch.channels_last)


def test_other_channels_than_rgb_are_left_in_0_to_1():
    pixels = torch.randint(0, 256, (2, 4, 5, 6), dtype=torch.uint8)
    assert_near(normalise(pixels), pixels.float() / 255)
    assert normalise(pixels).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_other_channels_change_in_brightness_and_contrast_alone(channels):
    batch = 0.3 + 0.4 * torch.rand(3, channels, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    done = apply_photometric(batch, change(brightness=1.1, contrast=0.8, saturation=0.1, hue=0.3, gray=True))
    for image, found in zip(batch, done, strict=True):
        mean = 1.1 * float(image.mean())
        assert_near(found, mean + 0.8 * (1.1 * image - mean))
    assert_near(apply_photometric(batch, change()), batch)
    blurred = apply_photometric(batch, change(blur=1.5))
    assert (blurred.std((2, 3)) < 0.5 * batch.std((2, 3))).all()
    assert_near(blurred.mean((2, 3)), batch.mean((2, 3)), 0.01)


@pytest.mark.parametrize("factor", [0.7, 1.0, 1.3])
def test_brightness_contrast_and_saturation_are_torchvisions(factor):
    batch = images()
    assert_near(apply_photometric(batch, change(brightness=factor)), tv.adjust_brightness(batch, factor))
    # torchvision's weights of the luma sum to 0.9999, which costs up to 0.3 * 0.0001 here
    assert_near(apply_photometric(batch, change(saturation=factor)), tv.adjust_saturation(batch, factor), 3e-5)
    assert_near(apply_photometric(batch, change(contrast=factor)), tv.adjust_contrast(batch, factor), 3e-5)


def test_the_chain_is_brightness_contrast_saturation_gray():
    batch = images(low=0.4, high=0.6)
    expected = tv.adjust_saturation(tv.adjust_contrast(tv.adjust_brightness(batch, 1.2), 0.8), 1.3)
    chained = change(brightness=1.2, contrast=0.8, saturation=1.3)
    assert_near(apply_photometric(batch, chained), expected, 2e-4)
    grayed = change(brightness=1.2, contrast=0.8, saturation=1.3, hue=0.1, gray=True)
    assert_near(apply_photometric(batch, grayed), tv.rgb_to_grayscale(expected, 3), 2e-4)


def test_hue_turns_the_chroma_plane_of_yiq_and_keeps_the_luma():
    batch = images()
    to_yiq = torch.tensor([GRAY, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312)]).double()
    turned = apply_photometric(batch, change(hue=0.1)).double()
    before, after = (torch.einsum("ij,bjhw->bihw", to_yiq, rgb) for rgb in (batch.double(), turned))
    assert_near(after[:, 0], before[:, 0])
    plane = torch.complex(before[:, 1], before[:, 2]) * complex(math.cos(0.2 * math.pi), math.sin(0.2 * math.pi))
    assert_near(after[:, 1], plane.real)
    assert_near(after[:, 2], plane.imag)
    assert_near(apply_photometric(batch, change(hue=0.0)), batch)


@pytest.mark.parametrize("turn", [0.05, 0.1, -0.1])
def test_a_turn_of_hue_resembles_that_of_hsv_which_counts_the_other_way(turn):
    batch = images()
    turned = apply_photometric(batch, change(hue=turn))
    assert (turned - tv.adjust_hue(batch, -turn)).abs().mean() < 0.5 * (
        turned - tv.adjust_hue(batch, turn)
    ).abs().mean()


def test_each_image_has_its_own_change_and_colours_stay_in_range():
    batch = images(low=0.0, high=1.0)
    brightness = torch.tensor([0.5, 1.0, 2.0])
    mixed = Photometric(
        brightness, *(getattr(change(), key) for key in ("contrast", "saturation", "hue", "gray", "blur"))
    )
    changed = apply_photometric(batch, mixed)
    for row, factor in enumerate(brightness):
        assert_near(changed[row], tv.adjust_brightness(batch[row], factor.item()))
    assert changed.max() == 1.0
    matrices = colour_matrices(change(), batch.mean((2, 3)))
    assert_near(matrices, torch.eye(3, 4).expand(3, 3, 4))


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0])
def test_blur_is_torchvisions_away_from_the_border(sigma):
    batch = images()
    blurred = apply_photometric(batch, change(blur=sigma))
    expected = tv.gaussian_blur(batch, 2 * BLUR_RADIUS + 1, sigma)
    inside = (..., slice(BLUR_RADIUS, -BLUR_RADIUS), slice(BLUR_RADIUS, -BLUR_RADIUS))
    assert_near(blurred[inside], expected[inside])
    flat = torch.full((2, 3, SIZE, SIZE), 0.4)
    assert_near(apply_photometric(flat, change(2, blur=sigma)), flat)


def test_only_chosen_images_are_blurred():
    batch = images()
    sigmas = torch.tensor([0.0, 1.5, 0.0])
    mixed = Photometric(
        *(getattr(change(), key) for key in ("brightness", "contrast", "saturation", "hue", "gray")), sigmas
    )
    blurred = apply_photometric(batch, mixed)
    assert_near(blurred[[0, 2]], batch[[0, 2]])
    assert (blurred[1] - batch[1]).abs().max() > 0.05


SAMPLES = st.lists(st.integers(0, 1000), min_size=2, max_size=6, unique=True)


@given(samples=SAMPLES, seed=st.integers(0, 1000), epoch=st.integers(0, 100))
def test_a_view_depends_on_seed_epoch_and_sample_only(samples, seed, epoch):
    colours = draw_photometric(seed, "p", epoch, samples, jitter=0.4, hue=0.1)
    boxes = draw_geometric(seed, "p", epoch, samples, min_area=0.3, flip=True)
    for row, sample in enumerate(samples):
        alone = draw_photometric(seed, "p", epoch, [sample], jitter=0.4, hue=0.1)
        assert all(torch.equal(value[row : row + 1], getattr(alone, key)) for key, value in vars(colours).items())
        box = draw_geometric(seed, "p", epoch, [sample], min_area=0.3, flip=True)
        assert torch.equal(boxes.boxes[row], box.boxes[0])
        assert boxes.flip[row] == box.flip[0]


def test_views_epochs_seeds_and_samples_differ():
    keys = [(0, "first", 0, 0), (0, "second", 0, 0), (0, "first", 1, 0), (1, "first", 0, 0), (0, "first", 0, 1)]
    boxes = [draw_geometric(*key[:3], [key[3]], min_area=0.3, flip=True).boxes for key in keys]
    assert len({tuple(box[0].tolist()) for box in boxes}) == len(keys)
    many = draw_photometric(0, "p", 0, range(200), jitter=0.4, hue=0.1)
    assert many.brightness.unique().numel() > 100


def test_colours_are_drawn_as_documented():
    many = draw_photometric(0, "p", 0, range(2000), jitter=0.4, hue=0.1)
    for factors in (many.brightness, many.contrast, many.saturation):
        assert 0.6 <= factors.min() < 0.65
        assert 1.35 < factors.max() <= 1.4
        assert 0.17 < (factors == 1).float().mean() < 0.23
    assert 0.09 < many.hue.abs().max() <= 0.1
    assert 0.17 < many.gray.float().mean() < 0.23
    blurred = many.blur[many.blur > 0]
    assert 0.45 < len(blurred) / 2000 < 0.55
    assert blurred.min() >= 0.1
    assert blurred.max() <= 2.0
    still = draw_photometric(0, "p", 0, range(50), jitter=0.0, hue=0.0)
    assert (still.brightness == 1).all()
    assert (still.hue == 0).all()


@pytest.mark.parametrize("min_area", [0.05, 0.3, 0.9, 1.0])
def test_crops_lie_in_the_frame_and_keep_the_area(min_area):
    drawn = draw_geometric(0, "p", 0, range(2000), min_area=min_area, flip=True)
    x0, y0, x1, y1 = drawn.boxes.double().unbind(1)
    assert min(x0.min(), y0.min()) >= 0
    assert max(x1.max(), y1.max()) <= 1 + 1e-6
    area = (x1 - x0) * (y1 - y0)
    assert area.min() >= min_area - 1e-6
    assert area.max() <= 1 + 1e-6
    np.testing.assert_allclose(area.mean(), (1 + min_area) / 2, atol=0.02)
    stretch = (x1 - x0) / (y1 - y0)
    assert stretch.max() <= 4 / 3 + 1e-5
    assert stretch.min() >= 3 / 4 - 1e-5
    assert 0.45 < drawn.flip.float().mean() < 0.55
    assert not draw_geometric(0, "p", 0, range(50), min_area=0.3, flip=False).flip.any()


def test_cutting_on_pixel_borders_is_slicing():
    batch = images()
    third = SIZE // 3
    assert_near(apply_geometric(batch[:1], crops([(0, 0, 1, 1)]), (SIZE, SIZE)), batch[:1])
    read = apply_geometric(batch[1:], crops([(1 / 3, 0, 1, 2 / 3), (0, 1 / 3, 2 / 3, 1)]), (2 * third, 2 * third))
    assert_near(read[0], batch[1, :, : 2 * third, third:])
    assert_near(read[1], batch[2, :, third:, : 2 * third])


def test_cutting_is_grid_sampling_at_the_places_of_the_box():
    batch = images()
    drawn = draw_geometric(0, "p", 0, range(3), min_area=0.3, flip=True)
    height, width = 20, 28
    read = apply_geometric(batch, drawn, (height, width))
    for row, (x0, y0, x1, y1) in enumerate(drawn.boxes.tolist()):
        x = x0 + (x1 - x0) * (torch.arange(width) + 0.5) / width
        y = y0 + (y1 - y0) * (torch.arange(height) + 0.5) / height
        if drawn.flip[row]:
            x = x.flip(0)
        grid = torch.stack(torch.meshgrid(x * 2 - 1, y * 2 - 1, indexing="xy"), dim=-1)[None]
        expected = F.grid_sample(batch[row : row + 1], grid, padding_mode="border", align_corners=False)
        assert_near(read[row : row + 1], expected)


def test_mirroring_comes_after_the_crop():
    batch = images(2)
    box = (0.1, 0.2, 0.8, 0.9)
    plain = apply_geometric(batch, crops([box, box]), (16, 16))
    mirrored = apply_geometric(batch, crops([box, box], [True, False]), (16, 16))
    assert_near(mirrored[0], plain[0].flip(2))
    assert_near(mirrored[1], plain[1])


def ramp(height: int, width: int) -> torch.Tensor:
    """x and y of each pixel's centre, in fractions of the frame."""
    y, x = (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width
    return torch.stack(torch.meshgrid(x, y, indexing="xy"))[None]


def test_images_and_their_feature_maps_are_cut_alike():
    drawn = draw_geometric(0, "p", 0, range(20), min_area=0.3, flip=True)
    image = apply_geometric(ramp(64, 96).expand(20, -1, -1, -1), drawn, (64, 96))
    features = apply_geometric(ramp(16, 24).expand(20, -1, -1, -1), drawn, (16, 24))
    # within half a cell of the frame's border a map has no values to interpolate between
    inside = ((features > 1 / 32) & (features < 31 / 32)).all(1, keepdim=True).expand_as(features)
    assert inside.float().mean() > 0.7
    assert_near(features[inside], F.avg_pool2d(image, 4)[inside], 2e-3)


def test_large_images_are_averaged_down_and_gradients_flow():
    checkered = (torch.arange(128)[:, None] + torch.arange(128)).remainder(2).float().expand(1, 3, 128, 128)
    small = apply_geometric(checkered, crops([(0, 0, 1, 1)]), (32, 32))
    assert_near(small, torch.full_like(small, 0.5), 0.05)
    features = images().requires_grad_()
    apply_geometric(features, draw_geometric(0, "p", 0, range(3), min_area=0.3, flip=True), (8, 8)).sum().backward()
    assert features.grad.abs().sum() > 0
    assert apply_geometric(images().half(), crops([(0, 0, 1, 1)] * 3), (8, 8)).dtype == torch.float32
