import numpy as np

from pipeline.data.pictures import picture_of


def test_rgb_is_shown_as_it_is():
    frame = np.random.default_rng(0).integers(0, 256, (3, 4, 5), dtype=np.uint8)
    np.testing.assert_array_equal(picture_of(frame), frame.transpose(1, 2, 0))


def test_of_many_channels_the_first_three_are_stretched_each():
    frame = np.random.default_rng(0).integers(100, 120, (6, 50, 50), dtype=np.uint8)
    frame[1] //= 2
    picture = picture_of(frame)
    assert picture.shape == (50, 50, 3)
    assert picture.reshape(-1, 3).min(0).tolist() == [0, 0, 0]
    assert picture.reshape(-1, 3).max(0).tolist() == [255, 255, 255]
    for channel in range(3):
        order = np.argsort(frame[channel], axis=None, kind="stable")
        assert (np.diff(picture[..., channel].ravel()[order].astype(int)) >= 0).all()


def test_of_one_or_two_channels_the_first_is_shown_as_gray():
    frame = np.random.default_rng(0).integers(0, 256, (2, 8, 9), dtype=np.uint8)
    for shown in (frame[:1], frame):
        picture = picture_of(shown)
        assert (picture == picture[..., :1]).all()
        assert np.corrcoef(picture[..., 0].ravel(), frame[0].ravel())[0, 1] > 0.99


def test_a_plain_channel_stays():
    assert (picture_of(np.full((1, 4, 4), 77, np.uint8)) == 77).all()
