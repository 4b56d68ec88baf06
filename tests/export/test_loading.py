import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import torch.nn.functional as F
from PIL import Image

import pipeline
from pipeline.errors import InputError, ParamsError
from pipeline.export.loading import LoadedSegmenter, load_segmenter, scaled_size
from pipeline.runtime.artifacts import create_artifact, open_artifact, write_json
from pipeline.segmentation.inference import segment_images
from tests.export.conftest import RESIZE, K, make_bands, make_photo, make_segmenter, save, write_photo

CPU = torch.device("cpu")


@pytest.fixture
def loaded(model: Path) -> LoadedSegmenter:
    return load_segmenter(model, device="cpu", precision="fp32")


def test_an_image_of_the_training_scale_is_labelled_as_by_the_stages(loaded, segmenter):
    photo = make_photo(64, 96, 3)
    images = torch.from_numpy(photo).permute(2, 0, 1)[None]
    expected = segment_images(segmenter, images, device=CPU, precision="fp32")[0]
    found = loaded.label(photo)
    assert found.dtype == np.uint8
    assert (found == expected).mean() > 0.999
    assert len(np.unique(found)) > 1


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 200), (50, 33), (200, 310)])
def test_every_size_comes_back(loaded, height, width):
    assert loaded.label(make_photo(height, width, 0)).shape == (height, width)


def test_windows_leave_no_trace_where_a_network_sees_no_farther_than_its_cell(loaded, monkeypatch):
    # the tiny network of random weights changes its mind at every border, so it cannot tell
    monkeypatch.setattr(loaded, "_score", lambda images: F.avg_pool2d(images.float(), 4))
    photo = make_photo(200, 270, 1)
    loaded.resize = 0
    once = loaded.label(photo)
    loaded.window = 96
    assert (loaded.label(photo) == once).mean() > 0.999


def test_memory_is_that_of_a_row_of_windows(loaded):
    shapes = []
    embed = loaded.network.embed
    loaded.network.embed = lambda images: shapes.append(images.shape) or embed(images)
    loaded.resize, loaded.window = 0, 64
    loaded.label(make_photo(160, 320, 0))
    del loaded.network.embed
    assert set(shapes) == {(1, 3, 64, 64)}
    assert len(shapes) == 4 * 9


def test_a_batch_labels_as_its_images_alone(loaded):
    photos = [make_photo(64, 96, 0), make_photo(128, 192, 1)]
    scaled = torch.stack([torch.from_numpy(loaded.scale(photo)) for photo in photos])
    found = loaded.label_batch(scaled, [photo.shape[:2] for photo in photos])
    for labels, photo in zip(found, photos, strict=True):
        assert (labels == loaded.label(photo)).mean() > 0.999


@pytest.mark.parametrize(
    ("width", "height", "resize", "expected"),
    [(160, 128, 128, (128, 160)), (100, 200, 64, (128, 64)), (1000, 10, 0, (32, 992)), (3, 300, 64, (6400, 64))],
)
def test_the_short_side_is_brought_to_the_scale(width, height, resize, expected):
    assert scaled_size(width, height, resize) == expected


def test_files_and_pictures_are_taken_too(loaded, tmp_path):
    path = write_photo(tmp_path / "a.png")
    expected = loaded.label(make_photo(64, 96, 0))
    assert (loaded.label(path) == expected).all()
    assert (loaded.label(str(path)) == expected).all()
    with Image.open(path) as picture:
        assert (loaded.label(picture) == expected).all()


def test_what_is_no_image_is_refused(loaded, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no")
    with pytest.raises(InputError, match=r"a\.png: not an image"):
        loaded.label(tmp_path / "a.png")
    with pytest.raises(InputError, match="cannot be read"):
        loaded.label(tmp_path / "gone.png")
    with pytest.raises(InputError, match=r"float64 \(4, 4, 3\)"):
        loaded.label(np.zeros((4, 4, 3)))


def test_a_thread_of_pixels_does_not_grow_without_bounds(loaded, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.export.loading.MAX_PIXELS", 10**5)
    Image.new("RGB", (1, 1000)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="too long"):
        loaded.label(tmp_path / "a.png")


def test_the_window_holds_the_frames_of_training(model):
    assert load_segmenter(model).window == 512
    assert load_segmenter(model, resize=320).window == 960
    assert load_segmenter(model).resize == RESIZE
    assert load_segmenter(model, window=96).window == 96


@pytest.mark.parametrize("options", [{"window": 100}, {"resize": -1}, {"device": "tpu"}])
def test_options_without_use_are_refused(model, options):
    with pytest.raises(ParamsError, match=r"100|-1|tpu"):
        load_segmenter(model, **options)


def test_a_model_that_does_not_note_its_scale_asks_for_it(segmenter, tmp_path):
    folder = tmp_path / "old"
    with create_artifact(folder) as writer:
        from pipeline.segmentation.model import save_segmenter

        save_segmenter(segmenter, writer.path, {})
    with pytest.raises(InputError, match="give it as --resize"):
        load_segmenter(folder)
    assert load_segmenter(folder, resize=32).k == K


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": {}},
        {"architecture": None},
        {"architecture": {"encoder": {"backbone": "../../x", "channels": 8}}},
        {"frame": "wide"},
    ],
)
def test_a_side_car_of_something_else_is_refused(segmenter, tmp_path, change):
    folder = save(segmenter, tmp_path / "model")
    sidecar = json.loads((folder / "segmenter.json").read_text())
    with create_artifact(tmp_path / "bad") as writer:
        (writer.path / "weights.safetensors").write_bytes((folder / "weights.safetensors").read_bytes())
        for key, value in change.items():
            old = sidecar[key]
            sidecar[key] = old | value if isinstance(value, dict) and value else value
        write_json(writer.path / "segmenter.json", sidecar)
    with pytest.raises(InputError, match=r"not the side-car of a segmenter|describes no network"):
        load_segmenter(tmp_path / "bad")


