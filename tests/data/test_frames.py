import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from pipeline.data.frames import Frame, frame_box, frame_size, mask_to_frame, to_frame

CENTER, WHOLE, CUT = Frame(64, "center"), Frame(64, "none"), Frame(100, "center", 64)


@pytest.mark.parametrize(
    ("width", "height", "frame", "size"),
    [
        (480, 360, CENTER, (64, 64)),
        (480, 360, WHOLE, (64, 64)),  # 85 pixels long, trimmed to 64
        (480, 320, WHOLE, (64, 96)),
        (320, 480, WHOLE, (96, 64)),
        (1000, 17, WHOLE, (64, 192)),
        (17, 1000, WHOLE, (192, 64)),
        (1000, 17, CENTER, (64, 64)),
        (1, 1, WHOLE, (64, 64)),
        (1, 10**9, WHOLE, (192, 64)),
        (63, 63, WHOLE, (64, 64)),
        (480, 360, CUT, (64, 64)),
        (17, 1000, CUT, (64, 64)),
    ],
)
def test_size_of_the_frame(width, height, frame, size):
    assert frame_size(width, height, frame) == size


@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from([32, 64, 224]), st.booleans())
def test_every_frame_is_a_legal_one_inside_the_image(width, height, resize, center):
    frame = Frame(resize, "center" if center else "none")
    h, w = frame_size(width, height, frame)
    assert min(h, w) == resize
    assert max(h, w) <= 3 * resize
    assert h % 32 == w % 32 == 0
    left, top, right, bottom = frame_box(width, height, frame)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    # square pixels, the whole short side, and centred: the offset is rounded down to a whole pixel
    assert (right - left) / w == pytest.approx((bottom - top) / h)
    assert (right - left if width <= height else bottom - top) == pytest.approx(min(width, height))
    assert abs(left - (width - right)) < 2.0
    assert abs(top - (height - bottom)) < 2.0


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(32, 300), st.sampled_from([32, 64, 224]))
def test_a_smaller_square_is_the_middle_of_the_larger_one(width, height, resize, side):
    resize = max(resize, side)
    frame = Frame(resize, "center", side)
    assert frame_size(width, height, frame) == (side, side)
    left, top, right, bottom = frame_box(width, height, frame)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert right - left == pytest.approx(bottom - top) == pytest.approx(min(width, height) * side / resize)
    assert abs(left - (width - right)) < 2.0
    assert abs(top - (height - bottom)) < 2.0


def test_a_square_as_large_as_the_short_side_changes_nothing():
    image = np.random.default_rng(3).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    np.testing.assert_array_equal(to_frame(image, Frame(64, "center", 64)), to_frame(image, CENTER))


