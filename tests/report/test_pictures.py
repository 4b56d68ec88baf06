import base64
import io

import numpy as np
from PIL import Image

from pipeline.evaluation.palette import colourise, palette
from pipeline.report.pictures import painted_uri, photo_uri, read_picture


def decode(uri):
    head, data = uri.split(",")
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        return head, np.asarray(picture.convert("RGB"))


def painted(side, colours):
    labels = np.random.default_rng(0).integers(0, colours, (side, side))
    return colourise(labels, palette(colours))


def test_painted_pictures_lose_nothing():
    for colours in (1, 9, 256, 400):
        head, back = decode(painted_uri(painted(64, colours)))
        assert head == "data:image/png;base64"
        assert (back == painted(64, colours)).all()


def test_reduced_painted_pictures_have_no_new_colours():
    _, back = decode(painted_uri(painted(300, 5)[:200], side=100))
    assert back.shape == (67, 100, 3)
    assert {tuple(c) for c in back.reshape(-1, 3).tolist()} <= {tuple(c) for c in palette(5).tolist()}


def test_photos_are_reduced_but_not_enlarged():
    y, x = np.mgrid[:90, :120]
    image = np.stack([y, x, x + y], axis=2).astype(np.uint8)
    head, same = decode(photo_uri(image))
    assert head == "data:image/jpeg;base64"
    assert same.shape == image.shape
    assert np.abs(same.astype(int) - image).mean() < 4
    assert decode(photo_uri(image, side=60))[1].shape == (45, 60, 3)


def test_read_picture_gives_rgb():
    buffer = io.BytesIO()
    Image.fromarray(np.array([[0, 255]], dtype=np.uint8)).save(buffer, "PNG")
    assert read_picture(buffer.getvalue()).tolist() == [[[0, 0, 0], [255, 255, 255]]]