def test_files_outside_of_the_folder_are_not_read(model, tmp_path):
    artifact = open_artifact(model)
    manifest = artifact.manifest | {"files": {**artifact.manifest["files"], "../secret": {"bytes": 1, "sha256": "0"}}}
    folder = tmp_path / "model"
    folder.mkdir()
    for name in artifact.manifest["files"]:
        (folder / name).write_bytes((model / name).read_bytes())
    (tmp_path / "secret").write_text("x")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="missing, though the manifest lists it"):
        load_segmenter(folder)


def test_the_package_offers_it_without_importing_torch():
    code = (
        "import sys, pipeline; assert 'torch' not in sys.modules\n"
        "from pipeline import load_segmenter; assert 'torch' in sys.modules; print(load_segmenter.__module__)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "pipeline.export.loading"
    with pytest.raises(AttributeError, match="no attribute 'x'"):
        _ = pipeline.x


def test_appearance_of_the_image_works_in_any_window(tmp_path):
    folder = save(make_segmenter(appearance="features_rgb"), tmp_path / "model")
    assert load_segmenter(folder, window=32, resize=0).label(make_photo(70, 90, 0)).shape == (70, 90)


@pytest.mark.parametrize(("channels", "values"), [(1, "uint8"), (2, "float32"), (5, "uint16")])
def test_images_of_other_channels_are_labelled_as_by_the_stages(tmp_path, channels, values):
    bands = make_bands(channels, values)
    network = make_segmenter(bands)
    loaded = load_segmenter(save(network, tmp_path / "model"), device="cpu", precision="fp32")
    levels = make_photo(64, 96, 3, channels)
    low, high = np.array(bands.low), np.array(bands.high)
    image = (low + levels / 255 * (high - low)).astype(values)
    expected = segment_images(
        network, torch.from_numpy(bands.scale(image)).permute(2, 0, 1)[None], device=CPU, precision="fp32"
    )[0]
    assert len(np.unique(expected)) > 1
    np.save(tmp_path / "a.npy", image.transpose(2, 0, 1))
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="minisblack")
    for given in (image, tmp_path / "a.npy", tmp_path / "a.tif"):
        assert (loaded.label(given) == expected).mean() > 0.999
    assert loaded.label(image[:33, :50]).shape == (33, 50)


def test_images_of_other_channels_or_values_than_the_training_are_refused(tmp_path):
    loaded = load_segmenter(save(make_segmenter(make_bands(5)), tmp_path / "model"), device="cpu")
    np.save(tmp_path / "a.npy", np.ones((40, 50, 5), np.float32))
    with pytest.raises(InputError, match=r"a\.npy: float32 values, but those of the training images are uint16"):
        loaded.label(tmp_path / "a.npy")
    with pytest.raises(InputError, match=r"b\.png: 3 channels"):
        loaded.label(write_photo(tmp_path / "b.png"))
    with pytest.raises(InputError, match=r"expected an image uint16 \(H, W, 5\), not uint8 \(64, 96, 3\)"):
        loaded.label(Image.open(tmp_path / "b.png"))


def test_grey_pictures_and_arrays_without_a_channel_axis_are_taken(tmp_path):
    loaded = load_segmenter(save(make_segmenter(make_bands(1, "uint8")), tmp_path / "model"), device="cpu")
    grey = make_photo(64, 96, 0, 1)
    expected = loaded.label(grey)
    assert (loaded.label(grey[..., 0]) == expected).all()
    assert (loaded.label(Image.fromarray(grey[..., 0])) == expected).all()