def test_a_smaller_square_shows_what_resizing_and_cutting_show():
    row, column = np.mgrid[:360, :480]
    image = np.stack([column // 2, row // 2, (row + column) // 4], axis=2).astype(np.uint8)
    resized = np.asarray(Image.fromarray(image).resize((320, 240), Image.Resampling.BILINEAR))
    expected = resized[40:200, 80:240].transpose(2, 0, 1).astype(int)
    assert abs(to_frame(image, Frame(240, "center", 160)).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("crop", ["center", "none"])
def test_an_image_at_the_scale_of_the_frame_is_only_cut(crop):
    image = np.random.default_rng(0).integers(0, 256, (64, 101, 3), dtype=np.uint8)
    framed = to_frame(image, Frame(64, crop))
    w = frame_size(101, 64, Frame(64, crop))[1]
    left = (101 - w) // 2
    np.testing.assert_array_equal(framed, image[:, left : left + w].transpose(2, 0, 1))
    assert framed.flags.c_contiguous


def test_resizing_is_pillows_antialiased_bilinear():
    image = np.random.default_rng(1).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    square = Image.fromarray(image[:, 50:250]).resize((64, 64), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(to_frame(image, CENTER), np.asarray(square).transpose(2, 0, 1))


@settings(max_examples=60, deadline=None)
@given(
    st.data(),
    st.integers(1, 400),
    st.integers(1, 400),
    st.sampled_from([Frame(32, "center"), Frame(32, "none"), Frame(50, "center", 32)]),
)
def test_image_and_mask_have_the_same_geometry(data, width, height, frame):
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x1, y1 = data.draw(st.integers(x0 + 1, width)), data.draw(st.integers(y0 + 1, height))
    mask = np.zeros((height, width), np.uint8)
    mask[y0:y1, x0:x1] = 1
    framed = to_frame(np.repeat(mask[:, :, None] * np.uint8(255), 3, axis=2), frame)[0] / 255
    labels = mask_to_frame(mask, frame)
    assert framed.shape == labels.shape == frame_size(width, height, frame)
    # where the antialiased image is all inside or all outside, the mask says so too
    assert (labels[framed == 1.0] == 1).all()
    assert (labels[framed == 0.0] == 0).all()
    # and the square's area agrees to within half a frame pixel around its rim
    scale = min(height, width) / frame.resize
    rim = 2 * ((x1 - x0) + (y1 - y0)) / scale + 4
    assert abs(framed.sum() - labels.sum()) <= rim


def test_a_mask_keeps_its_values_and_its_type():
    mask = np.random.default_rng(2).choice(np.array([0, 7, 300, 65535], np.uint16), (90, 70))
    framed = mask_to_frame(mask, WHOLE)
    assert framed.dtype == np.uint16
    assert set(np.unique(framed)) <= {0, 7, 300, 65535}
    enlarged = mask_to_frame(np.array([[1, 2], [3, 4]], np.uint8), Frame(32, "center"))
    np.testing.assert_array_equal(enlarged, np.kron([[1, 2], [3, 4]], np.ones((16, 16))))


def test_an_extreme_image_is_cut_before_it_is_enlarged():
    strip = np.zeros((1, 200_000, 3), np.uint8)
    assert to_frame(strip, WHOLE).shape == (3, 64, 192)
    assert mask_to_frame(strip[:, :, 0], WHOLE).shape == (64, 192)


@pytest.mark.parametrize(
    ("resize", "crop", "crop_size"),
    [
        (0, "center", 0),
        (33, "none", 0),
        (64, "middle", 0),
        (240, "center", 0),
        (240, "center", 100),
        (240, "center", 256),
        (240, "center", -32),
        (64, "none", 32),
    ],
)
def test_only_legal_frames_can_be_made(resize, crop, crop_size):
    with pytest.raises(ValueError, match="not a frame"):
        Frame(resize, crop, crop_size)


@pytest.mark.parametrize("frame", [CENTER, WHOLE, CUT])
def test_channels_are_framed_as_those_of_rgb(frame):
    image = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    five = np.concatenate([image, image[..., :2]], axis=2)
    expected = to_frame(image, frame)
    np.testing.assert_array_equal(to_frame(five, frame), np.concatenate([expected, expected[:2]]))
    np.testing.assert_array_equal(to_frame(image[..., :1], frame), expected[:1])


SIZES = [(640, 480), (480, 640), (640, 427), (500, 375), (333, 500), (321, 481), (640, 359), (2048, 1024)]
PUBLISHED = Frame(320, "center")


def resize_and_crop(mask: np.ndarray) -> np.ndarray:
    """As PiCIE: the short side of the whole mask to 320 by nearest neighbour, then the square in the middle."""
    resized = tv.resize(Image.fromarray(mask), [320], InterpolationMode.NEAREST)
    return np.asarray(tv.center_crop(resized, [320]))


def regions(width: int, height: int, seed: int) -> np.ndarray:
    """Ellipses of 27 classes, some of them a few pixels wide."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    mask = np.zeros((height, width), np.uint8)
    for _ in range(40):
        cy, cx, radius = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(10, min(width, height) / 3)
        mask[np.hypot((y - cy) * rng.uniform(0.5, 2), x - cx) < radius] = rng.integers(27)
    return mask


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_masks_lie_within_two_pixels_of_resizing_and_cutting(width, height):
    column, row = np.meshgrid(np.arange(width, dtype=np.int32), np.arange(height, dtype=np.int32))
    for places in (column, row):
        assert abs(mask_to_frame(places, PUBLISHED) - resize_and_crop(places)).max() <= 2


def test_few_pixels_of_masks_differ_from_resizing_and_cutting():
    masks = [regions(width, height, seed) for seed, (width, height) in enumerate(SIZES)]
    shares = [np.mean(mask_to_frame(mask, PUBLISHED) != resize_and_crop(mask)) for mask in masks]
    assert 0 < np.mean(shares) < 0.01
    assert max(shares) < 0.03


@pytest.mark.parametrize("side", [400, 612])
def test_square_masks_are_those_of_resizing(side):
    mask = regions(side, side, 0)
    np.testing.assert_array_equal(mask_to_frame(mask, PUBLISHED), resize_and_crop(mask))
