import pytest

from pipeline.data.sources.voc2012 import list_images
from pipeline.errors import InputError
from tests.data.sources.downloads import make_voc2012


def test_the_folder_or_one_above_it_is_read(tmp_path):
    make_voc2012(tmp_path)
    for root in (tmp_path, tmp_path / "VOCdevkit", tmp_path / "VOCdevkit/VOC2012"):
        assert [image.image_id for image in list_images(root)] == [
            "train/2007_000032.jpg",
            "train/2007_000039.jpg",
            "val/2007_000033.jpg",
        ]


def test_a_missing_list_is_named(tmp_path):
    make_voc2012(tmp_path)
    (tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt").unlink()
    with pytest.raises(InputError, match=r"Segmentation/val\.txt: the list of ids cannot be read"):
        list_images(tmp_path)
