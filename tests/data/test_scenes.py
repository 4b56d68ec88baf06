"""The sample set: exact masks, the same bytes for a seed, and colours that do not give the classes away."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.data.scene_canvas import CAR, N_CLASSES, SKY, WATER, Canvas, Ground, reduce_canvas
from pipeline.data.scene_layouts import LAYOUTS, Layout
from pipeline.data.scene_light import Light
from pipeline.data.scene_noise import make_cells, make_grid_noise, sample_noise
from pipeline.data.scenes import CLASSES, IGNORE_INDEX, generate_scenes, render_scene
from pipeline.errors import ParamsError
from pipeline.runtime.randomness import generator

CLEAR = Light(
    side=1,
    haze=0.0,
    haze_colour=np.array([0.8, 0.8, 0.8]),
    gain=np.ones(3),
    contrast=1.0,
    saturation=1.0,
    dusk=False,
    grain=0.0,
)


def read_files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def scenes() -> list[tuple[np.ndarray, np.ndarray]]:
    return [render_scene(generator(3, "scenes/train", index), 96, 120) for index in range(100)]


def test_set_has_the_layout_of_an_input_folder(tmp_path: Path) -> None:
    generate_scenes(tmp_path, train=3, val=2, height=48, width=64, seed=0)
    expected = {f"{kind}/train/{i:04d}.png" for kind in ("images", "masks") for i in range(3)}
    expected |= {f"{kind}/val/{i:04d}.png" for kind in ("images", "masks") for i in range(2)}
    assert set(read_files(tmp_path)) == expected | {"classes.json"}
    for name in sorted(expected):
        with Image.open(tmp_path / name) as picture:
            assert picture.size == (64, 48)
            assert picture.mode == ("RGB" if name.startswith("images") else "L")


def test_written_files_hold_exactly_what_was_rendered(tmp_path: Path) -> None:
    generate_scenes(tmp_path, train=0, val=2, height=40, width=56, seed=5)
    image, mask = render_scene(generator(5, "scenes/val", 1), 40, 56)
    with Image.open(tmp_path / "images/val/0001.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), image)
    with Image.open(tmp_path / "masks/val/0001.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), mask)


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    sets = []
    for name, seed in (("first", 1), ("second", 1), ("third", 2)):
        generate_scenes(tmp_path / name, train=2, val=1, height=40, width=48, seed=seed)
        sets.append(read_files(tmp_path / name))
    assert sets[0] == sets[1]
    assert all(sets[0][name] != sets[2][name] for name in sets[0] if name.startswith("images"))


def test_a_picture_does_not_depend_on_how_many_others_there_are(tmp_path: Path) -> None:
    generate_scenes(tmp_path / "few", train=1, val=2, height=40, width=48, seed=1)
    generate_scenes(tmp_path / "many", train=4, val=3, height=40, width=48, seed=1)
    few, many = read_files(tmp_path / "few"), read_files(tmp_path / "many")
    assert all(many[name] == content for name, content in few.items())


def test_pictures_differ_between_splits_and_within_a_split(tmp_path: Path) -> None:
    generate_scenes(tmp_path, train=3, val=3, height=40, width=48, seed=1)
    images = [content for name, content in read_files(tmp_path).items() if name.startswith("images")]
    assert len(set(images)) == 6


def test_files_carry_no_time_stamp(tmp_path: Path) -> None:
    generate_scenes(tmp_path, train=1, val=0, height=32, width=32, seed=0)
    for content in (read_files(tmp_path)[f"{kind}/train/0000.png"] for kind in ("images", "masks")):
        assert b"tIME" not in content
        assert b"tEXt" not in content


def test_classes_file_lists_stuff_and_things(tmp_path: Path) -> None:
    generate_scenes(tmp_path, train=0, val=0, height=32, width=32, seed=0)
    description = json.loads((tmp_path / "classes.json").read_text(encoding="utf-8"))
    assert description["name"] == "scenes"
    assert description["ignore_index"] == IGNORE_INDEX == 255
    assert description["classes"] == list(CLASSES)
    assert [entry["id"] for entry in CLASSES] == list(range(N_CLASSES))
    assert len({entry["name"] for entry in CLASSES}) == N_CLASSES
    kinds = [entry["kind"] for entry in CLASSES]
    assert set(kinds) == {"stuff", "thing"}
    assert kinds.count("thing") == 3


@pytest.mark.parametrize(("key", "value"), [("height", 31), ("width", 0), ("train", -1), ("val", -1), ("seed", -1)])
def test_number_out_of_range_is_named(tmp_path: Path, key: str, value: int) -> None:
    sizes = {"train": 1, "val": 1, "height": 32, "width": 32, "seed": 0} | {key: value}
    with pytest.raises(ParamsError, match=f"{key} is {value}"):
        generate_scenes(tmp_path / "new", **sizes)
    assert not (tmp_path / "new").exists()


def test_every_class_appears_with_a_fair_share(scenes: list[tuple[np.ndarray, np.ndarray]]) -> None:
    masks = np.stack([mask for _, mask in scenes])
    shares = np.bincount(masks.ravel(), minlength=N_CLASSES) / masks.size
    assert len(shares) == N_CLASSES
    for entry in CLASSES:
        low, high = (0.06, 0.35) if entry["kind"] == "stuff" else (0.008, 0.08)
        assert low < shares[entry["id"]] < high, entry["name"]


def test_no_class_fills_a_place_in_most_pictures_but_the_sky(scenes: list[tuple[np.ndarray, np.ndarray]]) -> None:
    masks = np.stack([mask for _, mask in scenes])
    for entry in CLASSES:
        if entry["id"] != SKY:
            assert (masks == entry["id"]).mean(axis=0).max() < 0.75, entry["name"]


def test_mean_colour_of_a_class_varies_more_between_pictures_than_between_classes(
    scenes: list[tuple[np.ndarray, np.ndarray]],
) -> None:
    means: dict[int, list[np.ndarray]] = {entry["id"]: [] for entry in CLASSES}
    for image, mask in scenes:
        for class_id in np.unique(mask):
            pixels = image[mask == class_id]
            if len(pixels) >= 60:
                means[int(class_id)].append(pixels.mean(axis=0))
    within = {i: np.linalg.norm(np.std(rows, axis=0)) for i, rows in means.items()}
    between = np.linalg.norm(np.std([np.mean(rows, axis=0) for rows in means.values()], axis=0))
    assert min(within.values()) > 35
    assert min(within.values()) > 1.5 * between


def test_textures_tell_the_classes_apart_without_colour(scenes: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """The direction of the grey gradient: flat ripples turn it upright, foliage and grit leave it even."""
    upright: dict[str, list[float]] = {"vegetation": [], "water": [], "road": []}
    for image, mask in scenes:
        grey = image.mean(axis=2)
        down, across = np.gradient(grey)
        for entry in CLASSES:
            inside = mask == entry["id"]
            if entry["name"] in upright and inside.sum() > 300:
                energy = np.abs(down[inside]).mean() + np.abs(across[inside]).mean()
                upright[entry["name"]].append(float(np.abs(down[inside]).mean() / energy))
    assert np.median(upright["water"]) > max(np.median(upright["vegetation"]), np.median(upright["road"])) + 0.05


@pytest.mark.parametrize("layout", [layout for layout, _ in LAYOUTS])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 120), (120, 33)])
def test_every_layout_fills_canvases_of_any_shape(layout: Layout, height: int, width: int) -> None:
    for index in range(4):
        canvas = Canvas(2 * height, 2 * width, CLEAR)
        canvas.mask[:] = IGNORE_INDEX
        layout(generator(index, "layout"), canvas, np.array([0.8, 0.8, 0.7]))
        assert canvas.mask.max() < N_CLASSES
        assert np.isfinite(canvas.image).all()
        assert canvas.image.min() >= 0
        assert canvas.image.max() <= 1


def test_layout_probabilities_sum_to_one() -> None:
    assert sum(share for _, share in LAYOUTS) == pytest.approx(1)


def test_paint_is_cut_off_at_the_edges_and_covers_what_lies_below() -> None:
    canvas = Canvas(4, 5, CLEAR)
    canvas.paint((0, 0), np.ones((4, 5), bool), np.array([0.1, 0.2, 0.3]), WATER)
    canvas.paint((-1, 3), np.ones((3, 4), bool), np.array([0.9, 0.9, 0.9]), CAR)
    canvas.paint((10, 10), np.ones((2, 2), bool), np.array([0.5, 0.5, 0.5]), SKY)
    expected = np.full((4, 5), WATER)
    expected[:2, 3:] = CAR
    np.testing.assert_array_equal(canvas.mask, expected)
    np.testing.assert_allclose(canvas.image[..., 0], np.where(expected == CAR, 0.9, 0.1))


def test_reduced_mask_is_the_majority_and_ties_go_to_the_higher_id() -> None:
    rng = np.random.default_rng(0)
    canvas = Canvas(24, 30, CLEAR)
    canvas.mask[:] = rng.integers(0, N_CLASSES, (24, 30)) // 3
    canvas.image[:] = rng.random((24, 30, 3))
    image, mask = reduce_canvas(canvas, 2)
    for row in range(12):
        for column in range(15):
            block = canvas.mask[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            counts = np.bincount(block.ravel())
            assert mask[row, column] == np.flatnonzero(counts == counts.max())[-1]
    np.testing.assert_allclose(image, canvas.image.reshape(12, 2, 15, 2, 3).mean(axis=(1, 3)))


def test_nearness_runs_from_the_horizon_to_the_lower_edge() -> None:
    ground = Ground(horizon=10, vanishing_x=4, height=30, width=8)
    np.testing.assert_allclose(ground.nearness(np.array([0.0, 10, 20, 30])), [0, 0, 0.5, 1])


def test_cells_agree_with_a_search_over_all_centres() -> None:
    height, width, cell = 13, 17, 4.0
    distance, below, _ = make_cells(np.random.default_rng(2), height, width, cell)
    jitter = np.random.default_rng(2).random((int(height / cell) + 3, int(width / cell) + 3, 2))
    centres = [
        (r + dy, c + dx) for (r, c), (dy, dx) in zip(np.ndindex(jitter.shape[:2]), jitter.reshape(-1, 2), strict=True)
    ]
    for row, column in np.ndindex(height, width):
        y, x = row / cell + 1, column / cell + 1
        best = min(centres, key=lambda centre: (y - centre[0]) ** 2 + (x - centre[1]) ** 2)
        assert distance[row, column] == pytest.approx(np.hypot(y - best[0], x - best[1]))
        assert below[row, column] == pytest.approx(y - best[0])


def test_noise_is_bounded_smooth_and_scaled_by_its_cell() -> None:
    coarse = make_grid_noise(np.random.default_rng(0), 64, 64, (16, 16))
    fine = make_grid_noise(np.random.default_rng(0), 64, 64, (4, 4))
    assert coarse.min() >= 0
    assert coarse.max() <= 1
    assert np.abs(np.diff(coarse)).mean() < 0.5 * np.abs(np.diff(fine)).mean()
    rows, columns = np.mgrid[0:8:0.25, 0:8:0.25]
    sampled = sample_noise(np.random.default_rng(0), rows, columns)
    np.testing.assert_allclose(sampled, sample_noise(np.random.default_rng(0), rows + 64, columns - 64))
    np.testing.assert_allclose(sampled[::4, ::4], np.random.default_rng(0).random((64, 64))[:8, :8])
