import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from pipeline.errors import InputError
from pipeline.evaluation.label_maps import LabelMap
from pipeline.report import contact_sheets
from pipeline.report.contact_sheets import cut_region, draw_sheets, survey_label_maps


def label_map(name, labels):
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(labels)).save(buffer, "PNG")
    return LabelMap(name, "train", buffer.getvalue())


def square(side, size, dtype=np.uint8):
    """Cluster 1 as a square in the middle of cluster 0."""
    labels = np.zeros((side, side), dtype=dtype)
    start = (side - size) // 2
    labels[start : start + size, start : start + size] = 1
    return labels


def survey(*labels, clusters=3, regions=2):
    maps = [label_map(f"{i}.png", picture) for i, picture in enumerate(labels)]
    return survey_label_maps(iter(maps), count=len(maps), clusters=clusters, regions=regions)


def test_largest_regions_come_first_and_from_distinct_images():
    found = survey(square(32, 4), square(32, 20), square(32, 10), square(32, 6))
    assert [region.image_id for region in found.regions[1]] == ["1.png", "2.png"]
    assert found.images_of_cluster.tolist() == [4, 4, 0]
    assert found.regions[2] == []


def test_compact_regions_come_before_streaks_of_more_pixels():
    streak = np.zeros((32, 32), dtype=np.uint8)
    streak[4:8] = 1  # 128 pixels, 4 wide
    found = survey(streak, square(32, 8), regions=1)
    assert found.regions[1][0].image_id == "1.png"


def test_ties_go_to_the_earlier_image():
    found = survey(*[square(32, 8)] * 5, regions=3)
    assert [region.image_id for region in found.regions[1]] == ["0.png", "1.png", "2.png"]


def test_place_lies_in_the_region():
    labels = np.random.default_rng(0).integers(0, 3, (24, 24)).astype(np.uint8)
    found = survey(labels)
    for cluster, regions in enumerate(found.regions):
        assert all(labels[region.y, region.x] == cluster for region in regions)


def test_long_runs_are_sampled_but_counted(monkeypatch):
    monkeypatch.setattr(contact_sheets, "SURVEYED_IMAGES", 3)
    found = survey(*[square(16, 4)] * 8, regions=8)
    assert found.images == 8
    assert found.surveyed == 3
    assert found.images_of_cluster[1] == 8
    assert [region.image_id for region in found.regions[1]] == ["0.png", "3.png", "6.png"]


def test_ids_beyond_the_clusters_are_refused():
    with pytest.raises(InputError, match=r"0\.png holds cluster 7, but there are 3"):
        survey(np.full((8, 8), 7, dtype=np.uint8))


def test_16_bit_maps_are_read():
    labels = np.full((8, 8), 300, dtype=np.uint16)
    assert survey(labels, clusters=400).images_of_cluster[300] == 1


def test_region_keeps_its_colours_and_the_rest_is_dimmed():
    image = np.full((64, 64, 3), (200, 100, 50), dtype=np.uint8)
    tile = cut_region(image, square(64, 20), 32, 32, side=54)
    assert tile.shape == (54, 54, 3)
    assert tile[27, 27].tolist() == [200, 100, 50]
    assert tile[0, 0].max() < 100
    assert (tile == 255).all(axis=2).any()  # the outline


def test_other_components_of_the_cluster_are_dimmed():
    labels = square(64, 20)
    labels[26:38, 43:48] = 1  # beside the square, not connected with it
    tile = cut_region(np.full((64, 64, 3), 200, dtype=np.uint8), labels, 32, 32, side=64)
    bright = (tile == 200).all(axis=2)
    assert bright[32, 32]
    assert ndimage.label(bright)[1] == 1


@pytest.mark.parametrize("shape", [(64, 64), (64, 192), (192, 64)])
@pytest.mark.parametrize("corner", [(0, 0), (-1, -1), (0, -1)])
def test_regions_at_the_border_are_cut_inside_the_frame(shape, corner):
    labels = np.zeros(shape, dtype=np.uint8)
    labels[corner] = 1
    tile = cut_region(np.full((*shape, 3), 90, dtype=np.uint8), labels, *corner, side=32)
    assert tile.shape == (32, 32, 3)


def test_region_as_large_as_the_frame_is_shown_around_its_thickest_place():
    labels = np.ones((32, 96), dtype=np.uint8)
    image = np.zeros((32, 96, 3), dtype=np.uint8)
    image[:, 80:] = 250
    tile = cut_region(image, labels, 16, 88, side=32)
    assert tile[16, 31].tolist() == [250, 250, 250]


def test_sheets_have_the_pictures_of_their_clusters(project):
    inputs = project(k=4).write()
    found = survey_label_maps(inputs.label_maps(), count=9, clusters=4, regions=2)
    sheets = draw_sheets(found, inputs)
    assert [sheet.cluster for sheet in sheets] == [0, 1, 2, 3]
    for sheet, regions in zip(sheets, found.regions, strict=True):
        assert [tile.image_id for tile in sheet.tiles] == [region.image_id for region in regions]
        assert all(tile.uri.startswith("data:image/jpeg;base64,") for tile in sheet.tiles)


def test_label_maps_of_other_images_are_refused(project):
    inputs = project().write()
    found = survey_label_maps(inputs.label_maps(), count=9, clusters=4, regions=1)
    del inputs.rows_by_id[found.regions[0][0].image_id]
    with pytest.raises(InputError, match=r"images\.parquet does not list it"):
        draw_sheets(found, inputs)
