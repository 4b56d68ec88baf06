import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.errors import InputError
from pipeline.evaluation.label_maps import LabelMapWriter, encode_labels
from pipeline.labels.legend import name_colours
from pipeline.labels.names import Names
from pipeline.labels.relabelling import apply_names, encode_named
from pipeline.runtime.artifacts import create_artifact, open_artifact


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=9), st.integers(0, 9))
def test_the_values_say_the_name_of_every_pixel(given_names, seed):
    names = Names("x", tuple(given_names))
    clusters = np.random.default_rng(seed).integers(0, len(given_names), (3, 5))
    png = encode_named(clusters, names, name_colours(names))
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.mode == "P"
        values = np.asarray(picture)
    for y, x in np.ndindex(3, 5):
        assert names.distinct[values[y, x]] == given_names[clusters[y, x]]


def test_many_names_need_more_than_a_palette():
    names = Names("x", tuple(f"name {i}" for i in range(300)))
    png = encode_named(np.arange(300).reshape(10, 30), names, name_colours(names))
    with Image.open(io.BytesIO(png)) as picture:
        np.testing.assert_array_equal(np.asarray(picture), np.arange(300).reshape(10, 30))


@pytest.mark.parametrize("image_id", ["../a.jpg", "train/../../a.jpg", "/tmp/a.jpg", ".."])
def test_no_image_leads_out_of_the_folder(tmp_path, image_id):
    with create_artifact(tmp_path / "evaluation") as writer:
        maps = LabelMapWriter(writer.path, writer.rows)
        maps.add(image_id, "train", encode_labels(np.zeros((2, 2), np.int64)))
        maps.flush()
    with pytest.raises(InputError, match="leads out of its folder"):
        apply_names(open_artifact(tmp_path / "evaluation"), Names("x", ("sea",)), tmp_path / "deep/named")
    assert [path.name for path in tmp_path.iterdir() if path.name != "deep"] == ["evaluation"]
    assert list((tmp_path / "deep").iterdir()) == []
